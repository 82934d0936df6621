"""``hematovision convert``: what it writes, what it refuses, and how it says so."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from convert import cli, export
from convert.recipes import RECIPES, Recipe
from hematovision.cli import root
from hematovision.errors import ConversionError
from hematovision.model_file import Manifest, manifest_path, read_model_file, write_keras_manifest
from train.cells import CellSet

Convert = Callable[..., Result]


@pytest.fixture
def convert(
    training: CellSet, development: CellSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Convert:
    """Runs the command into ``tmp_path / "out"``; its data are the drawn cells."""
    monkeypatch.setattr(cli, "load_training_cells", lambda *_: (training, development))

    def run(model: Path, *options: str) -> Result:
        arguments = ["convert", str(model), "--data", "drawn", "--out", str(tmp_path / "out"), *options]
        return CliRunner().invoke(root, arguments)

    return run


@pytest.fixture
def mixed_up_float16(network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that mixes up the classes of float16, which only running its file shows."""
    mixed_up = keras.models.clone_model(network)
    weights, bias = network.get_layer("logits").get_weights()
    mixed_up.set_weights([*network.get_weights()[:-2], np.roll(weights, 1, axis=1), np.roll(bias, 1)])
    export.save_model(mixed_up, tmp_path / "mixed_up")
    convert = export.to_tflite

    def mix_up(saved_model: Path, recipe: Recipe, crops: NDArray[np.uint8]) -> bytes:
        return convert(tmp_path / "mixed_up" if recipe.name == "float16" else saved_model, recipe, crops)

    monkeypatch.setattr(export, "to_tflite", mix_up)


def out(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("*"))


def assert_one_line(result: Result, status: int, *words: str) -> None:
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit), "a traceback"
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    for word in words:
        assert word in line


# --- what it writes ---


def test_all_writes_a_model_file_for_every_recipe(keras_file: Path, convert: Convert, tmp_path: Path) -> None:
    result = convert(keras_file, "--recipe", "all")
    assert result.exit_code == 0, result.output
    assert out(tmp_path) == sorted(f"tiny-{name}.tflite" for name in RECIPES)
    for name, recipe in RECIPES.items():
        manifest = read_model_file(tmp_path / "out" / f"tiny-{name}.tflite").manifest
        assert (manifest.recipe, manifest.runtimes) == (name, recipe.runtimes)
        assert name in result.stdout
    assert "100.0 %" in result.stdout
    assert "100 development cells" in result.stdout
    assert result.stderr == ""


def test_int8_alone_is_what_it_makes_unless_told(keras_file: Path, convert: Convert, tmp_path: Path) -> None:
    assert convert(keras_file).exit_code == 0
    assert out(tmp_path) == ["tiny-int8.tflite"]


# --- what fails ---


@pytest.mark.usefixtures("mixed_up_float16")
def test_a_variant_beyond_the_limits_is_not_written_and_does_not_stop_the_others(
    keras_file: Path, convert: Convert, tmp_path: Path
) -> None:
    result = convert(keras_file, "--recipe", "float16", "--recipe", "dynamic")
    assert_one_line(result, 1, "float16: not written: beyond the limits")
    assert out(tmp_path) == ["tiny-dynamic.tflite"]


def test_every_failure_is_named(
    keras_file: Path, convert: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_saved_model: Path, recipe: Recipe, _crops: NDArray[np.uint8]) -> bytes:
        raise ConversionError(f"planted in {recipe.name}")

    monkeypatch.setattr(export, "to_tflite", fail)
    result = convert(keras_file, "--recipe", "all")
    assert result.exit_code == 1
    for name in RECIPES:
        assert f"{name}: not written: planted in {name}" in result.stderr
    assert out(tmp_path) == []


@pytest.mark.usefixtures("mixed_up_float16")
def test_the_limits_are_those_of_the_command_line(keras_file: Path, convert: Convert, tmp_path: Path) -> None:
    loose = ("--recipe", "float16", "--min-agreement", "0", "--max-accuracy-lost", "100")
    assert convert(keras_file, *loose).exit_code == 0
    assert out(tmp_path) == ["tiny-float16.tflite"]


