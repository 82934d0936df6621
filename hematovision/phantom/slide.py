"""The smear on its slide, and the light that each spot of it lets through.

What a slide looks like is drawn in tiles when somebody looks there, and the tiles looked at last are kept, up
to 48 MB, so that a slide may be of any size. A tile depends on the layout alone: a slide looks the same in
whatever order it is visited.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import SettingError
from hematovision.images import RGBImage
from hematovision.phantom.layout import SlideCell, Smear, place_leukocytes, place_small_cells
from hematovision.phantom.morphology import Drawing, draw_leukocyte, draw_platelet, draw_red_cell

#: What `Slide.light` gives for empty glass. Above it is room for noise before a sensor saturates.
GLASS = 220

_TILE_PX = 256
_TILES_KEPT = 12_000_000 // (_TILE_PX * _TILE_PX * 3)
_LEUKOCYTES_KEPT = 24  # 12 MB at 0.1 µm per pixel
_RED_CELL_SHAPES, _PLATELET_SHAPES = 64, 24  # each of them is placed in eight ways
_SHAPES_SEED = 1904
_REACH_UM = 20.0  # nothing drawn reaches farther from its middle

_Light = NDArray[np.float32]  # (height, width, 3): share of red, green, blue light that is let through
_Level = TypeVar("_Level", np.uint8, np.float32)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Nucleus(NamedTuple):
    """A nucleus as it is drawn: its area, and left, top, right and bottom of its box on the slide in µm."""

    area_um2: float
    box_um: tuple[float, float, float, float]


class _Stamp(NamedTuple):
    light: _Light
    left: int
    top: int


class Slide:
    """A smear laid out on a slide; (0, 0) µm is its corner at the top left, and beyond it is empty glass.

    Args:
        smear: what it is made of.
        leukocytes: class and (x, y) of the nucleus in µm of each leukocyte; left out, the smear's density,
            classes and seed decide.

    Raises:
        SettingError: a leukocyte is of a class that there is not.
    """

    def __init__(
        self, smear: Smear, leukocytes: Sequence[tuple[str, tuple[float, float]]] | None = None
    ) -> None:
        rng = np.random.default_rng((smear.seed, 0))
        self.smear = smear
        self.cells: tuple[SlideCell, ...]
        if leukocytes is None:
            self.cells = place_leukocytes(rng, smear)
        else:
            unknown = sorted({name for name, _ in leukocytes} - set(CLASS_NAMES))
            if unknown:
                raise SettingError(f"no class is called '{unknown[0]}'; known are {', '.join(CLASS_NAMES)}")
            self.cells = tuple(SlideCell(number, *cell) for number, cell in enumerate(leukocytes))
        self._centers_um = np.array([cell.center_um for cell in self.cells]).reshape(-1, 2)
        self._small = place_small_cells(rng, smear, self.cells)
        self._nuclei: dict[int, Nucleus] = {}
        self._leukocytes: OrderedDict[int, _Stamp] = OrderedDict()
        self._tiles: OrderedDict[tuple[int, int], RGBImage] = OrderedDict()

    def light(self, left: int, top: int, width: int, height: int) -> RGBImage:
        """What a rectangle of the slide's pixels lets through: (height, width, 3) uint8, glass is `GLASS`.

        Pixel (0, 0) is the slide's first; its middle is half a pixel away from the corner in x and in y.
        """
        whole = np.empty((height, width, 3), np.uint8)
        for row in range(top // _TILE_PX, (top + height - 1) // _TILE_PX + 1):
            for column in range(left // _TILE_PX, (left + width - 1) // _TILE_PX + 1):
                tile = _kept(self._tiles, _TILES_KEPT, (column, row), self._draw_tile)
                target, source = _overlap(whole, tile, column * _TILE_PX - left, row * _TILE_PX - top)
                target[:] = source
        return whole

    def cells_near(self, left_um: float, top_um: float, right_um: float, bottom_um: float) -> list[SlideCell]:
        """Leukocytes of which a part may lie in a rectangle of the slide, in the order of their numbers."""
        corners = np.array([[left_um, top_um], [right_um, bottom_um]])
        near = (self._centers_um > corners[0] - _REACH_UM) & (self._centers_um < corners[1] + _REACH_UM)
        return [self.cells[number] for number in np.flatnonzero(near.all(axis=1))]

    def nucleus(self, cell: SlideCell) -> Nucleus:
        """The nucleus of one of the slide's cells as it is drawn."""
        if cell.number not in self._nuclei:
            self._leukocyte(cell.number)
        return self._nuclei[cell.number]

    def _leukocyte(self, number: int) -> _Stamp:
        return _kept(self._leukocytes, _LEUKOCYTES_KEPT, number, self._draw_leukocyte)

    def _draw_leukocyte(self, number: int) -> _Stamp:
        cell, px_um = self.cells[number], self.smear.um_per_pixel
        drawing = draw_leukocyte(np.random.default_rng((self.smear.seed, 1, number)), cell.class_name, px_um)
        rows, columns = np.nonzero(drawing.nucleus)
        # The drawing is moved by part of a pixel, so that the nucleus lies exactly where the layout has it.
        x, y = (
            at / px_um - 0.5 - float(pixels.mean())
            for at, pixels in zip(cell.center_um, (columns, rows), strict=True)
        )
        left, top = round(x), round(y)
        shift = np.array([[1, 0, x - left], [0, 1, y - top]])
        density = cv2.warpAffine(drawing.density, shift, drawing.density.shape[1::-1])
        box = x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1
        self._nuclei[number] = Nucleus(
            len(rows) * px_um**2, (box[0] * px_um, box[1] * px_um, box[2] * px_um, box[3] * px_um)
        )
        return _Stamp(_light_of(density), left, top)

    def _draw_tile(self, place: tuple[int, int]) -> RGBImage:
        px_um = self.smear.um_per_pixel
        left, top = place[0] * _TILE_PX, place[1] * _TILE_PX
        box_um = left * px_um, top * px_um, (left + _TILE_PX) * px_um, (top + _TILE_PX) * px_um
        light = np.ones((_TILE_PX, _TILE_PX, 3), np.float32)
        stamps = self._small_near(*box_um)
        stamps += [self._leukocyte(cell.number) for cell in self.cells_near(*box_um)]
        for stamp in stamps:
            target, source = _overlap(light, stamp.light, stamp.left - left, stamp.top - top)
            target *= source
        if self.smear.stain != (1.0, 1.0, 1.0):
            light **= np.array(self.smear.stain, np.float32)
        return cv2.convertScaleAbs(light, alpha=GLASS)

    def _small_near(self, left_um: float, top_um: float, right_um: float, bottom_um: float) -> list[_Stamp]:
        small, px_um = self._small, self.smear.um_per_pixel
        rows = slice(*np.searchsorted(small.y, (top_um - _REACH_UM, bottom_um + _REACH_UM)))
        near = (small.x[rows] > left_um - _REACH_UM) & (small.x[rows] < right_um + _REACH_UM)
        stamps = []
        for index in rows.start + np.flatnonzero(near):
            light = _small_cell(int(small.shape[index]), bool(small.platelet[index]), px_um)
            left = round(small.x[index] / px_um - light.shape[1] / 2)
            top = round(small.y[index] / px_um - light.shape[0] / 2)
            stamps.append(_Stamp(light, left, top))
        return stamps


