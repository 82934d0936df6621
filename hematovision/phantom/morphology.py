"""Single blood cells of a Wright-Giemsa stained smear, drawn as optical density.

Sizes, nuclei, granules and colours are those of a haematology atlas (Bain, Blood Cells: A Practical Guide,
5th edition, 2015, chapter 3); the depth of stain is that of sharp photographs of real smears.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import SettingError
from hematovision.optics import check_um_per_pixel
from hematovision.red_cells import RED_CELL_UM

#: Everything is drawn at this scale, then resampled: finer than any objective for visible light resolves, so
#: a finer drawing would show nothing more.
DRAWN_UM_PER_PIXEL = 0.1

_Plane = NDArray[np.float32]
_Points = NDArray[np.float64]  # (n, 2), x and y in µm from the middle
_Stain = tuple[float, float, float]  # optical density of red, green and blue light

_SHIFT = 4  # OpenCV draws to 1/16 of a pixel
_OUTLINE_POINTS = 72
_EDGE_UM = 0.25
_HAEMOGLOBIN: _Stain = (0.045, 0.165, 0.12)
_HYALOMERE: _Stain = (0.07, 0.09, 0.03)
_GRANULOMERE: _Stain = (0.20, 0.33, 0.10)


@dataclass(frozen=True)
class Drawing:
    """A cell, its centre in the middle of the array.

    ``density``: (h, w, 3) float32 optical density of red, green and blue light, 0 where there is no cell.
    ``nucleus``: (h, w) bool.
    """

    density: NDArray[np.float32]
    nucleus: NDArray[np.bool_]


@dataclass(frozen=True)
class _Stains:
    cytoplasm: _Stain
    granules: _Stain
    nucleus: _Stain


_STAINS = {
    "neutrophil": _Stains((0.04, 0.095, 0.045), (0.11, 0.21, 0.08), (0.53, 0.87, 0.19)),
    "eosinophil": _Stains((0.06, 0.08, 0.03), (0.06, 0.30, 0.25), (0.49, 0.80, 0.18)),
    "monocyte": _Stains((0.14, 0.15, 0.055), (0.07, 0.13, 0.04), (0.38, 0.65, 0.15)),
    "lymphocyte": _Stains((0.125, 0.095, 0.018), (0.14, 0.26, 0.05), (0.52, 0.84, 0.19)),
}


def draw_leukocyte(rng: np.random.Generator, class_name: str, um_per_pixel: float) -> Drawing:
    """Draw a leukocyte; the same state of ``rng`` gives the same cell at any scale.

    Args:
        rng: what size, shape, turn and stain are drawn from.
        class_name: one of `CLASS_NAMES`.
        um_per_pixel: scale of the drawing.

    Raises:
        SettingError: no such class, or the scale is no scale.
    """
    check_um_per_pixel(um_per_pixel)
    if class_name not in _PARTS:
        raise SettingError(
            f"no leukocyte is called {class_name!r}; it must be one of {', '.join(CLASS_NAMES)}"
        )
    parts = _PARTS[class_name](rng)
    stains = _STAINS[class_name]
    strength = rng.normal(1, 0.07) * rng.normal(1, 0.04, (3, 3))
    cytoplasm, granules, nucleus = np.array((stains.cytoplasm, stains.granules, stains.nucleus)) * strength
    layers = (
        (parts.cytoplasm * (1 - parts.nucleus), cytoplasm),
        # A few granules lie above the nucleus.
        (parts.granules * (1 - 0.85 * parts.nucleus), granules),
        (parts.nucleus * parts.chromatin, nucleus),
    )
    density = sum(amount[..., None] * stain.astype(np.float32) for amount, stain in layers)
    return _drawing(density, parts.nucleus, um_per_pixel)


def draw_red_cell(rng: np.random.Generator, um_per_pixel: float) -> Drawing:
    """Draw a red cell, 7.5 µm wide in the median, paler in its middle; ``nucleus`` is all False.

    Raises:
        SettingError: the scale is no scale.
    """
    check_um_per_pixel(um_per_pixel)
    radius = RED_CELL_UM / 2 * rng.normal(1.0, 0.04)
    canvas = _Canvas(radius * 1.2)
    turn, oval = rng.uniform(0, 2 * np.pi), 1 + abs(rng.normal(0, 0.06))
    x, y = canvas.grid(radius * rng.normal(0, 0.02, 2))
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / oval, (y * np.cos(turn) - x * np.sin(turn)) * oval
    angle = cv2.phase(u, v)
    distance = cv2.magnitude(u, v) / np.float32(radius)
    for wave in (2, 3, 4, 5):
        distance *= 1 + np.float32(rng.normal(0, 0.02 / wave)) * np.cos(wave * angle + rng.uniform(0, 7))
    body = np.clip((1 - distance) * np.float32(radius / (1.6 * _EDGE_UM)) + 0.5, 0, 1)
    width, depth = rng.uniform(0.32, 0.52), np.clip(rng.normal(0.62, 0.16), 0.15, 0.92)
    pallor = np.float32(depth) * np.exp(-((distance / np.float32(width)) ** 2))
    # Thickest a little inside the rim.
    body *= (1 - pallor) * (1 - np.float32(0.15) * distance**6)
    stain = np.array(_HAEMOGLOBIN, np.float32) * np.float32(rng.normal(1, 0.08))
    return _drawing(body[..., None] * stain, None, um_per_pixel)


def draw_platelet(rng: np.random.Generator, um_per_pixel: float) -> Drawing:
    """Draw a platelet of 2 to 3 µm, or now and then a clump of two or three; ``nucleus`` is all False.

    Raises:
        SettingError: the scale is no scale.
    """
    check_um_per_pixel(um_per_pixel)
    count = int(rng.choice((1, 2, 3), p=(0.88, 0.08, 0.04)))
    canvas = _Canvas(2.6 if count == 1 else 4.4)
    hyalomere, granulomere = canvas.plane(), canvas.plane()
    turn = rng.uniform(0, 2 * np.pi)
    for place in range(count):
        radius = rng.uniform(0.95, 1.45)
        angle = turn + 2 * np.pi * place / count
        center = (count > 1) * 1.25 * _toward(angle)
        canvas.fill(hyalomere, center + _outline(rng, radius, rng.uniform(1, 1.3), 0.08))
        spots = center + 0.62 * radius * _in_disc(rng, 14)
        canvas.discs(granulomere, spots, rng.uniform(0.2, 0.42, 14), rng.uniform(0.6, 1, 14))
    pale, granular = canvas.soft(hyalomere, 0.15), canvas.soft(granulomere, 0.12)
    stains = np.array((_HYALOMERE, _GRANULOMERE), np.float32) * np.float32(rng.normal(1, 0.1))
    return _drawing(pale[..., None] * stains[0] + granular[..., None] * stains[1], None, um_per_pixel)


class _Canvas:
    """A square to draw on, its middle at 0; planes drawn on are uint8, 255 for full."""

    def __init__(self, reach_um: float) -> None:
        self.side = 2 * int(np.ceil(reach_um / DRAWN_UM_PER_PIXEL)) + 1

    def plane(self) -> NDArray[np.uint8]:
        return np.zeros((self.side, self.side), np.uint8)

    def grid(self, center: NDArray[np.float64]) -> tuple[_Plane, _Plane]:
        """x and y in µm from ``center``."""
        steps = ((np.arange(self.side) - self.side // 2) * DRAWN_UM_PER_PIXEL).astype(np.float32)
        x, y = np.meshgrid(steps - np.float32(center[0]), steps - np.float32(center[1]))
        return x, y

    def fill(self, plane: NDArray[np.uint8], outline: _Points, value: int = 255) -> None:
        cv2.fillPoly(plane, [self._fixed(outline)], value, cv2.LINE_AA, _SHIFT)

    def line(self, plane: NDArray[np.uint8], points: _Points, width_um: float, value: int = 255) -> None:
        thickness = max(1, round(width_um / DRAWN_UM_PER_PIXEL))
        cv2.polylines(plane, [self._fixed(points)], False, value, thickness, cv2.LINE_AA, _SHIFT)

    def discs(
        self,
        plane: NDArray[np.uint8],
        centers: _Points,
        radii_um: NDArray[np.float64],
        amounts: NDArray[np.float64] | None = None,
    ) -> None:
        """Draw discs of these amounts, 0 to 1, or full ones; where they overlap, the last is seen."""
        fixed_radii = np.rint(radii_um / DRAWN_UM_PER_PIXEL * (1 << _SHIFT)).astype(int).tolist()
        values = [255] * len(centers) if amounts is None else np.rint(255 * amounts).astype(int).tolist()
        # One call a disc touches the disc's own pixels only.
        for center, radius, value in zip(self._fixed(centers).tolist(), fixed_radii, values, strict=True):
            cv2.circle(plane, center, radius, value, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def soft(self, plane: NDArray[np.uint8], sigma_um: float) -> _Plane:
        """What was drawn, blurred, from 0 to 1."""
        blurred = cv2.GaussianBlur(plane, (0, 0), sigma_um / DRAWN_UM_PER_PIXEL)
        return blurred.astype(np.float32) * np.float32(1 / 255)

    def rounded(self, plane: NDArray[np.uint8], sigma_um: float) -> _Plane:
        """What was drawn with its corners rounded and its edge `_EDGE_UM` wide, from 0 to 1."""
        # A blurred edge rises by 1 / (sigma sqrt(2 pi)) at its middle.
        gain = sigma_um * np.sqrt(2 * np.pi) / _EDGE_UM
        return np.clip((self.soft(plane, sigma_um) - 0.5) * np.float32(gain) + 0.5, 0, 1)

    def noise(self, rng: np.random.Generator, sigma_um: float) -> _Plane:
        """Smooth noise of mean 0 and deviation about 1."""
        sigma = sigma_um / DRAWN_UM_PER_PIXEL
        white = rng.standard_normal((self.side, self.side), np.float32)
        return cv2.GaussianBlur(white, (0, 0), sigma) * np.float32(2 * np.sqrt(np.pi) * sigma)

    def _fixed(self, points: _Points) -> NDArray[np.int32]:
        pixels = points / DRAWN_UM_PER_PIXEL + self.side // 2
        return np.rint(pixels * (1 << _SHIFT)).astype(np.int32)


@dataclass(frozen=True)
class _Parts:
    """Amounts of a leukocyte's parts, each (side, side) float32, about 0 to 1."""

    cytoplasm: _Plane
    granules: _Plane
    nucleus: _Plane
    chromatin: _Plane  # depth of stain within the nucleus, about 1


