"""A tiny real network in a model file, and the classifier that runs it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.classifier import Classifier
from hematovision.crops import CropSize
from hematovision.model_file import Manifest, read_model_file, write_model_file
from tests.edge.tiny_models.network import SIDE, flatbuffer


@pytest.fixture(scope="session")
def int8_flatbuffer() -> bytes:
    return flatbuffer("int8")


@pytest.fixture(scope="session")
def float32_flatbuffer() -> bytes:
    return flatbuffer("float32")


@pytest.fixture(scope="session")
def unrunnable_flatbuffer() -> bytes:
    """A whole flatbuffer that the runtimes of a device cannot run."""
    return flatbuffer("float32-unrunnable")


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
