"""The network in the format that other runtimes read: ONNX, in float and quantised.

Kept beside the model's variants. Where they are kept, neither TensorFlow nor the tools that make them are
needed. What is made::

    float32   Keras's own export
    int8      weights and activations int8: what ONNX Runtime's documentation would have tried first
    uint8     weights int8, activations uint8: the other choice that it describes

Both quantised ones follow its advice for convolutional networks ("Quantize ONNX Models"): static, written as
pairs of QuantizeLinear and DequantizeLinear, the graph fused beforehand, weights quantised by channel. By
tensor, only 81 % of the calibration crops kept their class. Weights have their full range, as it advises for
x86-64 with VNNI and for Arm. On x86-64 without VNNI sums may saturate: on an emulated one few crops showed no
harm, and where there is harm, the check of a peer's answers finds it. Why both: seen on x86-64, ONNX Runtime
1.32 computes 15 of the 52 convolutions of the int8 file in float, so that it takes as long as float32; all of
the uint8 file it computes in integers, in little more than half the time.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cache import keep_file, kept_files
from benchmarks.contenders import KERAS
from benchmarks.variants import BuiltModel, Say
from hematovision.errors import ConversionError, HematoVisionError, MissingPartError, reason_of
from train.quiet import tensorflow_kept_quiet

FLOAT32 = "float32"
INT8 = "int8"
UINT8 = "uint8"
#: What a network can be had as.
KINDS = (FLOAT32, INT8, UINT8)

_INPUT = "crop"

# What the libraries that make these files raise, besides what is theirs.
_LIBRARY_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


def build_onnx(model: BuiltModel, say: Say) -> tuple[dict[str, Path], dict[str, HematoVisionError]]:
    """The ONNX files of a network by their kind; those that are not kept yet are made of its ``.keras`` file.

    Args:
        model: quantised with its crops, those that its int8 variant was calibrated on.
        say: told what is being done.

    Returns:
        The files, and of those that cannot be had the reason: a `MissingPartError` where what makes them is
        not here, a `ConversionError` where the network has an operation that ONNX lacks or cannot be
        quantised, a `ModelFileError` where a file cannot be read or written.
    """
    kept = kept_files(model.folder)
    files = {kind: kept[_name(kind)] for kind in KINDS if _name(kind) in kept}
    reasons: dict[str, HematoVisionError] = {}
    for kind in KINDS:
        if kind in files:
            continue
        if FLOAT32 in reasons:  # it comes first, and the others are made of it
            reasons[kind] = reasons[FLOAT32]
            continue
        try:
            content = _export(model, say) if kind == FLOAT32 else _quantise(model, files[FLOAT32], kind, say)
            files[kind] = keep_file(model.folder, _name(kind), content)
        except HematoVisionError as error:
            reasons[kind] = error
    return files, reasons


def _name(kind: str) -> str:
    return f"{kind}.onnx"


def _need(file: Path, *packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingPartError(
            f"{file}: not there, and what makes it is not installed ({', '.join(missing)}); copy its folder "
            "from a machine where it is made, or pip install 'hematovision[bench]'"
        )


def _export(model: BuiltModel, say: Say) -> bytes:
    target = model.folder / _name(FLOAT32)
    if KERAS not in model.files:
        raise MissingPartError(
            f"{target.name} is not kept, and is made of the .keras file; give that with --model, and "
            "--variant keras if variants are named"
        )
    _need(target, "tensorflow", "tf2onnx", "onnx")
    say(f"{model.name}: exporting to ONNX")
    path = model.files[KERAS]
    with tensorflow_kept_quiet(), tempfile.TemporaryDirectory() as folder:
        import keras
        import onnx

        from train.network import load_network

        network = load_network(path)
        exported = Path(folder) / target.name
        crop = keras.InputSpec(shape=(1, *network.input_shape[1:]), dtype="float32", name=_INPUT)
        try:
            network.export(str(exported), format="onnx", verbose=False, input_signature=[crop])
            # tf2onnx writes an operation that it does not know into the file all the same.
            onnx.checker.check_model(str(exported))
        except (*_LIBRARY_ERRORS, onnx.checker.ValidationError) as error:
            raise ConversionError(
                f"{path}: tf2onnx cannot write this network as ONNX ({reason_of(error)}); "
                "it is left out of what reads ONNX"
            ) from error
        return exported.read_bytes()


def _quantise(model: BuiltModel, source: Path, kind: str, say: Say) -> bytes:
    target = model.folder / _name(kind)
    _need(target, "onnxruntime", "onnx")
    say(f"{model.name}: quantising the ONNX network to {kind}")
    with tensorflow_kept_quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        fused, quantised = Path(folder) / "fused.onnx", Path(folder) / target.name
        try:
            # The shapes are fixed, so there is nothing symbolic to infer.
            quant_pre_process(source, fused, skip_symbolic_shape=True)
            quantize_static(
                fused,
                quantised,
                _Crops(model.crops()),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8 if kind == UINT8 else QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
        except (
            *_LIBRARY_ERRORS,
            runtime.Fail,
            runtime.InvalidArgument,
            runtime.InvalidGraph,
            runtime.NotImplemented,
            runtime.RuntimeException,
        ) as error:
            raise ConversionError(
                f"{source}: ONNX Runtime cannot quantise this network ({reason_of(error)}); "
                f"it is compared without {kind}"
            ) from error
        return quantised.read_bytes()


class _Crops:
    """What quantize_static asks for crops: one after the other, then None, by the name of the input."""

    def __init__(self, crops: NDArray[np.uint8]) -> None:
        self._crops: Iterator[NDArray[np.uint8]] = iter(crops)

    def get_next(self) -> dict[str, Any] | None:
        crop = next(self._crops, None)
        return None if crop is None else {_INPUT: crop[None].astype(np.float32)}
