"""Whether two images show the same piece of a slide, and how one lies on the other: features, then pixels.

Local features (SIFT, Lowe 2004; square-rooted, Arandjelović and Zisserman 2012) do not change when an image
is rotated, shifted, resized or lit otherwise, and a mirrored image's follow from them by a permutation. They
propose an affine map; the correlation of the pixels under it decides.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.images import RGBImage
from hematovision.optics import NO_LIGHT

#: Images are compared at this many pixels, whatever their own size: a red cell is 25 to 40 pixels wide.
WORKING_AREA_PX = 200 * 200
#: The strongest features of an image; every image has its own scale of contrast.
FEATURES = 200
#: Dimensions that descriptors are reduced to: 95 % of their energy.
DIMENSIONS = 32
#: Features that have to agree on a map. Chance gives 6.
MIN_INLIERS = 8
#: Correlation of the detail under the map. Copies and second photographs have over 0.85, chance under 0.5.
MIN_CORRELATION = 0.7
#: Share of the smaller image that the two have in common.
MIN_OVERLAP = 0.1

_CONTRAST_THRESHOLD = 0.01
_EDGE_THRESHOLD = 15
_RATIO = 0.82  # nearest over second nearest descriptor, Lowe's test
_INLIER_PX = 2.0
_MAX_STRETCH = 2.5  # of one axis against the other
_MAX_ZOOM = 4.0
_FILL_MARGIN_PX = 4
_DETAIL_PX = 8.0
_NOISE_PX = 1.0
_CLIPPED = 5  # of 255, from either end: JPEG makes clipped pixels vary

# A descriptor is 4 x 4 cells of 8 directions. Mirrored across the feature's own axis, the rows swap and the
# directions run the other way.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True)
class Picture:
    """An image as it is compared.

    ``green``: (h, w) uint8 at working size. ``lit``: (h, w) uint8, 1 where there is image, 0 in black fill.
    ``scale``: pixels of the image for one of ``green``, in x and in y. Features: ``points`` (n, 2) float32
    (x, y) in ``green``, ``angles`` (n,) uint8 in 1/256 turns, ``descriptors`` (n, 128) uint8.
    """

    green: NDArray[np.uint8]
    lit: NDArray[np.uint8]
    scale: tuple[float, float]
    points: NDArray[np.float32]
    angles: NDArray[np.uint8]
    descriptors: NDArray[np.uint8]


@dataclass(frozen=True)
class Registration:
    """How a second image lies on a first.

    ``transform``: (2, 3) float64, pixels (x, y) of the second to pixels of the first, each at full size.
    ``correlation``: of the detail that both show, up to 1. ``overlap``: share of the smaller image.
    """

    transform: NDArray[np.float64]
    correlation: float
    overlap: float


def picture_of(image: RGBImage) -> Picture:
    """Reduce an image, (height, width, 3) uint8 RGB, to what is compared."""
    height, width = image.shape[:2]
    shrink = (WORKING_AREA_PX / (height * width)) ** 0.5
    size = max(8, round(width * shrink)), max(8, round(height * shrink))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_CUBIC)
    brightest_channel = small.max(axis=2)
    lit = (brightest_channel > NO_LIGHT * np.percentile(brightest_channel, 95)).astype(np.uint8)
    margin = np.ones((2 * _FILL_MARGIN_PX + 1,) * 2, np.uint8)
    # Haemoglobin and chromatin both absorb green.
    green = cv2.extractChannel(small, 1)
    sift = cv2.SIFT.create(
        FEATURES,
        contrastThreshold=_CONTRAST_THRESHOLD,
        edgeThreshold=_EDGE_THRESHOLD,
        # Without it every point lies a quarter of a pixel off, and twice that in a mirror image.
        enable_precise_upscale=True,
    )
    keypoints, descriptors = sift.detectAndCompute(green, cv2.erode(lit, margin, borderValue=1))
    if descriptors is None:
        descriptors = np.zeros((0, 128), np.float32)
    return Picture(
        green,
        lit,
        (width / size[0], height / size[1]),
        np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2),
        np.array([keypoint.angle * (256 / 360) % 256 for keypoint in keypoints]).astype(np.uint8),
        descriptors.astype(np.uint8),
    )


def square_rooted(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptors (n, 128) of length 1, so that a few strong gradients do not decide: float32."""
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True, dtype=np.float32), 1.0)
    return np.sqrt(shares, dtype=np.float32)


