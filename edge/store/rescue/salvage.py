"""Find damage when the device starts, and go on with what can be read in a new file."""

import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge.store.database import (
    BUSY_S,
    FILE_NAME,
    connect,
    explain,
    open_store,
    require_plain_files,
    sync_folder,
)
from edge.store.rescue.mark import TABLES, Mark
from edge.store.rescue.pages import Pages, Value
from edge.store.schema import APPLICATION_ID, STEPS, migrate
from edge.store.statements import timestamp
from hematovision.errors import StoreError, reason_of
from hematovision.images import shown_path

#: Up to this size every page is looked at when the device starts: 30 s on a slow card. Of a larger file, the
#: crops are left out, which are all but a thirtieth of it, unless it was found damaged while it was written.
WHOLE_BYTES = 1_000_000_000

# What a slow card and a slow processor do at least, in bytes a second.
_CHECKED_A_S, _COPIED_A_S = 4e6, 5e5
_AT_LEAST_S = 60.0
_HEADING = "*** in database main ***"
#: Told before what may take long: what it is, and for how many seconds at most.
Slow = Callable[[str, float], None]

# The reading of the clock is begun anew: ages are judged later for that, never earlier.
_ROWS = ("sessions", "cells", "crops", "corrections", "events", "messages")
_BATCH = 500


@dataclass(frozen=True)
class Opened:
    """A store that is open to be written, and what a person should know of it, a line each."""

    connection: sqlite3.Connection
    mark: Mark
    said: list[str]


def open_whole(folder: Path, slow: Slow = lambda _what, _seconds: None) -> Opened:
    """Open the store as `open_store` does, after a look at whether it is whole.

    Where it is damaged, it is set aside under a name that says so, and what can be read of it, its log
    included, is written to a new file first. Where it lacks what was reported as stored, that is said.
    ``slow`` is told before what may take long: what it is, and for how many seconds at most.

    Raises:
        StoreError: as `open_store`; or the new file cannot be written.
    """
    path = folder / FILE_NAME
    mark = Mark(path)
    said: list[str] = []
    require_plain_files(path)
    if path.is_file() and path.stat().st_size:
        size = path.stat().st_size
        slow(f"{FILE_NAME} is checked", _AT_LEAST_S + size / _CHECKED_A_S)
        damage = _look(path, mark)
        if damage is not None and _is_ours(path, mark):
            what = f"{FILE_NAME} is damaged ({damage}): what can be read of its {size / 1e6:.0f} MB is copied"
            slow(what, _AT_LEAST_S + size / _COPIED_A_S)
            said.append(_salvage(path, mark, damage))
    connection = open_store(folder)
    try:
        missing = find_missing(connection, mark)
        if missing is not None and not said:
            said.append(missing)
        _raise_sequences(connection, mark)
        mark.note(last_ids(connection))
        mark.ask_for_close_look(False)
    except sqlite3.Error as error:
        connection.close()
        raise explain(path, error) from error
    return Opened(connection, mark, said)


def find_damage(connection: sqlite3.Connection, whole: bool = True) -> str | None:
    """Return what SQLite finds wrong with a file, in a line; None where it is sound.

    ``whole``: every page is looked at; else crops are left out.

    Raises:
        sqlite3.Error: it cannot be read, for another reason than damage.
    """
    questions = ["PRAGMA integrity_check(1)"]
    if not whole:
        questions = [f"PRAGMA integrity_check({table})" for table in _ROWS if table != "crops"]
    try:
        found = [str(row[0]) for question in questions for row in connection.execute(question)]
    except sqlite3.DatabaseError as error:
        if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise
        return reason_of(error)
    return next(
        (reason_of(StoreError(one.removeprefix(_HEADING).strip())) for one in found if one != "ok"), None
    )