def _kept(
    recent: "OrderedDict[_Key, _Value]", limit: int, key: _Key, make: Callable[[_Key], _Value]
) -> _Value:
    """What is kept under a key, made if it is not; what was not wanted for longest goes."""
    if key not in recent:
        recent[key] = make(key)
        if len(recent) > limit:
            recent.popitem(last=False)
    recent.move_to_end(key)
    return recent[key]


def _overlap(
    under: NDArray[_Level], over: NDArray[_Level], left: int, top: int
) -> tuple[NDArray[_Level], NDArray[_Level]]:
    """Views of two pictures where they overlap, with the second's corner at (left, top) of the first."""
    height, width = under.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = max(min(left + over.shape[1], width), x0), max(min(top + over.shape[0], height), y0)
    return under[y0:y1, x0:x1], over[y0 - top : y1 - top, x0 - left : x1 - left]


def _light_of(density: NDArray[np.float32]) -> _Light:
    return np.power(np.float32(10), -density)


def _small_cell(shape: int, platelet: bool, um_per_pixel: float) -> _Light:
    shapes = _platelets(um_per_pixel) if platelet else _red_cells(um_per_pixel)
    turn, number = divmod(shape, len(shapes))
    light = np.rot90(shapes[number], turn % 4)
    return light[::-1] if turn & 4 else light


# Drawing them takes longer than laying out a slide; they are the same on all slides of one scale.
@lru_cache(maxsize=2)
def _red_cells(um_per_pixel: float) -> tuple[_Light, ...]:
    return _shapes(draw_red_cell, _RED_CELL_SHAPES, um_per_pixel)


@lru_cache(maxsize=2)
def _platelets(um_per_pixel: float) -> tuple[_Light, ...]:
    return _shapes(draw_platelet, _PLATELET_SHAPES, um_per_pixel)


def _shapes(
    draw: Callable[[np.random.Generator, float], Drawing], count: int, um_per_pixel: float
) -> tuple[_Light, ...]:
    rng = np.random.default_rng(_SHAPES_SEED)
    return tuple(_light_of(draw(rng, um_per_pixel).density) for _ in range(count))
