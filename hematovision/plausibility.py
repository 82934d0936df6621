"""Judging whether a field can be a stained smear, and whether it shows the part of one that is counted.

A field is refused on strong evidence only: colours that no Romanowsky stain gives, strokes of ink, smooth
surfaces wider than any cell, or red and blue in each other's place. What is odd but may be a smear is told
beside its cells. Every limit leaves a margin beyond the oddest field of seven laboratories.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.optics import WORKING_UM_PER_PIXEL, Field, optical_density

# What absorbs less than this, as optical density, is taken for glass: noise, plasma, uneven light.
_ABSORBS = 0.10
# Colours that no stain of blood gives: green less absorbed than both others (a leaf), blue alone (a lemon),
# or more light than the glass lets through (a petal before leaves); and where much is absorbed, blue more
# than green (bark, bricks), or red far more than green (the sky).
_GREEN_MARGIN, _YELLOW_MARGIN, _BRIGHTER = 0.06, 0.08, 0.12
_MUCH, _BLUE_OVER_GREEN = 0.3, 1.25
_VERY_MUCH, _RED_OVER_GREEN = 0.8, 1.8
# Grey differs between its channels by less than this share; ink, dirt, pointers and surrounds are grey.
_GREY_SPREAD = 0.2
_DARK_GREY = 0.35  # optical density in every channel that no cell without colour has
# The blue or red of a drawn bar: nothing of one channel is absorbed, and nearly all of another.
_MIN_PURE, _MAX_PURE_SHARE = 1.0, 0.05
# Refused from so much of the field on, and where it is at least so large a share of all that is coloured, or
# where no glass is left either.
_MIN_FOREIGN, _MIN_FOREIGN_SHARE = 0.03, 0.25
_MIN_DENSE_FOREIGN, _MIN_DENSE_FOREIGN_SHARE = 0.06, 0.5
_NO_GLASS = 0.96
# Lines in grey, and apart from their edges hardly anything stained: a page. Some cameras show red cells grey
# too, but those are no lines; neither is a dark surround of pale cells.
_MIN_GREY, _MAX_STAINED_BY_GREY, _MIN_STROKE_SHARE_GREY = 0.01, 0.35, 0.15
# Lines thinner than a nucleus' lobe (2.5 µm), and nearly nothing else: writing, drawing. Of pale cells only
# rings may be seen, but those are faint.
_STROKE_UM = 2.5
_MIN_STROKES, _MIN_STROKE_SHARE, _MIN_INK = 0.01, 0.95, 0.01
# No place of a smear is covered and even over this width: a red cell and its neighbours are 7.5 µm wide.
_SMOOTH_UM = 15.0
_MAX_UNEVEN = 0.04
_MIN_SMOOTH = 0.5
# Less than 0.05 % is less than one nucleus in a field of 100 µm.
_MAX_EMPTY = 0.0005
# Seven laboratories' densest fields are covered to 0.93; some cells lie apart in nearly all.
_TOO_THICK = 0.95
# At the feathered edge cells are spread flat and far apart. Fields of a blurred picture may seem flat too.
_MIN_FLAT, _FLAT, _SPARSE = 8, 0.03, 0.2
_CELL_UM2, _MIN_ROUNDNESS = (25.0, 90.0), 0.8
_MIN_OBJECT, _MIN_OBJECT_UM2 = 0.002, 5.0
# Weights of the differences in `_red_before_blue`, fitted to seven laboratories, and the limit, 1.35 times
# the furthest that any of their fields goes.
_HUE_WEIGHTS = (-1.7, 2.8, 2.5)
_SWAPPED = -1.1
_MIN_TWO_HUES = 0.1
_SURROUNDINGS_UM = 20.0


class FieldState(StrEnum):
    """What a field is, as a person is told."""

    SMEAR = "smear"
    EMPTY = "no cells"
    #: Of a smear the part that is too thick or too thin: shown, not counted.
    NOT_MONOLAYER = "not the monolayer"
    #: No smear, colours swapped or another scale: nothing of it can be trusted.
    CHECK_MICROSCOPE = "check the microscope"


@dataclass(frozen=True)
class Appearance:
    """How a field looks, as shares of it from 0 to 1 unless said.

    ``stained``: coloured as a stain may colour, away from anything grey.
    ``foreign``: in colours that no stain gives; ``foreign_share``: of all that is coloured.
    ``dense_foreign`` and its share: the same of what absorbs much.
    ``grey``: absorbs in all channels alike; ``dark_object``: too dark besides for a cell, or drawn in colour.
    ``strokes``: lines thinner than any nucleus; ``stroke_share``: of all that absorbs.
    ``ink``: of the frame itself, in which no line is blurred yet, what has less than half of the usual green.
    ``smooth``: covered and even over 15 µm; ``covered``: by anything that absorbs, holes filled.
    ``single_cells``: how many whole, round ones lie apart; ``pallor``: how much paler their middle is.
    ``red_before_blue``, a number without unit: positive where the densest absorbs red rather than blue, as
    chromatin does, and the paler blue rather than red, as haemoglobin does.
    """

    stained: float
    foreign: float
    foreign_share: float
    dense_foreign: float
    dense_foreign_share: float
    grey: float
    strokes: float
    stroke_share: float
    ink: float
    smooth: float
    red_before_blue: float
    dark_object: float
    covered: float
    single_cells: float
    pallor: float


def look_at(field: Field) -> Appearance:
    """Measure how a field looks. For 1280x960 at 0.1 µm per pixel it takes three times what optics does."""
    view = ~field.dark
    size = max(int(np.count_nonzero(view)), 1)
    through = cv2.split(cv2.GaussianBlur(field.transmittance, (3, 3), 0))
    brightest = cv2.max(cv2.max(through[0], through[1]), through[2])
    density = cv2.merge([optical_density(channel) for channel in through])
    red, green, blue = cv2.split(density)
    most, least = density.max(axis=2), density.min(axis=2)
    grey = (most > _ABSORBS) & (most - least < _GREY_SPREAD * most) & view
    foreign = (
        (green < cv2.min(red, blue) - _GREEN_MARGIN)
        | (blue > 2 * green + _YELLOW_MARGIN)
        | (brightest > 10**_BRIGHTER)
    ) & view
    much = (most > _MUCH) & ~grey & view
    dense_foreign = much & (
        (blue > _BLUE_OVER_GREEN * green) | ((most > _VERY_MUCH) & (red > _RED_OVER_GREEN * green))
    )
    drawn = (most > _MIN_PURE) & (least < _MAX_PURE_SHARE * most) & view
    stained = (most > _ABSORBS) & ~grey & ~foreign & view
    beside_grey = cv2.dilate(grey.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    absorbs = _filled((most > _ABSORBS) & view)
    width = round(_STROKE_UM / WORKING_UM_PER_PIXEL)
    thick = cv2.morphologyEx(
        absorbs, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    )
    pallors = _pallors(absorbs, green)
    strokes = int(absorbs.sum()) - int(thick.sum())
    return Appearance(
        stained=float(np.count_nonzero(stained & ~beside_grey)) / size,
        foreign=float(np.count_nonzero(foreign)) / size,
        foreign_share=float(np.count_nonzero(foreign)) / max(np.count_nonzero(foreign | stained), 1),
        dense_foreign=float(np.count_nonzero(dense_foreign)) / size,
        dense_foreign_share=float(np.count_nonzero(dense_foreign)) / max(np.count_nonzero(much), 1),
        grey=float(np.count_nonzero(grey)) / size,
        strokes=strokes / size,
        stroke_share=strokes / max(int(absorbs.sum()), 1),
        ink=_ink(field),
        smooth=float(np.count_nonzero(_smooth(density, most) & view)) / size,
        red_before_blue=_red_before_blue(density, view),
        dark_object=_large(((least > _DARK_GREY) & grey) | drawn) / size,
        covered=float(absorbs.sum()) / size,
        single_cells=len(pallors),
        pallor=float(np.median(pallors)) if pallors else 1.0,
    )


def typical(appearances: Sequence[Appearance]) -> Appearance:
    """Return the median of each share over several fields, which one odd field among them does not move.

    Raises:
        ValueError: there is none.
    """
    if not appearances:
        raise ValueError("no appearance to take the median of")
    return Appearance(
        **{
            one.name: float(np.median([getattr(seen, one.name) for seen in appearances]))
            for one in fields(Appearance)
        }
    )


def why_no_smear(seen: Appearance) -> str | None:
    """Say why this can be no stained smear as it is, in a line that says what to do; None where it can be."""
    if (because := _shapes(seen)) is not None:
        return f"this is no stained blood smear: {because}; check what the camera looks at"
    if (because := _colours(seen)) is not None:
        return (
            f"this is no stained blood smear: {because}; check what the camera looks at, and the order of "
            "its colours (RGB, not BGR)"
        )
    if seen.red_before_blue < _SWAPPED:
        return (
            "red and blue seem to be swapped: the red cells are blue; check the order of the colours (RGB, "
            "not BGR) in the camera, or in the program that saved it"
        )
    return None


def why_no_monolayer(seen: Appearance) -> str | None:
    """Say why cells cannot be told apart or judged here, with a hint where to go; None in the monolayer."""
    if seen.covered >= (_TOO_THICK if seen.single_cells < 1 else 1.0):
        return (
            f"too thick: cells cover {seen.covered:.0%} of the field and lie over each other; move towards "
            "the feathered end, to where red cells just touch"
        )
    if seen.single_cells >= _MIN_FLAT and seen.pallor < _FLAT and seen.covered < _SPARSE:
        return (
            "too thin, the feathered edge: red cells lie far apart and are flat, without a pale middle; move "
            "towards the thicker end, to where red cells just touch"
        )
    return None


def is_empty(seen: Appearance) -> bool:
    """Return whether nothing but glass is in view."""
    return seen.covered < _MAX_EMPTY


def dark_object_note(seen: Appearance) -> str | None:
    """Return a note where a large dark thing that is no cell is in view, drawn over it or real; else None."""
    if seen.dark_object < _MIN_OBJECT:
        return None
    return (
        "something large and dark that is no cell is in view (dirt, pointer, scale bar, text, surround): "
        "cells beneath it are not seen"
    )


def _shapes(seen: Appearance) -> str | None:
    """Say which shapes in it no smear is made of, whatever its colours; None without such."""
    ink = seen.ink >= _MIN_INK
    lines = seen.strokes >= _MIN_STROKES / 2 and seen.stroke_share >= _MIN_STROKE_SHARE_GREY
    if ink and lines and seen.grey >= _MIN_GREY and seen.stained < _MAX_STAINED_BY_GREY * seen.grey:
        return "it is black or grey on white, and nothing is stained"
    if ink and seen.strokes >= _MIN_STROKES and seen.stroke_share >= _MIN_STROKE_SHARE:
        return "it is made of lines, as writing is"
    if seen.smooth >= _MIN_SMOOTH:
        return f"{seen.smooth:.0%} of it is an even surface wider than any cell"
    return None


def _colours(seen: Appearance) -> str | None:
    foreign = max(seen.foreign, seen.dense_foreign)
    if (
        (seen.foreign >= _MIN_FOREIGN and seen.foreign_share >= _MIN_FOREIGN_SHARE)
        or (seen.dense_foreign >= _MIN_DENSE_FOREIGN and seen.dense_foreign_share >= _MIN_DENSE_FOREIGN_SHARE)
        or (foreign >= _MIN_DENSE_FOREIGN and seen.covered >= _NO_GLASS)
    ):
        return f"{foreign:.0%} of it is in colours that no stain gives"
    return None


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    filled = mask.astype(np.uint8)
    outlines, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled


def _pallors(absorbs: NDArray[np.uint8], green: NDArray[np.float32]) -> list[float]:
    """Return how much paler than its rim the middle of each whole, round, single cell is, as a share."""
    outlines, _ = cv2.findContours(absorbs, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    height, width = absorbs.shape
    found = []
    for outline in outlines:
        area = (cv2.contourArea(outline) + len(outline) / 2) * WORKING_UM_PER_PIXEL**2
        if not _CELL_UM2[0] <= area <= _CELL_UM2[1]:
            continue
        left, top, across, down = cv2.boundingRect(outline)
        if left == 0 or top == 0 or left + across == width or top + down == height:
            continue
        (x, y), radius = cv2.minEnclosingCircle(outline)
        if cv2.contourArea(outline) < _MIN_ROUNDNESS * np.pi * radius**2:
            continue
        rows, columns = np.ogrid[top : top + down, left : left + across]
        distance = np.hypot(columns - x, rows - y) / radius
        cell = green[top : top + down, left : left + across]
        ring = float(cell[(distance > 0.4) & (distance < 0.7)].mean())
        found.append(1 - float(cell[distance < 0.3].mean()) / max(ring, 1e-3))
    return found


def _smooth(density: NDArray[np.float32], most: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find where a field is covered and even in green over `_SMOOTH_UM`: (h, w) bool; not in a narrow one."""
    side = round(_SMOOTH_UM / WORKING_UM_PER_PIXEL) | 1
    green = density[..., 1]
    mean = cv2.blur(green, (side, side))
    spread = np.sqrt(cv2.max(cv2.blur(green * green, (side, side)) - mean * mean, 0.0))
    all_channels = cv2.max(cv2.blur(density, (side, side)).mean(axis=2), 0.05)
    if min(most.shape) < 2 * side:
        return np.zeros(most.shape, bool)
    even = spread < _MAX_UNEVEN * all_channels
    return even & (cv2.blur(most, (side, side)) > _ABSORBS)


