"""Where the cells of a phantom smear lie: decided for the whole slide at once, by the smear's seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import SettingError
from hematovision.optics import check_um_per_pixel

#: Centres of leukocytes are at least this far apart, unless they are placed by hand.
LEUKOCYTES_APART_UM = 18.0
#: A differential count as of a healthy adult.
ADULT_PERCENT: Mapping[str, float] = MappingProxyType(
    {"neutrophil": 60.0, "eosinophil": 4.0, "monocyte": 6.0, "lymphocyte": 30.0}
)

# Red cells keep a little less than their diameter apart, so that some touch; a share lies on a neighbour.
_RED_CELLS_APART_UM = 7.3
_SHARE_OVERLAPPING = 0.06
_OVERLAP_STEP_UM = (3.8, 6.4)
_TRIES_OF_PLATELETS = 8  # most of a smear is covered by other cells
# What is kept free of other cells' centres around a leukocyte, so that some red cells touch it, and what is
# kept free of platelets around a red cell.
_LEUKOCYTE_ROOM_UM = {"neutrophil": 10, "eosinophil": 10, "monocyte": 12, "lymphocyte": 9}
_RED_CELL_ROOM_UM = 5
# A smear is thicker in some places than in others, over distances like these.
_THICKNESS_UM = 50.0
_THICKNESS_CONTRAST = 0.9
# Chances of a place to be tried in one of the rounds: low enough that no order of the grid shows.
_ROUNDS, _TRIED = 10, 0.3

_Places = NDArray[np.float64]  # (n, 2): x and y on the slide in µm


@dataclass(frozen=True)
class Smear:
    """What a phantom smear is made of; equal smears look the same.

    ``um_per_pixel``: the scale that it is drawn at and seen at. ``class_percent``: the differential of the
    leukocytes, which they have but for rounding. ``stain``: multiplies the optical density of red, green and
    blue light; 1 is a smear stained as usual.

    Raises:
        SettingError: the scale is no scale, the slide has no area, or the classes are not the four.
    """

    seed: int
    width_mm: float = 1.0
    height_mm: float = 1.0
    um_per_pixel: float = 0.1
    leukocytes_per_mm2: float = 80.0
    red_cells_per_mm2: float = 9000.0
    platelets_per_mm2: float = 600.0
    class_percent: Mapping[str, float] = field(default_factory=lambda: ADULT_PERCENT, hash=False)
    stain: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        check_um_per_pixel(self.um_per_pixel)
        if not (self.width_mm > 0 and self.height_mm > 0):
            raise SettingError(
                f"a phantom slide of {self.width_mm:g} x {self.height_mm:g} mm; it must have an area"
            )
        percents = self.class_percent
        if not set(percents) <= set(CLASS_NAMES) or min(percents.values()) < 0 or not sum(percents.values()):
            raise SettingError(
                f"a phantom smear's classes are {dict(percents)}; give shares of {', '.join(CLASS_NAMES)}"
            )

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height of the slide in µm."""
        return self.width_mm * 1000, self.height_mm * 1000


@dataclass(frozen=True)
class SlideCell:
    """A leukocyte of a slide: its number, class, and (x, y) of its nucleus's centroid on the slide in µm."""

    number: int
    class_name: str
    center_um: tuple[float, float]