def _neutrophil(rng: np.random.Generator) -> _Parts:
    radius = rng.uniform(6.1, 7.0)
    canvas, body = _body(_outline(rng, radius, rng.uniform(1, 1.12), 0.035))
    count = int(rng.choice((2, 3, 4, 5), p=(0.15, 0.42, 0.3, 0.13)))
    radii = np.sqrt(rng.uniform(37, 49) / count / np.pi) * rng.uniform(0.78, 1.22, count)
    nucleus = _lobed_nucleus(rng, canvas, body, radii, radius, thread_um=(0.3, 0.7), broad=0.25)
    cytoplasm = canvas.soft(body, 0.12) * (1 + 0.15 * canvas.noise(rng, 0.9))
    granules = canvas.plane()
    count = int(rng.uniform(350, 650))
    canvas.discs(
        granules, _in_disc(rng, count) * radius, rng.uniform(0.06, 0.16, count), rng.beta(1.2, 2.2, count)
    )
    return _Parts(
        cytoplasm, canvas.soft(cv2.min(granules, body), 0.08), nucleus, _clumped(rng, canvas, nucleus)
    )


def _eosinophil(rng: np.random.Generator) -> _Parts:
    radius = rng.uniform(6.3, 7.4)
    outline = _outline(rng, radius, rng.uniform(1, 1.12), 0.03)
    canvas, body = _body(outline)
    count = int(rng.choice((2, 3), p=(0.85, 0.15)))
    radii = np.sqrt(rng.uniform(36, 48) / count / np.pi) * rng.uniform(0.9, 1.1, count)
    nucleus = _lobed_nucleus(rng, canvas, body, radii, radius, thread_um=(0.4, 0.8), broad=0.1)
    cytoplasm = canvas.soft(body, 0.12) * (1 + 0.15 * canvas.noise(rng, 0.9))
    spots = _packed(rng, radius, 0.78)
    edge = outline.astype(np.float32)
    inside = np.array([cv2.pointPolygonTest(edge, spot, measureDist=True) for spot in spots.tolist()])
    spots = spots[(inside > 0.3) & (rng.random(len(spots)) < rng.uniform(0.8, 0.97))]
    sizes, amounts = rng.uniform(0.34, 0.5, len(spots)), rng.uniform(0.6, 1.0, len(spots))
    granules = canvas.plane()
    canvas.discs(granules, spots, sizes, amounts)
    # They refract: a bright point, off the middle.
    canvas.discs(granules, spots + rng.normal(0, 0.05, spots.shape), 0.5 * sizes, 0.5 * amounts)
    return _Parts(cytoplasm, canvas.soft(granules, 0.08), nucleus, _clumped(rng, canvas, nucleus))


