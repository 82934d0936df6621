"""Fields with boxed cells, read alike for every laboratory: where cells are, and what is known of the rest.

A source is a folder with its scale after an ``@`` where the layout does not tell it. Layouts::

    kaggle-blood-cells     its originals with their Pascal-VOC annotations; sides in original_split.csv
    chula@0.097            boxes.csv: every leukocyte of every image (image,label,x,y,width,height; slide if
                           known); labels that are no nucleated cell's (RBC, platelets) are passed over
    aslan@0.136            the same, and labels_by_eye.csv names the WBC boxes, or says that one holds no cell
    bcisc@0.134            labels.csv with boxes: one labelled cell an image, others in view are not boxed
    pbc@0.104              one folder a class: the cell is in the middle, nothing is known of others in view
    tecom@0.2              masks/ of one cell an image, named in labels.csv: for looking only, not learnt from

``others_by_eye_NAME.csv`` beside this module names the leukocytes that NAME does not box (image, x,
y in its pixels; a row without x and y: looked at, there is none); so false regions can be counted there.
"""

import dataclasses
import hashlib
import math
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import DataSetError, SettingError
from hematovision.optics import check_um_per_pixel
from train.datasets import KAGGLE_ORIGINAL_UM_PER_PIXEL, read_dataset, read_rows, split_scale

#: A boxed leukocyte that nobody named.
LEUKOCYTE = "leukocyte"
#: Slides and subjects that are for reporting only: nothing is learnt from them or chosen by them.
SET_ASIDE = {
    "chula": frozenset({"B-57", "E-12", "E-14", "L-10"}),
    "bcisc": frozenset({"6", "7"}),
}
#: In an image of one cell without a box, the cell's middle lies within a square of this side in the middle.
CENTRED_BOX_UM = 10.0

_BOX_COLUMNS = ("x", "y", "width", "height")
_WHITE = {"wbc", LEUKOCYTE}
_NO_NUCLEUS = {"rbc", "platelet", "platelets"}
_NO_CELL = "notwbc"


