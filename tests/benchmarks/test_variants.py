"""Variants are built once, kept, checked, and built again when they are not what they were."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import keras
import numpy as np
import pytest

from benchmarks import variants
from benchmarks.cache import enter, kept_files
from benchmarks.contenders import KERAS
from benchmarks.results import Unmeasured
from benchmarks.variants import VARIANT_NAMES, BuiltModel, default_network, open_models
from convert import export
from convert.calibration import draw_calibration
from convert.recipes import RECIPES, Recipe
from hematovision.classifier import Classifier, default_model_path
from hematovision.crops import CropSize
from hematovision.errors import (
    ConversionError,
    DataSetError,
    MissingPartError,
    ModelFileError,
    SettingError,
)
from hematovision.model_file import (
    Manifest,
    file_hash,
    manifest_path,
    read_keras_manifest,
    read_model_file,
    write_keras_manifest,
    write_model_file,
)
from train.cells import CellSet
from train.fit import predict_logits


def open_one(
    path: Path, folder: Path, names: Sequence[str] = VARIANT_NAMES, data: Sequence[str] = ("drawn",)
) -> tuple[BuiltModel, list[Unmeasured]]:
    (model,), unmeasured = open_models([path], names, data, folder, lambda _: None)
    return model, unmeasured


@pytest.fixture
def kept(tiny_model: BuiltModel, tmp_path: Path) -> Path:
    """The folder in which the variants of the tiny network are kept; a copy, to do harm to."""
    shutil.copytree(tiny_model.folder, tmp_path / tiny_model.folder.name)
    return tmp_path


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("something was built")

    monkeypatch.setattr(variants, "load_training_cells", fail)


@pytest.fixture
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "tensorflow_version", lambda: None)


def entry(kept: Path) -> Path:
    (folder,) = kept.iterdir()
    return folder


# --- what is built ---


def test_that_variants_must_be_built_is_said_before(
    tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ""

    def build(*_: object) -> None:
        nonlocal said
        said = capsys.readouterr().err
        raise DataSetError("asked for")

    monkeypatch.setattr(variants, "load_training_cells", build)
    with pytest.raises(DataSetError, match="asked for"):
        open_one(tiny_keras, tmp_path)
    assert "before anything is measured, float32, float16, dynamic, int8, int16x8 must be built" in said
    assert "minutes" in said and str(tmp_path) in said


def test_nothing_is_said_of_variants_that_are_kept(
    tiny_keras: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_one(tiny_keras, kept)
    assert "must be" not in capsys.readouterr().err


def test_every_variant_of_a_network_is_built_as_convert_builds_it(
    tiny_model: BuiltModel, tiny_network: keras.Model, development: CellSet
) -> None:
    assert tuple(tiny_model.files) == VARIANT_NAMES
    expected = predict_logits(tiny_network, development.crops).argmax(axis=1)
    for name in RECIPES:
        model = read_model_file(tiny_model.files[name])
        assert model.manifest.recipe == name
        answers = Classifier(model).logits(development.crops).argmax(axis=1)
        assert (answers == expected).mean() > 0.95


def test_every_variant_is_described_by_its_file(tiny_model: BuiltModel, tiny_network: keras.Model) -> None:
    assert tuple(variant.name for variant in tiny_model.variants) == VARIANT_NAMES
    for variant in tiny_model.variants:
        path = tiny_model.files[variant.name]
        assert (variant.model, variant.file, variant.side_px) == ("tiny", path.name, 32)
        assert (variant.sha256, variant.file_bytes) == (file_hash(path), path.stat().st_size)
    # Batch normalisation is folded into the convolutions before it, of which each gets a bias of 8 by it.
    normalised = sum(
        layer.count_params() for layer in tiny_network.layers if "batch_normalization" in layer.name
    )
    expected = tiny_network.count_params() - normalised + 2 * 8
    assert {variant.parameters for variant in tiny_model.variants} == {expected}
    # By hand: 16x16 places, 27 and 9 products for each of 8 channels, 8 for each of 256; 256 for 4 logits.
    products = 16 * 16 * (8 * 27 + 8 * 9 + 256 * 8) + 256 * 4
    (operations,) = {variant.operations for variant in tiny_model.variants}
    assert operations == pytest.approx(2 * products, rel=0.1)


def test_the_crops_are_those_that_the_quantiser_was_shown(tiny_model: BuiltModel, training: CellSet) -> None:
    crops = tiny_model.crops()
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops, draw_calibration(training).crops)


@pytest.mark.usefixtures("tiny_cells")
def test_only_what_is_asked_for_is_built(tiny_keras: Path, tmp_path: Path) -> None:
    model, unmeasured = open_one(tiny_keras, tmp_path, ["dynamic"])
    assert unmeasured == []
    assert list(model.files) == ["dynamic"]
    assert sorted(kept_files(model.folder)) == ["crops.npy", "tiny-dynamic.tflite"]


@pytest.mark.usefixtures("tiny_cells")
def test_the_keras_network_alone_can_be_asked_for(tiny_keras: Path, tmp_path: Path) -> None:
    model, _ = open_one(tiny_keras, tmp_path, [KERAS])
    assert model.files == {KERAS: tiny_keras}
    assert model.variants[0].operations


@pytest.mark.usefixtures("tiny_cells")
def test_a_recipe_that_fails_does_not_hold_up_the_others(
    tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = export.to_tflite

    def fail(saved_model: Path, recipe: Recipe, crops: np.ndarray) -> bytes:
        if recipe.name == "float16":
            raise ConversionError("planted")
        return convert(saved_model, recipe, crops)

    monkeypatch.setattr(export, "to_tflite", fail)
    model, (failed,) = open_one(tiny_keras, tmp_path, ["float32", "float16", "dynamic"])
    assert list(model.files) == ["float32", "dynamic"]
    assert (failed.what, failed.failed) == ("tiny float16", True)
    assert "planted" in failed.why


@pytest.mark.usefixtures("tiny_cells")
def test_the_keras_network_is_there_though_no_recipe_is(
    tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "to_tflite", Mock(side_effect=ConversionError("planted")))
    model, (failed,) = open_one(tiny_keras, tmp_path, [KERAS, "int8"])
    assert model.files == {KERAS: tiny_keras}
    assert (model.variants[0].side_px, model.variants[0].operations) == (32, None)
    assert (failed.what, failed.failed) == ("tiny int8", True)
    with pytest.raises(ModelFileError, match=r"none of its variants is there: .*planted"):
        open_one(tiny_keras, tmp_path, ["int8"])


@pytest.mark.usefixtures("tiny_cells")
def test_a_variant_that_loses_all_is_built_all_the_same(
    tiny_keras: Path, tmp_path: Path, tiny_network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed_up = keras.models.clone_model(tiny_network)
    weights, bias = tiny_network.get_layer("logits").get_weights()
    mixed_up.set_weights([*tiny_network.get_weights()[:-2], np.roll(weights, 1, axis=1), np.roll(bias, 1)])
    export.save_model(mixed_up, tmp_path / "mixed_up")
    convert = export.to_tflite
    monkeypatch.setattr(
        export, "to_tflite", lambda _, recipe, crops: convert(tmp_path / "mixed_up", recipe, crops)
    )
    model, unmeasured = open_one(tiny_keras, tmp_path / "variants", ["float32"])
    assert unmeasured == []
    parity = read_model_file(model.files["float32"]).manifest.parity["runtimes"][0]
    assert parity["agreement"] < 0.1


@pytest.mark.usefixtures("tiny_cells")
def test_a_recipe_that_nothing_here_runs_is_listed_with_the_reason(
    tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "available_runtimes", lambda: ("tflite-runtime",))
    model, (left_out,) = open_one(tiny_keras, tmp_path, ["float32", "dynamic"])
    assert list(model.files) == ["float32"]
    assert (left_out.what, left_out.failed) == ("tiny dynamic", False)
    assert "litert, which is not installed" in left_out.why


# --- what is kept ---


@pytest.mark.usefixtures("no_building")
def test_what_is_kept_is_not_built_again(kept: Path, tiny_keras: Path, tiny_model: BuiltModel) -> None:
    model, unmeasured = open_one(tiny_keras, kept)
    assert unmeasured == []
    assert model.variants == tiny_model.variants
    np.testing.assert_array_equal(model.crops(), tiny_model.crops())


@pytest.mark.usefixtures("no_building")
def test_a_network_may_be_moved(
    kept: Path, tiny_keras: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in (tiny_keras, manifest_path(tiny_keras)):
        shutil.copy(path, elsewhere)
    model, _ = open_one(elsewhere / tiny_keras.name, kept)
    assert tuple(model.files) == VARIANT_NAMES


def test_another_manifest_or_another_way_to_convert_asks_for_other_variants(
    kept: Path, tiny_keras: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Built(Exception):  # noqa: N818 (it is no error)
        pass

    def build(*_: object) -> None:
        raise Built

    monkeypatch.setattr(variants, "load_training_cells", build)
    other = tmp_path_factory.mktemp("other") / tiny_keras.name
    shutil.copy(tiny_keras, other)
    write_keras_manifest(other, dataclasses.replace(read_keras_manifest(tiny_keras), temperature=2.0))
    with pytest.raises(Built):
        open_one(other, kept)
    monkeypatch.setattr(variants, "_converting_code", lambda: [other])
    with pytest.raises(Built):
        open_one(tiny_keras, kept)


@pytest.mark.usefixtures("tiny_cells")
def test_a_damaged_variant_is_said_and_built_again(
    kept: Path, tiny_keras: Path, tiny_model: BuiltModel, capsys: pytest.CaptureFixture[str]
) -> None:
    path = entry(kept) / "tiny-int8.tflite"
    path.write_bytes(path.read_bytes()[:-1])
    model, unmeasured = open_one(tiny_keras, kept)
    assert unmeasured == []
    assert "tiny-int8.tflite: damaged" in capsys.readouterr().err
    assert model.variants == tiny_model.variants
    open_one(tiny_keras, kept)
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_cells")
def test_what_another_tensorflow_made_is_said_and_made_again(
    kept: Path, tiny_keras: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = entry(kept) / "tiny-float32.tflite"
    model = read_model_file(path)
    tools = {**model.manifest.tools, "tensorflow": "2.0.0"}
    write_model_file(path, model.flatbuffer, dataclasses.replace(model.manifest, tools=tools))
    enter(entry(kept), [path.name])
    opened, _ = open_one(tiny_keras, kept, ["float32"])
    assert "made by TensorFlow 2.0.0" in capsys.readouterr().err
    tools = dict(read_model_file(opened.files["float32"]).manifest.tools)
    assert tools["tensorflow"] == variants.tensorflow_version()


@pytest.mark.usefixtures("tiny_cells")
def test_a_variant_of_another_network_is_said_and_made_again(
    kept: Path,
    tiny_keras: Path,
    tiny_model: BuiltModel,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As where a copied folder is given the name that is asked for."""
    network = keras.models.load_model(tiny_keras)
    network.get_layer("logits").bias.assign([1.0, 2.0, 3.0, 4.0])
    other = tmp_path_factory.mktemp("other") / tiny_keras.name
    network.save(other)
    write_keras_manifest(other, read_keras_manifest(tiny_keras))
    wanted = kept / f"tiny-{variants._hash_of(other, manifest_path(other))}"
    entry(kept).rename(wanted)
    model, _ = open_one(other, kept, ["float32"])
    assert "tiny-float32.tflite: made from another network than tiny.keras" in capsys.readouterr().err
    assert model.files["float32"].parent == wanted
    assert model.variants[0].sha256 != tiny_model.variants[1].sha256