@pytest.mark.usefixtures("mixed_up_float16")
def test_a_failing_variant_leaves_the_earlier_file(
    keras_file: Path, convert: Convert, tmp_path: Path
) -> None:
    earlier = tmp_path / "out" / "tiny-float16.tflite"
    earlier.parent.mkdir()
    earlier.write_bytes(b"earlier")
    result = convert(keras_file, "--recipe", "float16", "--force")
    assert_one_line(result, 1, "not written")
    assert earlier.read_bytes() == b"earlier"


def test_a_file_that_is_there_is_replaced_only_by_force(
    keras_file: Path, convert: Convert, tmp_path: Path
) -> None:
    earlier = tmp_path / "out" / "tiny-float32.tflite"
    earlier.parent.mkdir()
    earlier.write_bytes(b"earlier")
    assert_one_line(convert(keras_file, "--recipe", "all"), 2, "tiny-float32.tflite", "--force")
    assert earlier.read_bytes() == b"earlier"
    assert out(tmp_path) == ["tiny-float32.tflite"]
    assert convert(keras_file, "--recipe", "float32", "--force").exit_code == 0
    assert read_model_file(earlier).manifest.recipe == "float32"


def test_what_goes_wrong_unexpectedly_is_shown_with_what_tensorflow_said(
    keras_file: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        os.write(2, b"what a library wrote\n")
        raise ZeroDivisionError

    monkeypatch.setattr(export, "take_reference", fail)
    assert isinstance(convert(keras_file).exception, ZeroDivisionError)
    assert "what a library wrote" in capfd.readouterr().err


# --- bad input ---


@pytest.mark.parametrize("limit", ["-1", "101", "nan"])
@pytest.mark.parametrize("option", ["--min-agreement", "--max-accuracy-lost"])
def test_a_limit_that_cannot_be_is_a_usage_error(
    option: str, limit: str, keras_file: Path, convert: Convert
) -> None:
    assert_one_line(convert(keras_file, option, limit), 2, "between 0 and 100")


def test_a_keras_file_cut_short_is_refused(keras_file: Path, convert: Convert, tmp_path: Path) -> None:
    keras_file.write_bytes(keras_file.read_bytes()[:-100])
    assert_one_line(convert(keras_file), 1, "tiny.keras", "SHA-256")
    assert out(tmp_path) == []


def test_a_keras_file_without_a_manifest_is_refused(keras_file: Path, convert: Convert) -> None:
    manifest_path(keras_file).unlink()
    assert_one_line(convert(keras_file), 1, "tiny.manifest.json", "keep them together")


def test_a_keras_file_with_the_manifest_of_another_is_refused(
    keras_file: Path, convert: Convert, manifest: Manifest, tmp_path: Path
) -> None:
    other = tmp_path / "other.keras"
    other.write_bytes(b"another model")
    write_keras_manifest(other, manifest)
    manifest_path(other).replace(manifest_path(keras_file))
    assert_one_line(convert(keras_file), 1, "tiny.keras", "not the model that")


def test_a_file_of_another_kind_is_refused(manifest: Manifest, convert: Convert, tmp_path: Path) -> None:
    path = tmp_path / "text.keras"
    path.write_text("not a model\n" * 100)
    write_keras_manifest(path, manifest)
    assert_one_line(convert(path), 1, "text.keras", "not a Keras model")


def test_a_missing_model_is_a_usage_error(convert: Convert, tmp_path: Path) -> None:
    result = convert(tmp_path / "absent.keras")
    assert result.exit_code == 2
    assert "absent.keras' does not exist" in result.stderr


def test_data_that_are_not_there_are_refused(keras_file: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(keras_file), "--data", str(tmp_path / "absent"), "--out", str(tmp_path)]
    assert_one_line(CliRunner().invoke(root, arguments), 1)


def test_data_without_a_class_are_refused(
    keras_file: Path,
    training: CellSet,
    development: CellSet,
    convert: Convert,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    some = training.select(training.labels != 3)
    monkeypatch.setattr(cli, "load_training_cells", lambda *_: (some, development))
    assert_one_line(convert(keras_file), 1, "no lymphocyte among the training cells")
    assert out(tmp_path) == []


def test_help_does_not_wait_for_tensorflow() -> None:
    code = (
        "import sys; from hematovision.cli import root; root(['convert', '--help'], standalone_mode=False); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "--min-agreement" in finished.stdout
