"""Another microscope, stain, lamp and camera for the same piece of a smear: wider than those that are known.

In the order of the light: what the stain absorbs, the lamp and the lens's shading, haze, focus, the camera.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.images import RGBImage

_STAIN_CHANCE = 0.85
_STRENGTH_SPREAD = 0.3  # sigma of the logarithm of all density, and of each channel's
_CHANNEL_SPREAD = 0.2
_STAIN_MIX = 0.12
_SATURATION = (0.35, 1.5)
_SATURATION_CHANCE = 0.35
_TONE_SPREAD = 0.25  # sigma of the logarithm of a camera's gamma
_TONE_CHANCE = 0.4
_LAMP_CHANCE = 0.8
_LAMP_SPREAD = 0.25
_BRIGHTNESS = (0.45, 1.15)  # above 1 highlights clip
_SLOPE_CHANCE = 0.5
_SLOPE_SPREAD = 0.2
_FLARE_CHANCE = 0.25
_RIM_CHANCE = 0.25
_MAX_HAZE = 0.4
_BLUR_CHANCE = 0.4
_BLUR_PX = (0.3, 1.4)
_HALO_CHANCE = 0.25
_FRINGE_CHANCE = 0.25
_MAX_FRINGE_PX = 1.5
_MAX_NOISE = 9.0
_JPEG_CHANCE = 0.3
_GLASS_PERCENTILE = 95

_Picture = NDArray[np.float32]


def vary_microscope(tile: RGBImage, rng: np.random.Generator) -> RGBImage:
    """Return a tile, (height, width, 3) uint8 RGB, as a random other microscope would show it."""
    picture = _stain(tile.astype(np.float32) / 255, rng)
    picture = _lens(_lamp(picture, rng), rng)
    return _camera(picture, rng)


def _stain(picture: _Picture, rng: np.random.Generator) -> _Picture:
    """Mix, strengthen and shift the optical densities about the tile's own glass."""
    glass = (
        np.percentile(picture[::2, ::2].reshape(-1, 3), _GLASS_PERCENTILE, axis=0).astype(np.float32) + 1e-3
    )
    transmittance = np.clip(picture / glass, 1e-3, 1.2)
    if rng.random() < _STAIN_CHANCE:
        strength = np.exp(rng.normal(0, _STRENGTH_SPREAD) + rng.normal(0, _CHANNEL_SPREAD, 3))
        mix = (np.eye(3) + rng.normal(0, _STAIN_MIX, (3, 3))) * strength
        density = -np.log10(transmittance) @ mix.astype(np.float32)
        transmittance = np.power(np.float32(10), -density)
    if rng.random() < _SATURATION_CHANCE:
        grey = transmittance.mean(axis=2, keepdims=True)
        transmittance = grey + np.float32(rng.uniform(*_SATURATION)) * (transmittance - grey)
    if rng.random() < _TONE_CHANCE:
        transmittance = np.power(
            np.clip(transmittance, 0, None), np.float32(np.exp(rng.normal(0, _TONE_SPREAD)))
        )
    return transmittance


def _lamp(transmittance: _Picture, rng: np.random.Generator) -> _Picture:
    """Light the tile: the lamp's colour, a slope, a coloured flare, a rim as of a cheap lens."""
    height, width = transmittance.shape[:2]
    lamp = np.exp(rng.normal(0, _LAMP_SPREAD, 3)) if rng.random() < _LAMP_CHANCE else np.ones(3)
    light = np.ones((height, width, 3)) * (lamp / lamp.max() * rng.uniform(*_BRIGHTNESS))
    y, x = np.mgrid[:height, :width][..., None] / max(height, width) - 0.5
    if rng.random() < _SLOPE_CHANCE:
        light *= 1 + rng.normal(0, _SLOPE_SPREAD, 3) * x + rng.normal(0, _SLOPE_SPREAD, 3) * y
    if rng.random() < _FLARE_CHANCE:
        middle = rng.uniform(-0.5, 0.5, 2)
        spread = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / rng.uniform(0.005, 0.15)
        light *= 1 + rng.uniform(-0.3, 0.6, 3) * np.exp(-spread)
    if rng.random() < _RIM_CHANCE:
        middle = rng.uniform(-2, 2, 2)  # of the frame, of which the tile is a piece
        away = np.clip(np.hypot(x - middle[0], y - middle[1]) / 2, 0, 1)
        light *= 1 - (away * away) * rng.uniform(-0.2, 0.6, 3)
    return (transmittance * np.clip(light, 0.15, 2)).astype(np.float32)


def _lens(picture: _Picture, rng: np.random.Generator) -> _Picture:
    """Blur the tile as an objective and its light do: haze, defocus, halo, colour fringes."""
    haze = np.float32(max(0.0, rng.uniform(-_MAX_HAZE, _MAX_HAZE)))
    picture = picture * (1 - haze) + haze * picture.mean()
    if rng.random() < _BLUR_CHANCE:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(*_BLUR_PX))
    if rng.random() < _HALO_CHANCE:
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 2.5))
        picture = picture + np.float32(rng.uniform(0.3, 2)) * (picture - soft)
    if rng.random() < _FRINGE_CHANCE:
        shift = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        for channel in (0, 2):
            shift[:, 2] = rng.uniform(-_MAX_FRINGE_PX, _MAX_FRINGE_PX, 2)
            picture[..., channel] = cv2.warpAffine(
                np.ascontiguousarray(picture[..., channel]),
                shift,
                picture.shape[1::-1],
                borderMode=cv2.BORDER_REFLECT_101,
            )
    return picture


def _camera(picture: _Picture, rng: np.random.Generator) -> RGBImage:
    noise = max(0.0, rng.uniform(-_MAX_NOISE, _MAX_NOISE))
    levels = np.clip(picture, 0, 1) * 255
    if noise:
        levels += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(noise)
    tile = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    if rng.random() < _JPEG_CHANCE:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))]
        # OpenCV's codec takes and gives BGR; with the colours swapped it would blur the wrong ones.
        _, data = cv2.imencode(".jpg", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), quality)
        tile = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return tile
