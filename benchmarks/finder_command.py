"""``hematovision bench finder``."""

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.finder import measure_finder, time_finder
from benchmarks.real_fields import FIELD_SIZE, FIELD_UM_PER_PIXEL
from hematovision.errors import SettingError
from hematovision.image_folder import read_folder

_stdout = Console()


@click.command()
@click.argument("collection", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--repetitions", default=300, show_default=True, type=click.IntRange(min=1), help="Fields timed."
)
def finder(collection: Path | None, repetitions: int) -> None:
    """Leukocytes found and false regions on the annotated Kaggle originals, and time per field.

    COLLECTION is the Kaggle collection with its annotations; by default kaggle-blood-cells in the folder that
    HEMATOVISION_DATA names.
    """
    if collection is None:
        if "HEMATOVISION_DATA" not in os.environ:
            raise SettingError("no COLLECTION given and HEMATOVISION_DATA is not set; give one of them")
        collection = Path(os.environ["HEMATOVISION_DATA"]) / "kaggle-blood-cells"
    table = Table(title="finder on annotated fields")
    for heading in ("side", "fields", "boxes", "found", "recall", "95 %", "false per field"):
        table.add_column(heading, justify="left" if heading == "side" else "right")
    missed: list[str] = []
    for result in measure_finder(collection):
        recall = result.recall
        table.add_row(
            result.side,
            str(result.fields),
            str(result.boxes),
            str(result.found),
            f"{recall.percent:.1f} %" if recall.percent is not None else "–",
            f"{recall.low:.1f} to {recall.high:.1f}",
            f"{result.false_regions / max(result.fields, 1):.3f}",
        )
        missed += result.missed
    _stdout.print(table)
    for line in missed:
        _stdout.print(f"missed: {line}")
    timing = time_finder(read_folder(collection / "Original_Images").images[:20], repetitions)
    _stdout.print(
        f"Mosaics of {FIELD_SIZE[0]}x{FIELD_SIZE[1]} at {FIELD_UM_PER_PIXEL} µm per pixel, one core, "
        f"processor time, median of {timing.repetitions}: optics {timing.optics_ms:.1f} ms, "
        f"finder {timing.find_ms:.1f} ms, together {timing.total_ms:.1f} ms",
        soft_wrap=True,
    )
