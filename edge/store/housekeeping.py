"""What keeps the file from growing for ever: old sessions go, and the room they took is given back.

A session goes by itself only where all of this holds:

- it has ended, is none of the newest, and a person's corrections in it are in an export or a backup, too;
- it ended too long ago, by two readings of a clock known to be set and without a jump, or there is too little
  room and what may be deleted is enough to make it;
- that has been announced for a day in which the device ran, and held all that time. A board that is switched
  off shows nothing to anybody, and no setting of the clock makes that day shorter.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.store.clock import Reading, read_clock
from edge.store.database import transaction
from edge.store.rows import NOTICE_S, NOTICES, is_time
from edge.store.statements import (
    MAX_EVENTS,
    MAX_MESSAGES,
    delete_session,
    insert_event,
    timestamp,
)

#: So many sessions stay however old they are, and however full the disk is, unless a person says otherwise.
KEEP_SESSIONS = 20
#: A clock that has gone by so much more or less than time has was set anew.
JUMP = timedelta(minutes=1)

_MB = 1_000_000
# Given back at a time: 1 MB, so that a cell waits little for it.
_PAGES_A_STEP = 256
# What a cell takes beside its crop.
_CELL_BYTES = 300
_MAY_GO = """SELECT id, ended_by FROM sessions
    WHERE ended_at IS NOT NULL
    AND id NOT IN (SELECT id FROM sessions ORDER BY id DESC LIMIT ?)
    AND id NOT IN (
        SELECT corrected.id FROM corrections
        JOIN cells ON cells.id = cell_id JOIN sessions AS corrected ON corrected.id = session_id
        WHERE corrections.id > corrected.saved_correction
    )
    ORDER BY id"""


def measure_free_mb(folder: Path) -> float:
    """Room on a folder's disk for this user, in MB."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / _MB


