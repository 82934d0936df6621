"""Measuring the nucleus of a found cell against what lies around it, whatever the stain.

No colour is the nucleus's in every laboratory: chromatin is blue, violet, magenta or grey. So the direction
in which the middle of this cell differs from its own surroundings, and these least among themselves, is
taken (Fisher's linear discriminant): along it red cells, glass and plasma are alike and the nucleus stands
out. What is more than half way to it is nucleus; its lobes are joined.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.optics import MAX_OPTICAL_DENSITY, Field

#: No nucleus is larger: that of a large blast or monocyte is about 200 µm².
MAX_NUCLEUS_UM2 = 320.0
#: The whole nucleus of no leukocyte or erythroblast is smaller: of 415 whole cells of six laboratories the
#: smallest measured 23 µm²; platelets are 2 to 8.
MIN_NUCLEUS_UM2 = 16.0
#: Parts this far apart or closer are lobes of one nucleus, unless the whole would be wider than any nucleus.
LOBE_GAP_UM = 2.4
MAX_NUCLEUS_SIDE_UM = 18.0

_REACH_UM = 12.0  # of the window that is looked at, to either side of the cell's centre
_CORE_UM = 3.0  # within this radius lies nucleus, of any lymphocyte and of most granulocytes' lobes
_AROUND_FROM_UM = 8.0  # beyond this radius lies what is beside a cell, and hardly any nucleus
_DENSEST_UM = 5.0  # within this radius, the densest pixels stand for chromatin
_FEWEST_PX = 4
_HALF_WAY = 0.5
_SEED_UM = 6.0  # a nucleus has a part as near to the cell's centre as this
_MIN_LOBE_UM2 = 2.0
_NOISE = 1e-3 * np.eye(3, dtype=np.float32)  # of optical density, squared: no direction counts as certain
_MIN_PART = 0.15
_TWO_THINGS, _MUCH_PALER = 0.75, 0.3
_LEVELS = 100.0  # of 255, for an optical density of 1


@dataclass(frozen=True)
class Nucleus:
    """A nucleus in pixels of the working image.

    ``center``: (x, y) of its centroid, the middle of the first pixel being 0. ``box``: (left, top, right,
    bottom), the last two exclusive. ``cut``: it reaches the border of the image, or where there is none.
    """

    center: tuple[float, float]
    box: tuple[int, int, int, int]
    area_um2: float
    cut: bool


def measure_nucleus(
    field: Field, center: tuple[float, float], cells: Sequence[tuple[float, float]] = ()
) -> Nucleus | None:
    """Outline the nucleus of the cell at ``center``, (x, y) in pixels of the working image.

    Args:
        field: what the cell is in.
        center: the middle of the cell, as the finder gives it.
        cells: centres of all cells, this one's among them or not: what is nearer to another is another's.

    Returns:
        The nucleus; None where nothing near the centre stands out from what is around it.
    """
    px_um = field.um_per_pixel * (field.scale[0] + field.scale[1]) / 2
    distances = _distances(round(px_um, 4))
    height, width = field.dark.shape
    x, y = min(max(round(center[0]), 0), width - 1), min(max(round(center[1]), 0), height - 1)
    reach = distances.shape[0] // 2
    left, top = max(x - reach, 0), max(y - reach, 0)
    window = np.s_[top : min(y + reach + 1, height), left : min(x + reach + 1, width)]
    dark = field.dark[window]
    away = distances[top - y + reach :, left - x + reach :][: dark.shape[0], : dark.shape[1]]
    own = (away < _REACH_UM) & ~dark
    for other in cells:
        if math.dist(other, center) * px_um < 2 * _REACH_UM:
            own &= _is_nearer(
                own.shape, (center[0] - left, center[1] - top), (other[0] - left, other[1] - top)
            )
    density = _density(field.transmittance[window])
    mask = _nuclear(density, away, own)
    if mask is None:
        return None
    nucleus = _joined_lobes(mask, away, px_um)
    if nucleus is None:
        return None
    nucleus = _densest_part(nucleus, density[..., 0])
    rows, columns = np.nonzero(nucleus)
    box = (
        left + int(columns.min()),
        top + int(rows.min()),
        left + int(columns.max()) + 1,
        top + int(rows.max()) + 1,
    )
    cut = box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height
    if not cut and dark.any():
        # Beside black fill the smoothing takes the outermost pixels of a nucleus.
        cut = bool((cv2.dilate(nucleus.view(np.uint8), np.ones((5, 5), np.uint8)) > 0)[dark].any())
    return Nucleus(
        (left + float(columns.mean()), top + float(rows.mean())), box, len(rows) * px_um * px_um, cut
    )


@functools.lru_cache(maxsize=8)
def _distances(px_um: float) -> NDArray[np.float32]:
    """Distance in µm of each pixel of a whole window from its middle: (side, side) float32."""
    reach = round(_REACH_UM / px_um)
    steps = np.arange(-reach, reach + 1, dtype=np.float32) * np.float32(px_um)
    return np.sqrt(steps[:, None] ** 2 + steps[None, :] ** 2)


def _is_nearer(
    shape: tuple[int, ...], to: tuple[float, float], than: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return which pixels of a window lie nearer to one place, (x, y), than to another: those on its side."""
    across, down = than[0] - to[0], than[1] - to[1]
    middle = ((than[0] + to[0]) * across + (than[1] + to[1]) * down) / 2
    return (np.arange(shape[1]) * across)[None, :] + (np.arange(shape[0]) * down)[:, None] <= middle


