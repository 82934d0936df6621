"""What the train commands share at the terminal: the streams, and data sets with their scale."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from hematovision.errors import CalibrationError, ImageError, SettingError
from hematovision.images import read_image
from hematovision.model_file import write_atomically
from hematovision.red_cells import measure_red_cells, measure_scale
from hematovision.terminal.progress import Progress
from train.cells import CellSet
from train.datasets import DataSet

stdout = Console()
stderr = Console(stderr=True)

#: Said under the help of every command that takes data sets.
DATA_HELP = """
\b
DATA names a data set:
  kaggle-blood-cells                  the Kaggle collection: originals, else copies
  kaggle-blood-cells/images/TEST      a folder of its rotated copies
  FOLDER@0.104                        one folder a class; split.csv tells the sides
  TABLE.csv@0.1                       columns image, label; split and original if known
The number after @ is the scale in µm per pixel; without it, it is measured from red cells.
"""

_SCALE_SAMPLE = 60  # images whose red cells are measured


def with_scale(dataset: DataSet) -> DataSet:
    """The data set with its scale, measured from red cells where nobody said it."""
    for reason, count in dataset.dropped:
        stderr.print(f"{dataset.path}: {count} left out: {reason}", soft_wrap=True, markup=False)
    say_of_no_class(dataset)
    if dataset.unknown_originals:
        stderr.print(
            f"{dataset.path}: {dataset.unknown_originals} of {len(dataset.images)} copies are of unknown "
            "originals; each counts as one, so intervals come out too narrow",
            soft_wrap=True,
            markup=False,
        )
    if dataset.um_per_pixel is not None:
        return dataset
    step = max(1, len(dataset.images) // _SCALE_SAMPLE)
    diameters = []
    sample = dataset.images[::step]
    with Progress() as progress:
        for done, image in enumerate(sample):
            progress.at(f"{dataset.name}: measuring µm per pixel on red cells", done, len(sample))
            try:
                diameters.append(measure_red_cells(read_image(image.path)))
            except ImageError:
                continue  # it is reported when its cell is read
    try:
        measured = measure_scale(diameters)
    except CalibrationError as error:
        raise CalibrationError(f"{dataset.path}: {error}; or give the scale, {dataset.path}@0.1") from error
    scale = round(measured.um_per_pixel, 4)
    stderr.print(
        f"{dataset.path}: {scale:.4f} µm per pixel ({measured.low:.4f} to {measured.high:.4f}), "
        f"measured from {measured.cells} red cells",
        soft_wrap=True,
        markup=False,
    )
    return dataclasses.replace(dataset, um_per_pixel=scale)


def say_of_no_class(dataset: DataSet) -> None:
    """Say which labels are taken for no class, so that a misspelt one is seen."""
    if dataset.of_no_class:
        stderr.print(
            f"{dataset.path}: taken for no class: {dataset.of_no_class}", soft_wrap=True, markup=False
        )


def say_unreadable(*sets: CellSet) -> None:
    """Name the images that were left out, each with the reason."""
    for cells in sets:
        for _, reason in cells.unreadable:
            stderr.print(f"left out: {reason}", soft_wrap=True, markup=False)


def check_places(*files: Path | None) -> None:
    """Raise `SettingError` where the folder of a file that is to be written at the end is not there."""
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise SettingError(f"{file}: there is no such folder to write to; make it, or name another")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
