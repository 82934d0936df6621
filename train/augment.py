"""Random variations of a cell, of the kinds by which one microscope, stain and operator differs from another.

Everything happens in transmittance, after the lamp has been divided out, and in the order of the light:
where the cell lies, what the stain absorbs, what the lamp leaves uncorrected, what the objective blurs, what
the camera adds, where the frame ends.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.crops import EMPTY
from hematovision.images import RGBImage
from hematovision.optics import MAX_OPTICAL_DENSITY

#: Patches are cut this much wider than the crop, so that turning and shifting bring in real surroundings.
PATCH_MARGIN = 1.6

_MAX_SHIFT = 0.08  # of the crop's side; the finder's centre wanders by about 1 µm between looks
_SCALE_SPREAD = 0.12  # sigma of the logarithm: an error in µm per pixel
_STRETCH_SPREAD = 0.04
_CUT_CHANCE = 0.05  # a border of the field; most come from `vary_field`, with the centre moved as it would be
_MAX_CUT = 0.35
_STAIN_SPREAD = 0.14  # sigma of the logarithm of each channel's density, and of the whole
_STAIN_MIX = 0.05
_LAMP_SPREAD = 0.03
_HAZE = 0.12
_MAX_BLUR_PX = 1.8
_MAX_NOISE = 7.0
_JPEG_CHANCE = 0.3

_MAX_COARSENING = 2.2
_SHEAR = 0.08
_BORDER_CHANCE = 0.35
_BORDER_UM = (-1.0, 6.0)  # how far from the border a cell's centre lies then; negative is outside


def augment(patch: NDArray[np.uint8], side_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One random variation of a cell.

    Args:
        patch: (p, p, 3) uint8 crop, `PATCH_MARGIN` times as wide as the result, at its scale.
        side_px: side of the result.
        rng: the only source of chance.

    Returns:
        (side_px, side_px, 3) uint8, as `hematovision.crops.cut_crop` would give it.
    """
    transmittance = _place(patch, side_px, rng).astype(np.float32) / 255
    transmittance = _light(_stain(transmittance, rng), rng)
    crop = _camera(_focus(transmittance, rng) * 255, rng)
    # Last, because on a device too the fill beyond the border is pure.
    return _cut(crop, rng)


def vary_field(
    image: RGBImage, center: tuple[float, float], um_per_pixel: float, rng: np.random.Generator
) -> tuple[RGBImage, tuple[float, float], float]:
    """Another photograph of the same field: turned, moved, sheared, coarser, black beyond it.

    What optics and finder make of it is then what they would make of such a frame: a cell at the border is
    cut there and centred on what is left of it.

    Args:
        image: (height, width, 3) uint8 RGB field.
        center: (x, y) of a cell in it.
        um_per_pixel: its scale.
        rng: the only source of chance.

    Returns:
        A field of the same extent on the slide, where the cell's centre has come to lie, and the new scale.
    """
    height, width = image.shape[:2]
    coarser = np.exp(rng.uniform(0, np.log(_MAX_COARSENING)))
    size = np.array([round(width / coarser), round(height / coarser)])
    shear = np.eye(2) + np.array([[0, rng.normal(0, _SHEAR)], [rng.normal(0, _SHEAR), 0]])
    flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    matrix = _rotation(rng.uniform(0, 2 * np.pi)) @ shear @ flip / coarser
    target = rng.uniform(0.2 * size, 0.8 * size)
    if rng.random() < _BORDER_CHANCE:
        axis = rng.integers(2)
        near = rng.uniform(*_BORDER_UM) / (um_per_pixel * coarser)
        target[axis] = rng.choice([near, size[axis] - near])
    offset = target - matrix @ np.array(center)
    # Averaging first: warping alone would fold fine detail back.
    soft = cv2.GaussianBlur(image, (0, 0), 0.4 * coarser) if coarser > 1.2 else image
    varied = cv2.warpAffine(soft, np.column_stack([matrix, offset]), tuple(map(int, size)))
    return varied, (float(target[0]), float(target[1])), um_per_pixel * coarser


def _place(patch: NDArray[np.uint8], side_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    stretch = np.diag(np.exp(rng.normal(0, _SCALE_SPREAD) + rng.normal(0, _STRETCH_SPREAD, 2)))
    if rng.random() < 0.5:
        stretch[0, 0] *= -1
    matrix = _rotation(rng.uniform(0, 2 * np.pi)) @ stretch @ _rotation(rng.uniform(0, 2 * np.pi))
    shift = rng.uniform(-_MAX_SHIFT, _MAX_SHIFT, 2) * side_px
    middle_in, middle_out = (np.array([side - 1, side - 1]) / 2 for side in (patch.shape[0], side_px))
    offset = middle_out + shift - matrix @ middle_in
    return cv2.warpAffine(
        patch,
        np.column_stack([matrix, offset]),
        (side_px, side_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(EMPTY, EMPTY, EMPTY),
    )


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _cut(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < _CUT_CHANCE:
        side = crop.shape[0]
        # The border of a frame is straight along an axis; that of a rotated copy lies at any angle.
        angle = rng.choice([0, 0.5, 1, 1.5]) * np.pi if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
        axis = np.arange(side) - (side - 1) / 2
        distance = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
        crop[distance > side * (0.5 - rng.uniform(0, _MAX_CUT))] = EMPTY
    return crop


def _stain(transmittance: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    density = -np.log10(np.maximum(transmittance, 10**-MAX_OPTICAL_DENSITY))
    strength = np.exp(rng.normal(0, 1.5 * _STAIN_SPREAD) + rng.normal(0, _STAIN_SPREAD, 3))
    mix = np.eye(3) + rng.normal(0, _STAIN_MIX, (3, 3))
    density = density @ (mix * strength).astype(np.float32)
    return np.power(np.float32(10), -np.maximum(density, 0))


def _light(transmittance: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    side = transmittance.shape[0]
    slope = np.linspace(-1, 1, side, dtype=np.float32)
    shade = 1 + rng.normal(0, _LAMP_SPREAD) * slope[None, :] + rng.normal(0, _LAMP_SPREAD) * slope[:, None]
    haze = np.float32(max(0.0, rng.uniform(-_HAZE, _HAZE)))
    lamp = (1 + rng.normal(0, _LAMP_SPREAD, 3)).astype(np.float32)
    return (transmittance * (1 - haze) + haze) * lamp * shade[..., None].astype(np.float32)


def _focus(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    kind = rng.random()
    if kind < 0.45:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, _MAX_BLUR_PX))
    if kind < 0.6:  # a camera that sharpens
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 1.6))
        return picture + np.float32(rng.uniform(0.2, 1.2)) * (picture - soft)
    if kind < 0.75:  # a camera with coarser pixels
        side = picture.shape[0]
        coarse = round(side / rng.uniform(1.2, 2.2))
        small = cv2.resize(picture, (coarse, coarse), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    return picture


def _camera(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    noise = max(0.0, rng.uniform(-_MAX_NOISE, _MAX_NOISE))
    if noise:
        picture = picture + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(noise)
    crop = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if rng.random() < _JPEG_CHANCE:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))]
        # OpenCV's codec takes and gives BGR; with the colours swapped it would blur the wrong ones.
        _, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), quality)
        crop = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return crop
