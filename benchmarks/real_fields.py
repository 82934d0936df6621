"""Fields of real smears, put together from the annotated originals of the Kaggle collection."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.finder.threshold_rule import find_by_threshold
from benchmarks.variants import data_folder
from hematovision.errors import DataSetError, SettingError
from hematovision.finder import CellRegion
from hematovision.images import RGBImage, read_image
from train.datasets import KAGGLE_ORIGINAL_UM_PER_PIXEL

#: Width and height of a field in pixels, and its scale: what a speed is stated for.
FIELD_SIZE = 1280, 960
FIELD_UM_PER_PIXEL = 0.1
#: A field is a mosaic of squares of 32 µm, so many in a row and in a column; a leukocyte is 17 µm wide.
COLUMNS, ROWS = 4, 3
#: With one in each square.
MOST_LEUKOCYTES = COLUMNS * ROWS

#: Left, top, right and bottom in pixels of an original.
Box = tuple[int, int, int, int]

_SEED = 1
_SQUARE_PX = FIELD_SIZE[0] // COLUMNS
# The same in an original.
_CUT_PX = round(_SQUARE_PX * FIELD_UM_PER_PIXEL / KAGGLE_ORIGINAL_UM_PER_PIXEL)
# A box so near to the border of its original may be of a leukocyte that the border cuts.
_BORDER_PX = 3
# The rim of a cell may lie so far outside its box.
_RIM_PX = 12


def default_collection() -> Path | None:
    """The annotated Kaggle collection in the folder that HEMATOVISION_DATA names, where it is there."""
    folder = data_folder()
    collection = folder / "kaggle-blood-cells" if folder else None
    return collection if collection and (collection / "annotations").is_dir() else None


def find_annotations(collection: Path) -> list[Path]:
    """The annotations of the Kaggle collection, one file for each original.

    Raises:
        DataSetError: there are none.
    """
    annotations = sorted((collection / "annotations").glob("*.xml"))
    if not annotations:
        raise DataSetError(
            f"{collection}: has no folder annotations with .xml files; give the Kaggle collection"
        )
    return annotations


def annotated_original(annotation: Path) -> Path:
    """The image that an annotation is of."""
    return annotation.parent.parent / "Original_Images" / f"{annotation.stem}.jpg"


def leukocyte_boxes(annotation: Path) -> list[Box]:
    """The leukocytes of an original, by its annotation.

    Raises:
        DataSetError: it is no annotation.
    """
    try:
        # Local files of a known collection; Python's expat refuses entity bombs (since 2.4.1).
        tree = ElementTree.parse(annotation)  # noqa: S314
        return [
            tuple(int(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))  # type: ignore[misc]
            for item in tree.getroot().iter("object")
            if item.findtext("name") == "WBC"
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise DataSetError(f"{annotation}: not a Pascal-VOC annotation ({error}); copy it again") from error


def is_inside(region: CellRegion, box: Box) -> bool:
    """Whether the middle of a nucleus lies in a box."""
    x, y = region.center
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def check_leukocytes(leukocytes: int) -> None:
    """Raise `SettingError` where a field cannot show so many."""
    if not 0 <= leukocytes <= MOST_LEUKOCYTES:
        raise SettingError(f"{leukocytes} leukocytes in a field; give 0 to {MOST_LEUKOCYTES}")


def make_fields(collection: Path, leukocytes: int, fields: int) -> list[RGBImage]:
    """Fields with exactly so many annotated leukocytes in each, all of them whole.

    Each is a mosaic of squares of different originals, at their own scale made `FIELD_UM_PER_PIXEL`: so many
    squares with one leukocyte, the others with none. No leukocyte comes twice in a field, but several fields
    may show the same. What the baseline takes for one where nobody annotated any stays out of view too: 17
    of the originals show a leukocyte that has no box. The originals are of any side, training and test:
    speed is measured on these fields, nothing else.

    Returns:
        ``fields`` images, (height, width, 3) uint8 RGB, which depend on the arguments alone.

    Raises:
        DataSetError: there are no annotations, too few leukocytes or too few squares without one, or an
            original is not of the collection.
        ImageError: an original cannot be read.
        SettingError: so many leukocytes have no room in a field.
    """
    check_leukocytes(leukocytes)
    rng = np.random.default_rng(_SEED)
    wanted = leukocytes, MOST_LEUKOCYTES - leukocytes
    occupied: list[RGBImage] = []
    empty: list[RGBImage] = []
    for annotation in rng.permutation(np.array(find_annotations(collection), object)):
        if len(occupied) >= fields * wanted[0] and len(empty) >= fields * wanted[1]:
            break
        image, boxes = _read_original(annotated_original(annotation)), leukocyte_boxes(annotation)
        others = _not_annotated(image, boxes)
        occupied += _squares_with_one(image, boxes, others)
        empty += _squares_without(image, boxes + others)
    _check_enough(collection, occupied, wanted[0], "whole leukocytes with no other beside them")
    _check_enough(collection, empty, wanted[1], "squares without a leukocyte")
    # Taken in turns, the same does not come twice in a field.
    turns = cycle(occupied), cycle(empty)
    made = []
    for _ in range(fields):
        chosen = [square for turn, count in zip(turns, wanted, strict=True) for square in islice(turn, count)]
        order = iter(rng.permutation(MOST_LEUKOCYTES))
        rows = [np.hstack([chosen[next(order)] for _ in range(COLUMNS)]) for _ in range(ROWS)]
        made.append(np.vstack(rows))
    return made


def _read_original(path: Path) -> RGBImage:
    image = read_image(path)
    height, width = image.shape[:2]
    if min(height, width) < _CUT_PX:
        raise DataSetError(f"{path}: {width}x{height} pixels; an original of the collection has 640x480")
    return image


def _not_annotated(image: RGBImage, boxes: list[Box]) -> list[Box]:
    """Return what the baseline takes for leukocytes of an original, and nobody annotated."""
    others = []
    for region in find_by_threshold(image, KAGGLE_ORIGINAL_UM_PER_PIXEL):
        if not any(is_inside(region, box) for box in boxes):
            x, y, width, height = (round(side) for side in region.box)
            others.append((x, y, x + width, y + height))
    return others


def _squares_with_one(image: RGBImage, boxes: list[Box], others: list[Box]) -> Iterator[RGBImage]:
    """Squares of an original around each whole leukocyte, where no other comes into view."""
    height, width = image.shape[:2]
    for box in boxes:
        left, top, right, bottom = box
        if min(left, top, width - right, height - bottom) < _BORDER_PX:
            continue
        x = min(max((left + right - _CUT_PX) // 2, 0), width - _CUT_PX)
        y = min(max((top + bottom - _CUT_PX) // 2, 0), height - _CUT_PX)
        if not any(_shows(x, y, other) for other in boxes + others if other is not box):
            yield _cut(image, x, y)


def _squares_without(image: RGBImage, boxes: list[Box]) -> Iterator[RGBImage]:
    """A square in a corner of an original that shows no leukocyte, where there is one."""
    height, width = image.shape[:2]
    for x, y in ((0, 0), (width - _CUT_PX, 0), (0, height - _CUT_PX), (width - _CUT_PX, height - _CUT_PX)):
        if not any(_shows(x, y, box) for box in boxes):
            yield _cut(image, x, y)
            return


def _shows(x: int, y: int, box: Box) -> bool:
    """Whether a square with its corner there shows a part of a leukocyte."""
    left, top, right, bottom = box
    return (
        left - _RIM_PX < x + _CUT_PX
        and right + _RIM_PX > x
        and top - _RIM_PX < y + _CUT_PX
        and bottom + _RIM_PX > y
    )


def _cut(image: RGBImage, x: int, y: int) -> RGBImage:
    square = image[y : y + _CUT_PX, x : x + _CUT_PX]
    return cv2.resize(square, (_SQUARE_PX, _SQUARE_PX), interpolation=cv2.INTER_AREA)


def _check_enough(collection: Path, found: list[RGBImage], wanted: int, what: str) -> None:
    if len(found) < wanted:
        raise DataSetError(
            f"{collection}: its annotated originals have {len(found)} {what}, and a field takes {wanted}; "
            "give the whole Kaggle collection"
        )
