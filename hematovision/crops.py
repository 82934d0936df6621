"""Cutting the square around a cell that the network sees: fixed in micrometres, in units of transmittance."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.light import frame_position
from hematovision.optics import Field

#: What a crop shows where there is no image (beyond the frame, or black fill): empty glass.
EMPTY = 255

_LIGHT_GRID = 5


@dataclass(frozen=True)
class CropSize:
    """The square that a network sees: its side on the slide, and the pixels it is resampled to."""

    side_um: float
    side_px: int

    @property
    def um_per_pixel(self) -> float:
        """Scale of the crop."""
        return self.side_um / self.side_px


def cut_crop(field: Field, center: tuple[float, float], size: CropSize) -> NDArray[np.uint8]:
    """Cut one cell out of a field.

    Args:
        field: the field, its light measured.
        center: (x, y) in pixels of the frame; the middle of the first pixel is (0, 0).
        size: side of the square.

    Returns:
        (side_px, side_px, 3) uint8 RGB: transmittance times 255, that is, the cell on white glass whatever
        the lamp. What lies beyond the frame is `EMPTY`.
    """
    image = field.image
    height, width = image.shape[:2]
    # To the pixel: an error of at most half a pixel in the side, under 0.5 % below 0.2 µm per pixel.
    side = max(2, round(size.side_um / field.um_per_pixel))
    left, top = round(center[0] - (side - 1) / 2), round(center[1] - (side - 1) / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    inside = x0 < x1 and y0 < y1
    seen: NDArray[np.uint8] | NDArray[np.float32]
    seen = image[y0:y1, x0:x1] if inside else np.zeros((0, 0, 3), np.uint8)
    if field.blank is not None and inside:
        seen = field.blank.divide(seen, x0, y0)
    whole = seen.shape[:2] == (side, side)
    square = seen if whole else np.zeros((side, side, 3), seen.dtype)
    if inside and not whole:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = seen
    # Averaging where it shrinks: no frequency is folded back that the camera resolved and the crop cannot.
    method = cv2.INTER_AREA if side > size.side_px else cv2.INTER_LINEAR
    crop = cv2.resize(square, (size.side_px, size.side_px), interpolation=method)
    steps = (np.arange(_LIGHT_GRID, dtype=np.float32) + 0.5) * (side / _LIGHT_GRID) - 0.5
    light = field.light.at(
        frame_position(np.clip(left + steps, 0, width - 1), width),
        frame_position(np.clip(top + steps, 0, height - 1), height),
    )
    light = cv2.resize(light, (size.side_px, size.side_px), interpolation=cv2.INTER_LINEAR)
    crop = cv2.divide(crop, light, scale=255.0, dtype=cv2.CV_8U)  # rounds, and saturates at 255
    if not whole or field.dark.any():
        crop[_without_image(field, left, top, side, size.side_px)] = EMPTY
    return crop


def cut_crops(field: Field, centers: list[tuple[float, float]], size: CropSize) -> NDArray[np.uint8]:
    """Cut several cells: (cells, side_px, side_px, 3) uint8, as `cut_crop` gives each."""
    crops = np.empty((len(centers), size.side_px, size.side_px, 3), np.uint8)
    for index, center in enumerate(centers):
        crops[index] = cut_crop(field, center, size)
    return crops


def _without_image(field: Field, left: int, top: int, side: int, side_px: int) -> NDArray[np.bool_]:
    """Which pixels of a crop lie beyond the frame or in black fill: (side_px, side_px) bool."""
    height, width = field.image.shape[:2]
    # In the frame's pixels, the middle of every pixel of the crop.
    steps = (np.arange(side_px) + 0.5) * (side / side_px) - 0.5
    x, y = left + steps, top + steps
    scale_x, scale_y = field.scale
    columns = np.clip(((x + 0.5) / scale_x).astype(int), 0, field.dark.shape[1] - 1)
    rows = np.clip(((y + 0.5) / scale_y).astype(int), 0, field.dark.shape[0] - 1)
    beyond = field.dark[rows[:, None], columns[None, :]]
    # Half a pixel of the crop more: the resampled edge is a mixture.
    margin = side / side_px / 2
    beyond[:, (x < margin - 0.5) | (x > width - 0.5 - margin)] = True
    beyond[(y < margin - 0.5) | (y > height - 0.5 - margin), :] = True
    return beyond
