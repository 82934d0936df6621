"""Measuring µm per pixel from the red cells in view: whole, single ones are 7.5 µm wide on a dried smear.

They are found without knowing the scale: what is darker than the glass in green light, round, apart from its
neighbours at one depth at least, and without chromatin. Its size is taken where the edge is half as deep as
the cell, which neither focus nor depth of stain moves. What is of another size than most of what was found
(platelets, dust, clumps) is left out, and the median of the rest stands for 7.5 µm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import CalibrationError
from hematovision.images import RGBImage
from hematovision.optics import measure_field, optical_density

#: Diameter that the median red cell is taken to have. People's means differ from it by a few per cent.
RED_CELL_UM = 7.5
#: With 10 cells the 95 % interval of the median runs from the second smallest to the second largest: with
#: fewer it would be the whole range, and one wrong cell would set its end.
MIN_CELLS = 10
#: What is farther than this share from the middle size is no red cell: their diameters vary by about 10 %.
SIZE_TOLERANCE = 0.3
#: Of the round things found, dust and platelets apart, at least this share must be of one size.
MIN_SHARE_OF_ONE_SIZE = 0.8
#: A given scale that differs by more is worth a warning; an interval wider than this to either side says
#: too little to be used.
DISAGREEMENT = 0.15

_MAX_PLATELET = 0.4  # of the diameter of a red cell: 3 µm
# Larger images are searched on a copy this long: red cells at 0.2 µm per pixel are still 18 pixels wide.
_LONG_SIDE_PX = 2000
# Only the light is measured with it, by which vignetting is told from cells; 0.05 to 0.4 were seen to do.
_NOMINAL_UM_PER_PIXEL = 0.1
_GLASS = 200  # what the glass becomes when green is divided by its light
# From the palest rim to the densest cell: neighbours that touch at one level are apart at the next.
_LEVELS = tuple(_GLASS * (95 - 3 * step) // 100 for step in range(8))
_MIN_DIAMETER_PX = 14.0  # dust in the light path is smaller
_MIN_SOLIDITY = 0.95  # area over that of the convex hull: less where two cells touch
_MIN_AXIS_RATIO = 0.7  # less where two overlap
_MIN_ABSORPTION = 0.06  # of a cell's body; less is too faint for an edge
_MIN_GLASS_AROUND = 0.9  # an inclusion in a cell has no glass around it
_BODY_PERCENTILE = 30  # darker than the central pallor
_GLASS_PERCENTILE = 75  # of what is around: brighter than the next cell
_REACH = 0.05  # of the width: how far beyond the outline its edge at half height can lie
# Of the blue optical density so much is taken off the red: haemoglobin absorbs blue, chromatin hardly does.
_BLUE_WEIGHT = 0.35
# By that measure chromatin is denser than haemoglobin ever is, or less dense but of a colour that haemoglobin
# never has: that absorbs blue at least half as much as red.
_MAX_HAEMOGLOBIN_STAIN = 0.13
_MIN_CHROMATIN_STAIN = 0.07
_MIN_HAEMOGLOBIN_BLUE = 0.5
_MAX_CHROMATIN = 0.05  # share of the area of a cell


@dataclass(frozen=True)
class ScaleMeasurement:
    """µm per pixel from red cells; ``low`` and ``high`` bound its 95 % interval.

    The interval covers which cells happened to be in view, each taken as independent; not that one person's
    red cells are all a few per cent larger or smaller. ``cells``: how many were measured, in how many
    ``images``.
    """

    um_per_pixel: float
    low: float
    high: float
    cells: int
    images: int


def measure_red_cells(image: RGBImage) -> NDArray[np.float32]:
    """Diameters of the whole, single red cells of one image, whatever its scale.

    Args:
        image: (height, width, 3) uint8 RGB, 0.05 to 0.4 µm per pixel.

    Returns:
        (cells,) float32 in pixels of the image: of the circle with the area of the cell, so of an oval the
        geometric mean of its axes. A few are no red cells; `measure_scale` sorts them out. Often empty.

    Raises:
        ImageError: the image has another shape or type, or is black.
    """
    green, chromatin, shrink = _planes(image)
    measured = np.zeros(green.shape, np.uint8)
    diameters = []
    for level in _LEVELS:
        darker = cv2.compare(green, level, cv2.CMP_LT)
        outlines, _ = cv2.findContours(darker, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for outline in outlines:
            x, y, width, height = cv2.boundingRect(outline)
            if measured[y + height // 2, x + width // 2] or not _is_whole_and_single(outline, green.shape):
                continue
            edge = _half_height_edge(outline, green, chromatin)
            if edge is not None and _is_whole_and_single(edge, green.shape):
                cv2.drawContours(measured, [edge], -1, 1, cv2.FILLED)
                diameters.append(2 * math.sqrt(_area(edge) / math.pi))
    return np.array(diameters, np.float32) / np.float32(shrink)


def measure_scale(diameters: Sequence[NDArray[np.float32]]) -> ScaleMeasurement:
    """µm per pixel from the red cells of one or several images of the same scale, pooled.

    The 95 % interval is that of the median by order statistics, which assumes nothing about how sizes are
    distributed (Conover, Practical Nonparametric Statistics, 3rd edition, 1999, section 3.2).

    Args:
        diameters: what `measure_red_cells` gave for each image.

    Raises:
        CalibrationError: there are too few red cells, or their sizes differ too much from each other.
    """
    pooled = np.sort(np.concatenate([np.zeros(0, np.float32), *diameters]))
    if len(pooled) < MIN_CELLS:
        raise _too_few(len(pooled), len(diameters))
    # The size below which half of the area found lies: specks of dust, however many, do not move it.
    area = np.cumsum(pooled.astype(np.float64) ** 2)
    middle = float(np.median(_near(pooled, pooled[np.searchsorted(area, area[-1] / 2)])))
    sizes = _near(pooled, middle)
    cells = np.count_nonzero(pooled > _MAX_PLATELET * middle)
    if len(sizes) < MIN_SHARE_OF_ONE_SIZE * cells:
        raise CalibrationError(
            f"only {len(sizes)} of {cells} round cells are of one size; "
            "give images of one microscope and magnification, in focus"
        )
    if len(sizes) < MIN_CELLS:
        raise _too_few(len(sizes), len(diameters))
    rank = _median_rank(len(sizes))
    median, smallest, largest = float(np.median(sizes)), float(sizes[rank]), float(sizes[-1 - rank])
    scale, low, high = RED_CELL_UM / median, RED_CELL_UM / largest, RED_CELL_UM / smallest
    if low < scale * (1 - DISAGREEMENT) or high > scale * (1 + DISAGREEMENT):
        raise CalibrationError(
            f"the {len(sizes)} red cells found differ too much in size: "
            f"{low:.4f} to {high:.4f} µm per pixel; give more images, in focus"
        )
    images = sum(len(_near(of_image, middle)) > 0 for of_image in diameters)
    return ScaleMeasurement(scale, low, high, len(sizes), images)


def scale_warning(um_per_pixel: float, diameters: Sequence[NDArray[np.float32]]) -> str | None:
    """What to tell the user when the red cells in view disagree by more than 15 % with the scale given.

    Args:
        um_per_pixel: the scale given.
        diameters: what `measure_red_cells` gave for each image, as for `measure_scale`.

    Returns:
        The line; None where they agree, or where they are too few or too unlike each other to say.
    """
    try:
        measured = measure_scale(diameters)
    except CalibrationError:
        return None
    difference = measured.um_per_pixel / um_per_pixel - 1
    if abs(difference) <= DISAGREEMENT or measured.low <= um_per_pixel <= measured.high:
        return None
    return (
        f"µm per pixel is taken as {um_per_pixel:.4g}, but by {measured.cells} red cells in view it is "
        f"{measured.um_per_pixel:.4f} ({measured.low:.4f} to {measured.high:.4f}); check the magnification, "
        "or measure the scale with hematovision calibrate"
    )


def _planes(image: RGBImage) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """Green transmittance times `_GLASS`, where there is chromatin, and their pixels for one of the image."""
    field = measure_field(image, _NOMINAL_UM_PER_PIXEL)
    height, width = image.shape[:2]
    shrink = min(1.0, _LONG_SIDE_PX / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    green = np.ascontiguousarray(image[..., 1])
    if shrink < 1:
        green = cv2.resize(green, size, interpolation=cv2.INTER_AREA)
    light = np.ascontiguousarray(field.light.over(*size)[..., 1])
    green = cv2.GaussianBlur(cv2.divide(green, light, scale=_GLASS, dtype=cv2.CV_8U), (3, 3), 0)
    # Left black, the fill of a rotated copy joins the cells that it cuts to the border.
    green[_enlarged(field.dark, size)] = 0
    red, blue = (optical_density(cv2.extractChannel(field.transmittance, channel)) for channel in (0, 2))
    stain = cv2.GaussianBlur(cv2.addWeighted(red, 1.0, blue, -_BLUE_WEIGHT, 0.0), (3, 3), 0)
    other_colour = (stain > _MIN_CHROMATIN_STAIN) & (blue < _MIN_HAEMOGLOBIN_BLUE * red)
    chromatin = other_colour | (stain > _MAX_HAEMOGLOBIN_STAIN)
    return green, _enlarged(chromatin, size).astype(np.uint8), shrink


def _enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)


def _area(outline: NDArray[np.int32]) -> float:
    """Pixels inside an outline and on it, by Pick's theorem: it runs through the middles of pixels."""
    return cv2.contourArea(outline) + len(outline) / 2 + 1


