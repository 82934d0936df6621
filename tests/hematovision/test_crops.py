"""Crops: fixed on the slide, in units of transmittance, empty beyond the image."""

import cv2
import numpy as np
import pytest

from hematovision.crops import EMPTY, CropSize, cut_crop, cut_crops
from hematovision.optics import measure_field

SIZE = CropSize(20.0, 128)


def picture(um_per_pixel: float, lamp: tuple[int, int, int] = (230, 225, 220)) -> np.ndarray:
    """A field of 60 µm with a nucleus of 8 µm at (30, 30) µm."""
    side = round(60 / um_per_pixel)
    y, x = (np.mgrid[:side, :side] + 0.5) * um_per_pixel
    inside = np.clip(0.5 - (np.hypot(x - 30, y - 30) - 4) / um_per_pixel, 0, 1)[..., None]
    field = 1 - inside * (1 - np.array([0.4, 0.3, 0.6]))
    return np.rint(field * np.array(lamp)).astype(np.uint8)


def crop_of(image: np.ndarray, um_per_pixel: float) -> np.ndarray:
    center = (30 / um_per_pixel - 0.5, 30 / um_per_pixel - 0.5)
    return cut_crop(measure_field(image, um_per_pixel), center, SIZE)


def test_a_crop_holds_transmittance_in_255ths() -> None:
    crop = crop_of(picture(0.1), 0.1)
    assert crop.shape == (128, 128, 3)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop[64, 64], np.array([0.4, 0.3, 0.6]) * 255, atol=2)
    assert (crop[5, 5] == EMPTY).all()


@pytest.mark.parametrize("um_per_pixel", [0.05, 0.083, 0.166, 0.2])
def test_crops_of_one_cell_are_alike_whatever_the_camera(um_per_pixel: float) -> None:
    difference = crop_of(picture(um_per_pixel), um_per_pixel).astype(int) - crop_of(picture(0.1), 0.1)
    assert np.abs(difference).mean() < 2.5


def test_crops_of_one_cell_are_alike_whatever_the_lamp() -> None:
    difference = crop_of(picture(0.1, (140, 180, 230)), 0.1).astype(int) - crop_of(picture(0.1), 0.1)
    assert np.abs(difference).max() <= 4


def test_beyond_the_frame_there_is_empty_glass() -> None:
    image = np.full((400, 400, 3), 200, np.uint8)
    image[:60, :60] = (90, 60, 130)
    crop = cut_crop(measure_field(image, 0.1), (0.0, 0.0), SIZE)
    assert (crop[:63, :] == EMPTY).all()
    assert (crop[:, :63] == EMPTY).all()
    assert (crop[70:90, 70:90, 0] < 160).all()


def test_a_crop_that_lies_wholly_outside_is_empty() -> None:
    field = measure_field(np.full((200, 200, 3), 200, np.uint8), 0.1)
    assert (cut_crop(field, (-900.0, -900.0), SIZE) == EMPTY).all()


def test_black_fill_is_empty_glass() -> None:
    image = picture(0.1)
    turned = cv2.warpAffine(image, cv2.getRotationMatrix2D((300, 300), 20, 1.0), (600, 600))
    crop = cut_crop(measure_field(turned, 0.1), (20.0, 20.0), SIZE)
    assert crop.min() > 200


def test_several_crops_are_cut_as_one_is() -> None:
    field = measure_field(picture(0.1), 0.1)
    centers = [(299.5, 299.5), (250.0, 310.0)]
    several = cut_crops(field, centers, SIZE)
    assert several.shape == (2, 128, 128, 3)
    for crop, center in zip(several, centers, strict=True):
        np.testing.assert_array_equal(crop, cut_crop(field, center, SIZE))
    assert cut_crops(field, [], SIZE).shape == (0, 128, 128, 3)
