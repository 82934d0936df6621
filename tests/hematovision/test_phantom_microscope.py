"""Frames of the phantom: what they show is where their truth says, and looks as the pose says."""

import math

import cv2
import numpy as np
import pytest

from hematovision.images import RGBImage
from hematovision.phantom import Microscope, Pose, Slide, Smear
from hematovision.phantom import slide as slide_module
from hematovision.phantom.morphology import Drawing

UM_PER_PIXEL = 0.1
SMEAR = Smear(1, 0.1, 0.1, UM_PER_PIXEL, red_cells_per_mm2=0, platelets_per_mm2=0)
CENTER_UM = (43.217, 51.744)


def disc(rng: np.random.Generator, class_name: str, um_per_pixel: float) -> Drawing:
    """A nucleus and nothing else, evenly stained, neither in the middle of a pixel nor of its picture."""
    y, x = np.mgrid[:120, :140]
    nucleus = (x - 66.3) ** 2 + (y - 57.8) ** 2 < 32.0**2
    return Drawing(np.where(nucleus[..., None], np.float32(0.5), np.float32(0)).repeat(3, axis=2), nucleus)


@pytest.fixture
def one_disc(monkeypatch: pytest.MonkeyPatch) -> Microscope:
    monkeypatch.setattr(slide_module, "draw_leukocyte", disc)
    return Microscope(Slide(SMEAR, [("monocyte", CENTER_UM)]), 320, 240, vignetting=0.0, noise=0.0)


def centroid(image: RGBImage) -> tuple[float, float]:
    """Where the light is missing."""
    missing = image[..., 1].max() - image[..., 1].astype(float)
    missing[missing < 2] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((missing * x).sum() / missing.sum()), float((missing * y).sum() / missing.sum())


POSES = {
    "middle of a pixel": Pose(43.25, 51.75),
    "between pixels": Pose(44.137, 50.081),
    "a hair away": Pose(44.1371, 50.1009),
    "defocused": Pose(42.018, 52.334, defocus_um=0.3),
    "far out of focus": Pose(42.018, 52.334, defocus_um=0.9),
    "moving to the right": Pose(42.018, 52.334, motion_um=(2.3, 0.0)),
    "moving to the left and down": Pose(42.555, 51.334, motion_um=(-1.7, 3.1)),
    "moving up, out of focus": Pose(42.555, 51.334, defocus_um=0.5, motion_um=(0.2, -4.0)),
}


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES.keys())
def test_a_cell_is_where_the_truth_says_to_a_tenth_of_a_pixel(one_disc: Microscope, pose: Pose) -> None:
    frame = one_disc.look(pose)
    (cell,) = frame.cells
    assert cell.center == pytest.approx(
        ((CENTER_UM[0] - pose.x_um) / UM_PER_PIXEL + 159.5, (CENTER_UM[1] - pose.y_um) / UM_PER_PIXEL + 119.5)
    )
    assert math.dist(centroid(frame.image), cell.center) < 0.1
    assert cell.nucleus_area_um2 == pytest.approx(math.pi * 3.2**2, rel=0.01)
    assert cell.whole


def test_a_frame_is_as_sharp_between_pixels_as_on_them() -> None:
    microscope = Microscope(Slide(Smear(4, 0.1, 0.1, UM_PER_PIXEL)), 400, 400, vignetting=0.0, noise=0.0)
    energy = [
        np.square(np.diff(microscope.look(Pose(x_um, 50.0)).image[..., 1].astype(float))).mean()
        for x_um in (50.0, 50.025, 50.05, 50.075)
    ]
    assert energy == pytest.approx([energy[0]] * 4, rel=0.02)


def test_a_smear_moves_with_the_stage_by_parts_of_a_pixel() -> None:
    microscope = Microscope(Slide(Smear(4, 0.15, 0.15, UM_PER_PIXEL)), 512, 512, vignetting=0.0)
    first = microscope.look(Pose(70.0, 70.0)).image[..., 1]
    for x, y in ((0.4, -0.3), (1.25, 7.5), (-3.6, 2.9)):
        moved = microscope.look(Pose(70.0 + x * UM_PER_PIXEL, 70.0 + y * UM_PER_PIXEL)).image[..., 1]
        criteria = cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-5
        _, found = cv2.findTransformECC(
            moved, first, np.eye(2, 3, dtype=np.float32), cv2.MOTION_TRANSLATION, criteria
        )
        assert math.dist(found[:, 2], (x, y)) < 0.05


