"""Rows of the file as records. Of a value that cannot be read the record names the field."""

import json
import math
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from edge.store.records import Correction, Event, Session, StoredCell
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED

#: Why a session is to be deleted, by what the file says; and for how long that is announced before, in
#: seconds in which the device runs.
NOTICES = {"age": "past its time (store.keep_days)", "room": "to make room (store.keep_free_mb)"}
NOTICE_S = 86_400.0

#: What a cell may be called.
LABELS = frozenset((*CLASS_NAMES, UNCLASSIFIED))


def decode_text(data: bytes) -> str:
    """Return a text of the file; what is not UTF-8 in it comes as surrogates, which no text of ours has."""
    return data.decode("utf-8", "surrogateescape")


def is_time(value: object) -> bool:
    """Return whether it is a moment, with its distance to UTC."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        # Near the first and the last year there is no local time.
        return at is not None and at.tzinfo is not None and at.astimezone() is not None
    except (ValueError, OverflowError):
        return False


def session_of(row: sqlite3.Row) -> Session:
    """Return the session that a row of the table holds."""
    values = _Values(row)
    notice = values.optional_text("notice")
    if notice is not None and notice not in NOTICES:
        values.cannot_read("notice")
        notice = None
    target = 0 if row["target"] is None else values.whole("target")
    left_s = values.number("notice_s") if notice is not None else None
    return Session(
        id=row["id"],
        sample=values.text("sample"),
        operator=values.text("operator"),
        started_at=values.time("started_at"),
        ended_at=None if row["ended_at"] is None else values.time("ended_at"),
        ended_because=values.optional_text("ended_because"),
        camera=values.text("camera"),
        model_name=values.text("model_name"),
        model_hash=values.text("model_hash"),
        um_per_pixel=values.positive("um_per_pixel"),
        target=target if target > 0 else None,
        settings=values.settings("settings"),
        continued=max(0, values.whole("continued")),
        crop_um=values.positive("crop_um"),
        start_clock_set=_yes_or_no(row["start_clock_set"]),
        end_clock_set=_yes_or_no(row["end_clock_set"]),
        goes_because=None if notice is None else NOTICES[notice],
        goes_in_h=None if left_s is None else max(0.0, NOTICE_S - left_s) / 3600,
        unreadable=tuple(values.unreadable),
    )


def cell_of(row: sqlite3.Row) -> StoredCell:
    """Return the cell that a row of the table holds."""
    values = _Values(row)
    x_um, y_um = values.number("x_um"), values.number("y_um")
    return StoredCell(
        id=row["id"],
        session_id=row["session_id"],
        number=values.whole("number"),
        area=values.whole("area"),
        position_um=None if x_um is None or y_um is None else (x_um, y_um),
        class_name=values.label("class_name"),
        probabilities=values.probabilities("probabilities"),
        looks=values.whole("looks"),
        focus=values.number("focus"),
        first_seen=values.time("first_seen"),
        confirmed_at=values.time("confirmed_at"),
        model_hash=values.text("model_hash"),
        corrected=None if row["corrected"] is None else values.label("corrected"),
        unreadable=tuple(values.unreadable),
    )


def correction_of(row: sqlite3.Row) -> Correction:
    """Return the correction that a row of the table holds."""
    values = _Values(row)
    return Correction(
        cell_id=row["cell_id"],
        at=values.time("at"),
        who=values.text("who"),
        before=values.label("before"),
        after=values.label("after"),
        unreadable=tuple(values.unreadable),
    )


def event_of(row: sqlite3.Row) -> Event:
    """Return the event that a row of the table holds."""
    values = _Values(row)
    return Event(
        id=row["id"],
        at=values.time("at"),
        session_id=row["session_id"],
        kind=values.text("kind"),
        text=values.text("text"),
        unreadable=tuple(values.unreadable),
    )


class _Values:
    """The values of a row, taken out one by one; ``unreadable``: fields that do not hold what they must."""

    def __init__(self, row: sqlite3.Row) -> None:
        self._row = row
        self.unreadable: list[str] = []

    def cannot_read(self, field: str) -> None:
        """Note a field that does not hold what it must."""
        self.unreadable.append(field)

    def text(self, field: str) -> str:
        """Return a text, as far as it is one."""
        value = self._row[field]
        if isinstance(value, str):
            if value.isascii():
                return value
            shown = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if shown == value:
                return value
        else:
            shown = ""
        self.cannot_read(field)
        return shown

    def optional_text(self, field: str) -> str | None:
        """Return a text, or None where there is none."""
        return None if self._row[field] is None else self.text(field)

    def time(self, field: str) -> datetime | None:
        """Return a moment, with its distance to UTC."""
        value = self._row[field]
        if is_time(value):
            return datetime.fromisoformat(value)
        self.cannot_read(field)
        return None

    def number(self, field: str) -> float | None:
        """Return a finite number."""
        value = self._row[field]
        if isinstance(value, int | float) and math.isfinite(value):
            return value
        self.cannot_read(field)
        return None

    def positive(self, field: str) -> float | None:
        """Return a finite number above 0."""
        value = self.number(field)
        if value is None or value > 0:
            return value
        self.cannot_read(field)
        return None

    def whole(self, field: str) -> int:
        """Return a whole number from 0 on; -1 where it is none."""
        value = self._row[field]
        if isinstance(value, int) and value >= 0:
            return value
        self.cannot_read(field)
        return -1

    def label(self, field: str) -> str | None:
        """Return a class of cells, or unclassified."""
        value = self._row[field]
        if isinstance(value, str) and value in LABELS:
            return value
        self.cannot_read(field)
        return None

    def probabilities(self, field: str) -> tuple[float, ...] | None:
        """Return the probability of each class, from 0 to 1."""
        values = _json(self._row[field])
        if (
            isinstance(values, list)
            and len(values) == len(CLASS_NAMES)
            and all(type(one) in (int, float) and 0 <= one <= 1 for one in values)
        ):
            return tuple(values)
        self.cannot_read(field)
        return None

    def settings(self, field: str) -> Mapping[str, Any]:
        """Return what a count depends on; what was measured of its model only where that can be read too."""
        values = _json(self._row[field])
        if not isinstance(values, dict):
            self.cannot_read(field)
            return {}
        if not _is_accuracy(values.get("accuracy", {})):
            self.cannot_read(f"{field}.accuracy")
            return {name: value for name, value in values.items() if name != "accuracy"}
        return values


def _json(text: object) -> Any:
    """Return what a text holds as JSON; None where it is none, or holds what JSON does not have."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
        # Writing it finds infinite numbers and texts that are none.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _is_accuracy(accuracy: object) -> bool:
    """Return whether it is what a manifest has of how often its model was right; see `edge.differential`."""
    sets = accuracy.get("sets", []) if isinstance(accuracy, dict) else None
    return isinstance(sets, list) and all(_is_measured(one) for one in sets)


def _is_measured(one: object) -> bool:
    """Return whether it is what was measured on one set of images."""
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        return False
    if not all(_is_number(one.get(key)) for key in ("cells", "originals", "accuracy", "low", "high")):
        return False
    if "named" not in one:
        return True
    named = one["named"]
    rows = [named.get(truth) for truth in CLASS_NAMES] if isinstance(named, dict) else [None]
    return all(
        isinstance(row, dict)
        and all(_is_number(row.get(key)) for key in ("cells", "originals", *CLASS_NAMES))
        and row["cells"] > 0
        for row in rows
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _yes_or_no(value: object) -> bool | None:
    return None if value is None else bool(value)