def _lymphocyte(rng: np.random.Generator) -> _Parts:
    if rng.random() < 0.7:
        radius = rng.uniform(4.3, 5.2)
        inner = radius * rng.uniform(0.84, 0.93)
    else:
        radius = rng.uniform(5.5, 6.5)
        inner = radius * rng.uniform(0.7, 0.8)
    canvas, body = _body(_outline(rng, radius, rng.uniform(1, 1.1), 0.045))
    shape = canvas.plane()
    aside = _toward(rng.uniform(0, 2 * np.pi)) * (radius - inner - 0.15) * rng.uniform(0.3, 0.9)
    canvas.fill(shape, aside + _outline(rng, inner, rng.uniform(1, 1.12), 0.035))
    if rng.random() < 0.3:  # indented, where the rim is widest
        toward = _toward(np.arctan2(-aside[1], -aside[0]) + rng.normal(0, 0.3))
        notch = aside + toward * inner * rng.uniform(1.35, 1.55)
        canvas.fill(shape, notch + _outline(rng, 0.6 * inner, 1.2, 0.08), 0)
    nucleus = canvas.rounded(cv2.min(shape, body), 0.3)
    cytoplasm = canvas.soft(body, 0.12) * (1 + 0.15 * canvas.noise(rng, 0.6))
    granules = canvas.plane()
    count = int(rng.integers(0, 9))
    canvas.discs(
        granules,
        0.9 * radius * _in_disc(rng, count),
        rng.uniform(0.12, 0.2, count),
        rng.uniform(0.5, 1, count),
    )
    chromatin = 1 + 0.10 * canvas.noise(rng, 0.65) + 0.07 * canvas.noise(rng, 0.22) + _rim(nucleus)
    return _Parts(cytoplasm, canvas.soft(cv2.min(granules, body), 0.08), nucleus, chromatin)


