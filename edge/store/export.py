"""A session as files: a table, JSON, and a folder of crops that ``hematovision train fit`` reads."""

import csv
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from edge.store.reader import Reader
from edge.store.records import Correction, Session, StoredCell
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import NotStoredError, StoreError
from hematovision.images import shown_path
from hematovision.own_pictures import CROP, marked

if TYPE_CHECKING:
    from edge.differential import Differential, Share

JSON = dict[str, Any]

_PAGE = 500
# Kinds of events that say what was odd about what was counted; and how many events are gone through for them.
_WARNING_KINDS = frozenset(("field", "view", "confirm", "stain", "scale", "lamp"))
_MOST_EVENTS = 10_000
_COLUMNS = (
    *("session", "sample", "operator", "cell", "number", "area", "x_um", "y_um", "label"),
    *(
        "classified_as",
        "probability",
        *CLASS_NAMES,
        "corrected",
        "corrected_by",
        "corrected_at",
        "looks",
        "focus",
    ),
    *("first_seen", "confirmed_at", "model_hash", "unreadable", "warnings"),
)
# A spreadsheet takes a text that begins so for a formula, and carries it out (CWE-1236). Where lists are
# separated by semicolons, so does what stands behind one.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@＝＋－＠\t\r\n])")


@dataclass(frozen=True)
class LabelledCrops:
    """Crops written as a data set.

    ``counts``: by label. ``unclassified``: cells left out, since nobody gave them a class.
    ``um_per_pixel``: scale of the crops, 0 where it cannot be read.
    """

    counts: Counter[str]
    unclassified: int
    um_per_pixel: float


def csv_text(reader: Reader, session_id: int) -> Iterator[str]:
    """A session's cells as CSV, piece by piece: a header and a row for every cell.

    ``label`` is what the cell counts as: a person's word, if there is one; ``classified_as`` what the
    classifier said. What a spreadsheet would take for a formula in a text from people has an apostrophe
    before it.

    Raises:
        NotStoredError: there is no such session.
    """
    session = reader.session(session_id)
    corrections = _last_corrections(reader, session_id)
    warnings = _no_formula(" | ".join(one["text"] for one in _warnings(reader, session_id)))
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for cell in all_cells(reader, session_id):
        correction = corrections.get(cell.id)
        row = {
            "session": session.id,
            "sample": _no_formula(session.sample),
            "operator": _no_formula(session.operator),
            "cell": cell.id,
            "number": cell.number,
            "area": cell.area,
            **_named(("x_um", "y_um"), cell.position_um, 2),
            "label": cell.label,
            "classified_as": cell.class_name,
            "probability": _rounded(cell.probability, 4),
            **_named(CLASS_NAMES, cell.probabilities, 4),
            "corrected": cell.corrected,
            "corrected_by": None if correction is None else _no_formula(correction.who),
            "corrected_at": None if correction is None else _time(correction.at),
            "looks": cell.looks,
            "focus": _rounded(cell.focus, 5),
            "first_seen": _time(cell.first_seen),
            "confirmed_at": _time(cell.confirmed_at),
            "model_hash": cell.model_hash,
            "unreadable": " ".join(cell.unreadable),
            "warnings": warnings,
        }
        writer.writerow(row)
        yield _taken(text)
    yield _taken(text)


def json_text(reader: Reader, session_id: int) -> Iterator[str]:
    """A session as one JSON object, piece by piece, a cell a line.

    ``session``; ``differential``: ``classified`` and ``corrected``; ``cells``, each with its corrections.

    Raises:
        NotStoredError: there is no such session.
    """
    head = session_record(reader, session_id)
    of_cell: dict[int, list[JSON]] = {}
    for one in reader.corrections(session_id):
        record = {"at": _time(one.at), "who": one.who, "before": one.before, "after": one.after}
        of_cell.setdefault(one.cell_id, []).append(record)
    yield json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}") + ',\n "cells": ['
    separator = "\n"
    for cell in all_cells(reader, session_id):
        record = _cell_record(cell) | {"corrections": of_cell.get(cell.id, [])}
        yield f"{separator}  {json.dumps(record, allow_nan=False)}"
        separator = ",\n"
    yield "\n ]\n}\n"


