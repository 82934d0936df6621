"""Readers of labelled images, whatever their layout: which file, which cell, which original, which side.

A data set is named by a path, with its scale after an ``@`` where the layout does not tell it::

    kaggle-blood-cells                  the Kaggle collection: its originals if it has them, else its copies
    kaggle-blood-cells/Original_Images  the originals only (labels.csv, original_split.csv beside the folder)
    kaggle-blood-cells/images           the rotated copies: TRAIN, TEST and TEST_SIMPLE; or one of the three
    pbc@0.104                           one folder a class, sides in split.csv where there is one
    mine/labels.csv@0.1                 a table with the columns image and label; split, original if wanted
"""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import DataSetError, SettingError
from hematovision.image_folder import IMAGE_SUFFIXES, is_side_file, read_folder
from hematovision.optics import check_um_per_pixel
from hematovision.terminal.mistyped import decimal_comma
from train.labels import is_class_or_other, label_of, of_no_class, refuse_near_misses

#: Width of a Kaggle field on the slide, from its red cells: 640 pixels of 0.083 µm; copies have 320.
KAGGLE_ORIGINAL_UM_PER_PIXEL = 0.083
KAGGLE_COPY_UM_PER_PIXEL = 0.166

_COPY_SIDES = {"TRAIN": "train", "TEST": "test", "TEST_SIMPLE": "test"}
_SIDES = ("train", "test")
# As our copy of the collection has it, and as Kaggle's download does.
_ORIGINALS = ("Original_Images", "JPEGImages")


@dataclass(frozen=True)
class LabelledImage:
    """An image of one labelled cell.

    ``label``: as `label_of` gives it; a class's name, or what else a smear contains (basophil, platelet …).
    ``original``: what this is an image of, beginning with the collection: copies of one original share it,
    splits and intervals go by it. ``side``: train, test, or None where the data set does not say.
    """

    path: Path
    label: str
    original: str
    side: str | None

    @property
    def collection(self) -> str:
        """What laboratory and microscope it is from: the first part of the original's name."""
        return self.original.partition("/")[0]


@dataclass(frozen=True)
class DataSet:
    """Labelled images of one source at one scale; ``um_per_pixel`` is None where nobody said it.

    ``dropped`` says what was left out and how often. ``unknown_originals``: copies of which nobody says what
    they are copies of; each counts as an original, so intervals by original come out too narrow.
    """

    name: str
    path: Path
    images: tuple[LabelledImage, ...]
    um_per_pixel: float | None
    dropped: tuple[tuple[str, int], ...] = ()
    unknown_originals: int = 0

    @property
    def of_no_class(self) -> str:
        """The labels that are taken for no class, each with the number of its images; empty without any."""
        return of_no_class(image.label for image in self.images)

    def on_side(self, side: str | None) -> tuple[LabelledImage, ...]:
        """The images of one side (train or test); all for None."""
        return tuple(image for image in self.images if side is None or image.side == side)


def read_dataset(source: str) -> DataSet:
    """Read a data set's list of images; opens none of them.

    Args:
        source: a path, with ``@`` and µm per pixel after it where the layout does not tell the scale.

    Raises:
        DataSetError: it is missing, empty, of no known layout, its table names files that are not there, or a
            label is nearly a class.
        SettingError: the scale is no scale.
    """
    path, um_per_pixel = split_scale(source)
    try:
        path.stat()
    except OSError as error:
        raise DataSetError(f"{path}: no such folder or table ({error.strerror}); check the path") from error
    name = path.resolve().name
    default_scale: float | None = None
    dropped: dict[str, int] = {}
    unknown = 0
    if path.is_file():
        name = f"{path.resolve().parent.name}-{path.stem}"
        images = list(_table(path, name, dropped))
    elif (originals := _kaggle_originals(path)) is not None:
        images = list(_originals(originals, dropped))
        default_scale = KAGGLE_ORIGINAL_UM_PER_PIXEL
        name = "kaggle-originals"
    elif copies := _kaggle_copies(path):
        images = list(_copies(copies, dropped))
        unknown = sum(image.original.endswith(image.path.name) for image in images)
        default_scale = KAGGLE_COPY_UM_PER_PIXEL
        name = "kaggle-" + "-".join(folder.name.lower() for folder in copies)
    elif (path / "labels.csv").is_file():
        images = list(_table(path / "labels.csv", name, dropped))
    else:
        images = list(_class_folders(path, name, dropped))
    if not images:
        left_out = "".join(f"; {count} left out: {reason}" for reason, count in sorted(dropped.items()))
        raise DataSetError(
            f"{path}: no labelled images in it{left_out}; see hematovision train fit --help for the layouts"
        )
    refuse_near_misses(str(path), (image.label for image in images))
    scale = um_per_pixel if um_per_pixel is not None else default_scale
    return DataSet(name, path, tuple(images), scale, tuple(sorted(dropped.items())), unknown)


