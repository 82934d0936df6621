"""What is written, each within a transaction of the caller's."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import cv2

from edge.store.clock import Reading, read_clock
from edge.store.reader import no_cell, no_session
from edge.store.records import Correction, Message, NewSession, Session, StoredCell
from edge.store.rows import cell_of, session_of
from edge.tracker import TrackedCell
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import SettingError, StoreError

#: Events and messages are kept up to so many, or a device that nobody looks at would fill its disk.
MAX_EVENTS, MAX_MESSAGES = 10_000, 100_000

# Fine detail of the chromatin survives, and colour at full resolution: 8 kB at 128 pixels.
_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)


@dataclass(frozen=True)
class NewCell:
    """A confirmed cell on its way to the store; ``cell.id`` is still to be given. ``jpeg``: its crop."""

    cell: StoredCell
    jpeg: bytes


def new_cell(session_id: int, cell: TrackedCell, model_hash: str) -> NewCell:
    """A cell as it is stored, its crop encoded."""
    encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(cell.crop, cv2.COLOR_RGB2BGR), _JPEG)
    assert encoded
    stored = StoredCell(
        id=0,
        session_id=session_id,
        number=cell.number,
        area=cell.area,
        position_um=cell.position_um,
        class_name=cell.class_name,
        probabilities=cell.probabilities,
        looks=cell.looks,
        focus=cell.focus,
        first_seen=cell.first_seen,
        confirmed_at=cell.confirmed_at,
        model_hash=model_hash,
        corrected=None,
    )
    return NewCell(stored, jpeg.tobytes())


def insert_cell(connection: sqlite3.Connection, new: NewCell) -> StoredCell:
    """Store a cell and its crop. Raises `sqlite3.IntegrityError` where its session is not there."""
    cell = new.cell
    assert cell.position_um is not None
    assert cell.first_seen is not None
    assert cell.confirmed_at is not None
    row = connection.execute(
        "INSERT INTO cells (session_id, number, area, x_um, y_um, class_name, probability, probabilities, "
        "looks, focus, first_seen, confirmed_at, model_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(cell.session_id, cell.number, cell.area, *cell.position_um, cell.class_name, cell.probability),
            *(json.dumps(cell.probabilities), cell.looks, cell.focus),
            *(timestamp(cell.first_seen), timestamp(cell.confirmed_at), cell.model_hash),
        ),
    )
    assert row.lastrowid is not None
    connection.execute("INSERT INTO crops (cell_id, jpeg) VALUES (?, ?)", (row.lastrowid, new.jpeg))
    return replace(cell, id=row.lastrowid)


def insert_session(
    connection: sqlite3.Connection, new: NewSession, clock: Callable[[], Reading] = read_clock
) -> Session:
    """Start a session. Raises `StoreError` while another is open."""
    is_open = connection.execute("SELECT id FROM sessions WHERE ended_at IS NULL").fetchone()
    if is_open is not None:
        raise StoreError(f"session {is_open['id']} is open; end it before another is started")
    now = clock()
    row = connection.execute(
        "INSERT INTO sessions (sample, operator, started_at, camera, model_name, model_hash, um_per_pixel, "
        "crop_um, target, settings, start_clock_set) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        (
            *(_text(new.sample), _text(new.operator), timestamp(now.at)),
            *(_text(new.camera), _text(new.model_name)),
            *(new.model_hash, new.um_per_pixel, new.crop_um, new.target),
            json.dumps(dict(new.settings), allow_nan=False),
            now.is_set,
        ),
    ).fetchone()
    return session_of(row)


def end_session(
    connection: sqlite3.Connection, session_id: int, because: str, clock: Callable[[], Reading] = read_clock
) -> Session:
    """End a session; one that has ended stays as it is. Raises `NotStoredError` where there is none."""
    now = clock()
    at = timestamp(now.at)
    connection.execute(
        "UPDATE sessions SET ended_at = ?, ended_because = ?, end_clock_set = ?, ended_by = ? "
        "WHERE id = ? AND ended_at IS NULL",
        (at, _text(because), now.is_set, at if now.is_set else None, session_id),
    )
    row = connection.execute("SELECT * FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise no_session(session_id)
    return session_of(row)


def continue_session(connection: sqlite3.Connection, session_id: int) -> Session:
    """Count that the open session is gone on with. Raises `StoreError` where it is not open."""
    row = connection.execute(
        "UPDATE sessions SET continued = continued + 1 WHERE id = ? AND ended_at IS NULL RETURNING *",
        (session_id,),
    ).fetchone()
    if row is None:
        there = connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone()
        raise (
            StoreError(f"session {session_id} has ended; start another") if there else no_session(session_id)
        )
    return session_of(row)


def correct_cell(connection: sqlite3.Connection, cell_id: int, class_name: str, who: str) -> Correction:
    """Give a cell the label that a person sees in it, and keep what it was.

    Raises:
        SettingError: there is no such class.
        NotStoredError: there is no such cell.
    """
    if class_name not in (*CLASS_NAMES, UNCLASSIFIED):
        raise SettingError(
            f"'{class_name}' is no class of cells; take one of {', '.join((*CLASS_NAMES, UNCLASSIFIED))}"
        )
    row = connection.execute("SELECT * FROM cells WHERE id = ?", (cell_id,)).fetchone()
    if row is None:
        raise no_cell(cell_id)
    now = datetime.now(UTC)
    correction = Correction(cell_id, now, _text(who), cell_of(row).label, class_name)
    connection.execute("UPDATE cells SET corrected = ? WHERE id = ?", (class_name, cell_id))
    connection.execute(
        'INSERT INTO corrections (cell_id, at, who, "before", "after") VALUES (?, ?, ?, ?, ?)',
        (cell_id, timestamp(now), correction.who, correction.before or "unreadable", class_name),
    )
    return correction


def save_corrections(connection: sqlite3.Connection, last: int, session_id: int | None = None) -> None:
    """Record that corrections up to one, by its id, are in an export of a session, or in a backup of all."""
    connection.execute(
        "UPDATE sessions SET saved_correction = max(saved_correction, ?1) WHERE ?2 IS NULL OR id = ?2",
        (last, session_id),
    )


def delete_session(connection: sqlite3.Connection, session_id: int, because: str) -> None:
    """Delete an ended session with its cells, corrections and events; an event keeps how many there were.

    Raises:
        NotStoredError: there is none.
        StoreError: it is open.
    """
    row = connection.execute("SELECT * FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise no_session(session_id)
    if row["ended_at"] is None:
        raise StoreError(f"session {session_id} is open; end it before it is deleted")
    cells, corrected = connection.execute(
        "SELECT count(*), count(corrected) FROM cells WHERE session_id = ?", (session_id,)
    ).fetchone()
    connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
    text = f"session {session_id} deleted ({because}): {cells} cells, {corrected} of them corrected"
    insert_event(connection, datetime.now(UTC), None, "deleted", text)


def insert_event(
    connection: sqlite3.Connection, at: datetime, session_id: int | None, kind: str, text: str
) -> None:
    """Record an event. Raises `sqlite3.IntegrityError` where its session is not there."""
    connection.execute(
        "INSERT INTO events (at, session_id, kind, text) VALUES (?, ?, ?, ?)",
        (timestamp(at), session_id, kind, _text(text)),
    )


def insert_message(connection: sqlite3.Connection, message: Message) -> None:
    """Put a message into the outbox."""
    if message.latest_only:
        connection.execute("DELETE FROM messages WHERE latest_only AND topic = ?", (message.topic,))
    connection.execute(
        "INSERT INTO messages (topic, payload, retain, latest_only) VALUES (?, ?, ?, ?)",
        (message.topic, message.payload, message.retain, message.latest_only),
    )


def drop_messages(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Take messages out of the outbox; what is not there any more is no mistake."""
    connection.executemany("DELETE FROM messages WHERE id = ?", ((one,) for one in ids))


def timestamp(at: datetime) -> str:
    """A time as it is stored: UTC, to the microsecond, so that text sorts as time does."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _text(text: str) -> str:
    """A text as it can be stored: what a path has in it need not be one, and SQLite takes nothing else."""
    return text.encode("utf-8", "backslashreplace").decode()
