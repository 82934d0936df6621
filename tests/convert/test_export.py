"""What the converter made is checked: a file is what its recipe says, or it is refused."""

import dataclasses
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from convert.calibration import Calibration
from convert.export import check_tensors, make_variant, take_reference, to_tflite, write_variant
from convert.parity import Reference
from convert.recipes import RECIPES, Recipe
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import Classifier
from hematovision.errors import ConversionError, DataSetError, MissingPartError, ModelFileError
from hematovision.model_file import Manifest, read_model_file, write_model_file
from hematovision.runtime import available_runtimes, load_interpreter
from train.cells import OTHER, CellSet

INT8 = RECIPES["int8"]


def shapes(side: int) -> tuple[list[int], list[int]]:
    """Of input and output of a classifier."""
    return [1, side, side, 3], [1, len(CLASS_NAMES)]


@pytest.fixture(params=available_runtimes())
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- the network's contract ---


def test_int8_is_int8_throughout_and_takes_a_crop_less_128(
    flatbuffers: dict[str, bytes], manifest: Manifest, runtime: str
) -> None:
    side = manifest.crop.side_px
    check_tensors(flatbuffers["int8"], INT8, *shapes(side), runtime)
    interpreter = load_interpreter(flatbuffers["int8"], runtime).interpreter
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["dtype"] is result["dtype"] is np.int8
    assert source["quantization"] == (1.0, -128)
    assert source["shape"].tolist() == [1, side, side, 3]
    assert result["shape"].tolist() == [1, len(CLASS_NAMES)]
    assert {tensor["dtype"] for tensor in interpreter.get_tensor_details()} == {np.int8, np.int32}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_passes_the_check_of_its_own(
    recipe: Recipe, flatbuffers: dict[str, bytes], manifest: Manifest, runtime: str
) -> None:
    if runtime not in recipe.runtimes:
        with pytest.raises(ConversionError, match=f"{runtime} .* cannot load the model"):
            check_tensors(flatbuffers[recipe.name], recipe, *shapes(manifest.crop.side_px), runtime)
    else:
        check_tensors(flatbuffers[recipe.name], recipe, *shapes(manifest.crop.side_px), runtime)


# --- planted failures ---


def test_float_input_and_output_where_int8_was_asked_for_is_refused(
    flatbuffers: dict[str, bytes], manifest: Manifest, runtime: str
) -> None:
    with pytest.raises(
        ConversionError, match=r"input is float32 .*, not int8 .*output is float32 .*, not int8"
    ):
        check_tensors(flatbuffers["int16x8"], INT8, *shapes(manifest.crop.side_px), runtime)


def test_uint8_input_is_refused(
    saved_model: Path, calibration: Calibration, manifest: Manifest, runtime: str
) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([crop[None].astype(np.float32)] for crop in calibration.crops)
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    with pytest.raises(ConversionError, match="input is uint8"):
        check_tensors(converter.convert(), INT8, *shapes(manifest.crop.side_px), runtime)


def test_an_operation_left_in_float_between_int8_ends_is_refused(
    cosine_model: Path, calibration: Calibration, manifest: Manifest, runtime: str
) -> None:
    flatbuffer = to_tflite(cosine_model, INT8, calibration.crops)
    interpreter = load_interpreter(flatbuffer, runtime).interpreter
    assert interpreter.get_input_details()[0]["dtype"] is np.int8  # from outside it looks right
    with pytest.raises(ConversionError, match="left in floating point"):
        check_tensors(flatbuffer, INT8, *shapes(manifest.crop.side_px), runtime)


def test_calibration_without_0_and_255_is_refused_by_the_scale_that_it_gives(
    saved_model: Path, narrow_crops: NDArray[np.uint8], manifest: Manifest, runtime: str
) -> None:
    flatbuffer = to_tflite(saved_model, INT8, narrow_crops)
    with pytest.raises(ConversionError, match=r"scale and zero point .*, not \(1\.0, -128\)"):
        check_tensors(flatbuffer, INT8, *shapes(manifest.crop.side_px), runtime)


@pytest.mark.parametrize("name", ["float16", "dynamic"])
def test_weights_left_in_float32_are_refused(
    name: str, flatbuffers: dict[str, bytes], manifest: Manifest
) -> None:
    with pytest.raises(ConversionError, match="no tensor inside is"):
        check_tensors(
            flatbuffers["float32"], RECIPES[name], *shapes(manifest.crop.side_px), available_runtimes()[0]
        )


def test_a_network_for_crops_of_another_size_is_refused(flatbuffers: dict[str, bytes], runtime: str) -> None:
    with pytest.raises(ConversionError, match=r"input is int8 \[1, 32, 32, 3\], not int8 \[1, 64, 64, 3\]"):
        check_tensors(flatbuffers["int8"], INT8, *shapes(64), runtime)


def test_what_tensorflow_cannot_convert_is_refused_in_one_line(
    cosine_model: Path, calibration: Calibration
) -> None:
    with pytest.raises(ConversionError, match=r"TensorFlow .* cannot convert this network") as caught:
        to_tflite(cosine_model, RECIPES["int16x8"], calibration.crops)
    assert "\n" not in str(caught.value)


