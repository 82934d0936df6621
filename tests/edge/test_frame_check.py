"""Which frames are worth a look."""

import numpy as np
import pytest

from edge.frame_check import MIN_SHARE_OF_BEST, FocusMemory, is_overexposed, sharpness
from hematovision.optics import measure_field
from hematovision.phantom import Microscope, Pose, Slide, Smear

SHARP, SOFT, BLURRED = 0.08, 0.05, 0.02


def sharpness_of(microscope: Microscope, **how: object) -> float:
    view = microscope.look(Pose(100, 90, **how))  # type: ignore[arg-type]
    return sharpness(measure_field(view.image, view.um_per_pixel))


@pytest.fixture(scope="module")
def microscope() -> Microscope:
    return Microscope(Slide(Smear(2, 0.2, 0.18)))


def test_sharpness_falls_with_every_step_out_of_focus(microscope: Microscope) -> None:
    values = [sharpness_of(microscope, defocus_um=defocus) for defocus in (0, 0.1, 0.2, 0.5, 1.0, 1.6)]
    assert values == sorted(values, reverse=True)
    assert values[1] > 0.75 * values[0]
    assert values[3] < MIN_SHARE_OF_BEST * values[0]


@pytest.mark.parametrize("motion_um", [(2.0, 0.0), (0.0, -2.0), (4.0, 4.0)])
def test_a_smeared_field_is_not_sharp(microscope: Microscope, motion_um: tuple[float, float]) -> None:
    smeared = sharpness_of(microscope, motion_um=motion_um)
    assert smeared < MIN_SHARE_OF_BEST * sharpness_of(microscope)


def test_sharpness_does_not_depend_on_what_a_field_shows(microscope: Microscope) -> None:
    usual = sharpness_of(microscope)
    for smear in (
        Smear(3, 0.2, 0.18, red_cells_per_mm2=20_000),
        Smear(3, 0.2, 0.18, red_cells_per_mm2=500, leukocytes_per_mm2=150),
        Smear(3, 0.2, 0.18, leukocytes_per_mm2=800),
        Smear(3, 0.2, 0.18, stain=(0.7, 0.7, 0.7)),
    ):
        assert sharpness_of(Microscope(Slide(smear))) == pytest.approx(usual, rel=0.15)


def test_neither_light_nor_noise_makes_a_blurred_field_sharp(microscope: Microscope) -> None:
    blurred = sharpness_of(microscope, defocus_um=0.6)
    assert sharpness_of(microscope, defocus_um=0.6, exposure=0.5) == pytest.approx(blurred, rel=0.2)
    noisy = Microscope(microscope.slide, noise=4)
    assert sharpness_of(noisy, defocus_um=0.6) < MIN_SHARE_OF_BEST * sharpness_of(noisy)


def test_an_empty_field_has_a_sharpness_too() -> None:
    flat = np.full((480, 640, 3), 200, np.uint8)
    assert sharpness(measure_field(flat, 0.2)) == 0.0


def test_a_camera_that_is_always_soft_is_not_blurred() -> None:
    memory = FocusMemory()
    assert not any(memory.is_blurred(value) for value in (BLURRED, 1.2 * BLURRED, 0.8 * BLURRED) * 20)


def test_after_a_sharp_time_a_blurred_frame_is_seen_as_such() -> None:
    memory = FocusMemory()
    assert not any(memory.is_blurred(SHARP) for _ in range(5))
    assert memory.is_blurred(BLURRED)
    assert not memory.is_blurred(SOFT)


def test_one_frame_does_not_set_the_measure() -> None:
    for values in ((SOFT, 10 * SOFT, SOFT, SOFT), (10 * SOFT, SOFT, SOFT, SOFT)):
        memory = FocusMemory()
        assert not any(memory.is_blurred(value) for value in values)


def test_a_slide_that_stays_softer_is_taken_as_it_is_in_the_end() -> None:
    memory = FocusMemory()
    for _ in range(5):
        memory.is_blurred(SHARP)
    blurred = [memory.is_blurred(BLURRED) for _ in range(3000)]
    assert all(blurred[:500])
    assert not any(blurred[-500:])


@pytest.mark.parametrize(
    ("exposure", "over"), [(0.5, False), (1.0, False), (1.2, False), (1.5, True), (2, True)]
)
def test_glass_that_is_white_in_all_channels_is_overexposed(
    microscope: Microscope, exposure: float, over: bool
) -> None:
    assert is_overexposed(microscope.look(Pose(100, 90, exposure=exposure)).image) is over


def test_a_channel_that_saturates_alone_is_none() -> None:
    image = np.full((96, 128, 3), (255, 255, 200), np.uint8)
    assert not is_overexposed(image)
