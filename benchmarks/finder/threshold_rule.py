"""The baseline: a threshold on red optical density, by which leukocytes were once found.

It is kept as it was: what the finder's recall, false regions and speed are measured beside.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.finder.quadratic_light import DividedField, divide_by_light
from hematovision.finder import CellRegion
from hematovision.images import RGBImage

_BLUE_WEIGHT = 0.35
_THRESHOLD_SHARE = 0.45
_MIN_THRESHOLD, _MAX_THRESHOLD = 0.07, 0.16
_MIN_NUCLEUS_UM2 = 16.0
_MIN_CUT_NUCLEUS_UM2 = 5.0
_MIN_LOBE_UM2 = 2.0
_LOBE_GAP_UM = 2.4
_MAX_NUCLEUS_SIDE_UM = 16.0
_FOCUS_UM_PER_PIXEL = 0.15
_MIN_TRANSMITTANCE = 1e-3


def find_by_threshold(image: RGBImage, um_per_pixel: float) -> list[CellRegion]:
    """Find leukocytes in a frame, (height, width, 3) uint8 RGB, most prominent first.

    Raises:
        ImageError: the frame is black.
    """
    return find_nuclei(divide_by_light(image, um_per_pixel))


def find_nuclei(field: DividedField) -> list[CellRegion]:
    """Find the leukocytes of a divided field, most prominent first."""
    stain = _nuclear_stain(field)
    mask = _threshold(stain)
    mask[field.dark] = 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    px_um = field.um_per_pixel * (field.scale[0] + field.scale[1]) / 2
    area_um2 = stats[:, cv2.CC_STAT_AREA] * (px_um * px_um)
    parts = [part for part in range(1, count) if area_um2[part] >= _MIN_LOBE_UM2]
    edge = _edge(field)
    regions = []
    for lobes in _join_lobes(parts, labels, stats, px_um):
        if sum(area_um2[lobe] for lobe in lobes) < _MIN_CUT_NUCLEUS_UM2:
            continue
        region = _region(field, stain, labels, stats, edge, lobes, px_um)
        if region.nucleus_area_um2 >= (_MIN_CUT_NUCLEUS_UM2 if region.touches_border else _MIN_NUCLEUS_UM2):
            regions.append(region)
    return sorted(regions, key=lambda region: region.score, reverse=True)


def _nuclear_stain(field: DividedField) -> NDArray[np.float32]:
    red, blue = (_optical_density(cv2.extractChannel(field.transmittance, channel)) for channel in (0, 2))
    stain = cv2.addWeighted(red, 1.0, blue, -_BLUE_WEIGHT, 0.0)
    return cv2.GaussianBlur(stain, (3, 3), 0)


def _optical_density(transmittance: NDArray[np.float32]) -> NDArray[np.float32]:
    density = cv2.log(cv2.max(transmittance, _MIN_TRANSMITTANCE)) * np.float32(-1 / math.log(10))
    return cv2.max(density, 0.0)


def _threshold(stain: NDArray[np.float32]) -> NDArray[np.uint8]:
    # The densest 0.3 % of a field, about 7 µm² of an 80x60 µm one.
    densest = float(np.percentile(stain[::2, ::2], 99.7))
    limit = min(max(_THRESHOLD_SHARE * densest, _MIN_THRESHOLD), _MAX_THRESHOLD)
    return (stain > limit).astype(np.uint8)


def _edge(field: DividedField) -> NDArray[np.bool_]:
    """Return where a nucleus counts as cut: the outermost pixels, and those beside black fill."""
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
    for first, second in np.argwhere(np.triu(_box_gaps(boxes) * px_um <= _LOBE_GAP_UM, 1)).tolist():
        for part in {first, second} - outlines.keys():
            outlines[part] = _outline(labels, stats, parts[part])
        gap = _outline_gap(outlines[first], outlines[second]) * px_um
        if gap <= _LOBE_GAP_UM:
            gaps.append((gap, first, second))
    group_of = list(range(len(parts)))
    for _, first, second in sorted(gaps):
        one, other = group_of[first], group_of[second]
        if one == other:
            continue
        joint = _union(boxes[one], boxes[other])
        if max(joint[2] - joint[0], joint[3] - joint[1]) * px_um > _MAX_NUCLEUS_SIDE_UM:
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
    """Return how far apart each pair of boxes is, in x or y as is farther: (n, n), 0 where they meet."""
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
    field: DividedField,
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


def _focus(field: DividedField, box: tuple[float, float, float, float]) -> float:
    """Variance of the Laplacian over the squared mean, of green, at one scale whatever the camera's."""
    x, y, width, height = (round(value) for value in box)
    green = field.image[max(y, 0) : y + max(height, 2), max(x, 0) : x + max(width, 2), 1]
    shrink = field.um_per_pixel / _FOCUS_UM_PER_PIXEL
    size = max(3, round(green.shape[1] * shrink)), max(3, round(green.shape[0] * shrink))
    green = cv2.resize(green, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR)
    mean = max(cv2.mean(green)[0], 1.0)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(green, cv2.CV_32F))  # several times NumPy's speed
    return float(deviation[0, 0] / mean) ** 2
