"""What keeps the file from growing for ever: old sessions go, and the room they took is given back."""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.store.database import transaction
from edge.store.statements import (
    MAX_EVENTS,
    MAX_MESSAGES,
    delete_session,
    insert_event,
    timestamp,
)

_MB = 1_000_000
# Given back at a time: 1 MB, so that a cell waits little for it.
_PAGES_A_STEP = 256


def measure_free_mb(folder: Path) -> float:
    """Room on a folder's disk for this user, in MB."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / _MB


def keep_house(
    connection: sqlite3.Connection,
    folder: Path,
    keep_days: int,
    keep_free_mb: int,
    free_mb: Callable[[Path], float] = measure_free_mb,
) -> Iterator[None]:
    """Delete what is past its time or in the way, in small steps: the writer takes one when it is idle.

    Sessions that ended more than ``keep_days`` ago go first, none before those that were counted before it,
    then the oldest ended ones while less than ``keep_free_mb`` are free; 0 means no limit. The open session
    is never touched.

    Raises:
        sqlite3.Error: nothing of the step at hand was done.
        OSError: the free room cannot be measured.
    """
    yield from trim(connection)
    kept_since = timestamp(datetime.now(UTC) - timedelta(days=keep_days))
    while keep_days and (row := _first_ended(connection)) and row["ended_at"] < kept_since:
        with transaction(connection):
            delete_session(connection, row["id"], f"ended more than {keep_days} days ago")
        yield
    shrunk = yield from shrink(connection)
    # Where the file has not become smaller yet, what is free says nothing of what was deleted.
    while shrunk and keep_free_mb and (free := free_mb(folder)) < keep_free_mb:
        row = _first_ended(connection)
        if row is None:
            return
        with transaction(connection):
            delete_session(connection, row["id"], f"{free:.0f} MB free, {keep_free_mb} are to be kept")
        shrunk = yield from shrink(connection)


def shrink(connection: sqlite3.Connection) -> Generator[None, None, bool]:
    """Give the room of deleted rows back to the disk, in small steps.

    Returns whether the file is smaller now; while somebody reads the old state, that is left to a later
    checkpoint.
    """
    while connection.execute("PRAGMA freelist_count").fetchone()[0]:
        # As a script: it gives a row without columns for every page, and `execute` ends with the first.
        connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_A_STEP:d})")
        yield
    _, logged, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    yield
    return bool(logged == copied)


def trim(connection: sqlite3.Connection) -> Iterator[None]:
    """Drop the oldest of too many events and messages."""
    for table, most in (("events", MAX_EVENTS), ("messages", MAX_MESSAGES)):
        surplus = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] - most  # noqa: S608
        if surplus <= 0:
            continue
        with transaction(connection):
            connection.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608
                (surplus,),
            )
            if table == "messages":
                text = f"{surplus} messages dropped unsent: more than {most} were waiting"
                insert_event(connection, datetime.now(UTC), None, "dropped", text)
        yield


def _first_ended(connection: sqlite3.Connection) -> sqlite3.Row | None:
    """The session that ended first: by number, since the clock may have been set since."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT id, ended_at FROM sessions WHERE ended_at IS NOT NULL ORDER BY id LIMIT 1"
    ).fetchone()
    return row
