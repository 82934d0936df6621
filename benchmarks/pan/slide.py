"""Large pieces of smear put together from boxed fields, whose leukocytes are known."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.rectangle import Rectangle
from hematovision.errors import DataSetError
from hematovision.images import RGBImage, read_image
from hematovision.optics import measure_field
from train.finder.boxed_fields import BoxedField

#: Scale of a slide.
UM_PER_PIXEL = 0.1
#: Levels of empty glass: what is brighter, such as a cell's edge that acts as a lens, has room above it.
GLASS = 230
#: Squares without a leukocyte for every one with.
EMPTY_FOR_EACH = 10

# Squares lie so far apart and overlap by so much, where one passes into the next.
_PITCH_PX, _SEAM_PX = 230, 30
_SIDE_PX = _PITCH_PX + _SEAM_PX
# No leukocyte comes so near to a square without one: its rim may lie outside its box. One that is not boxed
# reaches so far from its middle.
_RIM_UM, _NOT_BOXED_UM = 2.0, 12.0
# A box so near to the border may be of a cell that the border cuts.
_BORDER_UM = 0.3
# Empty squares are looked for in steps of this share of their side.
_STEPS = 4
_WAYS = 8
# Fewer fields of a slide make no slide.
_FEWEST_FIELDS = 3
# What the lamp leaves in fields divided by their own light is seen in so many, at so many pixels in a row and
# a column, where most of them show glass; it is smooth over so many of these.
_LAMP_FIELDS, _LAMP_GRID, _LAMP_PERCENTILE, _LAMP_SMOOTH = 60, 64, 85, 4.0


@dataclass(frozen=True)
class RealCell:
    """A leukocyte of a slide: its box in µm, what it is labelled, and the image and place that it is of."""

    box_um: Rectangle
    label: str
    source: str


@dataclass(frozen=True, eq=False)
class RealSlide:
    """A piece of smear.

    ``light``: what it lets through, (height, width, 3) uint8 at `UM_PER_PIXEL`, `GLASS` for all light.
    ``lamp``: levels of empty glass over a frame, (rows, columns, 3) float32, as the smear was seen with.
    ``cells``: its leukocytes, all whole. ``sources``: by row and column of its squares, the image that each
    is of, and where in it.
    """

    name: str
    light: RGBImage
    lamp: NDArray[np.float32]
    cells: tuple[RealCell, ...]
    sources: tuple[tuple[str, ...], ...]

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height."""
        height, width = self.light.shape[:2]
        return width * UM_PER_PIXEL, height * UM_PER_PIXEL

    def source_at(self, x_um: float, y_um: float) -> str:
        """Return the image that a place shows, and where in it; of a seam, one of those that meet there."""
        rows, columns = len(self.sources), len(self.sources[0])
        row, column = (int((um / UM_PER_PIXEL + _SEAM_PX / 2) // _PITCH_PX) for um in (y_um, x_um))
        return self.sources[min(max(row, 0), rows - 1)][min(max(column, 0), columns - 1)]


class _Square(NamedTuple):
    """A square of smear, (side, side, 3) uint8; the box of its leukocyte in its pixels, or None."""

    light: RGBImage
    box: Rectangle | None
    label: str
    source: str


def make_slides(fields: Sequence[BoxedField], cells: int, seed: int) -> Iterator[RealSlide]:
    """Put fields of one laboratory together, those of a slide to a slide, others to one of the laboratory.

    A slide is a mosaic of squares of 26 µm: one with a leukocyte, all of it and no other, for every
    `EMPTY_FOR_EACH` that show none. Each field is resampled to `UM_PER_PIXEL` and divided by its own light,
    and by what is uneven in all of them alike, so that the lamp makes no seams; squares pass into each other
    over 3 µm. They are turned and mirrored, and none without a leukocyte comes twice in the same way.

    Args:
        fields: of one laboratory, whose leukocytes are all boxed or listed by eye.
        cells: leukocytes of a slide at most.
        seed: of which squares are taken, and where they lie.

    Raises:
        DataSetError: a slide shows no whole leukocyte, or too little without one.
        ImageError: a field cannot be read.
    """
    rng = np.random.default_rng(seed)
    mixed = [fields[index] for index in rng.permutation(len(fields))]
    left = _left_by_lamp(mixed[:_LAMP_FIELDS])
    sizes = Counter(field.group for field in mixed)
    slides: dict[str, list[BoxedField]] = defaultdict(list)
    for field in mixed:
        slides[field.group if sizes[field.group] >= _FEWEST_FIELDS else field.laboratory].append(field)
    for name in sorted(slides):
        yield _make_slide(name, slides[name], left, cells, rng)


def _make_slide(
    name: str, fields: list[BoxedField], left: NDArray[np.float32], cells: int, rng: np.random.Generator
) -> RealSlide:
    occupied: list[_Square] = []
    empty: list[_Square] = []
    lights = []
    for field in fields:
        even, own = _divided(field)
        lights.append(own)
        light = _at_scale(even, left, field.um_per_pixel)
        occupied += _squares_with_one(field, light)
        empty += _squares_without(field, light)
    # A row of squares more than asked for makes the slide a rectangle.
    occupied = occupied[: min(cells, len(empty) * _WAYS // (EMPTY_FOR_EACH + 2))]
    if not occupied:
        raise DataSetError(
            f"{fields[0].path.parent}: {len(fields)} fields of {name} have no whole leukocyte, or too few "
            f"squares of {_SIDE_PX * UM_PER_PIXEL:g} µm without one ({len(empty)}); give the whole collection"
        )
    wanted = (EMPTY_FOR_EACH + 1) * len(occupied)
    columns = max(1, round((wanted * 4 / 3) ** 0.5))
    rows = -(-wanted // columns)
    # Those at the rim are not shown whole as often as others: leukocytes lie further in, where there is room.
    places = list(product(range(rows), range(columns)))
    inner = [(row, column) for row, column in places if 0 < row < rows - 1 and 0 < column < columns - 1]
    room = inner if len(inner) >= len(occupied) else places
    chosen = {
        room[index]: square for index, square in zip(rng.permutation(len(room)), occupied, strict=False)
    }
    ways = iter(product(rng.permutation(_WAYS), rng.permutation(len(empty))))
    squares = []
    for place in places:
        if place in chosen:
            squares.append(_turned(chosen[place], int(rng.integers(_WAYS))))
        else:
            way, index = next(ways)
            squares.append(_turned(empty[index], int(way)))
    lamp = np.median(lights, axis=0).astype(np.float32) * left
    return _put_together(name, lamp, [squares[row * columns :][:columns] for row in range(rows)])


def _left_by_lamp(fields: Sequence[BoxedField]) -> NDArray[np.float32]:
    """Return what is uneven in all fields of a camera alike: (grid, grid, 3) float32, 1 where nothing is."""
    size = _LAMP_GRID, _LAMP_GRID
    small = [cv2.resize(_divided(field)[0], size, interpolation=cv2.INTER_AREA) for field in fields]
    glass = np.percentile(small, _LAMP_PERCENTILE, axis=0).astype(np.float32)
    glass = cv2.GaussianBlur(glass, (0, 0), _LAMP_SMOOTH)
    return glass / glass.mean(axis=(0, 1))


def _divided(field: BoxedField) -> tuple[RGBImage, NDArray[np.float32]]:
    """Return a field in even light, `GLASS`, and its own light: (grid, grid, 3) float32 levels."""
    image = read_image(field.path)
    height, width = image.shape[:2]
    light = measure_field(image, field.um_per_pixel).light
    even = cv2.divide(image, light.over(width, height), scale=GLASS, dtype=cv2.CV_8U)
    return even, light.over(_LAMP_GRID, _LAMP_GRID)


def _at_scale(even: RGBImage, left: NDArray[np.float32], um_per_pixel: float) -> RGBImage:
    """Return a field in even light without what the lamp left, at the scale of a slide."""
    height, width = even.shape[:2]
    even = cv2.divide(even, cv2.resize(left, (width, height)), dtype=cv2.CV_8U)
    shrink = um_per_pixel / UM_PER_PIXEL
    method = cv2.INTER_AREA if shrink < 1 else cv2.INTER_CUBIC
    return cv2.resize(even, (round(width * shrink), round(height * shrink)), interpolation=method)


def _boxes(field: BoxedField) -> list[Rectangle]:
    """Boxes of a field in pixels of the slide."""
    shrink = field.um_per_pixel / UM_PER_PIXEL
    return [
        Rectangle(*(side * shrink for side in (box.x, box.y, box.x + box.width, box.y + box.height)))
        for box in field.cells
    ]


def _not_boxed(field: BoxedField) -> list[Rectangle]:
    """Return where other leukocytes of a field may lie, by eye, in pixels of the slide."""
    shrink = field.um_per_pixel / UM_PER_PIXEL
    around = (_NOT_BOXED_UM - _RIM_UM) / UM_PER_PIXEL
    return [
        Rectangle(x * shrink, y * shrink, x * shrink, y * shrink).wider(around) for x, y in field.others or ()
    ]


def _squares_with_one(field: BoxedField, light: RGBImage) -> Iterator[_Square]:
    """Squares around each whole leukocyte that show no other."""
    height, width = light.shape[:2]
    inside = Rectangle(0, 0, width, height).wider(-_BORDER_UM / UM_PER_PIXEL)
    boxes = _boxes(field)
    for cell, box in zip(field.cells, boxes, strict=True):
        x, y = (
            min(max(round(middle - _SIDE_PX / 2), 0), side - _SIDE_PX)
            for middle, side in zip(box.middle, (width, height), strict=True)
        )
        square = Rectangle(x, y, x + _SIDE_PX, y + _SIDE_PX)
        others = [*(other for other in boxes if other is not box), *_not_boxed(field)]
        if inside.holds(box) and square.wider(-_SEAM_PX).holds(box) and not _shows_any(square, others):
            yield _square(field, light, square, box.moved(-x, -y), cell.label)


def _squares_without(field: BoxedField, light: RGBImage) -> Iterator[_Square]:
    """Squares of a field that show no leukocyte, side by side."""
    height, width = light.shape[:2]
    taken = [*_boxes(field), *_not_boxed(field)]
    step = _SIDE_PX // _STEPS
    for y, x in product(range(0, height - _SIDE_PX + 1, step), range(0, width - _SIDE_PX + 1, step)):
        square = Rectangle(x, y, x + _SIDE_PX, y + _SIDE_PX)
        if not _shows_any(square, taken):
            taken.append(square.wider(-_RIM_UM / UM_PER_PIXEL))
            yield _square(field, light, square, None, "")


def _shows_any(square: Rectangle, boxes: Sequence[Rectangle]) -> bool:
    return any(square.common(box.wider(_RIM_UM / UM_PER_PIXEL)).area > 0 for box in boxes)


def _square(
    field: BoxedField, light: RGBImage, square: Rectangle, box: Rectangle | None, label: str
) -> _Square:
    x, y = round(square.left), round(square.top)
    at = (round(middle * UM_PER_PIXEL / field.um_per_pixel) for middle in square.middle)
    source = f"{field.path.name} at {', '.join(map(str, at))}"
    return _Square(light[y : y + _SIDE_PX, x : x + _SIDE_PX], box, label, source)


def _turned(square: _Square, way: int) -> _Square:
    """Return a square turned by quarters and mirrored: one of `_WAYS` ways."""
    light, box = np.rot90(square.light, way % 4), square.box
    if way >= 4:
        light = light[:, ::-1]
    if box is not None:
        for _ in range(way % 4):
            box = Rectangle(box.top, _SIDE_PX - box.right, box.bottom, _SIDE_PX - box.left)
        if way >= 4:
            box = Rectangle(_SIDE_PX - box.right, box.top, _SIDE_PX - box.left, box.bottom)
    return square._replace(light=light, box=box)


def _put_together(name: str, lamp: NDArray[np.float32], rows: list[list[_Square]]) -> RealSlide:
    """Lay squares side by side; the outermost seams are cut off."""
    height, width = (_PITCH_PX * len(side) + _SEAM_PX for side in (rows, rows[0]))
    ramp = (np.arange(_SEAM_PX, dtype=np.float32) + 0.5) / _SEAM_PX
    share = np.concatenate([ramp, np.ones(_PITCH_PX - _SEAM_PX, np.float32), ramp[::-1]])
    weight = np.outer(share, share)[..., None]
    light = np.zeros((height, width, 3), np.uint8)
    above: NDArray[np.float32] = np.zeros((_SEAM_PX, width, 3), np.float32)
    cells = []
    for row, squares in enumerate(rows):
        strip = np.zeros((_SIDE_PX, width, 3), np.float32)
        strip[:_SEAM_PX] = above
        y = row * _PITCH_PX
        for column, square in enumerate(squares):
            x = column * _PITCH_PX
            strip[:, x : x + _SIDE_PX] += weight * square.light
            if square.box is not None:
                box = square.box.moved(x - _SEAM_PX, y - _SEAM_PX)
                in_um = Rectangle(*(side * UM_PER_PIXEL for side in box))
                cells.append(RealCell(in_um, square.label, square.source))
        light[y : y + _PITCH_PX] = np.rint(strip[:_PITCH_PX])
        above = strip[_PITCH_PX:]
    whole = np.ascontiguousarray(light[_SEAM_PX:-_SEAM_PX, _SEAM_PX:-_SEAM_PX])
    sources = tuple(tuple(square.source for square in squares) for squares in rows)
    return RealSlide(name, whole, lamp, tuple(cells), sources)