def _density(transmittance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density of each channel, a little smoothed: (h, w, 3) float32."""
    logs = cv2.log(cv2.max(cv2.blur(transmittance, (3, 3)), 10**-MAX_OPTICAL_DENSITY))
    return logs * np.float32(-1 / math.log(10))


def _nuclear(
    density: NDArray[np.float32], away: NDArray[np.float32], own: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Return which pixels are more than half as nuclear as the cell's densest part; None if all is alike."""
    core = density[(away <= _CORE_UM) & own]
    around = density[(away >= _AROUND_FROM_UM) & own]
    if len(core) < _FEWEST_PX or len(around) < _FEWEST_PX:
        return None
    # OpenCV's sums and products are several times NumPy's speed on so little.
    beside, middle = (cv2.reduce(pixels, 0, cv2.REDUCE_AVG)[0] for pixels in (around, core))
    spread = cv2.mulTransposed(around, aTa=True, delta=beside[None], scale=1 / len(around))
    spread += cv2.mulTransposed(core, aTa=True, delta=middle[None], scale=1 / (2 * len(core))) + _NOISE
    direction = np.linalg.solve(spread, middle - beside)
    # The last number is added: what is beside the cell has 0.
    stain = cv2.transform(density, np.append(direction, -np.dot(direction, beside))[None])
    densest = np.partition(stain[(away <= _DENSEST_UM) & own], -len(core) // 4)[-len(core) // 4]
    if densest <= 0:
        return None
    return (stain > _HALF_WAY * densest) & own


def _joined_lobes(
    mask: NDArray[np.bool_], away: NDArray[np.float32], px_um: float
) -> NDArray[np.bool_] | None:
    """Return the largest part near the centre and the lobes that belong to it; None without such a part."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA] * (px_um * px_um)
    near = set(np.unique(labels[away <= _SEED_UM]).tolist()) - {0}
    seeds = [part for part in near if areas[part] >= _MIN_LOBE_UM2]
    if not seeds:
        return None
    seed = max(seeds, key=lambda part: areas[part])
    nucleus = labels == seed
    waiting = {part for part in range(1, count) if areas[part] >= _MIN_LOBE_UM2} - {seed}
    while waiting:
        apart = cv2.distanceTransform(1 - nucleus.view(np.uint8), cv2.DIST_L2, 3) * np.float32(px_um)
        gaps = {part: float(apart[labels == part].min()) for part in waiting}
        nearest = min(gaps, key=lambda part: gaps[part])
        if gaps[nearest] > LOBE_GAP_UM:
            break
        waiting.remove(nearest)
        joint = nucleus | (labels == nearest)
        if max(np.ptp(places) for places in np.nonzero(joint)) * px_um <= MAX_NUCLEUS_SIDE_UM:
            nucleus = joint
    return nucleus


def _densest_part(nucleus: NDArray[np.bool_], red: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the part that absorbs red, where it is two things: granules are dense, but let red through."""
    levels = cv2.convertScaleAbs(red, alpha=_LEVELS)
    # Its edge, half as dense by the blur, is no other thing.
    inside = cv2.erode(nucleus.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    values = levels[inside][:, None]  # a column: what OpenCV makes of one axis differs between its versions
    if len(values) < _FEWEST_PX:
        return nucleus
    limit, upper = cv2.threshold(values, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    share = cv2.mean(upper)[0]
    if not _MIN_PART < share < 1 - _MIN_PART:
        return nucleus
    # The share of the variance that lies between the two: 0.64 of one normal distribution cut in its middle.
    dense, pale = cv2.mean(values, upper)[0], cv2.mean(values, 1 - upper)[0]
    apart = dense - pale
    if (
        apart < _MUCH_PALER * dense
        or share * (1 - share) * apart**2 < _TWO_THINGS * cv2.meanStdDev(values)[1][0, 0] ** 2
    ):
        return nucleus
    return nucleus & (levels > limit)