def _monocyte(rng: np.random.Generator) -> _Parts:
    radius = rng.uniform(7.2, 8.8)
    canvas, body = _body(_outline(rng, radius, rng.uniform(1, 1.2), 0.1))
    shape, fold = _folded_nucleus(rng, canvas, radius)
    nucleus = canvas.rounded(cv2.min(shape, body), 0.35)
    count = int(rng.integers(3, 14))
    vacuoles = canvas.plane()
    canvas.discs(vacuoles, 0.92 * radius * _in_disc(rng, count), rng.uniform(0.25, 0.75, count))
    clear = 1 - 0.85 * canvas.soft(vacuoles, 0.12)
    cytoplasm = canvas.soft(body, 0.2) * clear * (1 + 0.12 * canvas.noise(rng, 0.35))
    dust = canvas.plane()
    count = int(rng.uniform(200, 500))
    canvas.discs(
        dust, _in_disc(rng, count) * radius * 1.1, rng.uniform(0.05, 0.12, count), rng.beta(1.5, 2, count)
    )
    lace = 0.8 - np.abs(canvas.noise(rng, 0.25))
    chromatin = (
        1 + 0.25 * lace + 0.06 * canvas.noise(rng, 0.8) + 0.4 * canvas.soft(fold, 0.15) + _rim(nucleus)
    )
    granules = canvas.soft(cv2.min(dust, body), 0.08) * clear
    return _Parts(cytoplasm, granules, nucleus * (1 - 0.25 * (1 - clear)), chromatin)