@dataclass(frozen=True)
class BoxedCell:
    """A box in pixels of its image, and what it holds: a label in lower case, `LEUKOCYTE` where unnamed."""

    x: float
    y: float
    width: float
    height: float
    label: str

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box (x, y) in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2

    def holds(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Return whether a point lies in the box, made wider by a margin on each side."""
        return (
            self.x - margin <= x <= self.x + self.width + margin
            and self.y - margin <= y <= self.y + self.height + margin
        )


@dataclass(frozen=True)
class MaskedCell(BoxedCell):
    """A cell whose outline is known: ``mask``, (height, width) bool over its image; the box is the mask's."""

    mask: NDArray[np.bool_] = dataclasses.field(repr=False, compare=False)

    def holds(self, x: float, y: float, margin: float = 0.0) -> bool:  # noqa: ARG002 (the mask is exact)
        """Return whether a point lies in the cell; its outline needs no margin."""
        column, row = round(x), round(y)
        height, width = self.mask.shape
        return 0 <= row < height and 0 <= column < width and bool(self.mask[row, column])


@dataclass(frozen=True)
class BoxedField:
    """An image and its boxed nucleated cells.

    ``complete``: every leukocyte in view is boxed, but for cells cut by the border; else what is not boxed
    may be one. ``decoys``: boxes that are known to hold no nucleated cell. ``red_cells``: how many red cells
    are boxed; None where they are not. ``laboratory``: what is left out as one when design is chosen.
    ``group``: the slide, subject or original that it is of, beginning with the laboratory: never split.
    ``aside``: only for reporting. ``others``: where other leukocytes lie, seen by eye; None where nobody
    looked. ``looking_only``: a licence forbids that anything be learnt from it.
    """

    path: Path
    um_per_pixel: float
    cells: tuple[BoxedCell, ...]
    complete: bool
    laboratory: str
    group: str
    aside: bool
    decoys: tuple[BoxedCell, ...] = ()
    red_cells: int | None = None
    others: tuple[tuple[float, float], ...] | None = None
    looking_only: bool = False

    @property
    def all_known(self) -> bool:
        """Return whether every leukocyte in view is known, so that what else is found is false."""
        return self.complete or self.others is not None


def read_boxed_fields(source: str) -> list[BoxedField]:
    """Read where the cells of a collection are; opens no image but masks.

    Raises:
        DataSetError: it is missing, has no boxes, or a table is damaged or names an image that is not there.
        SettingError: the scale is no scale, or missing where the layout does not tell it.
    """
    path, um_per_pixel = split_scale(source)
    if not path.is_dir():
        raise DataSetError(f"{path}: no such folder; check the path")
    if (path / "annotations").is_dir():
        return _annotated(path, um_per_pixel or KAGGLE_ORIGINAL_UM_PER_PIXEL)
    if um_per_pixel is None:
        raise SettingError(f"{source}: give its µm per pixel after an @, such as {source}@0.1")
    scale = check_um_per_pixel(um_per_pixel)
    if (path / "masks").is_dir():
        return _masked(path, scale)
    if (path / "boxes.csv").is_file():
        return _all_boxed(path, scale)
    if (path / "labels.csv").is_file():
        return _one_boxed(path, scale)
    return _centred(source, scale)


def laboratories_of(fields: Iterable[BoxedField]) -> list[str]:
    """Return the laboratories of fields, each once, in the order of their names."""
    return sorted({field.laboratory for field in fields})


def identify(fields: Sequence[BoxedField]) -> str:
    """Return a hash of which fields and boxes these are."""
    digest = hashlib.sha256()
    for field in sorted(fields, key=lambda field: field.path):
        cells = [dataclasses.astuple(cell) for cell in (*field.cells, *field.decoys)]
        digest.update(f"{field.group}/{field.path.name} {field.um_per_pixel} {cells}\n".encode())
    return digest.hexdigest()


def _annotated(path: Path, scale: float) -> list[BoxedField]:
    """Read the Kaggle originals: Pascal-VOC boxes of all leukocytes and red cells."""
    known = {image.path.stem: image for image in read_dataset(str(path)).images}
    others = _others_by_eye(path.resolve().name)
    fields = []
    for annotation in sorted((path / "annotations").glob("*.xml")):
        boxes = _voc_boxes(annotation)
        white = [box for box in boxes if box.label in _WHITE]
        # The label is of the field; with several leukocytes it does not say which one is meant.
        original = known.get(annotation.stem)
        label = original.label if original and len(white) == 1 else LEUKOCYTE
        image = _image_of(path, "Original_Images", f"{annotation.stem}.jpg", annotation)
        fields.append(
            BoxedField(
                image,
                scale,
                tuple(_named(box, label) for box in white),
                complete=True,
                laboratory=path.resolve().name,
                group=f"{path.resolve().name}/{annotation.stem}",
                aside=original is not None and original.side == "test",
                red_cells=sum(box.label == "rbc" for box in boxes),
                others=others.get(image.name),
            )
        )
    if not fields:
        raise DataSetError(f"{path}: has no annotations/*.xml; copy the collection again")
    return fields


def _all_boxed(path: Path, scale: float) -> list[BoxedField]:
    """Read a table that boxes every leukocyte of every image."""
    table = path / "boxes.csv"
    boxes: dict[str, list[BoxedCell]] = defaultdict(list)
    slides: dict[str, str] = {}
    for row in read_rows(table, ("image", "label", *_BOX_COLUMNS)):
        if row["x"]:
            boxes[row["image"]].append(_box(table, row, row["label"]))
        slides[row["image"]] = row.get("slide") or row["image"]
    named = _named_by_eye(path)
    laboratory = path.resolve().name
    others = _others_by_eye(laboratory)
    fields = []
    for image, slide in slides.items():
        white: list[BoxedCell] = []
        decoys: list[BoxedCell] = []
        alone = sum(box.label in _WHITE for box in boxes[image]) == 1
        for box in boxes[image]:
            if box.label in _NO_NUCLEUS:
                continue
            label = named.get((image, round(box.x), round(box.y)), box.label)
            # Images sorted into class folders name their cell where it is the only one.
            if label in _WHITE:
                label = Path(image).parent.name.lower() if alone and "/" in image else LEUKOCYTE
            (decoys if label == _NO_CELL else white).append(_named(box, label))
        red_cells = sum(box.label == "rbc" for box in boxes[image])
        fields.append(
            BoxedField(
                _image_of(path, "images", image, table),
                scale,
                tuple(white),
                complete=True,
                laboratory=laboratory,
                group=f"{laboratory}/{slide}",
                aside=slide in SET_ASIDE.get(laboratory, ()),
                decoys=tuple(decoys),
                red_cells=red_cells or None,
                others=others.get(image),
            )
        )
    return fields


def _one_boxed(path: Path, scale: float) -> list[BoxedField]:
    """Read a table of one labelled cell an image; without a box, those in which an eye saw all cells."""
    table = path / "labels.csv"
    laboratory = path.resolve().name
    others = _others_by_eye(laboratory)
    fields = []
    for row in read_rows(table, ("image", "label", *_BOX_COLUMNS)):
        if row["x"] or row["image"] in others:
            group = row.get("subject") or row["image"]
            fields.append(
                BoxedField(
                    _image_of(path, "images", row["image"], table),
                    scale,
                    (_box(table, row, row["label"]),) if row["x"] else (),
                    complete=False,
                    laboratory=laboratory,
                    group=f"{laboratory}/{group}",
                    aside=group in SET_ASIDE.get(laboratory, ()),
                    others=others.get(row["image"]),
                )
            )
    if not fields:
        raise DataSetError(f"{table}: no row has a box (x, y, width, height); give a collection with boxes")
    return fields


def _masked(path: Path, scale: float) -> list[BoxedField]:
    """Read images of one cell each with its mask: nucleus and cytoplasm on black."""
    table = path / "labels.csv"
    laboratory = path.resolve().name
    fields = []
    for row in read_rows(table, ("image", "label")):
        image = _image_of(path, "images", row["image"], table)
        mask_file = _image_of(path, "masks", f"{image.stem}.png", table)
        levels = cv2.imread(str(mask_file), cv2.IMREAD_GRAYSCALE)  # `read_image` takes no grey pictures
        if levels is None or not levels.any():
            raise DataSetError(f"{mask_file}: shows no cell; copy the collection again")
        mask = levels > 0
        rows, columns = np.nonzero(mask)
        left, top = float(columns.min()), float(rows.min())
        width, height = float(columns.max()) + 1 - left, float(rows.max()) + 1 - top
        fields.append(
            BoxedField(
                image,
                scale,
                (MaskedCell(left, top, width, height, row["label"].strip().lower(), mask),),
                complete=False,
                laboratory=laboratory,
                group=f"{laboratory}/{row['image']}",
                aside=True,
                looking_only=True,
            )
        )
    return fields


def _others_by_eye(laboratory: str) -> dict[str, tuple[tuple[float, float], ...]]:
    """Read where leukocytes that are not boxed lie, by image; those that nobody looked at are not in it."""
    table = Path(str(files("train.finder") / f"others_by_eye_{laboratory}.csv"))
    if not table.is_file():
        return {}
    others: dict[str, tuple[tuple[float, float], ...]] = {}
    for row in read_rows(table, ("image", "x", "y")):
        others.setdefault(row["image"], ())
        if row["x"]:
            others[row["image"]] += ((_number(table, row, "x"), _number(table, row, "y")),)
    return others


def _centred(source: str, scale: float) -> list[BoxedField]:
    """Read images of one cell each: it lies in the middle, and others in view are not boxed."""
    from PIL import Image

    dataset = read_dataset(source)
    side = CENTRED_BOX_UM / scale
    fields = []
    for image in dataset.images:
        with Image.open(image.path) as picture:
            width, height = picture.size  # from the header; nothing is decoded
        box = BoxedCell((width - side) / 2, (height - side) / 2, side, side, image.label)
        no_nucleus = image.label in _NO_NUCLEUS
        fields.append(
            BoxedField(
                image.path,
                scale,
                () if no_nucleus else (box,),
                complete=False,
                laboratory=image.collection,
                group=image.original,
                aside=image.side == "test",
                decoys=(box,) if no_nucleus else (),
            )
        )
    return fields


def _named_by_eye(path: Path) -> dict[tuple[str, int, int], str]:
    """Read which label a person gave to which box: by image and the box's corner in whole pixels."""
    table = path / "labels_by_eye.csv"
    if not table.is_file():
        return {}
    return {
        (row["image"], round(_number(table, row, "x")), round(_number(table, row, "y"))): (
            LEUKOCYTE if row["label"] == "unsure" else row["label"].strip().lower()
        )
        for row in read_rows(table, ("image", "label", "x", "y"))
    }


def _voc_boxes(annotation: Path) -> list[BoxedCell]:
    try:
        # Local files of a known collection; Python's expat refuses entity bombs (since 2.4.1).
        root = ElementTree.parse(annotation).getroot()  # noqa: S314
        boxes = []
        for item in root.iter("object"):
            left, top, right, bottom = (
                float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            label = item.findtext("name", "").strip().lower()
            boxes.append(BoxedCell(left, top, right - left, bottom - top, label))
        return boxes
    except (ElementTree.ParseError, ValueError) as error:
        raise DataSetError(f"{annotation}: not a Pascal-VOC annotation ({error}); copy it again") from error


def _box(table: Path, row: dict[str, str], label: str) -> BoxedCell:
    x, y, width, height = (_number(table, row, column) for column in _BOX_COLUMNS)
    if width <= 0 or height <= 0:
        raise DataSetError(f"{table}: {row['image']} has a box of {width:g}x{height:g}; correct the table")
    return BoxedCell(x, y, width, height, label.strip().lower())


def _number(table: Path, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataSetError(
            f"{table}: {row['image']} has '{row[column]}' as {column}, which is no number; correct the table"
        )
    return value


def _named(box: BoxedCell, label: str) -> BoxedCell:
    return BoxedCell(box.x, box.y, box.width, box.height, label)


def _image_of(path: Path, folder: str, image: str, table: Path) -> Path:
    for candidate in (path / folder / image, path / image):
        if candidate.is_file():
            return candidate
    raise DataSetError(f"{table}: names {image}, which is not there; correct the table or copy the image")
