"""The baseline's optics: a field divided by a quadratic through the glass of its tiles; kept to compare."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import ImageError
from hematovision.images import RGBImage

#: Scale at which the baseline measures light and finds nuclei.
WORKING_UM_PER_PIXEL = 0.4

_NO_LIGHT = 0.08
_MIN_VIGNETTED_SIDE_UM = 70.0
_TILE_UM = 12.0
_GLASS_SHARE = 0.92
_GLASS_TOLERANCE = 0.06
_MIN_GLASS_PIXELS = 16
_MIN_LEVEL = 8  # of 255
_LIGHT_GRID = 48
_FIT_ROUNDS = 6


@dataclass(frozen=True)
class DividedField:
    """A frame divided by its light.

    ``transmittance``: (h, w, 3) float32 at `WORKING_UM_PER_PIXEL`, 1 where ``dark``, (h, w) bool: where there
    is no image. ``scale``: pixels of ``image`` for one of ``transmittance``, in x and in y.
    """

    image: RGBImage
    um_per_pixel: float
    transmittance: NDArray[np.float32]
    dark: NDArray[np.bool_]
    scale: tuple[float, float]


def divide_by_light(image: RGBImage, um_per_pixel: float) -> DividedField:
    """Divide a frame, (height, width, 3) uint8 RGB, by the light measured on its own glass.

    Raises:
        ImageError: it is black.
    """
    height, width = image.shape[:2]
    shrink = um_per_pixel / WORKING_UM_PER_PIXEL
    size = max(8, round(width * shrink)), max(8, round(height * shrink))
    small = _resized(image, size)
    dark = _without_light(small)
    light = _measure_light(small, dark, um_per_pixel * width / size[0])
    columns, rows = min(size[0], _LIGHT_GRID), min(size[1], _LIGHT_GRID)
    grid = np.exp(_quadratic(_axis(columns)[None, :], _axis(rows)[:, None]) @ light)
    transmittance = np.divide(small, cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    if dark.any():
        transmittance[dark] = 1.0
    return DividedField(image, um_per_pixel, transmittance, dark, (width / size[0], height / size[1]))


def _resized(image: RGBImage, size: tuple[int, int]) -> RGBImage:
    height, width = image.shape[:2]
    if size[0] > width:
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    if width % 2 == height % 2 == 0 and width >= 2 * size[0]:
        image = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _axis(side: int) -> NDArray[np.float32]:
    return _position(np.arange(side, dtype=np.float32), side)


def _position(pixel: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return ((pixel + 0.5) * (2.0 / side) - 1.0).astype(np.float32)


def _quadratic(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y = np.broadcast_arrays(x, y)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _without_light(small: RGBImage) -> NDArray[np.bool_]:
    red, green, blue = cv2.split(small)
    brightest_channel = cv2.max(cv2.max(red, green), blue)
    limit = _NO_LIGHT * float(np.percentile(brightest_channel[::4, ::4], 95))
    black = (brightest_channel <= limit).astype(np.uint8)
    if not black.any():
        return black.astype(bool)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    height, width = black.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    fill = (left == 0) | (top == 0) | (right == width) | (bottom == height)
    fill[0] = False  # component 0 is all that is not black
    return cv2.dilate(fill[labels].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def _measure_light(small: RGBImage, dark: NDArray[np.bool_], um_per_pixel: float) -> NDArray[np.float32]:
    """Coefficients, (6, 3), of each channel's logarithmic light as a quadratic over the field."""
    height, width = small.shape[:2]
    sample = small[::2, ::2].astype(np.float32)
    sample[dark[::2, ::2]] = np.nan
    level, _ = _glass(sample.reshape(1, -1, 3))
    if np.isnan(level).any():
        raise ImageError("the field is black: no light reaches the camera")
    uniform = np.zeros((6, 3), np.float32)
    uniform[0] = np.log(level[0])
    if min(height, width) * um_per_pixel < _MIN_VIGNETTED_SIDE_UM:
        return uniform
    columns, rows = (round(side * um_per_pixel / _TILE_UM) for side in (width, height))
    tile_width, tile_height = sample.shape[1] // columns, sample.shape[0] // rows
    tiles = sample[: rows * tile_height, : columns * tile_width]
    tiles = tiles.reshape(rows, tile_height, columns, tile_width, 3).swapaxes(1, 2)
    levels, glass = _glass(tiles.reshape(rows * columns, tile_height * tile_width, 3))
    logs = np.log(levels)
    weights = glass.reshape(rows, columns, tile_height, tile_width) / np.maximum(
        glass.sum(axis=1), 1
    ).reshape(rows, columns, 1, 1)
    x_in_tile = np.einsum("rcyx,x->rc", weights, np.arange(tile_width, dtype=np.float32))
    y_in_tile = np.einsum("rcyx,y->rc", weights, np.arange(tile_height, dtype=np.float32))
    x = _position(2 * (x_in_tile + tile_width * np.arange(columns)[None, :]), width)
    y = _position(2 * (y_in_tile + tile_height * np.arange(rows)[:, None]), height)
    design = _quadratic(x, y).reshape(-1, 6)
    keep = ~np.isnan(logs).any(axis=1)
    fit = uniform
    for _ in range(_FIT_ROUNDS):
        if keep.sum() < 3 * len(uniform):
            return uniform
        fit = np.linalg.lstsq(design[keep], logs[keep], rcond=None)[0].astype(np.float32)
        residual = (logs - design @ fit).min(axis=1)
        closer = residual > -max(0.02, 1.5 * float(residual[keep].std()))
        if (closer == keep).all():
            break
        keep = closer
    return fit


def _glass(tiles: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colour of the glass in each tile, (n, pixels, 3) to (n, 3), and which pixels are glass, (n, pixels)."""
    green = tiles[..., 1]
    ordered = np.sort(green, axis=1)  # NaN last
    valid = np.count_nonzero(~np.isnan(ordered), axis=1)
    rank = (valid * _GLASS_SHARE).astype(int).clip(0, green.shape[1] - 1)
    bright = np.take_along_axis(ordered, rank[:, None], axis=1)
    bright[(valid < _MIN_GLASS_PIXELS) | (bright[:, 0] < _MIN_LEVEL)] = np.nan
    glass = (np.abs(green - bright) <= _GLASS_TOLERANCE * bright).astype(np.float32)
    filled = tiles if (valid == green.shape[1]).all() else np.nan_to_num(tiles)
    total = (glass[:, None, :] @ filled)[:, 0]
    level = total / np.maximum(glass.sum(axis=1), 1)[:, None]
    return np.where(np.isnan(bright), np.nan, np.maximum(level, 1.0)).astype(np.float32), glass
