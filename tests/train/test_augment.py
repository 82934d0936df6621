"""Augmentation: the same cell, otherwise photographed, and nothing that a device would not see."""

import numpy as np
import pytest

from hematovision.crops import EMPTY, CropSize, cut_crop
from hematovision.nucleus import measure_nucleus
from hematovision.optics import WORKING_UM_PER_PIXEL, measure_field
from train.augment import PATCH_MARGIN, augment, vary_field

SIDE = 128
PATCH = round(SIDE * PATCH_MARGIN)


def patch_of_a_nucleus() -> np.ndarray:
    y, x = np.mgrid[:PATCH, :PATCH] - (PATCH - 1) / 2
    patch = np.full((PATCH, PATCH, 3), 240, np.uint8)
    patch[np.hypot(x, y) < 28] = (110, 80, 170)
    return patch


def test_a_variation_is_a_crop_that_depends_on_the_generator_alone() -> None:
    patch = patch_of_a_nucleus()
    first, again, other = (augment(patch, SIDE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(patch, patch_of_a_nucleus())  # the patch itself is left alone


def test_the_nucleus_stays_in_the_middle_of_nearly_every_variation() -> None:
    patch = patch_of_a_nucleus()
    kept = 0
    for seed in range(200):
        crop = augment(patch, SIDE, np.random.default_rng(seed)).astype(int)
        middle, edge = crop[54:74, 54:74].mean(), np.median(crop[:6])
        kept += middle < edge - 30
    assert kept >= 195


def test_a_blank_patch_stays_nearly_blank() -> None:
    blank = np.full((PATCH, PATCH, 3), EMPTY, np.uint8)
    for seed in range(20):
        assert augment(blank, SIDE, np.random.default_rng(seed)).mean() > 200


@pytest.mark.parametrize("seed", range(12))
def test_a_varied_field_holds_its_cell_where_it_says(seed: int) -> None:
    side, um_per_pixel = 480, 0.1
    y, x = np.mgrid[:side, :side]
    field = np.full((side, side, 3), 230, np.uint8)
    field[np.hypot(x - 200, y - 260) < 45] = (100, 70, 150)
    rng = np.random.default_rng(seed)
    varied, expected, scale = vary_field(field, (200.0, 260.0), um_per_pixel, rng)
    assert um_per_pixel <= scale <= 2.3 * um_per_pixel
    seen = measure_field(varied, scale)
    whole = all(60 < value * scale * 10 < side - 60 for value in expected)
    if whole:
        place = (np.array(expected) + 0.5) / seen.scale - 0.5
        nucleus = measure_nucleus(seen, (float(place[0]), float(place[1])))
        assert nucleus is not None
        assert np.hypot(*(np.array(nucleus.center) - place)) * WORKING_UM_PER_PIXEL < 1.5
        assert nucleus.area_um2 == pytest.approx(np.pi * 4.5**2, rel=0.25)
    crop = cut_crop(seen, expected, CropSize(20.0, SIDE))
    assert crop.max() == EMPTY