def session_record(reader: Reader, session_id: int) -> JSON:
    """A session and its differential, as JSON has it. Raises `NotStoredError` where there is none."""
    session = reader.session(session_id)
    classified, corrected = reader.differential(session_id)
    return {
        "session": asdict(session)
        | {
            "settings": dict(session.settings),
            "started_at": _time(session.started_at),
            "ended_at": _time(session.ended_at),
        },
        "differential": {
            "classified": _differential_record(classified),
            "corrected": _differential_record(corrected),
        },
        "warnings": _warnings(reader, session_id),
    }


def _warnings(reader: Reader, session_id: int) -> list[JSON]:
    """Return what was said of slide, scale, light and stain while a session was open, each text once."""
    found: dict[str, JSON] = {}
    for event in reversed(reader.events(_MOST_EVENTS, session_id=session_id)):
        if event.kind in _WARNING_KINDS:
            found.setdefault(event.text, {"at": _time(event.at), "kind": event.kind, "text": event.text})
    return list(found.values())


def labelled_crops(reader: Reader, session_id: int) -> Iterator[tuple[str, bytes]]:
    """The crops of a session's cells, each with its path in a folder of classes, as JPEG.

    Left out is what has no class: a cell that is no more than undecided would teach to decline what it is;
    and what cannot be read, which the reader notes.

    Raises:
        NotStoredError: there is no such session.
    """
    reader.session(session_id)
    for cell in all_cells(reader, session_id):
        if cell.label not in (UNCLASSIFIED, None):
            with suppress(NotStoredError):  # the reader has noted which picture it is
                crop = marked(reader.crop(cell.id), CROP)
                yield f"{cell.label}/session{session_id}-cell{cell.id}.jpg", crop


def corrections_in(reader: Reader, session_id: int, form: str) -> int:
    """The last correction, by its id, that an export begun after this holds.

    ``form``: ``csv`` and ``json`` hold all. ``crops`` leave out cells that a person called unclassified;
    where there are any, this is 0.
    """
    leaves_out = form == "crops" and reader.cells(session_id, UNCLASSIFIED, corrected_only=True, limit=1)
    return 0 if leaves_out else reader.last_correction()


def all_cells(reader: Reader, session_id: int) -> Iterator[StoredCell]:
    """The cells of a session in order, taken from the file by and by.

    Raises:
        NotStoredError: there is no such session, or not any more: then what came is not all of it.
    """
    after = 0
    while page := reader.cells(session_id, limit=_PAGE, after_id=after):
        yield from page
        after = page[-1].id
    reader.session(session_id)


def write_table(reader: Reader, session_id: int, path: Path) -> None:
    """Write a session's cells to a new CSV file.

    Raises:
        NotStoredError: there is no such session.
        StoreError: the file is there already or cannot be written.
    """
    _write_text(path, reader, session_id, csv_text)


def write_json(reader: Reader, session_id: int, path: Path) -> None:
    """Write a session to a new JSON file. Raises as `write_table`."""
    _write_text(path, reader, session_id, json_text)


