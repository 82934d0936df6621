"""The scale of a batch is given or measured, and checked while the batch is looked at."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge.cameras import Camera, Frame
from edge.cameras.folder import FolderCamera
from edge.cameras.video import VideoCamera
from edge.scale import ScaleWatch, choose_scale, sample_red_cells
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


def test_what_is_given_is_used_and_nothing_is_read_for_it() -> None:
    assert choose_scale(0.13, cameras(Path("nowhere"))) == (0.13, None)


class Sizes:
    """Stands for the measurement of a frame: so many red cells of 7.5 µm at the scale."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = np.random.default_rng(1)
        self.um_per_pixel, self.cells = 0.1, 10
        self.frames = 0
        monkeypatch.setattr("edge.scale.measure_red_cells", self.measure)

    def measure(self, image: object) -> NDArray[np.float32]:
        self.frames += 1
        return self.rng.normal(7.5, 0.3, self.cells).astype(np.float32) / np.float32(self.um_per_pixel)

    def warnings(self, watch: ScaleWatch, um_per_pixel: float, frames: int, camera: Camera) -> list[str]:
        self.um_per_pixel = um_per_pixel
        said = [watch.see(Frame.now(BLACK, n, 0.1, f"{n}.png"), camera) for n in range(frames)]
        return [line for line in said if line is not None]


BLACK = np.zeros((64, 64, 3), np.uint8)
IMAGES, VIDEO = FolderCamera("x", 0.1), VideoCamera("x.mp4", 0.1)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Sizes:
    return Sizes(monkeypatch)


@pytest.mark.parametrize("off", [0.9, 1.0, 1.1])
def test_agreement_is_not_remarked_on(sizes: Sizes, off: float) -> None:
    assert sizes.warnings(ScaleWatch(0.1), 0.1 * off, 100, IMAGES) == []


@pytest.mark.parametrize("off", [0.5, 1 / 1.3, 1.3, 2.0])
def test_disagreement_is_said_once_and_at_once(sizes: Sizes, off: float) -> None:
    (warning,) = sizes.warnings(ScaleWatch(0.1), 0.1 * off, 100, IMAGES)
    assert "check the magnification" in warning
    assert warning.startswith(("0.png: ", "1.png: "))


@pytest.mark.parametrize("off", [0.5, 0.8, 1.25, 2.0])
def test_each_change_is_said_once_however_late_it_comes(sizes: Sizes, off: float) -> None:
    watch = ScaleWatch(0.1)
    assert sizes.warnings(watch, 0.1, 200, IMAGES) == []
    assert len(sizes.warnings(watch, 0.1 * off, 60, IMAGES)) == 1
    assert sizes.warnings(watch, 0.1, 60, IMAGES) == []
    assert len(sizes.warnings(watch, 0.1 * off, 60, IMAGES)) == 1


def test_red_cells_just_at_the_limit_are_not_told_of_again_and_again(sizes: Sizes) -> None:
    watch = ScaleWatch(0.1)
    assert len(sizes.warnings(watch, 0.118, 40, IMAGES)) == 1
    for off in (1.13, 1.18, 1.13, 1.18):
        assert sizes.warnings(watch, 0.1 * off, 40, IMAGES) == []


def test_too_few_red_cells_say_nothing_until_there_are_enough(sizes: Sizes) -> None:
    watch = ScaleWatch(0.2)
    frame = Frame.now(BLACK, 0, 0.2, "x")
    sizes.cells = 9
    assert watch.see(frame, IMAGES) is None
    assert watch.see(frame, IMAGES) is not None


def test_a_scale_that_nothing_could_confirm_is_said_at_the_end(sizes: Sizes) -> None:
    watch = ScaleWatch(0.12)
    sizes.cells = 4
    sizes.warnings(watch, 0.1, 2, IMAGES)
    line = watch.end()
    assert line is not None
    assert "taken as 0.12" in line
    assert "8 whole single red cells in 2 images are too few" in line


@pytest.mark.parametrize("off", [1.0, 1.5])
def test_a_scale_that_was_checked_is_not_spoken_of_at_the_end(sizes: Sizes, off: float) -> None:
    watch = ScaleWatch(0.1)
    sizes.warnings(watch, 0.1 * off, 30, IMAGES)
    sizes.cells = 0
    sizes.warnings(watch, 0.1, 30, IMAGES)
    assert watch.end() is None


def test_where_no_frame_was_seen_nothing_is_said_of_the_scale() -> None:
    assert ScaleWatch(0.1).end() is None


def test_of_a_live_camera_every_25th_frame_seen_is_measured_whatever_their_numbers(sizes: Sizes) -> None:
    watch = ScaleWatch(0.1)
    for n in range(50):
        watch.see(Frame.now(BLACK, 3 * n + 1, 0.1, "camera"), VIDEO)
    assert sizes.frames == 2


def test_of_a_video_every_25th_frame_is_measured(sizes: Sizes) -> None:
    sizes.warnings(ScaleWatch(0.1), 0.1, 101, VIDEO)
    assert sizes.frames == 5


def test_of_a_long_video_fewer_frames_are_measured_once_enough_were(sizes: Sizes) -> None:
    watch = ScaleWatch(0.1)
    sizes.warnings(watch, 0.1, 501, VIDEO)
    assert sizes.frames == 21
    sizes.warnings(watch, 0.1, 1000, VIDEO)
    assert sizes.frames == 31
    assert len(sizes.warnings(watch, 0.15, 2000, VIDEO)) == 1  # a change is still noticed


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
    monkeypatch.setattr("edge.scale.MOST_FRAMES", 2)
    assert len(sample_red_cells(cameras(smear, smear))) == 2
    monkeypatch.setattr("edge.scale.MOST_FRAMES", 40)
    monkeypatch.setattr("edge.scale.ENOUGH_RED_CELLS", 1)
    assert len(sample_red_cells(cameras(smear, smear))) == 1
