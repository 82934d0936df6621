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
from hematovision.images import RGBImage

#: Scale at which a field's light is measured and its cells are found: a nucleus is 12 to 25 pixels wide.
WORKING_UM_PER_PIXEL = 0.5
#: Nothing on a smear absorbs this much in every channel at once: darker is the fill of a rotated copy.
NO_LIGHT = 0.08
#: A field narrower than this shows no vignetting, and too few gaps between cells to fit any.
MIN_VIGNETTED_SIDE_UM = 70.0
#: Optical density is cut off here: one part in a thousand of the light is below what a camera resolves.
MAX_OPTICAL_DENSITY = 3.0

#: A field is enlarged to working scale only up to this size: a 12-megapixel camera's at 0.5 µm per pixel.
MAX_ENLARGED_PIXELS = 20_000_000

# A camera's own small picture may be coarser than working scale by this, and of another shape by that.
_MIN_SMALL_SHARE = 0.8
_SAME_SHAPE = 0.03
_LITTLE = 1.3
_TILE_UM = 12.0
# The empty glass is the bright end of a field, but a cell's edge that acts as a lens can be brighter still.
_GLASS_SHARE = 0.92
_GLASS_TOLERANCE = 0.06
_MIN_GLASS_PIXELS = 16
_MIN_LEVEL = 8  # of 255
_LIGHT_GRID = 48
_DRIFT_GRID = 9
_FIT_ROUNDS = 6


@dataclass(frozen=True)
class Light:
    """The light of an empty field, over the whole of a frame.

    ``coefficients``: (6, 3) float32, the logarithm of each channel's light (0 to 255) as a quadratic in x and
    y, which run from -1 to 1 over the frame. A uniform light has only its first row.
    """

    coefficients: NDArray[np.float32]

    def at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Light at positions x (width,) and y (height,), each from -1 to 1: (height, width, 3) float32."""
        return np.exp(_quadratic(x[None, :], y[:, None]) @ self.coefficients)

    def over(self, width: int, height: int) -> NDArray[np.float32]:
        """Light over a whole frame sampled with this many pixels: (height, width, 3) float32."""
        # It is smooth: a coarse grid, interpolated, is within a hundredth (1.5 % in the outermost corners of
        # strong vignetting) and ten times faster.
        columns, rows = min(width, _LIGHT_GRID), min(height, _LIGHT_GRID)
        return cv2.resize(
            self.at(_axis(columns), _axis(rows)), (width, height), interpolation=cv2.INTER_LINEAR
        )


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
    `WORKING_UM_PER_PIXEL`, (h, w, 3) uint8. ``transmittance``: of ``small``, (h, w, 3) float32, 0 to about 1,
    and 1 where there is no image. ``dark``: (h, w) bool, where there is no image (the black fill of a rotated
    copy). ``scale``: pixels of ``image`` for one of ``small``, in x and in y. ``blank``: the empty field that
    the frame is divided by; ``light`` is then that of the divided frame: `blank_field.EVEN_LEVEL` throughout
    while the lamp is as it was.
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
    light = _measure_light(even, dark, um_per_pixel * width / size[0])
    transmittance = np.divide(even, light.over(*size), dtype=np.float32)
    if dark.any():
        transmittance[dark] = 1.0
    scale = width / size[0], height / size[1]
    return Field(image, small, um_per_pixel, light, transmittance, dark, scale, blank)


def lamp_drift(lights: Sequence[Light]) -> LampDrift:
    """How far the lamp has drifted from the blank field that these fields were divided by.

    Args:
        lights: of one field or several; the median over them is taken, as cells mislead a single one.
    """
    typical = Light(np.median([light.coefficients for light in lights], axis=0).astype(np.float32))
    ratio = typical.at(_axis(_DRIFT_GRID), _axis(_DRIFT_GRID)) / np.float32(EVEN_LEVEL)
    channels = ratio.mean(axis=(0, 1))
    brightness = float(np.exp(np.log(channels).mean()))
    red, green, blue = (channels / brightness - 1).tolist()
    return LampDrift(brightness - 1, (red, green, blue), float(np.abs(ratio / channels - 1).max()))


def optical_density(transmittance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density, -log10 of transmittance (2-D), from 0 to `MAX_OPTICAL_DENSITY`."""
    # OpenCV's logarithm and limits are several times NumPy's speed.
    density = cv2.log(cv2.max(transmittance, 10**-MAX_OPTICAL_DENSITY)) * np.float32(-1 / math.log(10))
    return cv2.max(density, 0.0)