def _red_before_blue(density: NDArray[np.float32], view: NDArray[np.bool_]) -> float:
    """See `Appearance`; changing red and blue changes its sign. 0 where there is too little to tell.

    So it is where no nucleus is in view: some stains' red cells are blue, and alone they say nothing.
    """
    if min(density.shape[:2]) * WORKING_UM_PER_PIXEL >= 1.5 * _SURROUNDINGS_UM:
        density = density - _surroundings(density)
    red, green, blue = cv2.split(density)
    total, difference = red + green + blue, red - blue
    absorbs = (density.max(axis=2) > 0.8 * _ABSORBS) & view
    if np.count_nonzero(absorbs) <= 50:
        return 0.0
    most = float(np.percentile(total[absorbs], 98))
    pale = absorbs & (total > 0.15 * most) & (total < 0.5 * most)
    dense = (total > 0.75 * most) & view
    if np.count_nonzero(pale) <= 20:
        return 0.0
    low, high = np.percentile(difference[view], (0.5, 99.5))
    pale_hue = difference[pale].sum() / total[pale].sum()
    dense_hue = difference[dense].sum() / total[dense].sum()
    if abs(dense_hue - pale_hue) < _MIN_TWO_HUES:
        return 0.0
    return float(np.dot(_HUE_WEIGHTS, (pale_hue, dense_hue, high + low)))


def _surroundings(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Density between the cells around each place: what an uneven lamp or plasma adds to all of them."""
    side = round(_SURROUNDINGS_UM / WORKING_UM_PER_PIXEL) | 1
    even = cv2.GaussianBlur(density, (5, 5), 0)
    lowest = cv2.erode(even, cv2.getStructuringElement(cv2.MORPH_RECT, (side, side)))
    return cv2.blur(lowest, (side, side))


def _ink(field: Field) -> float:
    """See `Appearance`. Every second pixel is plenty."""
    green = field.image[::2, ::2, 1]
    usual = float(np.median(green))
    return float(np.count_nonzero(green < usual / 2)) / green.size


def _large(mask: NDArray[np.bool_]) -> int:
    """Pixels of a mask, specks left out."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int(areas[areas * WORKING_UM_PER_PIXEL**2 >= _MIN_OBJECT_UM2].sum())