class SmallCells(NamedTuple):
    """Red cells and platelets, from the top of the slide to its bottom.

    ``x``, ``y``: (n,) float64, the middle in µm; ``platelet``: (n,) bool; ``shape``: (n,) int64, a large
    random number that decides which of the shapes it has and how that is turned.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    platelet: NDArray[np.bool_]
    shape: NDArray[np.int64]


def scatter(rng: np.random.Generator, size_um: Sequence[float], apart_um: float) -> _Places:
    """Places of which none is nearer to another than ``apart_um``, nearly as many as have room.

    Returns:
        (n, 2) float64, x and y in µm; at least one.
    """
    # A rectangle as small as these holds one place at most, and only places up to two of them away are too
    # near. So every third in both directions can be tried at once.
    columns, rows = (int(np.ceil(length / (apart_um / np.sqrt(2)))) for length in size_um)
    side = np.array([size_um[0] / columns, size_um[1] / rows])
    grid = np.full((rows + 4, columns + 4, 2), np.inf)
    places = grid[2:-2, 2:-2]
    around = sliding_window_view(grid, (5, 5, 2))[:, :, 0]
    for chance in [_TRIED] * _ROUNDS + [1.0]:
        for first in rng.permutation(9):
            third = places[first // 3 :: 3, first % 3 :: 3]
            row, column = np.nonzero(np.isinf(third[..., 0]) & (rng.random(third.shape[:2]) < chance))
            row, column = 3 * row + first // 3, 3 * column + first % 3
            tried = (np.column_stack([column, row]) + rng.random((len(row), 2))) * side
            distance = np.square(around[row, column] - tried[:, None, None, :]).sum(axis=3)
            free = (distance >= apart_um**2).all(axis=(1, 2))
            places[row[free], column[free]] = tried[free]
    return places[np.isfinite(places[..., 0])]


def place_leukocytes(rng: np.random.Generator, smear: Smear) -> tuple[SlideCell, ...]:
    """Leukocytes of the smear's density and classes, as far as there is room for them."""
    places = scatter(rng, smear.size_um, LEUKOCYTES_APART_UM)
    count = round(smear.leukocytes_per_mm2 * smear.width_mm * smear.height_mm)
    places = rng.permutation(places)[:count]
    limits = np.cumsum([smear.class_percent.get(name, 0.0) for name in CLASS_NAMES])
    ranks = (np.arange(len(places)) + 0.5) / max(len(places), 1) * limits[-1]
    classes = rng.permutation(np.searchsorted(limits, ranks))
    return tuple(
        SlideCell(number, CLASS_NAMES[index], (float(x), float(y)))
        for number, (index, (x, y)) in enumerate(zip(classes, places, strict=True))
    )


def place_small_cells(rng: np.random.Generator, smear: Smear, leukocytes: Sequence[SlideCell]) -> SmallCells:
    """Red cells and platelets of the smear's densities around its leukocytes, as far as there is room."""
    area_mm2 = smear.width_mm * smear.height_mm
    # One pixel is 1 µm: the logarithm of how likely a cell lies here.
    columns, rows = (int(side) + 1 for side in smear.size_um)
    knots = max(2, round(rows / _THICKNESS_UM) + 1), max(2, round(columns / _THICKNESS_UM) + 1)
    likely = cv2.resize(
        rng.normal(0, _THICKNESS_CONTRAST, knots).astype(np.float32),
        (columns, rows),
        interpolation=cv2.INTER_CUBIC,
    )
    for cell in leukocytes:
        _rule_out(likely, cell.center_um, _LEUKOCYTE_ROOM_UM[cell.class_name])
    count = round(smear.red_cells_per_mm2 * area_mm2)
    overlapping = round(_SHARE_OVERLAPPING * count)
    red_cells = _thin(rng, scatter(rng, smear.size_um, _RED_CELLS_APART_UM), count - overlapping, likely)
    directions = rng.uniform(0, 2 * np.pi, overlapping)[: len(red_cells)]
    steps = rng.uniform(*_OVERLAP_STEP_UM, len(directions))
    on_others = red_cells[: len(directions)] + np.column_stack(
        [steps * np.cos(directions), steps * np.sin(directions)]
    )
    red_cells = np.vstack([red_cells, _thin(rng, on_others, overlapping, likely)])
    for x, y in red_cells:
        _rule_out(likely, (x, y), _RED_CELL_ROOM_UM)
    count = round(smear.platelets_per_mm2 * area_mm2)
    anywhere = rng.uniform((0, 0), smear.size_um, (_TRIES_OF_PLATELETS * count, 2))
    platelets = _thin(rng, anywhere, count, likely)
    places = np.vstack([red_cells, platelets])
    order = np.argsort(places[:, 1], kind="stable")
    platelet = np.arange(len(places)) >= len(red_cells)
    shape = rng.integers(0, 2**31, len(places))
    return SmallCells(places[order, 0], places[order, 1], platelet[order], shape[order])


def _thin(rng: np.random.Generator, places: _Places, count: int, likely: NDArray[np.float32]) -> _Places:
    """``count`` of the places, drawn by how likely each is; fewer where fewer are possible."""
    columns = np.clip(places[:, 0].astype(int), 0, likely.shape[1] - 1)
    rows = np.clip(places[:, 1].astype(int), 0, likely.shape[0] - 1)
    # The largest of these are a draw without replacement (Gumbel).
    keys = likely[rows, columns] + rng.gumbel(size=len(places))
    order = np.argsort(-keys, kind="stable")[:count]
    return places[order[np.isfinite(keys[order])]]


def _rule_out(likely: NDArray[np.float32], center_um: tuple[float, float], radius_um: int) -> None:
    cv2.circle(likely, (round(center_um[0]), round(center_um[1])), radius_um, -np.inf, cv2.FILLED)
