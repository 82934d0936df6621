"""The light of an empty field, found on the glass of one frame, whatever its colour and shape.

The frame is cut into tiles of about a red cell's size. A quadratic through the tiles that show glass holds
vignetting and goes on where highlights clip; what the glass differs from it (a coloured flare, the pink rim
of a cheap lens) is added tile by tile. A tile that is covered lies below its neighbours, and is left out.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import ImageError
from hematovision.images import RGBImage

#: A field narrower than this shows no vignetting, and too few gaps between cells to find any.
MIN_VIGNETTED_SIDE_UM = 70.0

_TILE_UM = 8.0
_MAX_TILES = 20  # along a side: larger fields have larger tiles, as their light is as smooth to the eye
_TILE_PX = 8  # to a side, of the sample that a tile is judged on
_FINE = 3  # places along a side of a tile at which the light is kept
# The empty glass is the bright end of a tile, but a cell's edge that acts as a lens can be brighter still.
_GLASS_SHARE = 0.92
_GLASS_TOLERANCE = 0.06
_MIN_GLASS_PIXELS = 16
_MIN_LEVEL = 8  # of 255
_CLIPPED_LEVEL = 250  # a channel this bright says only that the light is at least so bright
_MAX_LEVEL = 320.0  # to which it is then continued from the glass around
# Letters and bars burnt into a frame are white or of a pure colour, or thin and brighter than the field; they
# cover little of it.
_PURE_LEVEL = 30
_STROKE = np.ones((5, 5), np.uint8)  # thin is narrower, in pixels of the sample
_STANDS_OUT = 0.12
_MAX_OVERLAY = 0.05
_FIT_ROUNDS = 2
_RIDGE = 1e-3 * np.eye(6, dtype=np.float32)
_MIN_TILES = 18
_ENOUGH_GLASS = 0.3  # of a tile
_MIN_BRIGHTNESS = 0.45  # of the bright tiles: darker is what surrounds a round field, or covers the glass
# In logarithms: a covered tile lies this far below the glass around it, or below the light found so far.
_STEP_DOWN = 0.10
_BELOW_LIGHT = 0.05
_GROWTH_ROUNDS, _DETAIL_ROUNDS = 4, 3
_MIN_SUPPORT = 0.1  # share of a tile's surroundings that shows glass
_SHRINKAGE = 0.05

_Picture = RGBImage | NDArray[np.float32]  # (height, width, 3)
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Light:
    """The light of an empty field, over the whole of a frame.

    ``levels``: (rows, columns, 3) float32, the light (0 to 255, and more where the frame is overexposed) in
    the middles of as many equal rectangles; between them it is interpolated. A uniform light has one.
    """

    levels: NDArray[np.float32]

    def at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Light at positions x (width,) and y (height,), each from -1 to 1: (height, width, 3) float32."""
        rows, columns = self.levels.shape[:2]
        column, row = ((x + 1) * (columns / 2) - 0.5, (y + 1) * (rows / 2) - 0.5)
        shape = len(y), len(x)
        across = np.ascontiguousarray(np.broadcast_to(column[None, :], shape), np.float32)
        down = np.ascontiguousarray(np.broadcast_to(row[:, None], shape), np.float32)
        return cv2.remap(self.levels, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def over(self, width: int, height: int) -> NDArray[np.float32]:
        """Light over a whole frame sampled with this many pixels: (height, width, 3) float32."""
        return cv2.resize(self.levels, (width, height), interpolation=cv2.INTER_LINEAR)


def frame_position(pixel: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Pixel coordinates (centre of the first pixel is 0) as the -1 to 1 that `Light.at` takes."""
    return ((pixel + 0.5) * (2.0 / side) - 1.0).astype(np.float32)


def measure_light(seen: _Picture, dark: _Mask, um_per_pixel: float, as_taken: RGBImage) -> Light:
    """Find the light of a field on the glass between its cells.

    Args:
        seen: the field at about working scale, (height, width, 3), divided by a blank field or not.
        dark: (height, width), where there is no image.
        um_per_pixel: its scale.
        as_taken: the same before it was divided: there a highlight that clips can be told.

    Raises:
        ImageError: no light reaches the camera.
    """
    height, width = seen.shape[:2]
    long_um, short_um = max(width, height) * um_per_pixel, min(width, height) * um_per_pixel
    if short_um < MIN_VIGNETTED_SIDE_UM:
        return _uniform(seen, dark)
    tile_um = max(_TILE_UM, long_um / _MAX_TILES)
    columns, rows = round(width * um_per_pixel / tile_um), round(height * um_per_pixel / tile_um)
    size = columns * _TILE_PX, rows * _TILE_PX
    sample = cv2.resize(seen, size, interpolation=cv2.INTER_LINEAR)
    taken = sample if seen is as_taken else cv2.resize(as_taken, size, interpolation=cv2.INTER_LINEAR)
    ignored = _overlay(taken, columns, rows)
    if dark.any():
        ignored |= cv2.resize(dark.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    levels, share, glass = _glass(sample, ignored, columns, rows)
    clipped = levels if taken is sample else _tile_means(taken, glass, columns, rows)[0]
    surface = _surface(np.log(levels), share, clipped >= _CLIPPED_LEVEL)
    return _uniform(seen, dark) if surface is None else Light(surface)


def _uniform(seen: _Picture, dark: _Mask) -> Light:
    # Every second pixel is plenty for a level.
    pixels = seen[::2, ::2][~dark[::2, ::2]].astype(np.float32)
    green = pixels[:, 1]
    rank = int(_GLASS_SHARE * len(green))
    bright = float(np.partition(green, rank)[rank]) if len(green) >= _MIN_GLASS_PIXELS else 0.0
    if bright < _MIN_LEVEL:
        raise ImageError("the field is black: no light reaches the camera")
    glass = np.abs(green - bright) <= _GLASS_TOLERANCE * bright
    return Light(pixels[glass].mean(axis=0).reshape(1, 1, 3))


def _overlay(taken: RGBImage, columns: int, rows: int) -> NDArray[np.uint8]:
    """Pixels of the sample that are letters or bars burnt into the frame: 0 or 1, all 0 where none are."""
    red, green, blue = cv2.split(taken)
    low = cv2.min(cv2.min(red, green), blue)
    # By its green a tile is judged, so that letters without green do no harm.
    colour = cv2.inRange(low, _PURE_LEVEL + 1, _CLIPPED_LEVEL - 1)
    thick = cv2.threshold(green, _CLIPPED_LEVEL - 1, 1, cv2.THRESH_BINARY)[1] & ~colour
    if thick.any():
        # What fills a tile is no letter, but light.
        share = cv2.resize(thick * 255, (columns, rows), interpolation=cv2.INTER_AREA)
        few = (share < 128).astype(np.uint8)
        thick &= cv2.resize(few, thick.shape[::-1], interpolation=cv2.INTER_NEAREST)
    some = np.sort(green[::4, ::4], axis=None)
    bright = float(some[int(_GLASS_SHARE * some.size)])
    ridge = cv2.subtract(green, cv2.morphologyEx(green, cv2.MORPH_OPEN, _STROKE))
    thin = cv2.threshold(ridge, _STANDS_OUT * bright, 1, cv2.THRESH_BINARY)[1]
    thin &= cv2.threshold(green, (1 + _STANDS_OUT) * bright, 1, cv2.THRESH_BINARY)[1]
    letters = thick | thin
    if not 0 < cv2.countNonZero(letters) < _MAX_OVERLAY * letters.size:
        return np.zeros_like(letters)
    return cv2.dilate(letters, np.ones((3, 3), np.uint8))  # their edges are a mixture


def _glass(
    sample: _Picture, ignored: NDArray[np.uint8], columns: int, rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Colour of the brightest part of each tile, how much of the tile that is, and which pixels it is of.

    A sample, and 1 where a pixel is not to be looked at, to (rows, columns, 3) float32 of 1 or more; (rows,
    columns) float32, 0 to 1, and 0 where there is no light; 0 or 1 for each pixel.
    """
    # Haemoglobin absorbs green: by green the glass stands out best from red cells.
    green = cv2.extractChannel(sample, 1)
    cv2.multiply(green, 1 - ignored, dst=green, dtype=cv2.CV_32F if sample.dtype == np.float32 else cv2.CV_8U)
    tiles = green.reshape(rows, _TILE_PX, columns, _TILE_PX).swapaxes(1, 2).reshape(rows, columns, -1)
    rank = int(_GLASS_SHARE * tiles.shape[2])
    bright = np.partition(tiles, rank, axis=2)[..., rank].astype(np.float32)
    beside = cv2.resize(bright, green.shape[::-1], interpolation=cv2.INTER_NEAREST)
    distance = cv2.absdiff(green.astype(np.float32), beside)
    glass = cv2.compare(distance, beside * np.float32(_GLASS_TOLERANCE), cv2.CMP_LE) & 1
    levels, share = _tile_means(sample, glass, columns, rows)
    return np.maximum(levels, 1), share * (bright >= _MIN_LEVEL), glass


def _tile_means(
    sample: _Picture, of: NDArray[np.uint8], columns: int, rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of those pixels of each tile that are 1 in a mask, and the share of the tile that they are."""
    masked = cv2.multiply(sample, cv2.merge([of] * 3), dtype=cv2.CV_32F)
    total, share = (
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns, -1)
        for part in (masked, of.astype(np.float32))
    )
    return total / np.maximum(share, 1e-6), share[..., 0]


def _surface(
    logs: NDArray[np.float32], share: NDArray[np.float32], clipped: _Mask
) -> NDArray[np.float32] | None:
    """Levels over the whole frame from the logarithms of what tiles show; None where too few show glass."""
    rows, columns = share.shape
    shows = share > 0
    # Where nearly all of a channel clips, its level is all there is to go by.
    clipped &= np.count_nonzero(shows[..., None] & ~clipped, axis=(0, 1)) >= _MIN_TILES
    clips = clipped.any(axis=2)
    brightness = logs.sum(axis=2)
    bright = np.sort(brightness, axis=None)[-brightness.size // 10]
    keep = _without_covered_places(logs, shows & (brightness > bright + 3 * math.log(_MIN_BRIGHTNESS)))
    glass, counted = keep, keep & ~clips
    for _ in range(_FIT_ROUNDS):
        # A covered tile lies below the rest, a flare above: drop such and fit again.
        count = np.count_nonzero(keep)
        if count < _MIN_TILES:
            return None
        coefficients, residual = _quadratic_fit(logs, counted, clipped)
        spread = cv2.norm(residual, cv2.NORM_L2, keep.view(np.uint8)) / math.sqrt(3 * count)
        glass = shows & (_lowest(residual) > -max(0.02, 1.5 * spread))
        keep = glass & (_lowest(-residual) > -max(0.1, 2.5 * spread))
        counted = keep & ~(clips & (_lowest(-residual) >= 0))
    # A sliver of brightness in a tile may be a cell's edge.
    trust = np.minimum(share / _ENOUGH_GLASS, 1)
    # From there on to all glass that is reached without a step down, as the edge of a covered place is.
    for _ in range(_GROWTH_ROUNDS):
        around, support = _mean_around(logs, np.where(glass, trust, 0))
        glass = shows & (support > _MIN_SUPPORT) & (_lowest(logs - around) > -_STEP_DOWN)
    coefficients, residual = _quadratic_fit(logs, glass & ~(clips & (_lowest(-residual) >= 0)), clipped)
    detail = np.zeros_like(residual)
    for _ in range(_DETAIL_ROUNDS):
        around, support = _mean_around(residual - detail, np.where(glass, trust, 0))
        detail += around * (support / (support + _SHRINKAGE))[..., None]
        glass &= _lowest(residual - detail) > -_BELOW_LIGHT
    size = columns * _FINE, rows * _FINE
    fine = cv2.resize(detail, size, interpolation=cv2.INTER_CUBIC)
    fine += (quadratic_terms(*size) @ coefficients).reshape(fine.shape)
    return np.minimum(cv2.exp(fine), _MAX_LEVEL)


def _without_covered_places(logs: NDArray[np.float32], shows: _Mask) -> _Mask:
    """Tiles without those that a step down in green divides from the largest part of the field."""
    green = logs[..., 1]
    below_a_step = cv2.dilate(green, np.ones((3, 3), np.uint8)) - green > _STEP_DOWN
    _, labels = cv2.connectedComponents((shows & ~below_a_step).astype(np.uint8), connectivity=4)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    means = np.bincount(labels.ravel(), weights=green.ravel()) / np.maximum(sizes, 1)
    glass = (sizes > 0) & (means > means[sizes.argmax()] - _STEP_DOWN)
    return glass[labels]


def _quadratic_fit(
    logs: NDArray[np.float32], counted: _Mask, clipped: _Mask
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coefficients, (6, 3), through the tiles that count, and by how much each tile is brighter than that.

    Where a channel clips and the fit is brighter, nothing is known to differ.
    """
    rows, columns = counted.shape
    terms = quadratic_terms(columns, rows)
    weighted = terms.T * counted.reshape(-1).astype(np.float32)
    # The little ridge is for too few tiles.
    solved = np.linalg.solve(weighted @ terms + _RIDGE, weighted @ logs.reshape(-1, 3))
    coefficients = solved.astype(np.float32, copy=False)
    residual = logs - (terms @ coefficients).reshape(logs.shape)
    residual[clipped & (residual < 0)] = 0
    return coefficients, residual


def _mean_around(
    values: NDArray[np.float32], trust: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean over the glass in each tile's surroundings, weighted towards it, and how much of them is glass."""
    total, support = (
        cv2.GaussianBlur(part, (5, 5), 1.0, borderType=cv2.BORDER_REFLECT)
        for part in (values * trust[..., None], trust)
    )
    return total / (support + np.float32(1e-3))[..., None], support


def _lowest(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lowest channel of each tile, several times faster than NumPy's minimum along an axis."""
    return np.minimum(np.minimum(tiles[..., 0], tiles[..., 1]), tiles[..., 2])


@lru_cache(maxsize=8)
def quadratic_terms(columns: int, rows: int) -> NDArray[np.float32]:
    """1, x, y, x², xy and y² in the middle of each of so many tiles: (tiles, 6)."""
    x, y = np.meshgrid(*(frame_position(np.arange(side, dtype=np.float32), side) for side in (columns, rows)))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