def frame_position(pixel: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Pixel coordinates (centre of the first pixel is 0) as the -1 to 1 that `Light.at` takes."""
    return ((pixel + 0.5) * (2.0 / side) - 1.0).astype(np.float32)


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


def _axis(side: int) -> NDArray[np.float32]:
    return frame_position(np.arange(side, dtype=np.float32), side)


def _quadratic(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y = np.broadcast_arrays(x, y)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


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


def _measure_light(
    small: RGBImage | NDArray[np.float32], dark: NDArray[np.bool_], um_per_pixel: float
) -> Light:
    height, width = small.shape[:2]
    # Every second pixel is plenty for a level. Where there is no image, there is nothing to sample.
    sample = small[::2, ::2].astype(np.float32)
    sample[dark[::2, ::2]] = np.nan
    level, _ = _glass(sample.reshape(1, -1, 3))
    if np.isnan(level).any():
        raise ImageError("the field is black: no light reaches the camera")
    coefficients = np.zeros((6, 3), np.float32)
    coefficients[0] = np.log(level[0])
    if min(height, width) * um_per_pixel < MIN_VIGNETTED_SIDE_UM:
        return Light(coefficients)
    columns, rows = (round(side * um_per_pixel / _TILE_UM) for side in (width, height))
    tile_width, tile_height = sample.shape[1] // columns, sample.shape[0] // rows
    tiles = sample[: rows * tile_height, : columns * tile_width]
    tiles = tiles.reshape(rows, tile_height, columns, tile_width, 3).swapaxes(1, 2)
    levels, glass = _glass(tiles.reshape(rows * columns, tile_height * tile_width, 3))
    logs = np.log(levels)
    # A level belongs where its glass lies: on a slope that is the brighter part of the tile.
    weights = glass.reshape(rows, columns, tile_height, tile_width) / np.maximum(
        glass.sum(axis=1), 1
    ).reshape(rows, columns, 1, 1)
    x_in_tile = np.einsum("rcyx,x->rc", weights, np.arange(tile_width, dtype=np.float32))
    y_in_tile = np.einsum("rcyx,y->rc", weights, np.arange(tile_height, dtype=np.float32))
    x = frame_position(2 * (x_in_tile + tile_width * np.arange(columns)[None, :]), width)
    y = frame_position(2 * (y_in_tile + tile_height * np.arange(rows)[:, None]), height)
    design = _quadratic(x, y).reshape(-1, 6)
    keep = ~np.isnan(logs).any(axis=1)
    fit = coefficients
    for _ in range(_FIT_ROUNDS):
        # A tile covered by cells has no glass and lies below the rest: drop such and fit again.
        if keep.sum() < 3 * len(coefficients):
            return Light(coefficients)
        fit = np.linalg.lstsq(design[keep], logs[keep], rcond=None)[0].astype(np.float32)
        residual = (logs - design @ fit).min(axis=1)
        closer = residual > -max(0.02, 1.5 * float(residual[keep].std()))
        if (closer == keep).all():
            break
        keep = closer
    return Light(fit)


def _glass(tiles: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colour of the empty glass in each tile of pixels, and which pixels are glass.

    (n, pixels, 3), NaN where there is no image, to (n, 3), NaN where it is dark, and (n, pixels) of 0 and 1.
    """
    # Haemoglobin absorbs green: by green the glass stands out best from red cells.
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