def last_ids(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the last id that each table has given."""
    rows = connection.execute("SELECT name, seq FROM sqlite_sequence WHERE typeof(seq) = 'integer'")
    return {row[0]: row[1] for row in rows if row[0] in TABLES}


def find_missing(connection: sqlite3.Connection, mark: Mark) -> str | None:
    """Return what a file lacks of what was reported as stored, in a line; None where it lacks nothing."""
    last = last_ids(connection)
    missing = {table: mark.last.get(table, 0) - last.get(table, 0) for table in TABLES}
    lost = ", ".join(f"{number} {table}" for table, number in missing.items() if number > 0)
    if not lost:
        return None
    return (
        f"{FILE_NAME} has less than was reported as stored: the last {lost} are not in it. It, or its "
        f"write-ahead log ({FILE_NAME}-wal), was removed or damaged; or an earlier copy was put in its place"
    )


def _look(path: Path, mark: Mark) -> str | None:
    """Return what is wrong with a file that SQLite reads, before it is written to; None where nothing is."""
    try:
        with closing(connect(path, "ro", BUSY_S)) as connection:
            damage = find_damage(connection, mark.look_closely or path.stat().st_size <= WHOLE_BYTES)
            if damage is not None or find_missing(connection, mark) is None:
                return damage
        with Pages(path.resolve()) as pages:
            return "its write-ahead log" if pages.later else None
    except (sqlite3.Error, OSError) as error:
        # Not a store yet, or one that opening it will say more of.
        name = getattr(error, "sqlite_errorname", "")
        return reason_of(error) if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) else None


def _is_ours(path: Path, mark: Mark) -> bool:
    with path.open("rb") as file:
        return mark.exists or file.read(72)[68:] == APPLICATION_ID.to_bytes(4)


def _raise_sequences(connection: sqlite3.Connection, mark: Mark) -> None:
    """Give no id twice: others may have been told of cells that are lost here."""
    for table, last in mark.last.items():
        if last > last_ids(connection).get(table, 0):
            connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


def _salvage(path: Path, mark: Mark, damage: str) -> str:
    """Write what can be read to a new file in the place of a damaged one; say what was kept and lost."""
    real = path.resolve()
    now = datetime.now(UTC)
    aside = Path(f"{real}.damaged-{now:%Y%m%dT%H%M%SZ}")
    try:
        with tempfile.TemporaryDirectory(dir=real.parent, prefix=f".{FILE_NAME}-") as place:
            new = Path(place) / FILE_NAME
            new.touch(mode=0o600)
            with Pages(real) as pages:
                text = _Salvage(new, pages, mark).run()
            with new.open("rb") as file:
                os.fsync(file.fileno())
            if os.path.lexists(aside):
                raise StoreError(f"{shown_path(aside)}: is there already; move it away")
            log = Path(f"{real}-wal")
            if log.exists() and log.stat().st_size:  # or it would be taken for the new file's
                log.rename(f"{aside}-wal")
            log.unlink(missing_ok=True)
            Path(f"{real}-shm").unlink(missing_ok=True)
            real.rename(aside)
            new.rename(real)
            sync_folder(real.parent)
    except sqlite3.Error as error:
        raise explain(path, error) from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{shown_path(path)}: is damaged, and what can be read of it cannot be written to a new file "
            f"({error.strerror}); make room on the disk for another as large"
        ) from error
    return (
        f"{FILE_NAME} was damaged ({damage}). {text}. The damaged file is kept as {aside.name}: remove it "
        "when it is no longer wanted"
    )


@dataclass(frozen=True)
class _Table:
    """A table as rows are put into it. ``columns``: name, type, and whether it may not be empty."""

    name: str
    columns: Sequence[tuple[str, str, bool]]

    def suits(self, values: Sequence[Value]) -> bool:
        """Return whether a row may be one of this table; an earlier version's has fewer columns."""
        return self._has_place(values) and all(map(_suits, values, self.columns))

    def nearly_suits(self, values: Sequence[Value]) -> bool:
        """Return whether it is a row of this table with something wrong in it."""
        right = sum(map(_suits, values, self.columns))
        return self._has_place(values) and 2 * right > len(values)

    @staticmethod
    def whole(row_id: int, values: Sequence[Value]) -> list[Value]:
        """Return the values of a row that suits; its id stands beside them."""
        return [row_id, *values[1:]]

    def mended(self, row_id: int, values: Sequence[Value]) -> list[Value]:
        """Return the values, those of a wrong type as ones that are told as unreadable when they are read."""
        return [
            row_id if index == 0 else value if _suits(value, column) else _UNREADABLE[column[1]]
            for index, (value, column) in enumerate(zip(values, self.columns, strict=False))
        ]

    def _has_place(self, values: Sequence[Value]) -> bool:
        return len(self.columns) - _ADDED.get(self.name, 0) <= len(values) <= len(self.columns)


# Columns that later versions added.
_ADDED = Counter(
    statement.split()[2]
    for step in STEPS[1:]
    for statement in step
    if statement.startswith("ALTER TABLE") and " ADD COLUMN " in statement
)
_UNREADABLE: dict[str, Value] = {"TEXT": "", "REAL": float("inf"), "INTEGER": -1, "BLOB": b""}
_TYPES = {"TEXT": str, "REAL": (int, float), "INTEGER": int, "BLOB": bytes}


def _suits(value: Value, column: tuple[str, str, bool]) -> bool:
    _, kind, is_needed = column
    return not is_needed if value is None else isinstance(value, _TYPES[kind])  # type: ignore[arg-type]


@dataclass
class _Salvage:
    """Fills a new file with the rows of damaged pages."""

    new: Path
    pages: Pages
    mark: Mark
    _known_cells: set[int] = field(default_factory=set)

    def run(self) -> str:
        with closing(connect(self.new, "rw", BUSY_S)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = OFF")  # where it fails, it is thrown away
            connection.execute("PRAGMA foreign_keys = OFF")
            migrate(connection, STEPS)
            connection.execute("BEGIN")
            tables = [self._table(connection, name) for name in _ROWS]
            for table, values in self._rows(tables):
                self._insert(connection, table, values)
            orphans = self._make_sessions(connection)
            text = self._text(connection, orphans)
            self._tidy(connection)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        return text

    def _table(self, connection: sqlite3.Connection, name: str) -> _Table:
        rows = connection.execute(f"PRAGMA table_info({name})").fetchall()
        # The first column is the row's id, which its record leaves empty.
        return _Table(
            name, [(row["name"], row["type"], bool(row["notnull"]) and row["cid"] > 0) for row in rows]
        )

    def _rows(self, tables: Sequence[_Table]) -> Iterator[tuple[_Table, list[Value]]]:
        last: _Table | None = None
        for rows in self.pages.leaves():
            # A page has rows of one table, and its neighbour mostly of the same.
            if last is not None and all(values[:1] == [None] and last.suits(values) for _, values in rows):
                yield from ((last, last.whole(row_id, values)) for row_id, values in rows if row_id > 0)
                continue
            likely = Counter(
                table.name
                for _, values in rows
                for table in tables
                if values[:1] == [None] and table.suits(values)
            )
            candidates = [table for table in tables if table.name in likely] or list(tables)
            candidates.sort(key=lambda table: -likely[table.name])
            for row_id, values in rows:
                if row_id <= 0 or values[:1] != [None]:
                    continue
                table = next((one for one in candidates if one.suits(values)), None) or next(
                    (one for one in candidates if one.nearly_suits(values)), None
                )
                if table is not None:
                    last = table
                    yield table, table.mended(row_id, values)

    def _insert(self, connection: sqlite3.Connection, table: _Table, values: Sequence[Value]) -> None:
        names = [name for name, _, _ in table.columns[: len(values)]]
        if table.name in ("cells", "crops"):
            self._known_cells.add(int(values[0]))  # type: ignore[arg-type]
        marks = ", ".join("?" * len(names))
        columns = ", ".join(f'"{name}"' for name in names)
        statement = f"INSERT OR IGNORE INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608
        inserted = connection.execute(statement, values).rowcount
        there = f"SELECT 1 FROM {table.name} WHERE {names[0]} = ?"  # noqa: S608
        if not inserted and not connection.execute(there, values[:1]).fetchone():
            # A second session that is open, which there cannot be.
            ended = dict(zip(names, values, strict=True))
            ended |= {"ended_at": ended["started_at"], "ended_because": "the store was damaged"}
            connection.execute(statement, list(ended.values()))

    def _make_sessions(self, connection: sqlite3.Connection) -> int:
        """Make a session for cells whose own is lost; how many there are."""
        lost = connection.execute(
            "SELECT session_id, min(confirmed_at), max(confirmed_at), min(model_hash) FROM cells "
            "WHERE session_id NOT IN (SELECT id FROM sessions) GROUP BY session_id"
        ).fetchall()
        for session_id, first, last, model_hash in lost:
            connection.execute(
                "INSERT INTO sessions (id, sample, operator, started_at, ended_at, ended_because, camera, "
                "model_name, model_hash, um_per_pixel, crop_um, settings) "
                "VALUES (?, ?, '', ?, ?, 'the store was damaged', '', '', ?, 9e999, 9e999, '')",
                (session_id, f"session {session_id}, its record lost", first, last, model_hash),
            )
        return len(lost)

    def _text(self, connection: sqlite3.Connection, orphans: int) -> str:
        def count(question: str) -> int:
            return int(connection.execute(question).fetchone()[0])

        sessions, cells = count("SELECT count(*) FROM sessions"), count("SELECT count(*) FROM cells")
        bare = count("SELECT count(*) FROM cells WHERE id NOT IN (SELECT cell_id FROM crops)")
        kept = {row[0] for row in connection.execute("SELECT id FROM cells")}
        last = max((*self._known_cells, 0))
        lost = len(self._known_cells - kept) + max(0, self.mark.last.get("cells", 0) - last)
        last_session = count("SELECT coalesce(max(id), 0) FROM sessions")
        lost_sessions = orphans + max(0, self.mark.last.get("sessions", 0) - last_session)
        return (
            f"A new file has what could be read: {sessions} sessions with {cells} cells, {bare} of them "
            f"without their picture. At least {lost} cells, and the records of {lost_sessions} sessions, "
            "are lost"
        )

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Drop what belongs to nothing any more, and put corrections where cells were read before them."""
        connection.execute("DELETE FROM crops WHERE cell_id NOT IN (SELECT id FROM cells)")
        connection.execute("DELETE FROM corrections WHERE cell_id NOT IN (SELECT id FROM cells)")
        connection.execute(
            "UPDATE events SET session_id = NULL WHERE session_id NOT IN (SELECT id FROM sessions)"
        )
        connection.execute(
            'UPDATE cells SET corrected = (SELECT "after" FROM corrections WHERE cell_id = cells.id '
            "ORDER BY corrections.id DESC LIMIT 1) WHERE id IN (SELECT cell_id FROM corrections)"
        )
        now = timestamp(datetime.now(UTC))
        connection.execute(
            "UPDATE sessions SET ended_at = coalesce(ended_at, ?) WHERE ended_because IS NOT NULL", (now,)
        )
