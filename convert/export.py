"""Keras model to TensorFlow Lite by way of a SavedModel, each file checked to be what its recipe says.

A converter is believed in nothing: some have kept float inputs, or left an operation in float between two
conversions, without a word.
"""

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python.convert import ConverterError

from convert.calibration import Calibration, draw_calibration
from convert.parity import Limits, Parity, Reference, measure_parity
from convert.recipes import Recipe
from hematovision import __version__
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import (
    ConversionError,
    DataSetError,
    HematoVisionError,
    MissingPartError,
    ModelFileError,
)
from hematovision.extras import install_command
from hematovision.loaded_network import INT8_INPUT
from hematovision.model_file import Manifest, ModelFile, read_model_file, write_model_file
from hematovision.runtime import available_runtimes, load_interpreter
from train.cells import CellSet
from train.fit import predict_logits

_REASON_LENGTH = 200


@dataclass(frozen=True)
class Variant:
    """A network converted, checked and measured, but not yet written."""

    recipe: Recipe
    path: Path
    flatbuffer: bytes
    manifest: Manifest
    parities: tuple[Parity, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one recipe: the variant as far as it came, and why it was not written, if it was not."""

    recipe: Recipe
    variant: Variant | None
    failure: str | None


def convert_network(
    network: keras.Model,
    manifest: Manifest,
    training: CellSet,
    development: CellSet,
    targets: Mapping[Recipe, Path],
    limits: Limits,
) -> Iterator[Outcome]:
    """Convert a network by several recipes, and write each variant that is sound and within the limits.

    Args:
        network: takes crops, gives logits.
        manifest: the network's.
        training: cells to calibrate on.
        development: cells to compare on, and to fit each variant's temperature on.
        targets: the model file to write by each recipe; one that is there is replaced on success only.
        limits: of what a variant may differ from the network by.

    Yields:
        an `Outcome` for each recipe: one that fails does not hold up the next.

    Raises:
        DataSetError: the cells do not do for calibration or comparison.
        ModelFileError: the network takes crops of another size than the cells.
    """
    calibration = draw_calibration(training)
    reference = take_reference(network, development, manifest.temperature)
    with tempfile.TemporaryDirectory() as folder:
        save_model(network, Path(folder))
        for recipe, path in targets.items():
            variant = None
            try:
                variant = make_variant(recipe, path, Path(folder), calibration, reference, manifest)
                limits.check(variant.parities)
                write_variant(variant)
            except HematoVisionError as error:
                yield Outcome(recipe, variant, f"{recipe.name}: not written: {error}")
            else:
                yield Outcome(recipe, variant, None)


def take_reference(network: keras.Model, development: CellSet, temperature: float) -> Reference:
    """Run the Keras network on the development cells of the four classes; ``temperature`` is the network's.

    Raises:
        DataSetError: there is no such cell.
        ModelFileError: the network takes crops of another size.
    """
    cells = development.select(development.in_classes & development.found)
    if len(cells) == 0:
        raise DataSetError(
            "no development cells of the four classes; give the data that the model was trained on"
        )
    logits = predict_logits(network, cells.crops)
    return Reference(cells.crops, cells.labels, logits, cells.collection_weights, temperature)


def save_model(network: keras.Model, folder: Path) -> None:
    """Export a Keras network as a SavedModel that takes one crop or piece, (1, height, width, 3) float32."""
    crop = keras.InputSpec(shape=(1, *network.input_shape[1:]), dtype="float32", name="crop")
    network.export(str(folder), format="tf_saved_model", verbose=False, input_signature=[crop])


def to_tflite(saved_model: Path, recipe: Recipe, crops: NDArray[np.uint8]) -> bytes:
    """Convert a SavedModel by a recipe, calibrated, where that is needed, on crops (n, side, side, 3) uint8.

    Raises:
        ConversionError: TensorFlow refuses.
    """

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for crop in crops:
            yield [crop[None].astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    if recipe.name != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.needs_calibration:
        converter.representative_dataset = representative
    match recipe.name:
        case "float16":
            converter.target_spec.supported_types = [tf.float16]
        case "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        case "int16x8":
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
    try:
        return bytes(converter.convert())
    except (ConverterError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:_REASON_LENGTH]
        raise ConversionError(
            f"TensorFlow {tf.__version__} cannot convert this network ({reason}); choose another recipe"
        ) from error


def check_tensors(
    flatbuffer: bytes, recipe: Recipe, input_shape: list[int], output_shape: list[int], runtime: str
) -> None:
    """Check that a runtime loads a converted network and finds in it what the recipe says.

    Raises:
        ConversionError: it does not, or a type, a shape or the input's scale is another one.
    """
    try:
        interpreter = load_interpreter(flatbuffer, runtime, threads=1).interpreter
    except ModelFileError as error:
        raise ConversionError(f"{error}; choose another recipe") from error
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    faults = [
        f"{role} is {np.dtype(tensor['dtype']).name} {tensor['shape'].tolist()}, not {dtype} {shape}"
        for role, tensor, dtype, shape in (
            ("input", source, recipe.input_dtype, input_shape),
            ("output", result, recipe.output_dtype, output_shape),
        )
        if np.dtype(tensor["dtype"]) != dtype or tensor["shape"].tolist() != shape
    ]
    if recipe.input_dtype == "int8" and source["quantization"] != INT8_INPUT:
        faults.append(f"input has scale and zero point {source['quantization']}, not {INT8_INPUT}")
    inside = [
        tensor
        for tensor in interpreter.get_tensor_details()
        if tensor["index"] not in (source["index"], result["index"])
    ]
    if not any(tensor["dtype"] is np.dtype(recipe.weights_dtype).type for tensor in inside):
        faults.append(f"no tensor inside is {recipe.weights_dtype}")
    floats = [tensor["name"] for tensor in inside if issubclass(tensor["dtype"], np.floating)]
    if recipe.integer_only and floats:
        faults.append(f"{len(floats)} tensors inside are left in floating point ({floats[0]}, …)")
    if faults:
        raise ConversionError(
            f"TensorFlow {tf.__version__} made something else: on {runtime}, {'; '.join(faults)}; "
            "choose another recipe"
        )


def make_variant(
    recipe: Recipe,
    path: Path,
    saved_model: Path,
    calibration: Calibration,
    reference: Reference,
    manifest: Manifest,
) -> Variant:
    """Convert, check and measure on every runtime that the recipe names and that is installed.

    Args:
        recipe: how.
        path: where the variant is to be written.
        saved_model: folder of the network.
        calibration: used by recipes that need it.
        reference: the Keras network's answers; the variant's own temperature is fitted on its cells.
        manifest: the Keras network's. Its decline threshold, a calibrated probability, holds for both.

    Raises:
        ConversionError: the converted network is not what the recipe says.
        MissingPartError: none of the recipe's runtimes is installed.
        ModelFileError: a runtime fails on it.
    """
    runtimes = [name for name in available_runtimes() if name in recipe.runtimes]
    if not runtimes:
        raise MissingPartError(
            f"{path.name} would run on {' or '.join(recipe.runtimes)}, which is not installed; "
            f"{install_command('edge')} brings it"
        )
    flatbuffer = to_tflite(saved_model, recipe, calibration.crops)
    side = manifest.crop.side_px
    for runtime in runtimes:
        check_tensors(flatbuffer, recipe, [1, side, side, 3], [1, len(CLASS_NAMES)], runtime)
    manifest = dataclasses.replace(
        manifest,
        recipe=recipe.name,
        runtimes=recipe.runtimes,
        calibration=calibration.record if recipe.needs_calibration else {},
        accuracy={},  # the Keras model's, if any; this one's is still to be measured
        tools={
            **manifest.tools,
            "hematovision": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    )
    model = ModelFile(path, flatbuffer, manifest, hashlib.sha256(flatbuffer).hexdigest())
    temperature, parities = measure_parity(model, runtimes, reference)
    manifest = dataclasses.replace(
        manifest,
        temperature=temperature,
        parity={
            "side": "development",
            "keras_temperature": reference.temperature,
            "runtimes": [dataclasses.asdict(parity) for parity in parities],
        },
    )
    return Variant(recipe, path, flatbuffer, manifest, parities)


def write_variant(variant: Variant) -> None:
    """Write a model file, then open it as the device does and check that it is what was written.

    Raises:
        ConversionError: what is read is not what was written; the file is removed.
        ModelFileError: it cannot be written, or not be read again; then it is removed.
    """
    path = variant.path
    write_model_file(path, variant.flatbuffer, variant.manifest)
    try:
        model = read_model_file(path)
        if model.flatbuffer != variant.flatbuffer or model.manifest.to_json() != variant.manifest.to_json():
            raise ConversionError(f"{path}: reads back as something else than was written; convert again")
    except HematoVisionError:
        path.unlink(missing_ok=True)  # or it would lie there as if it were good
        raise