def write_crops(reader: Reader, session_id: int, folder: Path) -> LabelledCrops:
    """Write a session's crops as a data set: a folder a class, in a new or empty folder.

    Each cell is an original of its own, as it was counted once; `train` finds by content what two crops
    have in common. The folder's name becomes the collection's.

    Raises:
        NotStoredError: there is no such session.
        StoreError: the folder has something in it, cannot be written, or no cell has a class.
    """
    name = shown_path(folder)
    session = reader.session(session_id)
    counts: Counter[str] = Counter()
    um_per_pixel = 0.0
    try:
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise StoreError(f"{name}: is there already and not an empty folder; give another name")
        with _beside(folder) as unfinished, reader.unchanging():
            for place, jpeg in labelled_crops(reader, session_id):
                path = unfinished / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg)
                counts[path.parent.name] += 1
                # One model names all cells of a session, so all crops are of one scale.
                um_per_pixel = um_per_pixel or _scale(jpeg, session)
            unclassified = reader.differential(session_id)[1].unclassified
            if not counts and any("picture" in line for line in reader.unreadable):
                raise StoreError(
                    f"session {session_id}: what there is of its crops is no image any more; restore a backup"
                )
            if not counts:
                raise StoreError(
                    f"{name}: no cell of session {session_id} has a class; there is nothing to learn from"
                )
            unfinished.rename(folder)
    except OSError as error:
        raise _not_written(name, error) from error
    return LabelledCrops(counts, unclassified, um_per_pixel)


def _write_text(
    path: Path, reader: Reader, session_id: int, pieces_of: Callable[[Reader, int], Iterator[str]]
) -> None:
    """Write pieces of text under another name, renamed when all of it is on the disk."""
    name = shown_path(path)
    if os.path.lexists(path):
        raise StoreError(f"{name}: is there already; give another name")
    try:
        with _beside(path) as unfinished:
            with unfinished.open("x", encoding="utf-8", newline="") as file:
                with reader.unchanging():
                    file.writelines(pieces_of(reader, session_id))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
    except OSError as error:
        raise _not_written(name, error) from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place on the same disk, where what is to be at a path is made before it gets its name."""
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}-") as place:
        yield Path(place) / "unfinished"


def _not_written(name: str, error: OSError) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"{name}: cannot be written ({error.strerror}); check the folder and its room")


def _scale(jpeg: bytes, session: Session) -> float:
    try:
        with Image.open(io.BytesIO(jpeg)) as image:  # reads the header only
            return (session.crop_um or 0.0) / image.width
    except UnidentifiedImageError:  # an OSError, but no disk's
        return 0.0


def _last_corrections(reader: Reader, session_id: int) -> dict[int, Correction]:
    return {one.cell_id: one for one in reader.corrections(session_id)}


def _cell_record(cell: StoredCell) -> JSON:
    return {
        "id": cell.id,
        "number": cell.number,
        "area": cell.area,
        "position_um": None if cell.position_um is None else [round(value, 2) for value in cell.position_um],
        "label": cell.label,
        "classified_as": cell.class_name,
        "corrected": cell.corrected,
        "probabilities": None if cell.probabilities is None else _named(CLASS_NAMES, cell.probabilities, 4),
        "looks": cell.looks,
        "focus": _rounded(cell.focus, 5),
        "first_seen": _time(cell.first_seen),
        "confirmed_at": _time(cell.confirmed_at),
        "model_hash": cell.model_hash,
        "unreadable": cell.unreadable,
    }


def _differential_record(differential: "Differential") -> JSON:
    return {
        "total": differential.total,
        "named": differential.named,
        "classes": {name: _share_record(differential.share(name)) for name in CLASS_NAMES},
        UNCLASSIFIED: _share_record(differential.unclassified_share),
    }


def _share_record(share: "Share") -> JSON:
    return {
        "count": share.count,
        "percent": None if share.percent is None else round(share.percent, 2),
        "low": round(share.low, 2),
        "high": round(share.high, 2),
    }


def _no_formula(text: str) -> str:
    return _FORMULA.sub(r"\1'", text)


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _named(names: Sequence[str], values: Sequence[float] | None, digits: int) -> dict[str, float | None]:
    """Numbers by their names; None for each where they cannot be read."""
    return {
        name: None if values is None else round(values[index], digits) for index, name in enumerate(names)
    }


def _taken(text: io.StringIO) -> str:
    piece = text.getvalue()
    text.seek(0)
    text.truncate()
    return piece