def split_scale(source: str) -> tuple[Path, float | None]:
    """Split a source into its path and the scale after the @, None where it gives none.

    Raises:
        SettingError: what follows the @ is no scale.
    """
    text, at, scale = source.rpartition("@")
    if not at or os.path.exists(source):  # noqa: PTH110 (Path.exists raises for a name that is too long)
        return Path(source), None
    try:
        return Path(text), check_um_per_pixel(float(scale))
    except SettingError as error:
        raise SettingError(f"{source}: {error}") from error
    except ValueError as error:
        hint = decimal_comma(scale)
        raise SettingError(f"{source}: '{scale}' is not a number of µm per pixel{hint}") from error


# --- the Kaggle collection ---


def _kaggle_originals(path: Path) -> Path | None:
    """The folder of originals, where their labels are beside it."""
    for folder in (path, *(path / name for name in _ORIGINALS)):
        if folder.name in _ORIGINALS and folder.is_dir() and (folder.parent / "labels.csv").is_file():
            return folder
    return None


def _kaggle_copies(path: Path) -> list[Path]:
    for folder in (path, path / "images", path / "dataset2-master" / "dataset2-master" / "images"):
        sides = [folder / side for side in _COPY_SIDES if _has_kaggle_classes(folder / side)]
        if sides:
            return sides
    return [path] if path.name in _COPY_SIDES and _has_kaggle_classes(path) else []


def _has_kaggle_classes(folder: Path) -> bool:
    """Kaggle's class folders are in capitals; folders of one's own called TRAIN and TEST are no copies."""
    return (folder / "NEUTROPHIL").is_dir() or (folder / "MONOCYTE").is_dir()


def _originals(folder: Path, dropped: dict[str, int]) -> Iterator[LabelledImage]:
    root = folder.parent
    sides: dict[str, str] = {}
    if (root / "original_split.csv").is_file():
        split = read_rows(root / "original_split.csv", ("image", "split"))
        sides = {row["image"]: row["split"] for row in split}
        _check_sides(root / "original_split.csv", sides.values())
    for row in read_rows(root / "labels.csv", ("Image", "Category")):
        # The second column is the number in the file name; some cells are empty, some hold several classes.
        number, label = row["Image"].strip(), label_of(row["Category"])
        path = folder / f"BloodImage_{int(number):05d}.jpg" if number.isdigit() else None
        if path is None or not label or "," in row["Category"]:
            reason = "no label" if not label else "several labels"
            dropped[reason] = dropped.get(reason, 0) + 1
        elif not path.is_file():
            dropped["file not there"] = dropped.get("file not there", 0) + 1
        else:
            yield LabelledImage(path, label, f"kaggle/{path.stem}", sides.get(path.name))


