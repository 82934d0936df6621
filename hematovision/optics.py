"""Dividing a field by its own light, so that a pixel is transmittance: the light that the smear lets through.

White balance, the lamp's colour and vignetting drop out; what remains is stain. The negative decimal
logarithm of transmittance is optical density, proportional to the amount of stain (Beer and Lambert).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.blank_field import EVEN_LEVEL, BlankField
from hematovision.errors import ImageError, SettingError
from hematovision.heat_map import FINDER_UM_PER_PIXEL
from hematovision.images import RGBImage
from hematovision.light import Light, measure_light, quadratic_terms

#: Scale at which a field's light is measured: the finder's, so that a frame is shrunk once.
WORKING_UM_PER_PIXEL = FINDER_UM_PER_PIXEL
#: Nothing on a smear absorbs this much in every channel at once: darker is the fill of a rotated copy.
NO_LIGHT = 0.08
#: Optical density is cut off here: one part in a thousand of the light is below what a camera resolves.
MAX_OPTICAL_DENSITY = 3.0

#: A field is enlarged to working scale only up to this size: a 12-megapixel camera's at 0.5 µm per pixel.
MAX_ENLARGED_PIXELS = 20_000_000

# A camera's own small picture may be coarser than working scale by this, and of another shape by that.
_MIN_SMALL_SHARE = 0.8
_SAME_SHAPE = 0.03
_LITTLE = 1.3
_DRIFT_GRID = 9


@dataclass(frozen=True)
class LampDrift:
    """How the light differs from the blank field's, as shares: 0.1 is ten per cent.

    ``brightness``: of all channels together, positive where brighter. ``colour``: red, green and blue beside
    that. ``unevenness``: the most that any place of the field differs from the mean of its channel.
    """

    brightness: float
    colour: tuple[float, float, float]
    unevenness: float


@dataclass(frozen=True)
class Field:
    """A frame with its light measured: what `finder` and `crops` work on.

    ``image``: (height, width, 3) uint8 RGB as the camera gave it. ``small``: the same at
    `WORKING_UM_PER_PIXEL`, (h, w, 3) uint8, divided by ``blank`` where there is one. ``transmittance``: of
    ``small``, (h, w, 3) float32, 0 to about 1, and 1 where there is no image. ``dark``: (h, w) bool, where
    there is no image (the black fill of a rotated copy). ``scale``: pixels of ``image`` for one of ``small``,
    in x and in y. ``blank``: the empty field that the frame is divided by; ``light`` is then that of the
    divided frame: `blank_field.EVEN_LEVEL` throughout while the lamp is as it was.
    """

    image: RGBImage
    small: RGBImage
    um_per_pixel: float
    light: Light
    transmittance: NDArray[np.float32]
    dark: NDArray[np.bool_]
    scale: tuple[float, float]
    blank: BlankField | None = None


def check_um_per_pixel(um_per_pixel: float) -> float:
    """Return a usable scale, or raise `SettingError`: 0.02 to 2 µm per pixel holds every microscope's."""
    if not 0.02 <= um_per_pixel <= 2.0:  # also refuses not-a-number
        raise SettingError(
            f"µm per pixel is {um_per_pixel:g}; it must lie between 0.02 and 2 "
            "(measure it with: hematovision calibrate IMAGE...)"
        )
    return float(um_per_pixel)


def measure_field(
    image: RGBImage,
    um_per_pixel: float,
    blank: BlankField | None = None,
    small: RGBImage | None = None,
) -> Field:
    """Measure the light of a frame and its transmittance at working scale.

    Args:
        image: (height, width, 3) uint8 RGB.
        um_per_pixel: the frame's scale.
        blank: the empty field's light, recorded with the same camera and lamp; the frame is divided by it
            first. What the lamp and the exposure have changed since is measured on the frame's glass, as the
            whole light is without a blank field, and removed too.
        small: the camera's own small picture of the same exposure and the same field of view, (h, w, 3) uint8
            RGB; it spares shrinking ``image``. At least about as large as `WORKING_UM_PER_PIXEL` asks for.

    Raises:
        ImageError: the frame or the small picture has another shape or type, the frame is black, or would be
            enlarged beyond `MAX_ENLARGED_PIXELS`; the small picture is too small or shows another field.
        SettingError: the scale is no scale, or the blank field is of another size than the frame.
    """
    check_um_per_pixel(um_per_pixel)
    _check_picture(image, "a frame")
    height, width = image.shape[:2]
    if blank is not None:
        blank.check_size(width, height)
    shrink = um_per_pixel / WORKING_UM_PER_PIXEL
    size = max(8, round(width * shrink)), max(8, round(height * shrink))
    if shrink > 1 and size[0] * size[1] > MAX_ENLARGED_PIXELS:
        raise ImageError(
            f"{width}x{height} pixels at {um_per_pixel:g} µm per pixel would show "
            f"{width * um_per_pixel / 1000:.1f} mm of the slide; check the scale (hematovision calibrate "
            "measures it)"
        )
    small = _shrunk(image, size) if small is None else _at_working_size(small, size, (width, height))
    dark = _without_light(small)
    even = small if blank is None else blank.divide_small(small)
    light = measure_light(even, dark, um_per_pixel * width / size[0], small)
    transmittance = np.divide(even, light.over(*size), dtype=np.float32)
    if dark.any():
        transmittance[dark] = 1.0
    if blank is not None:
        small = cv2.convertScaleAbs(even)  # what is sought in it is then without the lamp and its dust, too
    scale = width / size[0], height / size[1]
    return Field(image, small, um_per_pixel, light, transmittance, dark, scale, blank)