@pytest.mark.usefixtures("no_building", "no_tensorflow")
def test_a_variant_under_another_s_name_is_left_out(
    kept: Path, tiny_keras: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(entry(kept) / "tiny-float32.tflite", entry(kept) / "tiny-int8.tflite")
    enter(entry(kept), ["tiny-int8.tflite"])
    model, (left_out,) = open_one(tiny_keras, kept)
    assert "int8" not in model.files
    assert left_out.what == "tiny int8"
    assert "tiny-int8.tflite: its recipe is float32; it does not count" in capsys.readouterr().err


# --- a device without TensorFlow ---


@pytest.mark.usefixtures("no_building", "no_tensorflow")
def test_a_copied_folder_is_used_where_tensorflow_is_not_installed(kept: Path, tiny_keras: Path) -> None:
    model, unmeasured = open_one(tiny_keras, kept)
    assert unmeasured == []
    assert tuple(model.files) == VARIANT_NAMES


@pytest.mark.usefixtures("no_building", "no_tensorflow")
def test_what_cannot_be_built_there_is_listed_with_the_reason(kept: Path, tiny_keras: Path) -> None:
    (entry(kept) / "tiny-int8.tflite").unlink()
    model, (left_out,) = open_one(tiny_keras, kept)
    assert "int8" not in model.files
    assert len(model.files) == len(VARIANT_NAMES) - 1
    assert (left_out.what, left_out.failed) == ("tiny int8", False)
    assert "TensorFlow, which builds it, is not installed" in left_out.why


@pytest.mark.usefixtures("no_building", "no_tensorflow")
def test_nothing_kept_and_no_tensorflow_is_an_error(tiny_keras: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="copy the folder from a machine where it is built"):
        open_one(tiny_keras, tmp_path)


@pytest.mark.usefixtures("no_building", "no_tensorflow")
def test_crops_that_are_damaged_cannot_be_made_there(kept: Path, tiny_keras: Path) -> None:
    (entry(kept) / "crops.npy").write_bytes(b"")
    with pytest.raises(MissingPartError, match=r"crops.npy: not there, or damaged"):
        open_one(tiny_keras, kept)


def test_opening_what_is_kept_imports_no_tensorflow(kept: Path, tiny_keras: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.variants import *\n"
        f"open_models([Path({str(tiny_keras)!r})], VARIANT_NAMES, (), Path({str(kept)!r}), lambda _: None)\n"
        "sys.exit(str({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


# --- data to build with ---


@pytest.fixture
def asked_data(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What data the training cells are read from."""
    asked: list[Sequence[str]] = []

    def load(sources: Sequence[str], *_: object) -> None:
        asked.append(sources)
        raise DataSetError("enough")

    monkeypatch.setattr(variants, "load_training_cells", load)
    return asked


def test_the_data_are_those_that_the_manifest_names(
    tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_data: list[Sequence[str]]
) -> None:
    monkeypatch.setenv("HEMATOVISION_DATA", str(tmp_path))
    (tmp_path / "drawn").mkdir()
    with pytest.raises(DataSetError, match="enough"):
        open_one(tiny_keras, tmp_path, data=())
    assert asked_data == [[str(tmp_path / "drawn")]]


def test_data_that_are_given_go_before(
    tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_data: list[Sequence[str]]
) -> None:
    monkeypatch.setenv("HEMATOVISION_DATA", str(tmp_path))
    with pytest.raises(DataSetError, match="enough"):
        open_one(tiny_keras, tmp_path, data=["mine@0.2"])
    assert asked_data == [["mine@0.2"]]


@pytest.mark.parametrize(
    ("folder", "why"), [("", "is not set"), ("/nowhere", "not all of these are in /nowhere")]
)
def test_without_data_the_message_says_what_to_give(
    folder: str, why: str, tiny_keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEMATOVISION_DATA", folder)
    with pytest.raises(DataSetError, match=f"cells of drawn, and .*{why}.*--data.*HEMATOVISION_DATA"):
        open_one(tiny_keras, tmp_path, data=())


@pytest.mark.data
def test_the_shipped_network_s_data_are_found_by_its_manifest(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_data: list[Sequence[str]]
) -> None:
    monkeypatch.setenv("HEMATOVISION_DATA", str(data_dir))
    with pytest.raises(DataSetError, match="enough"):
        open_one(default_network(), tmp_path, data=())
    assert asked_data == [[str(data_dir / "kaggle-blood-cells"), str(data_dir / "pbc")]]


# --- names ---


def test_networks_of_one_name_get_names_of_their_own(
    kept: Path, tiny_keras: Path, tiny_model: BuiltModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    places = [tmp_path_factory.mktemp("runs") / name / "tiny.keras" for name in ("wide", "narrow")]
    for place in places:
        place.parent.mkdir()
        shutil.copy(tiny_keras, place)
        shutil.copy(manifest_path(tiny_keras), manifest_path(place))
    paths = [*places, tiny_model.files["int8"]]
    models, _ = open_models(paths, VARIANT_NAMES, (), kept, lambda _: None)
    assert [model.name for model in models] == ["wide-tiny", "narrow-tiny", "tiny-int8"]
    assert {variant.model for variant in models[0].variants} == {"wide-tiny"}


def test_a_network_given_twice_is_refused(tiny_keras: Path, tmp_path: Path) -> None:
    again = tiny_keras.parent / ".." / tiny_keras.parent.name / tiny_keras.name
    with pytest.raises(SettingError, match=r"tiny.keras: given 2 times"):
        open_models([tiny_keras, again], VARIANT_NAMES, (), tmp_path, lambda _: None)


# --- a .tflite without its network ---


def test_a_model_file_is_the_only_variant_of_its_model(tiny_model: BuiltModel, tmp_path: Path) -> None:
    path = tiny_model.files["int8"]
    model, unmeasured = open_one(path, tmp_path, ["float32"])
    assert unmeasured == []
    assert model.files == {"int8": path}
    assert model.variants[0].sha256 == file_hash(path)
    assert model.manifest.recipe == "int8"


def test_its_crops_are_drawn_cells(tiny_model: BuiltModel, tmp_path: Path) -> None:
    crops = open_one(tiny_model.files["int8"], tmp_path)[0].crops()
    assert crops.shape[1:] == (32, 32, 3)
    assert crops.dtype == np.uint8
    assert len(crops) >= 24
    assert len(np.unique(crops, axis=0)) == len(crops)
    np.testing.assert_array_equal(open_one(tiny_model.files["int8"], tmp_path)[0].crops(), crops)


def test_the_model_that_comes_with_the_program_can_be_given(tmp_path: Path) -> None:
    model, _ = open_one(default_model_path(), tmp_path)
    assert list(model.files) == ["int8"]


# --- bad input ---


def test_a_network_without_its_manifest_is_refused(tiny_keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.keras"
    shutil.copy(tiny_keras, path)
    with pytest.raises(ModelFileError, match=r"alone.manifest.json: cannot be read"):
        open_one(path, tmp_path / "variants")


@pytest.mark.usefixtures("tiny_cells")
def test_a_network_of_another_shape_than_its_manifest_is_refused(tiny_keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.keras"
    shutil.copy(tiny_keras, path)
    write_keras_manifest(path, Manifest(CropSize(20.0, 64), temperature=1.0, decline_below=0.4))
    with pytest.raises(
        ModelFileError, match=r"takes crops of \(32, 32, 3\), its manifest says \(64, 64, 3\)"
    ):
        open_one(path, tmp_path / "variants")


def test_a_network_that_does_not_say_what_it_was_trained_on_is_refused(
    tiny_keras: Path, tmp_path: Path
) -> None:
    path = tmp_path / "silent.keras"
    shutil.copy(tiny_keras, path)
    write_keras_manifest(path, Manifest(CropSize(20.0, 32), temperature=1.0, decline_below=0.4))
    with pytest.raises(DataSetError, match="does not say what it was trained on"):
        open_one(path, tmp_path / "variants", data=())


def test_a_model_file_of_another_shape_than_its_manifest_is_refused(
    tiny_model: BuiltModel, tmp_path: Path
) -> None:
    model = read_model_file(tiny_model.files["int8"])
    path = tmp_path / "mixed.tflite"
    write_model_file(path, model.flatbuffer, dataclasses.replace(model.manifest, crop=CropSize(20.0, 64)))
    with pytest.raises(ModelFileError, match=r"mixed.tflite: its input is \(1, 32, 32, 3\)"):
        open_one(path, tmp_path)


def test_a_model_file_of_another_class_order_is_refused(tiny_model: BuiltModel, tmp_path: Path) -> None:
    model = read_model_file(tiny_model.files["int8"])
    path = tmp_path / "other.tflite"
    classes = tuple(reversed(model.manifest.classes))
    write_model_file(path, model.flatbuffer, dataclasses.replace(model.manifest, classes=classes))
    with pytest.raises(ModelFileError, match=r"other.tflite: its classes are lymphocyte, .* in that order"):
        open_one(path, tmp_path)


def test_a_model_file_of_no_known_recipe_is_refused(tiny_model: BuiltModel, tmp_path: Path) -> None:
    model = read_model_file(tiny_model.files["int8"])
    path = tmp_path / "odd.tflite"
    write_model_file(path, model.flatbuffer, dataclasses.replace(model.manifest, recipe="int4"))
    with pytest.raises(ModelFileError, match=r"odd.tflite: its recipe is 'int4'"):
        open_one(path, tmp_path)


def test_one_of_several_models_that_cannot_be_opened_does_not_hold_up_the_others(
    tiny_model: BuiltModel, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    paths = [broken, tiny_model.files["int8"]]
    (model,), (failed,) = open_models(paths, VARIANT_NAMES, (), tmp_path, lambda _: None)
    assert model.name == "tiny-int8"
    assert (failed.what, failed.failed) == ("broken", True)
    assert "broken.tflite: not a TensorFlow Lite model" in failed.why


@pytest.mark.parametrize("content", [b"", b"no model", b"1234TFL3 cut short"])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"broken.tflite"):
        open_one(path, tmp_path)


def test_a_wheel_has_no_trained_network_and_says_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "files", lambda _: tmp_path)
    with pytest.raises(ModelFileError, match=r"only a checkout has it; .* --model, such as .*int8.tflite"):
        default_network()