def mirrored(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `descriptors`, (n, 128), would be in the mirrored image."""
    return descriptors[:, _MIRROR]


def register(
    first: Picture,
    second: Picture,
    first_descriptors: NDArray[np.float32],
    second_descriptors: NDArray[np.float32],
) -> Registration | None:
    """Lay the second picture on the first.

    Args:
        first: the picture that stays.
        second: the picture that is moved.
        first_descriptors: (n, d), of the first's points, reduced or not.
        second_descriptors: (m, d), of the second's points; mirrored, if a mirror image is looked for.

    Returns:
        Where it lies; None when they do not show the same.
    """
    ours, theirs = _matches(first_descriptors, second_descriptors)
    if len(ours) < MIN_INLIERS:
        return None
    matrix, inliers = cv2.estimateAffine2D(
        second.points[theirs],
        first.points[ours],
        method=cv2.RANSAC,
        ransacReprojThreshold=_INLIER_PX,
        maxIters=1000,
        confidence=0.995,
    )
    if matrix is None or int(inliers.sum()) < MIN_INLIERS:
        return None
    longest, shortest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if longest > _MAX_STRETCH * shortest or longest > _MAX_ZOOM or shortest < 1 / _MAX_ZOOM:
        return None
    correlation, overlap = _compare(first, second, matrix)
    if correlation < MIN_CORRELATION or overlap < MIN_OVERLAP:
        return None
    return Registration(_at_full_size(matrix, first.scale, second.scale), correlation, overlap)


def _matches(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of descriptors that are each other's nearest, and clearly nearer than the next."""
    none = np.zeros(0, np.intp)
    if len(first) < 2 or len(second) < 2:
        return none, none
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * (first @ second.T)
    ours = np.arange(len(first))
    nearest = squared.argmin(axis=1)
    distance = squared[ours, nearest]
    mutual = squared.argmin(axis=0)[nearest] == ours
    squared[ours, nearest] = np.inf
    clear = mutual & (distance < _RATIO**2 * squared.min(axis=1))
    return ours[clear], nearest[clear]


def _compare(first: Picture, second: Picture, matrix: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of the detail that both show under the map, and the share of the smaller that it covers."""
    height, width = first.green.shape
    moved = cv2.warpAffine(second.green, matrix, (width, height), flags=cv2.INTER_LINEAR)
    lit = cv2.warpAffine(second.lit, matrix, (width, height), flags=cv2.INTER_NEAREST)
    common = first.lit & lit
    smaller = min(float(first.lit.sum()), float(second.lit.sum()) * abs(np.linalg.det(matrix[:, :2])))
    # Where a brightened or darkened copy is clipped it has no detail to compare.
    shown = cv2.erode(common, np.ones((5, 5), np.uint8)) & _unclipped(first.green) & _unclipped(moved)
    ours, theirs = (_detail(green, shown.astype(np.float32)) for green in (first.green, moved))
    energy = float((ours**2).sum() * (theirs**2).sum()) ** 0.5
    correlation = float((ours * theirs).sum()) / energy if energy > 0 else 0.0
    return correlation, min(float(common.sum()) / max(smaller, 1.0), 1.0)


def _unclipped(green: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.inRange(green, _CLIPPED, 255 - _CLIPPED) & 1


def _detail(green: NDArray[np.uint8], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is finer than a nucleus and coarser than noise; lamp and vignetting drop out."""
    inside = green * mask
    weight = cv2.GaussianBlur(mask, (0, 0), _DETAIL_PX)
    coarse = cv2.GaussianBlur(inside, (0, 0), _DETAIL_PX) / np.maximum(weight, 1e-3)
    return (cv2.GaussianBlur(inside, (0, 0), _NOISE_PX) - coarse) * mask


def _at_full_size(
    matrix: NDArray[np.float64], first: tuple[float, float], second: tuple[float, float]
) -> NDArray[np.float64]:
    return (_enlarge(first) @ np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(_enlarge(second)))[:2]


def _enlarge(scale: tuple[float, float]) -> NDArray[np.float64]:
    x, y = scale
    # The middle of the first pixel is (0, 0), of whatever size the pixels are.
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
