"""The blank field learnt from a smear is the light; what cannot be the light is refused."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hematovision.blank_field import EVEN_LEVEL, STEPS, BlankField
from hematovision.errors import CalibrationError, SettingError
from hematovision.learned_blank import MIN_PLACES, BlankLearner
from hematovision.optics import measure_field

WIDTH, HEIGHT, UM_PER_PIXEL = 320, 240, 0.4
RED_CELL = np.array([0.85, 0.6, 0.65])


@cache
def light() -> np.ndarray:
    """A grey centre in a pink rim, and a coloured hot spot: (height, width, 3) levels."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j][..., None]
    rim = 1 / (1 + np.exp((0.65 - np.hypot(x, 0.75 * y)) / 0.1))
    spot = np.exp(-((x + 0.25) ** 2 + (y - 0.2) ** 2) / 0.05)
    return 140 * (1 + rim * np.array([0.45, -0.12, -0.05])) * (1 + spot * np.array([0.1, 0.4, 0.5]))


def smear(place: int, um2_per_cell: float = 130) -> np.ndarray:
    rng = np.random.default_rng(place)
    field = np.ones((HEIGHT, WIDTH, 3))
    y, x = np.mgrid[:HEIGHT, :WIDTH] * UM_PER_PIXEL
    for _ in range(int(WIDTH * HEIGHT * UM_PER_PIXEL**2 / um2_per_cell)):
        center = rng.uniform(0, WIDTH * UM_PER_PIXEL), rng.uniform(0, HEIGHT * UM_PER_PIXEL)
        field[(x - center[0]) ** 2 + (y - center[1]) ** 2 < 3.75**2] = RED_CELL
    return field


def photograph(levels: np.ndarray, place: int) -> np.ndarray:
    noise = np.random.default_rng(1000 + place).normal(0, 2, levels.shape)
    return np.clip(np.rint(levels + noise), 0, 255).astype(np.uint8)


def taught(picture_of: Callable[[int], np.ndarray]) -> BlankLearner:
    learner = BlankLearner()
    for place in range(MIN_PLACES):
        assert learner.add(measure_field(photograph(picture_of(place), place), UM_PER_PIXEL))
    return learner


@cache
def learnt() -> BlankField:
    return taught(lambda place: smear(place) * light()).learn(WIDTH, HEIGHT, "learnt")


def test_what_is_learnt_is_the_light() -> None:
    even = learnt().divide_small(photograph(light(), 99))
    error = np.abs(even / EVEN_LEVEL - 1)
    assert np.median(error) < 0.02
    assert np.percentile(error, 99) < 0.07  # with the noise of the frame


def test_a_field_is_divided_better_by_it_than_by_its_own_glass() -> None:
    frame, truth = photograph(smear(500) * light(), 500), smear(500)
    alone, with_it = (measure_field(frame, UM_PER_PIXEL, blank).transmittance for blank in (None, learnt()))
    size = alone.shape[1::-1]
    small = measure_field((truth * 255).astype(np.uint8), UM_PER_PIXEL).small[: size[1], : size[0]] / 255
    assert np.abs(with_it - small).mean() < np.abs(alone - small).mean()


def test_a_coarse_blank_field_divides_parts_and_wholes_as_a_full_one_does() -> None:
    coarse = learnt()
    assert max(coarse.levels.shape) <= 128  # what is kept of a place is small too
    full = BlankField(np.rint(light() * STEPS).astype(np.uint16), "full")
    frame = photograph(light(), 7)
    for left, top, width, height in ((0, 0, 90, 80), (200, 150, 120, 90), (101, 33, 64, 64)):
        part = frame[top : top + height, left : left + width]
        difference = coarse.divide(part, left, top) / full.divide(part, left, top) - 1
        assert np.percentile(np.abs(difference), 99) < 0.04
    with pytest.raises(SettingError, match="320x240 pixels does not fit frames of 640x480"):
        coarse.check_size(640, 480)


def test_a_place_with_too_little_glass_of_its_own_is_not_learnt_from() -> None:
    learner = BlankLearner()
    assert not learner.add(measure_field(photograph(smear(1, um2_per_cell=22) * 200, 1), UM_PER_PIXEL))
    assert learner.places == 0


def test_cells_that_are_in_most_of_the_fields_are_not_taken_for_light() -> None:
    same = taught(lambda place: smear(0) * light())
    with pytest.raises(CalibrationError, match="same cells"):
        same.learn(WIDTH, HEIGHT, "learnt")


def test_a_colour_that_single_fields_do_not_see_in_their_glass_is_refused() -> None:
    def partly_covered(place: int) -> np.ndarray:
        field = smear(place)
        field[: HEIGHT // 2, WIDTH * 2 // 3 :] = RED_CELL
        return field * 200

    with pytest.raises(CalibrationError, match="colour"):
        taught(partly_covered).learn(WIDTH, HEIGHT, "learnt")


def test_light_that_differs_from_field_to_field_is_refused() -> None:
    slope = np.linspace(-0.3, 0.3, WIDTH)[None, :, None]
    tilting = taught(lambda place: smear(place) * 180 * (1 + (-1) ** place * slope))
    with pytest.raises(CalibrationError, match="do not agree on the light"):
        tilting.learn(WIDTH, HEIGHT, "learnt")


def test_light_that_changes_meanwhile_is_refused() -> None:
    changing = taught(lambda place: smear(place) * light() * (1 - 0.01 * place))
    with pytest.raises(CalibrationError, match="the light changed"):
        changing.learn(WIDTH, HEIGHT, "learnt")


def test_blank_fields_are_told_apart_by_their_hash() -> None:
    other = BlankField(learnt().levels + np.uint16(1), "learnt")
    assert len(learnt().sha256()) == 64
    assert learnt().sha256() != other.sha256()