_PARTS: dict[str, Callable[[np.random.Generator], _Parts]] = {
    "neutrophil": _neutrophil,
    "eosinophil": _eosinophil,
    "monocyte": _monocyte,
    "lymphocyte": _lymphocyte,
}


def _body(outline: _Points) -> tuple[_Canvas, NDArray[np.uint8]]:
    """A canvas that holds the outline, and the outline filled."""
    canvas = _Canvas(float(np.hypot(*outline.T).max()) + 3 * _EDGE_UM)
    body = canvas.plane()
    canvas.fill(body, outline)
    return canvas, body


def _folded_nucleus(
    rng: np.random.Generator, canvas: _Canvas, radius: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The shape of a monocyte's nucleus, and the folds in it; ``radius`` is the cell's."""
    shape, fold = canvas.plane(), canvas.plane()
    turn = rng.uniform(0, 2 * np.pi)
    kind = rng.choice(("kidney", "horseshoe", "folded"), p=(0.4, 0.3, 0.3))
    if kind == "folded":
        middle = _toward(turn) * rng.uniform(0, 1.2)
        canvas.fill(shape, middle + _outline(rng, 0.56 * radius, rng.uniform(1, 1.25), 0.1))
        count = int(rng.integers(2, 5))
        bulges = turn + np.cumsum(rng.uniform(1.2, 2.4, count))
        places = middle + radius * rng.uniform(0.2, 0.42, (count, 1)) * _toward(bulges)
        canvas.discs(shape, places, radius * rng.uniform(0.33, 0.48, count))
        for angle in (bulges[:-1] + np.diff(bulges) / 2)[:2]:  # between bulges, each with a fold below it
            aside = _toward(angle + np.pi / 2) * rng.uniform(0.1, 0.7)
            cleft = np.stack([1.1 * radius * _toward(angle) + aside, 1.1 * radius * _toward(angle) - aside])
            bottom = middle + _toward(angle + rng.normal(0, 0.2)) * radius * rng.uniform(0.25, 0.5)
            canvas.fill(shape, np.vstack([cleft, bottom]), 0)
            inward = bottom + np.linspace(0, -0.5, 5)[:, None] * _toward(angle) * radius
            canvas.line(fold, inward + rng.normal(0, 0.2, inward.shape), 0.4)
    else:
        span, ring, width = (1.9, 0.43, 0.45) if kind == "kidney" else (3.5, 0.47, 0.34)
        angles = turn + np.linspace(-0.5, 0.5, 7) * span * rng.uniform(0.85, 1.15)
        path = _toward(angles) * ring * radius
        path -= path.mean(axis=0) * rng.uniform(0.4, 0.8)
        radii = width * radius * rng.uniform(0.88, 1.08, len(path))
        canvas.discs(shape, path, radii)
        crease = path[1:-1] + rng.normal(0, 0.5, (len(path) - 2, 2))
        canvas.line(fold, crease, 0.4)
    return shape, fold


def _lobed_nucleus(
    rng: np.random.Generator,
    canvas: _Canvas,
    body: NDArray[np.uint8],
    radii: NDArray[np.float64],
    cell_radius: float,
    thread_um: tuple[float, float],
    broad: float,
) -> _Plane:
    """Lobes in a bent chain, joined by threads of chromatin, or a ``broad`` share of them by more."""
    heading, bend = rng.uniform(0, 2 * np.pi), rng.choice((-1, 1))
    places, headings = [np.zeros(2)], [heading]
    for inner, outer in pairwise(radii):
        places.append(places[-1] + _toward(heading) * (inner + outer) * rng.uniform(1.1, 1.32))
        headings.append(heading)
        bend *= -1 if rng.random() < 0.15 else 1
        heading += bend * rng.uniform(0.8, 1.6)
    chain = np.array(places) - np.average(places, axis=0, weights=radii**2)
    chain += _toward(rng.uniform(0, 2 * np.pi)) * rng.uniform(0, 0.25) * cell_radius
    # What would stick out of the cell is pushed back.
    room = cell_radius - 0.4 - 1.1 * radii
    chain *= np.minimum(1, room / np.hypot(*chain.T))[:, None]
    if len(radii) == 2:  # like spectacles
        headings = [heading + np.pi / 2 + tilt for tilt in rng.normal(0, 0.4, 2)]
    shape = canvas.plane()
    for place, radius, turn in zip(chain, radii, headings, strict=True):
        canvas.fill(shape, place + _outline(rng, radius, rng.uniform(1, 1.35), 0.07, turn))
    for start, end in pairwise(range(len(chain))):
        width = rng.uniform(*thread_um) if rng.random() > broad else rng.uniform(0.8, 1.3) * radii[start]
        canvas.line(shape, chain[[start, end]], width)
    return canvas.rounded(cv2.min(shape, body), 0.2)


def _clumped(rng: np.random.Generator, canvas: _Canvas, nucleus: _Plane) -> _Plane:
    """Chromatin of a granulocyte: dense clumps with small pale gaps."""
    gaps = np.clip(canvas.noise(rng, 0.24) - 0.5, 0, 1.5)
    return 1.07 + 0.10 * canvas.noise(rng, 0.45) - 0.3 * gaps + _rim(nucleus)


def _rim(nucleus: _Plane) -> _Plane:
    """Chromatin along the membrane of the nucleus, denser than the rest."""
    return 0.35 * nucleus * (1 - cv2.GaussianBlur(nucleus, (0, 0), 0.3 / DRAWN_UM_PER_PIXEL))


def _outline(
    rng: np.random.Generator, radius: float, elongation: float, uneven: float, turn: float | None = None
) -> _Points:
    """Points around an oval of this mean radius, which varies smoothly by about the share ``uneven``."""
    angles = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
    swing = np.ones(_OUTLINE_POINTS)
    for wave in (2, 3, 4, 5, 6):
        swing += uneven / (wave - 1) * rng.normal() * np.cos(wave * angles + rng.uniform(0, 7))
    long = np.sqrt(elongation)
    oval = radius * swing[:, None] * np.stack([long * np.cos(angles), np.sin(angles) / long], axis=1)
    turn = rng.uniform(0, 2 * np.pi) if turn is None else turn
    return oval @ np.array(((np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))))


def _in_disc(rng: np.random.Generator, count: int) -> _Points:
    """Points spread evenly over the unit disc."""
    angles, distances = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count))
    return distances[:, None] * _toward(angles)


def _packed(rng: np.random.Generator, reach_um: float, apart_um: float) -> _Points:
    """Points of a hexagonal packing that was shaken."""
    steps = np.arange(-1.2 * reach_um, 1.2 * reach_um, apart_um)
    x, y = np.meshgrid(steps, steps * np.sqrt(0.75))
    x[::2] += apart_um / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return points + rng.normal(0, 0.2 * apart_um, points.shape)


def _toward(angle: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors, (2,) or one for each angle, (n, 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _drawing(density: NDArray[np.float32], nucleus: _Plane | None, um_per_pixel: float) -> Drawing:
    density = np.maximum(_resampled(density, um_per_pixel), 0)
    if nucleus is None:
        return Drawing(density, np.zeros(density.shape[:2], bool))
    return Drawing(density, _resampled(nucleus, um_per_pixel) > 0.5)


def _resampled(plane: NDArray[np.float32], um_per_pixel: float) -> NDArray[np.float32]:
    shrink = um_per_pixel / DRAWN_UM_PER_PIXEL
    if shrink == 1:
        return plane
    if shrink > 1:  # what a coarse pixel cannot show must not be folded back
        plane = cv2.GaussianBlur(plane, (0, 0), 0.4 * shrink)
    middle = len(plane) // 2
    reach = int(middle / shrink) + 1
    offset = middle - reach * shrink
    matrix = np.array(((shrink, 0, offset), (0, shrink, offset)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(plane, matrix, (2 * reach + 1, 2 * reach + 1), flags=flags)
