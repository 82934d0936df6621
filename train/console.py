"""What the train commands share at the terminal: the streams, progress, and data sets with their scale."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hematovision.errors import CalibrationError, ImageError
from hematovision.images import read_image
from hematovision.model_file import write_atomically
from hematovision.red_cells import measure_red_cells, measure_scale
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
    for image in dataset.images[::step]:
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


def say_unreadable(*sets: CellSet) -> None:
    """Name the images that were left out, each with the reason."""
    for cells in sets:
        for _, reason in cells.unreadable:
            stderr.print(f"left out: {reason}", soft_wrap=True, markup=False)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def progress_bars() -> Progress:
    """Bars with the time left, on standard error, gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
    )


def bar(progress: Progress, description: str) -> Callable[[int, int], None]:
    """A new bar: to be called with how much is done, and of how much."""
    task = progress.add_task(description, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def step_bar(progress: Progress, description: str) -> Callable[[str, int, int], None]:
    """A new bar for work in steps: to be called with the step's name too."""
    task = progress.add_task(description, total=None)
    return lambda step, done, total: progress.update(task, description=step, completed=done, total=total)
