"""The heat map: centres come out where they were put in, once each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hematovision.heat_map import FINDER_UM_PER_PIXEL, STRIDE, at_finder_scale, find_peaks, padded


def heat_of(centers: list[tuple[float, float]], places: int = 40, sigma: float = 5.0) -> np.ndarray:
    middle = (STRIDE - 1) / 2
    y, x = np.mgrid[:places, :places] * STRIDE + middle
    heat = np.zeros((places, places), np.float32)
    for center_x, center_y in centers:
        heat = np.maximum(heat, np.exp(-((x - center_x) ** 2 + (y - center_y) ** 2) / (2 * sigma**2)))
    return heat.astype(np.float32)


@given(st.floats(12, 148), st.floats(12, 148))
def test_a_centre_is_found_within_half_a_micrometre(x: float, y: float) -> None:
    [peak] = find_peaks(heat_of([(x, y)]), (160, 160), 0.3)
    assert np.hypot(peak.x - x, peak.y - y) * FINDER_UM_PER_PIXEL < 0.5


def test_two_cells_that_touch_are_two() -> None:
    peaks = find_peaks(heat_of([(60, 60), (80, 60)]), (160, 160), 0.3)
    assert sorted(round(peak.x / 10) for peak in peaks) == [6, 8]


def test_a_plateau_is_one_cell() -> None:
    heat = np.zeros((40, 40), np.float32)
    heat[10:12, 10:13] = 0.75
    assert len(find_peaks(heat, (160, 160), 0.3)) == 1


def test_a_peak_in_the_padding_is_none() -> None:
    heat = heat_of([(60, 60), (150, 60)])
    assert [round(peak.x) for peak in find_peaks(heat, (140, 160), 0.3)] == [60]


def test_what_is_not_hotter_than_the_threshold_is_none() -> None:
    assert find_peaks(heat_of([(60, 60)]) * 0.3, (160, 160), 0.3) == []


@pytest.mark.parametrize(("width", "height"), [(33, 47), (160, 160), (1, 5)])
def test_a_field_is_padded_to_whole_places(width: int, height: int) -> None:
    field = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    whole = padded(field)
    assert whole.shape[0] % 16 == whole.shape[1] % 16 == 0
    assert np.array_equal(whole[:height, :width], field)


def test_a_field_is_resampled_to_the_finders_scale() -> None:
    assert at_finder_scale(np.zeros((960, 1280, 3), np.uint8), 0.1).shape == (192, 256, 3)
    assert at_finder_scale(np.zeros((96, 128, 3), np.uint8), 1.0).shape == (192, 256, 3)
