"""A tiny real network on the network's contract: it names a crop by its mean colour."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from edge.classifier import Classifier
from hematovision.crops import CropSize
from hematovision.model_file import Manifest, read_model_file, write_model_file

SIDE = 32
# Red, green and blue (each -1 to 1, its mean over the crop) to neutrophil, eosinophil, monocyte, lymphocyte:
# white is a neutrophil, red an eosinophil, green a monocyte, blue a lymphocyte; grey is none of them.
WEIGHTS = np.array([[2, 4, -4, -4], [2, -4, 4, -4], [2, -4, -4, 4]], np.float32)


def convert(
    numbers: type = np.int8,
    classes: int = 4,
    darkest: int = 0,
    brightest: int = 255,
    offset: float = 0.0,
    needs_tensorflow: bool = False,
) -> bytes:
    """The network as a flatbuffer, its input and output of type ``numbers``."""

    def network(crop: tf.Tensor) -> tf.Tensor:
        color = tf.reduce_mean(crop / 127.5 - 1, axis=[1, 2])
        logits = tf.matmul(color, WEIGHTS[:, :classes]) + offset
        # An operation that no runtime without TensorFlow has.
        return tf.math.special.bessel_j0(logits) if needs_tensorflow else logits

    module = tf.Module()
    module.network = tf.function(network, input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.network.get_concrete_function()], module
    )
    if numbers is not np.float32:
        levels = np.linspace(darkest, brightest, 4)
        samples = [np.full((1, SIDE, SIDE, 3), level, np.float32) for level in levels]
        for channel in range(3):
            samples.append(np.full((1, SIDE, SIDE, 3), darkest, np.float32))
            samples[-1][..., channel] = brightest
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(numbers)
    converter.allow_custom_ops = needs_tensorflow
    return bytes(converter.convert())


def expected_logits(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network computes: (n, SIDE, SIDE, 3) to (n, 4)."""
    return (crops.astype(np.float32).mean(axis=(1, 2)) / 127.5 - 1) @ WEIGHTS


@pytest.fixture(scope="session", name="convert")
def _convert() -> Callable[..., bytes]:
    return convert


@pytest.fixture(scope="session", name="expected_logits")
def _expected_logits() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return expected_logits


@pytest.fixture(scope="session")
def int8_flatbuffer() -> bytes:
    return convert()


@pytest.fixture(scope="session")
def unrunnable_flatbuffer() -> bytes:
    """A whole flatbuffer that the runtimes of a device cannot run."""
    return convert(numbers=np.float32, needs_tensorflow=True)


@pytest.fixture(scope="session")
def float32_flatbuffer() -> bytes:
    return convert(numbers=np.float32)


ModelMaker = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> ModelMaker:
    """Writes a model file: its flatbuffer, then what its manifest says other than the tiny network's."""

    def make(flatbuffer: bytes, **changes: object) -> Path:
        content = {"crop": CropSize(20.0, SIDE), "temperature": 1.0, "decline_below": 0.6} | changes
        path = tmp_path / "tiny.tflite"
        write_model_file(path, flatbuffer, Manifest(**content))  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture
def model_path(make_model: ModelMaker, int8_flatbuffer: bytes) -> Path:
    return make_model(int8_flatbuffer, runtimes=("litert", "tflite-runtime"))


@pytest.fixture
def classifier(model_path: Path) -> Classifier:
    return Classifier(read_model_file(model_path))