class Housekeeper:
    """Decides which sessions go, and deletes them. It belongs to the thread that writes.

    Args:
        folder: whose disk is to have room.
        keep_days: sessions that ended longer ago go; 0 keeps them.
        keep_free_mb: the oldest go while less is free; 0 keeps them.
        keep_sessions: so many of the newest stay in any case.
        free_mb: measures the room.
        clock: reads the time of day.
    """

    def __init__(
        self,
        folder: Path,
        keep_days: int,
        keep_free_mb: int,
        keep_sessions: int = KEEP_SESSIONS,
        free_mb: Callable[[Path], float] = measure_free_mb,
        clock: Callable[[], Reading] = read_clock,
    ) -> None:
        #: Why there is too little room although nothing is deleted, in a sentence; None where there is
        #: enough, or will be. Any thread may ask.
        self.warning: str | None = None
        self._folder = folder
        self._keep_days = keep_days
        self._keep_free_mb = keep_free_mb
        self._keep_sessions = keep_sessions
        self._free_mb = free_mb
        self._clock = clock
        self._last: Reading | None = None
        self._bytes: dict[int, int] = {}  # of sessions that may go: they do not grow any more

    def keep_house(self, connection: sqlite3.Connection) -> Iterator[None]:
        """One round, in small steps: the writer takes one when it is idle.

        Raises:
            sqlite3.Error: nothing of the step at hand was done.
            OSError: the free room cannot be measured.
        """
        yield from trim(connection)
        now, last = self._clock(), self._last
        self._last = now
        passed_s = 0.0 if last is None else now.since_start_s - last.since_start_s
        aged = self._aged(connection, now)
        shrunk = yield from shrink(connection)
        while True:
            # Where the file has not become smaller yet, what is free says nothing of what was deleted.
            crowding = (yield from self._crowding(connection)) if shrunk else None
            due = self._announce(connection, {"age": aged, "room": crowding}, passed_s)
            if not due:
                return
            for session_id, why in due:
                self._delete(connection, session_id, why)
                yield
                if why == "room":
                    break  # there may be enough now
            shrunk = yield from shrink(connection)
            passed_s = 0.0

    def may_go(self, connection: sqlite3.Connection) -> dict[int, str | None]:
        """The sessions that nothing keeps, oldest first: by number, since the clock may have been set since.

        With each, a reading of a clock known to be set at or after its end; None where there was none yet.
        """
        return {
            row[0]: row[1] if is_time(row[1]) else None
            for row in connection.execute(_MAY_GO, (self._keep_sessions,))
        }

    def _aged(self, connection: sqlite3.Connection, now: Reading) -> set[int] | None:
        """Sessions that ended too long ago; None where the clock does not tell."""
        if not now.is_set:
            return None if self._keep_days else set()
        if not self._is_steady(connection, now):
            return set()
        with transaction(connection):
            # Whenever they ended, it was before now.
            connection.execute(
                "UPDATE sessions SET ended_by = ? WHERE ended_at IS NOT NULL AND ended_by IS NULL",
                (timestamp(now.at),),
            )
        if not self._keep_days:
            return set()
        since = timestamp(now.at - timedelta(days=self._keep_days))
        return {one for one, ended_by in self.may_go(connection).items() if ended_by and ended_by < since}

    def _is_steady(self, connection: sqlite3.Connection, now: Reading) -> bool:
        """Whether a clock that is set can be gone by: it was not set otherwise since the machine started.

        If it was, it was wrong before or is now: what ended by it is of unknown age again, and for a day, or
        until the machine starts anew, it is not gone by.
        """
        steady_since, doubted_until_s, text = now.at, 0.0, ""
        last = connection.execute("SELECT * FROM clock WHERE start = ?", (now.start,)).fetchone()
        if last is not None and is_time(last["at"]) and is_time(last["steady_since"]):
            passed = timedelta(seconds=now.since_start_s - last["since_start_s"])
            expected = datetime.fromisoformat(last["at"]) + passed
            steady_since, doubted_until_s = (
                datetime.fromisoformat(last["steady_since"]),
                last["doubted_until_s"],
            )
            if abs(now.at - expected) > JUMP:
                text = f"the time of day jumped from {expected:%Y-%m-%d %H:%M} to {now.at:%Y-%m-%d %H:%M}"
        with transaction(connection):
            if text:
                text += ": no session's age is judged for a day"
                insert_event(connection, now.at, None, "clock", text)
                connection.execute(
                    "UPDATE sessions SET ended_by = NULL WHERE ended_by BETWEEN ? AND ?",
                    (timestamp(steady_since), timestamp(expected)),
                )
                steady_since, doubted_until_s = now.at - passed, now.since_start_s + NOTICE_S
            connection.execute(
                "REPLACE INTO clock VALUES (1, ?, ?, ?, ?, ?)",
                (
                    *(now.start, now.since_start_s, timestamp(now.at)),
                    *(timestamp(steady_since), doubted_until_s),
                ),
            )
        return now.since_start_s >= doubted_until_s

    def _crowding(self, connection: sqlite3.Connection) -> Generator[None, None, set[int]]:
        """The oldest sessions whose room is wanted; none where all that may go would not be enough."""
        free = self._free_mb(self._folder) if self._keep_free_mb else 0.0
        missing = (self._keep_free_mb - free) * _MB
        if missing <= 0:
            self.warning = None
            return set()
        found: set[int] = set()
        room = 0
        for session_id in self.may_go(connection):
            found.add(session_id)
            room += self._size(connection, session_id)
            if room >= missing:
                self.warning = None
                return found
            yield
        self._warn(connection, free, room, missing)
        return set()

    def _size(self, connection: sqlite3.Connection, session_id: int) -> int:
        """What deleting a session gives back at least, in bytes."""
        if session_id not in self._bytes:
            [size] = connection.execute(
                "SELECT coalesce(sum(length(jpeg) + ?), 0) FROM crops "
                "WHERE cell_id IN (SELECT id FROM cells WHERE session_id = ?)",
                (_CELL_BYTES, session_id),
            ).fetchone()
            self._bytes[session_id] = size
        return self._bytes[session_id]

    def _warn(self, connection: sqlite3.Connection, free: float, room: float, missing: float) -> None:
        """Say, once, that deleting would not help."""
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
        figures = (
            f"{free:.0f} MB are free of {self._keep_free_mb} to be kept, deleting could give back "
            f"{room / _MB:.0f} MB"
        )
        before = self.warning
        if pages * page_bytes < missing:
            self.warning = f"The card is full, and not by the sessions: {figures}; make room on it."
        else:
            self.warning = (
                f"The card is full of sessions that are kept: {figures}. The newest {self._keep_sessions} "
                "stay, and those with corrections until they are exported or backed up."
            )
        if before is None:
            with transaction(connection):
                insert_event(connection, self._clock().at, None, "room", self.warning)

    def _announce(
        self, connection: sqlite3.Connection, wanted: Mapping[str, set[int] | None], passed_s: float
    ) -> list[tuple[int, str]]:
        """Bring the notices up to date, and return whose day is over, each with why it goes.

        ``wanted``: by reason, the sessions that are to go; None where that is not known now, and notices that
        say so stay as they are. ``passed_s``: for how long they have been there since the last round.
        """
        over: list[tuple[int, str]] = []
        changes: list[tuple[str | None, float | None, int]] = []
        said: list[tuple[int, str]] = []
        notices = {
            row["id"]: (row["notice"], row["notice_s"])
            for row in connection.execute(
                "SELECT id, notice, notice_s FROM sessions WHERE notice IS NOT NULL"
            )
            if row["notice"] in NOTICES and isinstance(row["notice_s"], float)  # else it is begun anew
        }
        may_go = self.may_go(connection)
        for session_id in sorted(may_go.keys() | notices.keys()):
            before, announced_s = notices.get(session_id, (None, 0.0))
            whys = [why for why, ids in wanted.items() if ids is not None and session_id in ids]
            if session_id in may_go and whys:
                announced_s = announced_s + passed_s if before else 0.0
                if before is None:
                    said.append(
                        (session_id, f"to be deleted after a day more of running: {NOTICES[whys[0]]}")
                    )
                if (whys[0], announced_s) != notices.get(session_id):
                    changes.append((whys[0], announced_s, session_id))
                if announced_s >= NOTICE_S:
                    over.append((session_id, whys[0]))
            elif before and (session_id not in may_go or wanted[before] is not None):
                changes.append((None, None, session_id))
                said.append((session_id, "not to be deleted any more"))
        if changes:
            with transaction(connection):
                connection.executemany("UPDATE sessions SET notice = ?, notice_s = ? WHERE id = ?", changes)
                for session_id, text in said:
                    insert_event(connection, self._clock().at, session_id, "retention", text)
        return sorted(over, key=lambda one: (one[1], one[0]))

    def _delete(self, connection: sqlite3.Connection, session_id: int, why: str) -> None:
        because = {
            "age": f"ended more than {self._keep_days} days ago",
            "room": f"to keep {self._keep_free_mb} MB free",
        }
        with transaction(connection):
            # Somebody may have corrected or deleted it since.
            if session_id in self.may_go(connection):
                delete_session(connection, session_id, because[why])


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