# --- the Keras side ---


def test_the_reference_is_of_cells_of_the_four_classes(network: keras.Model, development: CellSet) -> None:
    labels = development.labels.copy()
    labels[::2] = OTHER
    reference = take_reference(network, dataclasses.replace(development, labels=labels), 1.5)
    np.testing.assert_array_equal(reference.labels, development.labels[1::2])
    np.testing.assert_array_equal(reference.crops, development.crops[1::2])
    assert reference.logits.shape == (len(development) // 2, len(CLASS_NAMES))
    assert (reference.logits.argmax(axis=1) == reference.labels).mean() > 0.9


def test_no_development_cell_is_refused(network: keras.Model, development: CellSet) -> None:
    with pytest.raises(DataSetError, match="no development cells"):
        take_reference(network, development.select(development.labels == OTHER), 1.0)


def test_a_network_for_another_size_than_the_cells_is_refused(
    network: keras.Model, development: CellSet
) -> None:
    half = dataclasses.replace(development, crops=development.crops[:, ::2, ::2])
    with pytest.raises(ModelFileError, match="takes crops of"):
        take_reference(network, half, 1.0)


# --- the model file ---


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_model_file_carries_all_and_runs_as_it_was_measured(
    recipe: Recipe,
    saved_model: Path,
    calibration: Calibration,
    reference: Reference,
    manifest: Manifest,
    tmp_path: Path,
) -> None:
    measured = dataclasses.replace(manifest, accuracy={"test": 0.9}, tools={"opencv": "4.11"})
    path = tmp_path / "model.tflite"
    variant = make_variant(recipe, path, saved_model, calibration, reference, measured)
    write_variant(variant)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["manifest.json", "labels.txt"]
    model = read_model_file(path)
    assert model.flatbuffer == variant.flatbuffer
    written = model.manifest
    assert (written.recipe, written.runtimes) == (recipe.name, recipe.runtimes)
    assert (written.crop, written.decline_below) == (manifest.crop, manifest.decline_below)
    assert written.training == manifest.training
    assert written.accuracy == {}, "that was the Keras model's"
    assert {"opencv", "tensorflow", "keras", "numpy", "hematovision"} == set(written.tools)
    assert written.calibration == (calibration.record if recipe.needs_calibration else {})
    tried = [name for name in available_runtimes() if name in recipe.runtimes]
    assert [one["runtime"].split()[0] for one in written.parity["runtimes"]] == tried
    for name in tried:
        tops = Classifier(model, name).logits(reference.crops).argmax(axis=1)
        assert (tops == reference.logits.argmax(axis=1)).mean() >= 0.98


def test_each_variant_has_a_temperature_of_its_own(
    saved_model: Path, calibration: Calibration, reference: Reference, manifest: Manifest
) -> None:
    # A Keras model whose temperature is far off leaves the variant's where the development cells put it.
    near, far = (
        make_variant(
            RECIPES["dynamic"],
            Path("dynamic.tflite"),
            saved_model,
            calibration,
            dataclasses.replace(reference, temperature=temperature),
            dataclasses.replace(manifest, temperature=temperature),
        )
        for temperature in (1.0, 15.0)
    )
    assert near.manifest.temperature == far.manifest.temperature != manifest.temperature
    assert far.manifest.parity["keras_temperature"] == 15.0


def test_the_same_network_and_cells_give_the_same_file(
    saved_model: Path, calibration: Calibration, flatbuffers: dict[str, bytes]
) -> None:
    assert to_tflite(saved_model, INT8, calibration.crops) == flatbuffers["int8"]


def test_a_file_that_reads_back_as_another_is_removed(
    saved_model: Path,
    calibration: Calibration,
    reference: Reference,
    manifest: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "model.tflite"
    variant = make_variant(INT8, path, saved_model, calibration, reference, manifest)
    other = dataclasses.replace(variant.manifest, temperature=9.0)
    monkeypatch.setattr(
        "convert.export.write_model_file",
        lambda path, flatbuffer, _: write_model_file(path, flatbuffer, other),
    )
    with pytest.raises(ConversionError, match="reads back as something else"):
        write_variant(variant)
    assert not path.exists()


def test_a_file_that_cannot_be_read_again_is_removed(
    saved_model: Path,
    calibration: Calibration,
    reference: Reference,
    manifest: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "model.tflite"
    variant = make_variant(RECIPES["float32"], path, saved_model, calibration, reference, manifest)
    monkeypatch.setattr(
        "convert.export.write_model_file", lambda path, flatbuffer, _: path.write_bytes(flatbuffer)
    )
    with pytest.raises(ModelFileError, match="without its manifest"):
        write_variant(variant)
    assert not path.exists()


def test_a_recipe_without_an_installed_runtime_is_not_converted(
    saved_model: Path,
    calibration: Calibration,
    reference: Reference,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("convert.export.available_runtimes", lambda: ("tflite-runtime",))
    with pytest.raises(MissingPartError, match="would run on litert"):
        make_variant(
            RECIPES["dynamic"], Path("dynamic.tflite"), saved_model, calibration, reference, manifest
        )
