"""The scale of a batch is given and checked, or measured."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.cameras import Camera
from edge.cameras.folder import FolderCamera
from edge.scale import choose_scale, sample_red_cells
from hematovision.errors import CalibrationError, SettingError
from hematovision.phantom import draw_field

DRAWN_UM_PER_PIXEL = 0.125


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smear")
    for seed in range(3):
        image = draw_field(seed, 640, 480, DRAWN_UM_PER_PIXEL).image
        Image.fromarray(image).save(folder / f"{seed}.png")
    return folder


def cameras(*paths: Path) -> list[Camera]:
    return [FolderCamera(str(path), math.nan) for path in paths]


def test_it_is_measured_from_the_red_cells_where_nothing_is_given(smear: Path) -> None:
    um_per_pixel, notice = choose_scale(None, cameras(smear))
    assert um_per_pixel == pytest.approx(DRAWN_UM_PER_PIXEL, rel=0.05)
    assert notice is not None
    assert "measured from" in notice
    assert "red cells in 3 images" in notice


def test_what_is_given_is_used_and_agreement_is_not_remarked_on(smear: Path) -> None:
    assert choose_scale(0.13, cameras(smear)) == (0.13, None)


@pytest.mark.parametrize("given", [DRAWN_UM_PER_PIXEL / 1.3, DRAWN_UM_PER_PIXEL * 1.3])
def test_what_is_given_is_used_but_the_red_cells_disagreement_is_said(smear: Path, given: float) -> None:
    um_per_pixel, notice = choose_scale(given, cameras(smear))
    assert um_per_pixel == given
    assert notice is not None
    assert "check the magnification" in notice


@pytest.mark.parametrize("given", [0.0, -0.1, math.nan, math.inf, 50.0])
def test_what_is_no_scale_is_refused(smear: Path, given: float) -> None:
    with pytest.raises(SettingError, match="must lie between"):
        choose_scale(given, cameras(smear))


def test_too_few_red_cells_ask_for_the_option(tmp_path: Path) -> None:
    glass = np.random.default_rng(1).normal((230, 220, 200), 1, (200, 200, 3)).astype(np.uint8)
    Image.fromarray(glass).save(tmp_path / "glass.png")
    with pytest.raises(CalibrationError, match="--um-per-pixel"):
        choose_scale(None, cameras(tmp_path))


def test_where_nothing_can_be_read_there_is_no_scale_and_no_complaint_about_it(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("hello")
    um_per_pixel, notice = choose_scale(None, cameras(tmp_path, tmp_path / "nowhere"))
    assert math.isnan(um_per_pixel)
    assert notice is None


def test_only_the_first_images_of_a_batch_are_searched(smear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.scale._MOST_FRAMES", 2)
    assert len(sample_red_cells(cameras(smear, smear))) == 2
    monkeypatch.setattr("edge.scale._MOST_FRAMES", 40)
    monkeypatch.setattr("edge.scale._ENOUGH_RED_CELLS", 1)
    assert len(sample_red_cells(cameras(smear, smear))) == 1
