"""The network in the format that other runtimes read: ONNX, in float and quantised.

Kept beside the model's variants. Where they are kept, neither TensorFlow nor the tools that make them are
needed. What is made::

    float32   Keras's own export
    int8      weights and activations int8: what ONNX Runtime's documentation would have tried first
    uint8     weights int8, activations uint8: the other choice that it describes

Both quantised ones follow its advice for convolutional networks ("Quantize ONNX Models"): static, written as
pairs of QuantizeLinear and DequantizeLinear, the graph fused beforehand, weights quantised by channel. By
tensor, MobileNetV2's depthwise weights did not survive: 81 % of the calibration crops kept their class. Full
range, as on processors with VNNI and on Arm; on x86-64 without VNNI sums may saturate, which the check of a
peer's answers would show. Why both: seen on x86-64, ONNX Runtime 1.32 computed a third of the convolutions of
the int8 file in float, so it took longer than float32 did, and all of uint8's in integers, in half the time.
"""

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.variants import KERAS, BuiltModel, Say, keep_file, kept_files
from hematovision.errors import ConversionError, MissingPartError, reason_of
from train.quiet import tensorflow_kept_quiet

FLOAT32 = "float32"
INT8 = "int8"
UINT8 = "uint8"
#: What a network can be had as.
KINDS = (FLOAT32, INT8, UINT8)

# The libraries that make these files raise no error of their own.
_LIBRARY_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


def onnx_file(model: BuiltModel, kind: str, say: Say) -> Path:
    """The ONNX file of a network, made of its ``.keras`` file if it is not kept yet.

    Args:
        model: quantised with its crops, those that its int8 variant was calibrated on.
        kind: of `KINDS`.
        say: told what is being done.

    Raises:
        MissingPartError: it is not kept, and what makes it is not here: the ``.keras`` file, or a package.
        ConversionError: the network has an operation that ONNX lacks, or cannot be quantised.
        ModelFileError: the ``.keras`` file cannot be read, or the ONNX file not be written.
    """
    name = f"{kind}.onnx"
    kept = kept_files(model.folder)
    if name in kept:
        return kept[name]
    if KERAS not in model.files:
        raise MissingPartError(
            f"{model.folder / name}: not there, and it is made of the .keras file; give that with --model"
        )
    if kind == FLOAT32:
        _need(model.folder / name, "tensorflow", "tf2onnx", "onnx")
        say(f"{model.name}: exporting to ONNX")
        content = _export(model.files[KERAS])
    else:
        _need(model.folder / name, "onnxruntime", "onnx")
        source = onnx_file(model, FLOAT32, say)
        say(f"{model.name}: quantising the ONNX network to {kind}")
        content = _quantise(source, model.crops(), kind)
    return keep_file(model.folder, name, content)


def _need(file: Path, *packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingPartError(
            f"{file}: not there, and {' and '.join(missing)}, which makes it, is not installed; copy the "
            "folder from a machine where it is made, or pip install 'hematovision[bench]'"
        )


def _export(path: Path) -> bytes:
    with tensorflow_kept_quiet(), tempfile.TemporaryDirectory() as folder:
        import keras
        import onnx

        from train.network import load_network

        network = load_network(path)
        target = Path(folder) / "network.onnx"
        crop = keras.InputSpec(shape=(1, *network.input_shape[1:]), dtype="float32", name="crop")
        try:
            network.export(str(target), format="onnx", verbose=False, input_signature=[crop])
            # tf2onnx writes an operation that it does not know into the file all the same.
            onnx.checker.check_model(str(target))
        except (*_LIBRARY_ERRORS, onnx.checker.ValidationError) as error:
            raise ConversionError(
                f"{path}: tf2onnx cannot write this network as ONNX ({reason_of(error)}); "
                "it is left out of what reads ONNX"
            ) from error
        return target.read_bytes()


def _quantise(source: Path, crops: NDArray[np.uint8], kind: str) -> bytes:
    with tensorflow_kept_quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        fused, target = Path(folder) / "fused.onnx", Path(folder) / "quantised.onnx"
        try:
            # The shapes are fixed, so there is nothing symbolic to infer.
            quant_pre_process(source, fused, skip_symbolic_shape=True)
            quantize_static(
                fused,
                target,
                _Crops(crops),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8 if kind == UINT8 else QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
        except _LIBRARY_ERRORS as error:
            raise ConversionError(
                f"{source}: ONNX Runtime cannot quantise this network ({reason_of(error)}); "
                "only float32 is compared"
            ) from error
        return target.read_bytes()


class _Crops:
    """What quantize_static asks for crops: one after the other, then None, by the name of the input."""

    def __init__(self, crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> None:
        self._crops: Iterator[NDArray[np.uint8]] = iter(crops)

    def get_next(self) -> dict[str, Any] | None:
        crop = next(self._crops, None)
        return None if crop is None else {"crop": crop[None].astype(np.float32)}
