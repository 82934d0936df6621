"""How the cells of a stained smear are drawn: as optical density of red, green and blue light."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

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

_EDGE_UM = 0.18


@dataclass(frozen=True)
class Drawing:
    """A drawn thing: ``density`` (h, w, 3) float32, ``nucleus`` (h, w) bool; its centre is in the middle."""

    density: NDArray[np.float32]
    nucleus: NDArray[np.bool_]


def draw_leukocyte(rng: np.random.Generator, class_name: str, um_per_pixel: float) -> Drawing:
    """Draw a leukocyte of a class."""
    look = _LOOKS[class_name]
    x, y = _grid(10.0, um_per_pixel)
    density = np.zeros((*x.shape, 3), np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    body = _blob(rng, u, v, (0, 0), look.radius_um * rng.uniform(0.94, 1.06), 0.03)
    nucleus = np.minimum(_nucleus(rng, u, v, class_name), body)
    granules = np.zeros_like(u)
    for angle, share in rng.uniform(0, 1, (look.granules, 2)):
        distance = look.radius_um * 0.95 * np.sqrt(share)
        spot = distance * np.cos(2 * np.pi * angle), distance * np.sin(2 * np.pi * angle)
        granules = np.maximum(granules, _blob(rng, u, v, spot, look.granule_radius_um))
    _add(density, body * (1 - nucleus), look.cytoplasm)
    _add(density, body * granules * (1 - 0.9 * nucleus), look.granule)
    _add(density, nucleus * (1 + 0.17 * _texture(rng, u.shape, 0.45 / um_per_pixel)), look.nucleus)
    return Drawing(density, nucleus > 0.5)


def draw_red_cell(rng: np.random.Generator, um_per_pixel: float) -> Drawing:
    """Draw a red cell."""
    x, y = _grid(5.0, um_per_pixel)
    density = np.zeros((*x.shape, 3), np.float32)
    radius = RED_CELL_UM / 2 * rng.normal(1, 0.035)
    pallor = rng.uniform(0.5, 0.7) * np.exp(-(x**2 + y**2) / (0.5 * radius) ** 2)
    _add(density, _blob(rng, x, y, (0, 0), radius, 0.02) * (1 - pallor), _HAEMOGLOBIN)
    return Drawing(density, np.zeros(x.shape, bool))


def draw_platelet(rng: np.random.Generator, um_per_pixel: float) -> Drawing:
    """Draw a platelet."""
    x, y = _grid(2.0, um_per_pixel)
    density = np.zeros((*x.shape, 3), np.float32)
    grain = 1 + 0.35 * _texture(rng, x.shape, 0.3 / um_per_pixel)
    _add(density, _blob(rng, x, y, (0, 0), rng.uniform(0.9, 1.4), 0.12) * grain, _PLATELET)
    return Drawing(density, np.zeros(x.shape, bool))


def _grid(reach_um: float, um_per_pixel: float) -> tuple[_Plane, _Plane]:
    side = round(reach_um / um_per_pixel)
    steps = (np.arange(-side, side + 1) * um_per_pixel).astype(np.float32)
    x, y = np.meshgrid(steps, steps)
    return x, y


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
