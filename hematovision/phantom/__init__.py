"""A drawn field of a Romanowsky-stained smear whose every cell is known: class, centre, nucleus area.

It is what a demonstration and a self-test look at where there is no camera. It says nothing about accuracy
on real cells. Everything is drawn as optical density, which adds up where cells overlap, and is then seen
through a warm lamp, a lens and a sensor.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.images import RGBImage
from hematovision.optics import check_um_per_pixel
from hematovision.red_cells import RED_CELL_UM

_Plane = NDArray[np.float32]
_Stain = tuple[float, float, float]  # optical density of red, green and blue light

_HAEMOGLOBIN: _Stain = (0.03, 0.20, 0.17)
_PLATELET: _Stain = (0.17, 0.32, 0.12)


@dataclass(frozen=True)
class _Look:
    radius_um: float
    cytoplasm: _Stain
    nucleus: _Stain
    granules: int = 0
    granule_radius_um: float = 0.0
    granule: _Stain = (0.0, 0.0, 0.0)


_LOOKS = {
    "neutrophil": _Look(6.5, (0.03, 0.09, 0.05), (0.45, 0.80, 0.28), 260, 0.16, (0.07, 0.14, 0.06)),
    "eosinophil": _Look(6.8, (0.03, 0.12, 0.10), (0.45, 0.80, 0.28), 230, 0.45, (0.02, 0.26, 0.34)),
    "monocyte": _Look(8.2, (0.10, 0.12, 0.06), (0.33, 0.60, 0.22), 120, 0.15, (0.10, 0.18, 0.08)),
    "lymphocyte": _Look(5.0, (0.13, 0.08, 0.01), (0.52, 0.85, 0.30)),
}

_LAMP = np.array((238.0, 226.0, 196.0))  # 8-bit levels of empty glass in the middle of the field
_VIGNETTING = 0.16  # share of the light that is lost in the corners
_NOISE = 1.3  # 8-bit levels
_DEFOCUS_UM = 0.12
_EDGE_UM = 0.18
_UM2_PER_LEUKOCYTE, _UM2_PER_RED_CELL, _UM2_PER_PLATELET = 1800, 105, 1500
_MARGIN_UM = 10.0
_PATCH_UM = 10.0


@dataclass(frozen=True)
class PhantomCell:
    """A leukocyte that was drawn: class, (x, y) of its nucleus in pixels of the field, nucleus area."""

    class_name: str
    center: tuple[float, float]
    nucleus_area_um2: float


@dataclass(frozen=True)
class PhantomField:
    """A drawn field, (height, width, 3) uint8 RGB, its scale, and its leukocytes."""

    image: RGBImage
    um_per_pixel: float
    cells: tuple[PhantomCell, ...]


def draw_field(seed: int, width: int = 1280, height: int = 960, um_per_pixel: float = 0.1) -> PhantomField:
    """Draw a field; the same arguments give the same field.

    Its leukocytes are whole and apart from each other, one for about 1800 µm², the four classes in turn.

    Raises:
        SettingError: the scale is no scale.
    """
    check_um_per_pixel(um_per_pixel)
    rng = np.random.default_rng(seed)
    density = np.zeros((height, width, 3), np.float32)
    size_um = width * um_per_pixel, height * um_per_pixel
    area_um2 = size_um[0] * size_um[1]
    places = _scatter(rng, size_um, max(1, round(area_um2 / _UM2_PER_LEUKOCYTE)), 20.0, _MARGIN_UM, [])
    names = rng.permutation(CLASS_NAMES).tolist()
    cells = tuple(
        _draw_leukocyte(rng, density, um_per_pixel, place, names[index % len(names)])
        for index, place in enumerate(places)
    )
    taken = [(x, y, 12.0) for x, y in places]
    for place in _scatter(rng, size_um, round(area_um2 / _UM2_PER_RED_CELL), 6.9, -4.0, taken):
        patch, x, y, _ = _patch(density, um_per_pixel, place)
        radius = RED_CELL_UM / 2 * rng.normal(1, 0.035)
        pallor = rng.uniform(0.5, 0.7) * np.exp(-(x**2 + y**2) / (0.5 * radius) ** 2)
        _add(patch, _blob(rng, x, y, (0, 0), radius, 0.02) * (1 - pallor), _HAEMOGLOBIN)
        taken.append((*place, 5.0))
    for place in _scatter(rng, size_um, round(area_um2 / _UM2_PER_PLATELET), 4.0, 0.0, taken):
        patch, x, y, _ = _patch(density, um_per_pixel, place)
        grain = 1 + 0.35 * _texture(rng, x.shape, 0.3 / um_per_pixel)
        _add(patch, _blob(rng, x, y, (0, 0), rng.uniform(0.9, 1.4), 0.12) * grain, _PLATELET)
    return PhantomField(_photograph(rng, density, um_per_pixel), um_per_pixel, cells)


def _scatter(
    rng: np.random.Generator,
    size_um: tuple[float, float],
    count: int,
    apart_um: float,
    margin_um: float,
    taken: list[tuple[float, float, float]],
) -> list[tuple[float, float]]:
    """Up to ``count`` places in µm, apart from each other and outside the circles (x, y, radius) taken."""
    margin = np.minimum(margin_um, np.array(size_um) / 2)
    circles = np.array(taken).reshape(-1, 3)
    places = np.empty((0, 2))
    for candidate in rng.uniform(margin, np.array(size_um) - margin, (40 * count, 2)):
        apart = (((places - candidate) ** 2).sum(axis=1) >= apart_um**2).all()
        free = (((circles[:, :2] - candidate) ** 2).sum(axis=1) >= circles[:, 2] ** 2).all()
        if apart and free:
            places = np.vstack([places, candidate])
            if len(places) == count:
                break
    return [(float(x), float(y)) for x, y in places]


def _draw_leukocyte(
    rng: np.random.Generator, density: _Plane, um_per_pixel: float, place: tuple[float, float], name: str
) -> PhantomCell:
    look = _LOOKS[name]
    patch, x, y, origin = _patch(density, um_per_pixel, place)
    turn = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    body = _blob(rng, u, v, (0, 0), look.radius_um * rng.uniform(0.94, 1.06), 0.03)
    nucleus = np.minimum(_nucleus(rng, u, v, name), body)
    granules = np.zeros_like(u)
    for angle, share in rng.uniform(0, 1, (look.granules, 2)):
        distance = look.radius_um * 0.95 * np.sqrt(share)
        spot = distance * np.cos(2 * np.pi * angle), distance * np.sin(2 * np.pi * angle)
        granules = np.maximum(granules, _blob(rng, u, v, spot, look.granule_radius_um))
    _add(patch, body * (1 - nucleus), look.cytoplasm)
    _add(patch, body * granules * (1 - 0.9 * nucleus), look.granule)
    _add(patch, nucleus * (1 + 0.17 * _texture(rng, u.shape, 0.45 / um_per_pixel)), look.nucleus)
    rows, columns = np.nonzero(nucleus > 0.5)
    center = float(columns.mean()) + origin[0], float(rows.mean()) + origin[1]
    return PhantomCell(name, center, len(rows) * um_per_pixel**2)


def _nucleus(rng: np.random.Generator, u: _Plane, v: _Plane, name: str) -> _Plane:
    if name == "lymphocyte":  # round, nearly filling the cell
        return _blob(rng, u, v, (0.35, 0), rng.uniform(4.0, 4.25), 0.025)
    if name == "monocyte":  # a bean: folded
        bean = _blob(rng, u, v, (0, -0.4), rng.uniform(5.4, 5.9), 0.06)
        return bean * (1 - _blob(rng, u, v, (0, 4.6), rng.uniform(3.2, 3.7), 0.08))
    if name == "eosinophil":  # two lobes, like spectacles
        lobes, radius = [(-2.6, -1.4), (2.6, -1.4)], rng.uniform(2.1, 2.5)
    else:  # three to five lobes along an arc
        angles = np.arange(rng.integers(3, 6)) * rng.uniform(0.85, 1.0)
        lobes, radius = (
            [(3.3 * np.cos(a) - 0.6, 3.3 * np.sin(a) - 1.2) for a in angles],
            rng.uniform(1.4, 1.7),
        )
    shape = np.zeros_like(u)
    for lobe in lobes:
        shape = np.maximum(shape, _blob(rng, u, v, lobe, radius * rng.uniform(0.9, 1.1), 0.08))
    for (x0, y0), (x1, y1) in pairwise(lobes):  # threads of chromatin between them
        for share in np.linspace(0, 1, 12):
            shape = np.maximum(
                shape, _blob(rng, u, v, (x0 + share * (x1 - x0), y0 + share * (y1 - y0)), 0.45)
            )
    return shape


def _patch(
    density: _Plane, um_per_pixel: float, place: tuple[float, float]
) -> tuple[_Plane, _Plane, _Plane, tuple[int, int]]:
    """The field around a place: density (a view), x and y from the place in µm, first pixel in the frame."""
    spans = [
        range(max(0, int((at - _PATCH_UM) / um_per_pixel)), min(side, int((at + _PATCH_UM) / um_per_pixel)))
        for at, side in zip(place, density.shape[1::-1], strict=True)
    ]
    across, down = ((np.array(span) + 0.5) * um_per_pixel - at for span, at in zip(spans, place, strict=True))
    x, y = np.meshgrid(across.astype(np.float32), down.astype(np.float32))
    origin = spans[0].start, spans[1].start
    return density[spans[1].start : spans[1].stop, spans[0].start : spans[0].stop], x, y, origin


def _blob(
    rng: np.random.Generator,
    x: _Plane,
    y: _Plane,
    center: tuple[float, float],
    radius: float,
    uneven: float = 0.0,
) -> _Plane:
    """A disc, its radius varying smoothly by about the share ``uneven``: 1 inside, 0 outside, a soft edge."""
    x, y = x - np.float32(center[0]), y - np.float32(center[1])
    outline: _Plane | float = radius
    if uneven:
        angle = np.arctan2(y, x)
        for wave in (2, 3, 4):
            swing = radius * uneven * rng.normal() / (wave - 1)
            outline = outline + np.float32(swing) * np.cos(wave * angle + np.float32(rng.uniform(0, 7)))
    return np.clip((outline - np.hypot(x, y)) / _EDGE_UM + 0.5, 0, 1)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> _Plane:
    """Smooth noise of mean 0 and deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), max(sigma, 0.5))
    return noise / max(float(noise.std()), 1e-6)


def _add(patch: _Plane, amount: _Plane, stain: _Stain) -> None:
    patch += amount[..., None] * np.array(stain, np.float32)


def _photograph(rng: np.random.Generator, density: _Plane, um_per_pixel: float) -> RGBImage:
    height, width = density.shape[:2]
    light = cv2.GaussianBlur(np.float32(10) ** -density, (0, 0), max(_DEFOCUS_UM / um_per_pixel, 0.3))
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    lamp = 1 - _VIGNETTING / 2 * (x[None, :] ** 2 + y[:, None] ** 2)
    levels = light * (lamp[..., None] * _LAMP)
    return np.clip(np.rint(levels + rng.normal(0, _NOISE, levels.shape)), 0, 255).astype(np.uint8)
