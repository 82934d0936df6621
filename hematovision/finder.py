"""Finding leukocytes by their nuclei, which absorb red light where red cells and plasma hardly do.

Threshold the red optical density, corrected for what red cells absorb; join the lobes of one nucleus; drop
platelets by area.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.optics import Field, optical_density

#: Blue optical density is subtracted with this weight: haemoglobin absorbs blue, chromatin hardly does, so
#: stacked red cells stay below the threshold and nuclei do not.
BLUE_WEIGHT = 0.35
#: A nucleus is denser than this share of the densest stain in the field, within the two limits below.
THRESHOLD_SHARE = 0.45
MIN_THRESHOLD = 0.07
MAX_THRESHOLD = 0.16
#: Smallest nucleus of a whole leukocyte, and of one cut by the border; platelets are 2 to 8 µm².
MIN_NUCLEUS_UM2 = 16.0
MIN_CUT_NUCLEUS_UM2 = 5.0
#: Parts this far apart or closer are lobes of one nucleus, unless the whole would be wider than any nucleus.
LOBE_GAP_UM = 2.4
MAX_NUCLEUS_SIDE_UM = 16.0

_MIN_LOBE_UM2 = 2.0
_FOCUS_UM_PER_PIXEL = 0.15


@dataclass(frozen=True)
class CellRegion:
    """A leukocyte found in a frame, by its nucleus.

    ``center`` (x, y) and ``box`` (x, y, width, height) of the nucleus in pixels of the frame; ``score``: the
    nucleus's red optical density integrated over its area, in µm²: what stands out most has the highest;
    ``focus``: relative contrast at the finest scale, higher is sharper, 0 is featureless; ``touches_border``:
    the nucleus is cut by the frame (or by the black fill of a rotated copy).
    """

    center: tuple[float, float]
    box: tuple[float, float, float, float]
    nucleus_area_um2: float
    score: float
    focus: float
    touches_border: bool


def find_cells(field: Field) -> list[CellRegion]:
    """Find the leukocytes of a field, most prominent first.

    Raises nothing: a field without a leukocyte gives an empty list.
    """
    stain = nuclear_stain(field)
    mask = _threshold(stain)
    mask[field.dark] = 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    px_um = _working_um(field)
    area_um2 = stats[:, cv2.CC_STAT_AREA] * (px_um * px_um)
    parts = [part for part in range(1, count) if area_um2[part] >= _MIN_LOBE_UM2]
    edge = _edge(field)
    regions = []
    for lobes in _join_lobes(parts, labels, stats, px_um):
        if sum(area_um2[lobe] for lobe in lobes) < MIN_CUT_NUCLEUS_UM2:
            continue
        region = _region(field, stain, labels, stats, edge, lobes, px_um)
        if region.nucleus_area_um2 >= (MIN_CUT_NUCLEUS_UM2 if region.touches_border else MIN_NUCLEUS_UM2):
            regions.append(region)
    return sorted(regions, key=lambda region: region.score, reverse=True)


def most_prominent(regions: list[CellRegion], field: Field) -> CellRegion | None:
    """The cell that a single-cell image is of: the highest score, halved towards the corners.

    Of two like cells the one in the middle is meant. A nucleus cut by the border is weighed by the part in
    view like any other: a large dense one can win over a small whole one.
    """
    height, width = field.image.shape[:2]

    def prominence(region: CellRegion) -> float:
        x, y = region.center[0] / width - 0.5, region.center[1] / height - 0.5
        return region.score * (1 - min(math.hypot(x, y), 0.5))

    return max(regions, key=prominence, default=None)


def find_single(field: Field, crop_um: float) -> tuple[CellRegion, bool]:
    """The cell that a single-cell image is of, and whether it was found.

    Where no nucleus is seen it is the middle of the image, as wide as a crop of ``crop_um`` micrometres.
    """
    region = most_prominent(find_cells(field), field)
    if region is not None:
        return region, True
    height, width = field.image.shape[:2]
    side = min(crop_um / field.um_per_pixel, width, height)
    middle = CellRegion(
        center=((width - 1) / 2, (height - 1) / 2),
        box=((width - side) / 2, (height - side) / 2, side, side),
        nucleus_area_um2=0.0,
        score=0.0,
        focus=0.0,
        touches_border=False,
    )
    return middle, False


def nuclear_stain(field: Field) -> NDArray[np.float32]:
    """Red optical density less a share of the blue, at working scale: (h, w) float32; nuclei stand out."""
    red, blue = (optical_density(cv2.extractChannel(field.transmittance, channel)) for channel in (0, 2))
    stain = cv2.addWeighted(red, 1.0, blue, -BLUE_WEIGHT, 0.0)
    return cv2.GaussianBlur(stain, (3, 3), 0)


def _working_um(field: Field) -> float:
    return field.um_per_pixel * (field.scale[0] + field.scale[1]) / 2


def _threshold(stain: NDArray[np.float32]) -> NDArray[np.uint8]:
    # The densest 0.3 % of a field, about 7 µm² of an 80x60 µm one.
    densest = float(np.percentile(stain[::2, ::2], 99.7))
    limit = min(max(THRESHOLD_SHARE * densest, MIN_THRESHOLD), MAX_THRESHOLD)
    return (stain > limit).astype(np.uint8)


def _edge(field: Field) -> NDArray[np.bool_]:
    """Where a nucleus counts as cut: the outermost pixels, and those beside black fill."""
    edge = cv2.dilate(field.dark.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    edge[[0, -1], :] = True
    edge[:, [0, -1]] = True
    return edge


def _join_lobes(
    parts: list[int], labels: NDArray[np.int32], stats: NDArray[np.int32], px_um: float
) -> list[list[int]]:
    """Group the parts of each nucleus: nearest pairs first, while the whole is no wider than a nucleus."""
    groups = [[part] for part in parts]
    boxes = [_box(stats, part) for part in parts]
    outlines: dict[int, NDArray[np.float32]] = {}
    gaps = []
    for first, second in np.argwhere(np.triu(_box_gaps(boxes) * px_um <= LOBE_GAP_UM, 1)).tolist():
        for part in {first, second} - outlines.keys():
            outlines[part] = _outline(labels, stats, parts[part])
        gap = _outline_gap(outlines[first], outlines[second]) * px_um
        if gap <= LOBE_GAP_UM:
            gaps.append((gap, first, second))
    group_of = list(range(len(parts)))
    for _, first, second in sorted(gaps):
        one, other = group_of[first], group_of[second]
        if one == other:
            continue
        joint = _union(boxes[one], boxes[other])
        if max(joint[2] - joint[0], joint[3] - joint[1]) * px_um > MAX_NUCLEUS_SIDE_UM:
            continue
        groups[one] += groups[other]
        boxes[one] = joint
        groups[other] = []
        group_of = [one if group == other else group for group in group_of]
    return [group for group in groups if group]


def _box(stats: NDArray[np.int32], part: int) -> tuple[int, int, int, int]:
    left, top = int(stats[part, cv2.CC_STAT_LEFT]), int(stats[part, cv2.CC_STAT_TOP])
    return (
        left,
        top,
        left + int(stats[part, cv2.CC_STAT_WIDTH]),
        top + int(stats[part, cv2.CC_STAT_HEIGHT]),
    )


def _union(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _box_gaps(boxes: list[tuple[int, int, int, int]]) -> NDArray[np.int64]:
    """How far apart each pair of boxes is in x or y, whichever is farther: (n, n), 0 where they meet."""
    left, top, right, bottom = np.array(boxes, np.int64).reshape(-1, 4).T
    x, y = left[:, None] - right[None, :], top[:, None] - bottom[None, :]
    return np.maximum.reduce([x, x.T, y, y.T, np.zeros_like(x)])


def _outline(labels: NDArray[np.int32], stats: NDArray[np.int32], part: int) -> NDArray[np.float32]:
    left, top, right, bottom = _box(stats, part)
    patch = (labels[top:bottom, left:right] == part).astype(np.uint8)
    contours, _ = cv2.findContours(patch, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left, top))
    return np.concatenate(contours)[:, 0, :].astype(np.float32)


def _outline_gap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    # |a - b|² = |a|² + |b|² - 2 ab: one product of matrices instead of all the differences.
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)
    return math.sqrt(max(float(squared.min()), 0.0))


def _region(
    field: Field,
    stain: NDArray[np.float32],
    labels: NDArray[np.int32],
    stats: NDArray[np.int32],
    edge: NDArray[np.bool_],
    lobes: list[int],
    px_um: float,
) -> CellRegion:
    left, top, right, bottom = _box(stats, lobes[0])
    for lobe in lobes[1:]:
        left, top, right, bottom = _union((left, top, right, bottom), _box(stats, lobe))
    window = np.s_[top:bottom, left:right]
    patch = labels[window]
    nucleus = patch == lobes[0]
    for lobe in lobes[1:]:
        nucleus |= patch == lobe
    ys, xs = np.nonzero(nucleus)
    scale_x, scale_y = field.scale
    box = (left * scale_x, top * scale_y, (right - left) * scale_x, (bottom - top) * scale_y)
    return CellRegion(
        # Pixel centres: the middle of working pixel 0 lies half its width into the frame.
        center=(
            (float(xs.mean()) + left + 0.5) * scale_x - 0.5,
            (float(ys.mean()) + top + 0.5) * scale_y - 0.5,
        ),
        box=box,
        nucleus_area_um2=len(xs) * px_um * px_um,
        score=float(stain[window][nucleus].sum()) * px_um * px_um,
        focus=_focus(field, box),
        touches_border=bool((nucleus & edge[window]).any()),
    )


def _focus(field: Field, box: tuple[float, float, float, float]) -> float:
    """Variance of the Laplacian over the squared mean, of green, at one scale whatever the camera's."""
    x, y, width, height = (round(value) for value in box)
    green = field.image[max(y, 0) : y + max(height, 2), max(x, 0) : x + max(width, 2), 1]
    shrink = field.um_per_pixel / _FOCUS_UM_PER_PIXEL
    size = max(3, round(green.shape[1] * shrink)), max(3, round(green.shape[0] * shrink))
    green = cv2.resize(green, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR)
    mean = max(cv2.mean(green)[0], 1.0)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(green, cv2.CV_32F))  # several times NumPy's speed
    return float(deviation[0, 0] / mean) ** 2