def _is_whole_and_single(outline: NDArray[np.int32], shape: tuple[int, ...]) -> bool:
    if len(outline) < 2 * _MIN_DIAMETER_PX:  # spares the many specks of noise what follows
        return False
    x, y, width, height = cv2.boundingRect(outline)
    if x == 0 or y == 0 or x + width == shape[1] or y + height == shape[0]:
        return False
    area = cv2.contourArea(outline)
    if _area(outline) < math.pi / 4 * _MIN_DIAMETER_PX**2:
        return False
    if area < _MIN_SOLIDITY * cv2.contourArea(cv2.convexHull(outline)):
        return False
    moments = cv2.moments(outline)
    spread = moments["mu20"] + moments["mu02"]
    difference = math.hypot(moments["mu20"] - moments["mu02"], 2 * moments["mu11"])
    # Second moments along the axes go with their squares.
    return spread - difference >= _MIN_AXIS_RATIO**2 * (spread + difference)


def _half_height_edge(
    outline: NDArray[np.int32], green: NDArray[np.uint8], chromatin: NDArray[np.uint8]
) -> NDArray[np.int32] | None:
    """The outline at half the depth of the cell's body below the glass beside it; None for no red cell."""
    x, y, width, height = cv2.boundingRect(outline)
    margin = max(3, round(0.2 * max(width, height)))
    left, top = max(x - margin, 0), max(y - margin, 0)
    window = np.s_[top : y + height + margin, left : x + width + margin]
    view = green[window]
    cell = np.zeros(view.shape, np.uint8)
    cv2.drawContours(cell, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
    if cv2.mean(chromatin[window], cell)[0] > _MAX_CHROMATIN:
        return None
    gap = 2 * (margin // 3) + 1
    around = view[cv2.dilate(cell, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap))) == 0]
    glass = float(np.percentile(around, _GLASS_PERCENTILE)) if around.size else 0.0
    body = float(np.percentile(view[cell > 0], _BODY_PERCENTILE))
    if glass < _MIN_GLASS_AROUND * _GLASS or glass - body < _MIN_ABSORPTION * _GLASS:
        return None
    darker = cv2.compare(view, (glass + body) / 2, cv2.CMP_LT)
    reach = 2 * max(1, round(_REACH * max(width, height))) + 1
    darker[cv2.dilate(cell, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) == 0] = 0
    edges, _ = cv2.findContours(darker, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    middle = x - left + width / 2, y - top + height / 2
    edge = next((edge for edge in edges if cv2.pointPolygonTest(edge, middle, measureDist=False) >= 0), None)
    return None if edge is None else edge + np.array((left, top), np.int32)


def _near(diameters: NDArray[np.float32], middle: float) -> NDArray[np.float32]:
    return diameters[np.abs(diameters / middle - 1) <= SIZE_TOLERANCE]


def _median_rank(count: int) -> int:
    """Rank r, from 0, such that the values r from either end of so many hold the median with 95 %."""
    # Each of the 2**count ways in which values fall above and below the median is as likely as the others; it
    # lies beyond the value r from an end in those with at most r values on that side.
    rank, ways, beyond = -1, 1, 1
    while 2 * beyond * 20 <= 1 << count:  # two ends, one in twenty
        rank += 1
        ways = ways * (count - rank) // (rank + 1)
        beyond += ways
    return rank


def _too_few(cells: int, images: int) -> CalibrationError:
    return CalibrationError(
        f"{cells} whole single red cells in {images} image{'s' * (images != 1)} are too few for a scale "
        f"(at least {MIN_CELLS}); give more images, thinly spread and in focus"
    )
