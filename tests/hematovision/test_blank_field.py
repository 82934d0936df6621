"""Dividing by the empty field: dust, vignetting and colour drop out of what is found and of crops."""

from functools import cache

import cv2
import numpy as np
import pytest

from hematovision.blank_field import EVEN_LEVEL, STEPS, BlankField
from hematovision.crops import CropSize, cut_crop
from hematovision.errors import SettingError
from hematovision.finder import load_finder
from hematovision.optics import lamp_drift, measure_field

WIDTH, HEIGHT, UM_PER_PIXEL = 640, 480, 0.15
LAMP = (238, 226, 196)
NUCLEI = [(200, 173), (427, 320)]
# Of a nucleus's size and density; the second lies over a nucleus.
DUST = [(80, 373), (220, 187), (547, 80)]
SIZE = CropSize(20.0, 128)


def discs(places: list[tuple[int, int]], radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shape = np.zeros((HEIGHT, WIDTH))
    for column, row in places:
        shape = np.maximum(shape, np.clip(radius - np.hypot(x - column, y - row) + 0.5, 0, 1))
    return shape[..., None]


@cache
def smear() -> np.ndarray:
    """Transmittance: pale red cells and two nuclei."""
    rng = np.random.default_rng(0)
    red_cells = [(int(rng.uniform(0, WIDTH)), int(rng.uniform(0, HEIGHT))) for _ in range(40)]
    pale = 1 - discs(red_cells, 25) * (1 - np.array([0.93, 0.63, 0.68]))
    return pale * (1 - discs(NUCLEI, 30) * (1 - np.array([0.35, 0.2, 0.55])))


def light(loss: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return (1 - loss * (x**2 + y**2) / 2)[..., None] * np.array(LAMP)


def photograph(levels: np.ndarray, noise: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.clip(np.rint(levels + rng.normal(0, noise, levels.shape)), 0, 255).astype(np.uint8)


def recorded(levels: np.ndarray) -> BlankField:
    return BlankField(np.rint(levels * STEPS).astype(np.uint16), "blank.png")


@pytest.fixture(scope="module")
def dusty() -> np.ndarray:
    return light() * (1 - 0.5 * discs(DUST, 27))


@pytest.fixture(scope="module")
def blank(dusty: np.ndarray) -> BlankField:
    return recorded(dusty)


def test_dust_is_found_without_a_blank_field_and_not_with_it(dusty: np.ndarray, blank: BlankField) -> None:
    frame = photograph(smear() * dusty)
    assert len(load_finder().find(measure_field(frame, UM_PER_PIXEL))) > len(NUCLEI)
    found = load_finder().find(measure_field(frame, UM_PER_PIXEL, blank))
    assert len(found) == len(NUCLEI)
    for place in NUCLEI:
        assert min(np.hypot(*np.subtract(region.center, place)) for region in found) < 3


@pytest.mark.parametrize("place", [*NUCLEI, (10, 466)])
def test_a_crop_under_dust_is_the_crop_without_dust(
    place: tuple[int, int], dusty: np.ndarray, blank: BlankField
) -> None:
    clean = cut_crop(measure_field(photograph(smear() * light()), UM_PER_PIXEL), place, SIZE).astype(int)
    with_blank = cut_crop(measure_field(photograph(smear() * dusty), UM_PER_PIXEL, blank), place, SIZE)
    difference = np.abs(with_blank - clean)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 6


def test_without_the_blank_field_dust_is_in_the_crop(dusty: np.ndarray) -> None:
    clean = cut_crop(measure_field(photograph(smear() * light()), UM_PER_PIXEL), NUCLEI[0], SIZE).astype(int)
    with_dust = cut_crop(measure_field(photograph(smear() * dusty), UM_PER_PIXEL), NUCLEI[0], SIZE)
    assert np.percentile(np.abs(with_dust - clean), 99) > 60


def test_an_empty_field_divided_by_itself_is_even(dusty: np.ndarray, blank: BlankField) -> None:
    frame = photograph(dusty, noise=0)
    np.testing.assert_allclose(blank.divide(frame[100:300, 50:250], 50, 100), EVEN_LEVEL, rtol=0.02)
    small = cv2.resize(frame, (240, 180), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(blank.divide_small(small), EVEN_LEVEL, rtol=0.02)


@pytest.mark.parametrize("factor", [0.6, 0.9, 1.04])
def test_exposure_and_colour_that_changed_since_are_removed_too(
    factor: float, dusty: np.ndarray, blank: BlankField
) -> None:
    changed = np.array([factor, factor * 0.95, factor])
    before = measure_field(photograph(smear() * dusty), UM_PER_PIXEL, blank)
    after = measure_field(photograph(smear() * dusty * changed), UM_PER_PIXEL, blank)
    np.testing.assert_allclose(
        np.median(after.transmittance, axis=(0, 1)), np.median(before.transmittance, axis=(0, 1)), atol=0.015
    )
    drift = lamp_drift([after.light])
    assert drift.brightness == pytest.approx(factor * 0.95 ** (1 / 3) - 1, abs=0.01)
    assert drift.colour[1] == pytest.approx(0.95 ** (2 / 3) - 1, abs=0.01)
    assert drift.unevenness < 0.02


def test_a_lamp_as_it_was_has_not_drifted(dusty: np.ndarray, blank: BlankField) -> None:
    drift = lamp_drift([measure_field(photograph(smear() * dusty), UM_PER_PIXEL, blank).light])
    assert max(abs(drift.brightness), *map(abs, drift.colour), drift.unevenness) < 0.02


def test_a_lamp_that_moved_is_uneven_by_as_much(dusty: np.ndarray, blank: BlankField) -> None:
    slope = 1 + 0.1 * np.linspace(-1, 1, WIDTH)[None, :, None]
    moved = measure_field(photograph(smear() * dusty * slope), UM_PER_PIXEL, blank)
    assert lamp_drift([moved.light]).unevenness == pytest.approx(0.1, abs=0.02)


def test_one_odd_field_among_several_does_not_count_as_drift(dusty: np.ndarray, blank: BlankField) -> None:
    usual = measure_field(photograph(smear() * dusty), UM_PER_PIXEL, blank).light
    odd = measure_field(photograph(smear() * dusty * 0.5), UM_PER_PIXEL, blank).light
    assert abs(lamp_drift([usual, odd, usual]).brightness) < 0.02


def test_frames_of_another_size_are_refused_with_both_sizes(blank: BlankField) -> None:
    frame = photograph(light())[:, :-2]
    with pytest.raises(SettingError, match=r"blank\.png: .* 640x480 .* 638x480"):
        measure_field(frame, UM_PER_PIXEL, blank)
