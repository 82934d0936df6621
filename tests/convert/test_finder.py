"""The finder's way from Keras to the device: converted, compared, written, read back."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from convert.finder import draw_pieces
from hematovision.cli import root
from hematovision.finder import load_finder
from hematovision.heat_map import STRIDE
from tests.train.finder.conftest import draw_laboratory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finder that has hardly learnt, and what from."""
    folder = tmp_path_factory.mktemp("finder")
    data = f"{draw_laboratory(folder / 'north', 0)}@0.5"
    small = ("--epochs", 1, "--tiles-per-epoch", 4, "--batch", 2)
    status, said = run("train", "fit-finder", data, "--out", folder / "run", *small)
    assert status == 0, said
    return folder / "run" / "finder.keras", data


def test_a_finder_is_converted_and_runs_on_the_device(learnt: tuple[Path, str], tmp_path: Path) -> None:
    keras_path, data = learnt
    # It has learnt too little to mark anything, and so nothing to agree on.
    status, said = run("convert", keras_path, "--data", data, "--out", tmp_path, "--min-agreement", 0)
    assert status == 0, said
    finder = load_finder(tmp_path / "finder-int8.tflite")
    manifest = finder.model.manifest
    assert (manifest.recipe, manifest.threshold) == ("int8", 0.5)
    assert (manifest.width_px, manifest.height_px) == (256, 192)
    assert manifest.training["laboratories"] == {"north": 4}
    assert manifest.parity["runtimes"]
    heat = finder.heat(np.full((100, 120, 3), 200, np.uint8))
    assert heat.shape == (192 // STRIDE, 256 // STRIDE)
    status, said = run("convert", keras_path, "--data", data, "--out", tmp_path)
    assert status == 2
    assert "there already" in said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(("--recipe", "float16"), "a finder is made int8 only"), ((), "not the fields that")],
)
def test_a_mistake_is_refused(
    options: tuple[str, ...], complaint: str, learnt: tuple[Path, str], tmp_path: Path
) -> None:
    other = f"{draw_laboratory(tmp_path / 'south', 1)}@0.5"
    status, said = run("convert", learnt[0], "--data", other, "--out", tmp_path, *options)
    assert status == 2
    assert complaint in said


def test_pieces_have_the_whole_range_of_the_input() -> None:
    fields = [np.full((40, 50, 3), level, np.uint8) for level in (90, 160)]
    pieces = draw_pieces(fields, 256, 192, np.random.default_rng(0))
    assert pieces.shape == (2, 192, 256, 3)
    assert (pieces.min(), pieces.max()) == (0, 255)
