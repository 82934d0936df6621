"""The finder's heat map: how a field goes in, and which places of what comes out are cells."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.images import RGBImage

#: Scale of the field that the finder's network sees: a nucleus is 12 to 25 pixels wide.
FINDER_UM_PER_PIXEL = 0.5
#: Pixels of that field for one place of the heat map, along each side.
STRIDE = 4
#: The sides of the network's input are multiples of this.
SIDE_MULTIPLE = 16
#: Two centres nearer than this are one cell: so wide is a small lymphocyte, and its neighbour no nearer.
MIN_DISTANCE_UM = 7.0
#: So far beyond the right and lower border, where a field is mirrored, a peak is of a cell at the border.
MIRRORED_PX = 6


@dataclass(frozen=True)
class Peak:
    """A place that stands out in a heat map: x and y in pixels of the field, and its heat from 0 to 1."""

    x: float
    y: float
    heat: float


def at_finder_scale(image: RGBImage, um_per_pixel: float) -> RGBImage:
    """Resample a field, (height, width, 3) uint8 RGB, to `FINDER_UM_PER_PIXEL`."""
    height, width = image.shape[:2]
    shrink = um_per_pixel / FINDER_UM_PER_PIXEL
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR)


def padded(field: RGBImage) -> RGBImage:
    """Mirror a field at its right and lower border until its sides are multiples of `SIDE_MULTIPLE`.

    Mirrored, a border looks like more smear: black or white beyond it would be a thing to find.
    """
    height, width = field.shape[:2]
    below, right = -height % SIDE_MULTIPLE, -width % SIDE_MULTIPLE
    return cv2.copyMakeBorder(field, 0, below, 0, right, cv2.BORDER_REFLECT_101)


def find_peaks(heat: NDArray[np.float32], size: tuple[int, int], threshold: float) -> list[Peak]:
    """Find the centres of cells in a heat map, the hottest first.

    Args:
        heat: (h, w) float32 from 0 to 1.
        size: width and height of the field in pixels, before it was padded.
        threshold: a centre is hotter than this.
    """
    highest = cv2.dilate(heat, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero((heat == highest) & (heat > threshold))
    # An int8 network's plateaus have several maxima of one height: the nearest to a hotter one gives way.
    order = np.argsort(-heat[rows, columns], kind="stable")
    apart = MIN_DISTANCE_UM / FINDER_UM_PER_PIXEL
    peaks: list[Peak] = []
    for row, column in zip(rows[order], columns[order], strict=True):
        x, y = _center(heat, int(row), int(column))
        # A cell that the border cuts is one with its mirror image: their peak may lie a little beyond.
        if x >= size[0] + MIRRORED_PX or y >= size[1] + MIRRORED_PX:
            continue
        x, y = min(x, size[0] - 1.0), min(y, size[1] - 1.0)
        if all((x - peak.x) ** 2 + (y - peak.y) ** 2 >= apart**2 for peak in peaks):
            peaks.append(Peak(x, y, float(heat[row, column])))
    return peaks


def _center(heat: NDArray[np.float32], row: int, column: int) -> tuple[float, float]:
    """Return where the heat around a maximum lies, in pixels of the field: finer than a place is wide."""
    y = row + _vertex(heat[max(row - 1, 0) : row + 2, column], row > 0)
    x = column + _vertex(heat[row, max(column - 1, 0) : column + 2], column > 0)
    middle = (STRIDE - 1) / 2
    return x * STRIDE + middle, y * STRIDE + middle


def _vertex(three: NDArray[np.float32], has_before: bool) -> float:
    """Return how far, from -0.5 to 0.5 places, the peak of three neighbours lies from the middle one.

    A centre's heat is a Gaussian, whose logarithm is a parabola. At the border, where one is missing: 0.
    """
    if len(three) < 3 or not has_before:
        return 0.0
    before, here, after = (math.log(max(float(value), 1e-6)) for value in three)
    curvature = before - 2 * here + after
    return 0.0 if curvature >= 0 else min(max((before - after) / (2 * curvature), -0.5), 0.5)