def _copies(folders: list[Path], dropped: dict[str, int]) -> Iterator[LabelledImage]:
    for side_folder in folders:
        table = side_folder.parent.parent / "copies.csv"
        originals = {}
        if table.is_file():
            originals = {
                row["image"]: Path(row["original"]).stem for row in read_rows(table, ("image", "original"))
            }
        for path in _images_in(side_folder, dropped):
            key = path.relative_to(side_folder.parent).as_posix()
            # A copy whose original is not known stands for itself; `audit` finds its kin by content.
            original = originals.get(key) or key
            yield LabelledImage(
                path, label_of(path.parent.name), f"kaggle/{original}", _COPY_SIDES[side_folder.name]
            )


# --- other layouts ---


def _class_folders(path: Path, name: str, dropped: dict[str, int]) -> Iterator[LabelledImage]:
    sides: dict[str, str] = {}
    if (path / "split.csv").is_file():
        sides = {row["image"]: row["split"] for row in read_rows(path / "split.csv", ("image", "split"))}
        absent = [image for image in sides if not (path / image).is_file()]
        if absent:
            raise DataSetError(
                f"{path / 'split.csv'}: {len(absent)} of its {len(sides)} files are not there "
                f"({absent[0]}, …); copy the data set again"
            )
        _check_sides(path / "split.csv", sides.values())
    beside = [child for child in path.iterdir() if not is_side_file(child.name)]
    for folder in sorted(child for child in beside if child.is_dir()):
        for image in _images_in(folder, dropped):
            _check_no_class_inside(folder, image)
            key = image.relative_to(path).as_posix()
            yield LabelledImage(image, label_of(folder.name), f"{name}/{key}", sides.get(key))
    loose = sum(child.suffix.lower() in IMAGE_SUFFIXES and child.is_file() for child in beside)
    if loose:
        dropped["in no folder of a class"] = loose


def _check_no_class_inside(folder: Path, image: Path) -> None:
    """Raise `DataSetError` where a folder that names no class, such as a side, holds one that does."""
    if is_class_or_other(label_of(folder.name)):
        return
    for within in image.relative_to(folder).parent.parts:
        if label_of(within) in CLASS_NAMES:
            raise DataSetError(
                f"{folder}: holds a folder '{within}'; give the folder that those of the classes lie in, "
                f"each side by itself, or call it 'other {folder.name}' where its cells are none of the four"
            )


def _images_in(folder: Path, dropped: dict[str, int]) -> tuple[Path, ...]:
    """The images below a folder; what of it is left out is added to ``dropped``."""
    found = read_folder(folder, crops=True)
    for kind, count in found.left_out.items():
        dropped[f"{kind}, not read"] = dropped.get(f"{kind}, not read", 0) + count
    return found.images


def _table(path: Path, name: str, dropped: dict[str, int]) -> Iterator[LabelledImage]:
    rows = read_rows(path, ("image", "label"))
    _check_sides(path, (row["split"] for row in rows if row.get("split")))
    for row in rows:
        label = label_of(row["label"] or "")
        if not label or "," in row["label"]:
            reason = "no label" if not label else "several labels"
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        candidates = [path.parent / row["image"], path.parent / "images" / row["image"]]
        image = next((candidate for candidate in candidates if candidate.is_file()), None)
        if image is None:
            raise DataSetError(f"{path}: names {row['image']}, which is not there; correct the table")
        original = row.get("original") or row["image"]
        yield LabelledImage(image, label, f"{name}/{original}", row.get("split") or None)


def _check_sides(table: Path, sides: Iterable[str]) -> None:
    wrong = sorted({str(side) for side in sides if side not in _SIDES})
    if wrong:
        raise DataSetError(f"{table}: split '{wrong[0]}' is unknown; it must be train or test")


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read the rows of a CSV table with a heading.

    Raises:
        DataSetError: it cannot be read, lacks one of these columns, or a row lacks one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataSetError(f"{path}: has no column '{missing[0]}'; it must have {', '.join(columns)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"{path}: cannot be read as a table ({error})") from error
    short = next((row for row in rows if any(row[column] is None for column in columns)), None)
    if short is not None:
        raise DataSetError(f"{path}: a row lacks columns ({short}); correct the table")
    return rows
