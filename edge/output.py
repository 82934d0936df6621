"""How `classify` says what it found: JSON lines, CSV or a table, on standard output."""

import csv
import json
import sys
from typing import Any, Protocol

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge.stills import NamedCell, NamedField
from hematovision.cell_classes import CLASS_NAMES
from hematovision.images import shown_path
from hematovision.terminal.streams import write_for_programs

_CSV_COLUMNS = (
    *("image", "frame", "class", "probability", *CLASS_NAMES, "x", "y", "width", "height", "center_x"),
    *("center_y", "nucleus_area_um2", "touches_border", "found", "find_ms", "classify_ms", "error"),
)
# A file takes lines of any length, so that no path in it is broken.
_FILE_WIDTH = 10_000


class Output(Protocol):
    """One form of output. ``image`` is a path; ``frame`` the number of a video's frame, None of an image."""

    def field(self, image: str, frame: int | None, named: NamedField) -> None:
        """Say what was found."""

    def failure(self, image: str, frame: int | None, error: str) -> None:
        """Say what could not be looked at, or whose copy could not be written."""

    def end(self) -> None:
        """Say what was kept to the end."""


class JsonLines:
    """One JSON object a line for every image or frame, written as soon as it is known."""

    def field(self, image: str, frame: int | None, named: NamedField) -> None:
        """Write the cells of an image or frame."""
        cells = [_record(cell) for cell in named.cells]
        self._write(image, frame, {"cells": cells, "ms": _milliseconds(named)})

    def failure(self, image: str, frame: int | None, error: str) -> None:
        """Write the error."""
        self._write(image, frame, {"error": error})

    def end(self) -> None:
        """Nothing is left to say."""

    def _write(self, image: str, frame: int | None, content: dict[str, Any]) -> None:
        place = {"image": image} if frame is None else {"image": image, "frame": frame}
        click.echo(json.dumps(place | content, allow_nan=False))


class CsvRows:
    """A header, then one row for every cell, and one for what could not be looked at; always UTF-8."""

    def __init__(self) -> None:
        write_for_programs()
        self._writer = csv.DictWriter(sys.stdout, _CSV_COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def field(self, image: str, frame: int | None, named: NamedField) -> None:
        """Write a row for each cell of an image or frame."""
        milliseconds = _milliseconds(named)
        for cell in named.cells:
            record = _record(cell)
            row = {
                "image": image,
                "frame": frame,
                "class": record["class"],
                "probability": record["probability"],
                **record["probabilities"],
                **dict(zip(("x", "y", "width", "height"), record["box"], strict=True)),
                **dict(zip(("center_x", "center_y"), record["center"], strict=True)),
                "nucleus_area_um2": record["nucleus_area_um2"],
                "touches_border": json.dumps(record["touches_border"]),
                "found": json.dumps(record["found"]),
                "find_ms": milliseconds["find"],
                "classify_ms": milliseconds["classify"],
            }
            self._writer.writerow(row)
        sys.stdout.flush()

    def failure(self, image: str, frame: int | None, error: str) -> None:
        """Write a row with the error in its last column."""
        self._writer.writerow({"image": image, "frame": frame, "error": error})
        sys.stdout.flush()

    def end(self) -> None:
        """Let go of the header, where nothing followed it."""
        sys.stdout.flush()


class CellTable:
    """A table for people, a row for every cell, shown at the end."""

    def __init__(self) -> None:
        self._table = Table()
        self._table.add_column("Image", overflow="fold")
        self._table.add_column("Frame", justify="right")
        self._table.add_column("Class", no_wrap=True)
        self._table.add_column("Probability", justify="right")
        self._table.add_column("Center, px", justify="right", no_wrap=True)
        self._table.add_column("Nucleus, µm²", justify="right")
        self._table.add_column("Remark", overflow="fold")

    def field(self, image: str, frame: int | None, named: NamedField) -> None:
        """Add a row for each cell of an image or frame, or one that says that there is none."""
        if not named.cells:
            self._add(image, frame, "", "", "", "", "no white cell found")
        for cell in named.cells:
            region, prediction = cell.region, cell.prediction
            remarks = (
                prediction.declined_because,
                "cut by the border" if region.touches_border else None,
                None if cell.found else "no nucleus found: the middle of the image",
            )
            self._add(
                image,
                frame,
                prediction.class_name,
                f"{prediction.probability:.2f}",
                f"{region.center[0]:.0f}, {region.center[1]:.0f}",
                f"{region.nucleus_area_um2:.0f}",
                "; ".join(filter(None, remarks)),
            )

    def failure(self, image: str, frame: int | None, error: str) -> None:
        """Add a row with the error."""
        self._add(image, frame, "failed", "", "", "", error)

    def end(self) -> None:
        """Print the table."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = _FILE_WIDTH
        console.print(self._table)

    def _add(self, image: str, frame: int | None, *cells: str) -> None:
        # As Text: a path may hold what rich takes for markup.
        place = shown_path(image), "" if frame is None else str(frame)
        self._table.add_row(*(Text(text) for text in (*place, *cells)))


def _record(cell: NamedCell) -> dict[str, Any]:
    region, prediction = cell.region, cell.prediction
    return {
        "class": prediction.class_name,
        "probability": round(prediction.probability, 4),
        "probabilities": {
            name: round(value, 4) for name, value in zip(CLASS_NAMES, prediction.probabilities, strict=True)
        },
        "box": [round(value, 1) for value in region.box],
        "center": [round(value, 1) for value in region.center],
        "nucleus_area_um2": round(region.nucleus_area_um2, 1),
        "touches_border": region.touches_border,
        "found": cell.found,
    }


def _milliseconds(named: NamedField) -> dict[str, float]:
    return {"find": round(named.find_ms, 2), "classify": round(named.classify_ms, 2)}