def lamp_drift(lights: Sequence[Light]) -> LampDrift:
    """How far the lamp has drifted from the blank field that these fields were divided by.

    Args:
        lights: of one field or several; the median over them is taken, as cells mislead a single one.
    """
    typical = np.median([light.over(_DRIFT_GRID, _DRIFT_GRID) for light in lights], axis=0)
    # A lamp drifts smoothly; what is not smooth is what cells have left.
    logs = np.log(typical / np.float32(EVEN_LEVEL)).reshape(-1, 3)
    terms = quadratic_terms(_DRIFT_GRID, _DRIFT_GRID)
    ratio = np.exp(terms @ np.linalg.lstsq(terms, logs, rcond=None)[0]).reshape(typical.shape)
    channels = ratio.mean(axis=(0, 1))
    brightness = float(np.exp(np.log(channels).mean()))
    red, green, blue = (channels / brightness - 1).tolist()
    return LampDrift(brightness - 1, (red, green, blue), float(np.abs(ratio / channels - 1).max()))


def optical_density(transmittance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density, -log10 of transmittance (2-D), from 0 to `MAX_OPTICAL_DENSITY`."""
    # OpenCV's logarithm and limits are several times NumPy's speed.
    density = cv2.log(cv2.max(transmittance, 10**-MAX_OPTICAL_DENSITY)) * np.float32(-1 / math.log(10))
    return cv2.max(density, 0.0)


def _check_picture(image: RGBImage, name: str) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(
            f"{name} must be (height, width, 3) uint8 RGB, this one is {image.shape} {image.dtype}"
        )


def _shrunk(image: RGBImage, size: tuple[int, int]) -> RGBImage:
    """A frame at working scale, (width, height); averaging, where it shrinks, takes the noise out too."""
    height, width = image.shape[:2]
    if size[0] > width:
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    # The same means, but for rounding: OpenCV is several times faster at halving than at any other share.
    while width % 2 == height % 2 == 0 and width >= 2 * size[0]:
        width, height = width // 2, height // 2
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    # Where little is left to shrink, hardly a pixel falls between two: the mean would only take longer.
    little = width <= _LITTLE * size[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if little else cv2.INTER_AREA)


def _at_working_size(small: RGBImage, size: tuple[int, int], frame_size: tuple[int, int]) -> RGBImage:
    _check_picture(small, "a frame's small picture")
    height, width = small.shape[:2]
    if width < _MIN_SMALL_SHARE * size[0] or height < _MIN_SMALL_SHARE * size[1]:
        raise ImageError(
            f"a frame's small picture of {width}x{height} pixels is too coarse to find nuclei in; "
            f"at this scale it must have about {size[0]}x{size[1]}"
        )
    # Compared as shares: a camera rounds the sides of its small picture to multiples of 2 to 64 pixels.
    if abs(width * frame_size[1] / (height * frame_size[0]) - 1) > _SAME_SHAPE:
        raise ImageError(
            f"a frame's small picture of {width}x{height} pixels does not show the same field as its "
            f"{frame_size[0]}x{frame_size[1]}; give both the same shape"
        )
    return small if (width, height) == size else cv2.resize(small, size, interpolation=cv2.INTER_AREA)


def _without_light(small: RGBImage) -> NDArray[np.bool_]:
    red, green, blue = cv2.split(small)
    brightest_channel = cv2.max(cv2.max(red, green), blue)
    limit = NO_LIGHT * float(np.percentile(brightest_channel[::4, ::4], 95))
    black = (brightest_channel <= limit).astype(np.uint8)
    if not black.any():
        return black.astype(bool)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    height, width = black.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    fill = (left == 0) | (top == 0) | (right == width) | (bottom == height)
    fill[0] = False  # component 0 is all that is not black
    # One pixel more: its edge is a mixture of black and image.
    return cv2.dilate(fill[labels].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