def test_two_frames_share_what_is_on_the_slide_and_not_their_noise() -> None:
    # Or a tracker would see the noise move instead of the slide.
    slide = Slide(Smear(1, 0.1, 0.1, UM_PER_PIXEL, 0, 0, 0))
    microscope = Microscope(slide, 256, 256, vignetting=0.0)
    one, other = (microscope.look(Pose(50, 50)).image[..., 1].astype(float) for _ in range(2))
    spectrum = np.fft.fft2(one - one.mean()) * np.fft.fft2(other - other.mean()).conj()
    correlation = np.abs(np.fft.ifft2(spectrum)) / (one.std() * other.std() * one.size)
    assert correlation.max() < 0.03


@pytest.mark.parametrize(
    ("offset_px", "whole", "in_view"),
    [(120, True, True), (140, False, True), (185, False, True), (195, False, False)],
)
def test_a_nucleus_that_the_frame_cuts_is_not_whole_and_one_outside_is_not_there(
    one_disc: Microscope, offset_px: float, whole: bool, in_view: bool
) -> None:
    # Half the frame is 160 pixels wide, and the nucleus 64.
    for sign in (-1, 1):
        cells = one_disc.look(Pose(CENTER_UM[0] + sign * offset_px * UM_PER_PIXEL, CENTER_UM[1])).cells
        assert [cell.whole for cell in cells] == ([whole] if in_view else [])


def test_glass_has_the_colour_of_the_lamp_and_the_corners_lose_what_is_said() -> None:
    slide = Slide(Smear(1, 0.1, 0.1, UM_PER_PIXEL, 0, 0, 0))
    image = (
        Microscope(slide, 321, 241, lamp=(200.0, 180.0, 150.0), vignetting=0.3, noise=0.0)
        .look(Pose(50, 50))
        .image
    )
    assert image[120, 160].tolist() == [200, 180, 150]
    assert image[0, 0].tolist() == pytest.approx([140, 126, 105], abs=1)
    assert image[-1, -1].tolist() == pytest.approx([140, 126, 105], abs=1)


@pytest.mark.parametrize("noise", [0.8, 1.3, 4.0])
def test_noise_has_the_deviation_that_is_said_and_no_bias(noise: float) -> None:
    slide = Slide(Smear(1, 0.1, 0.1, UM_PER_PIXEL, 0, 0, 0))
    microscope = Microscope(slide, 320, 240, (220.0, 220.0, 220.0), vignetting=0.0, noise=noise)
    frames = [microscope.look(Pose(50, 50)).image.astype(float) for _ in range(5)]
    assert np.std(frames) == pytest.approx(noise, rel=0.12)
    assert np.mean(frames) == pytest.approx(220, abs=0.1)
    # Each frame has its own.
    assert abs(np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1]) < 0.05


def test_frames_are_the_same_when_looked_at_again_in_the_same_order() -> None:
    slide = Slide(Smear(4, 0.1, 0.1, 0.2))
    poses = [Pose(50, 50), Pose(50, 50), Pose(60, 40, 0.2, 1.1, (3, 1))]
    one, again, other = (
        [microscope.look(pose).image for pose in poses]
        for microscope in (
            Microscope(slide, 320, 240, seed=1),
            Microscope(slide, 320, 240, seed=1),
            Microscope(slide, 320, 240, seed=2),
        )
    )
    np.testing.assert_array_equal(one, again)
    assert (one[0] != one[1]).any()
    assert (one[0] != other[0]).any()


def test_over_exposed_glass_is_white_and_without_noise() -> None:
    slide = Slide(Smear(4, 0.1, 0.1, 0.2))
    image = Microscope(slide, 320, 240).look(Pose(50, 50, exposure=2.0)).image
    assert np.mean((image == 255).all(axis=2)) > 0.3
    dark = Microscope(slide, 320, 240).look(Pose(50, 50, exposure=0.5)).image
    assert np.percentile(dark[..., 0], 95) == pytest.approx(0.5 * 238, rel=0.05)


def test_defocus_and_motion_blur_and_motion_only_along_itself() -> None:
    microscope = Microscope(Slide(Smear(4, 0.12, 0.12, UM_PER_PIXEL)), 512, 512, vignetting=0.0, noise=0.0)

    def detail(defocus_um: float = 0.0, motion_um: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
        green = microscope.look(Pose(60.0, 60.0, defocus_um, 1.0, motion_um)).image[..., 1].astype(float)
        across, down = (np.square(np.diff(green, axis=axis)).mean() for axis in (1, 0))
        return float(across), float(down)

    sharp = detail()
    slightly_off, far_off = detail(defocus_um=0.3), detail(defocus_um=1.5)
    assert slightly_off < (0.6 * sharp[0], 0.6 * sharp[1])
    assert far_off < (0.3 * slightly_off[0], 0.3 * slightly_off[1])
    to_the_right, upwards = detail(motion_um=(3.0, 0.0)), detail(motion_um=(0.0, -3.0))
    assert to_the_right[0] < 0.3 * sharp[0] < to_the_right[1]
    assert upwards[1] < 0.3 * sharp[1] < upwards[0]
