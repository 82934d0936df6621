"""Reading the store, from the daemon's own threads or from another process."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge.store.database import FILE_NAME, explained, open_for_reading
from edge.store.records import Correction, Event, Message, Session, StoredCell
from edge.store.rows import LABELS, cell_of, correction_of, event_of, session_of
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import NotStoredError

if TYPE_CHECKING:
    from edge.differential import Differential

#: No id is larger: SQLite counts with 64 bits, and takes no larger number in a question either.
MAX_ID = 2**63 - 1

_LABEL = "coalesce(corrected, class_name)"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

_WORDS = {
    "at": "date",
    "started_at": "date of the start",
    "ended_at": "date of the end",
    "first_seen": "date (first seen)",
    "confirmed_at": "date (counted)",
    "class_name": "class",
    "corrected": "corrected class",
}

_Record = TypeVar("_Record", Session, StoredCell, Correction, Event)


class Reader:
    """Questions to the store; each sees all that was stored until then. One thread at a time.

    What a row holds that cannot be read is None in its record, and named in `unreadable`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._unreadable: dict[str, None] = {}

    @property
    def unreadable(self) -> list[str]:
        """What could not be read in all that was asked for until now, a line each."""
        return list(self._unreadable)

    def note(self, what: str) -> None:
        """Note something that cannot be read."""
        self._unreadable[what] = None

    def _noted(self, name: str, record: _Record) -> _Record:
        for field in record.unreadable:
            self.note(f"{name}: its {_WORDS.get(field, field.replace('_', ' '))} cannot be read")
        return record

    def _session_of(self, row: sqlite3.Row) -> Session:
        return self._noted(f"session {row['id']}", session_of(row))

    def _cell_of(self, row: sqlite3.Row) -> StoredCell:
        return self._noted(f"cell {row['id']}", cell_of(row))

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Within it, all questions see the store at one moment. The log grows meanwhile: be quick."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def sessions(self, limit: int = 100, before_id: int | None = None) -> list[Session]:
        """Sessions, newest first; those before a given one."""
        rows = self._connection.execute(
            "SELECT * FROM sessions WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
            (before_id, limit),
        )
        return [self._session_of(row) for row in rows]

    def session(self, session_id: int) -> Session:
        """A session. Raises `NotStoredError` where there is none of that number."""
        row = self._row("SELECT * FROM sessions WHERE id = ?", session_id)
        if row is None:
            raise no_session(session_id)
        return self._session_of(row)

    def open_session(self) -> Session | None:
        """The session that has not ended."""
        row = self._connection.execute("SELECT * FROM sessions WHERE ended_at IS NULL").fetchone()
        return None if row is None else self._session_of(row)

    def cells(
        self,
        session_id: int | None = None,
        class_name: str | None = None,
        min_probability: float = 0.0,
        max_probability: float = 1.0,
        corrected_only: bool = False,
        limit: int = 100,
        after_id: int | None = None,
        newest_first: bool = False,
    ) -> list[StoredCell]:
        """Cells in the order in which they were stored, or newest first.

        Args:
            session_id: of which session; of all if None.
            class_name: with this label, which may be unclassified; a correction counts, not what it corrects.
            min_probability, max_probability: of the likeliest class.
            corrected_only: only those that a person has given a label.
            limit: so many at most.
            after_id: that follow this one in the order asked for.
            newest_first: the order.
        """
        order, follows = ("DESC", "<") if newest_first else ("ASC", ">")
        conditions: dict[str, object] = {
            "session_id = ?": session_id,
            f"{_LABEL} = ?": class_name,
            f"id {follows} ?": after_id,
            # Probabilities add up to 1 but for rounding.
            "probability >= ?": min_probability if min_probability > 0 else None,
            "probability <= ?": max_probability if max_probability < 1 else None,
        }
        given = {text: value for text, value in conditions.items() if value is not None}
        wanted = [*given, "corrected IS NOT NULL"] if corrected_only else [*given]
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        rows = self._connection.execute(
            f"SELECT * FROM cells {where} ORDER BY id {order} LIMIT ?",  # noqa: S608 (no text from outside)
            (*given.values(), limit),
        )
        return [self._cell_of(row) for row in rows]

    def cell(self, cell_id: int) -> StoredCell:
        """A cell. Raises `NotStoredError` where there is none of that number."""
        row = self._row("SELECT * FROM cells WHERE id = ?", cell_id)
        if row is None:
            raise no_cell(cell_id)
        return self._cell_of(row)

    def crop(self, cell_id: int) -> bytes:
        """The crop of a cell, as JPEG.

        Raises:
            NotStoredError: there is no such cell, or its crop cannot be read.
        """
        try:
            row = self._row("SELECT jpeg FROM crops WHERE cell_id = ?", cell_id)
        except sqlite3.DatabaseError as error:
            if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
                raise
            row = None
        jpeg = row[0] if row is not None else None
        if isinstance(jpeg, bytes) and jpeg.startswith(_JPEG_START) and jpeg.endswith(_JPEG_END):
            return jpeg
        self.cell(cell_id)
        what = f"cell {cell_id}: its picture cannot be read"
        self.note(what)
        raise NotStoredError(f"{what}; the store was damaged, a backup may have it")

    def differential(self, session_id: int) -> tuple["Differential", "Differential"]:
        """Of a session: as classified, and as corrected. Raises `NotStoredError` where there is none."""
        from edge.differential import Differential  # its limits need SciPy, which takes long to load

        self.session(session_id)
        rows = self._connection.execute(
            f"SELECT class_name, {_LABEL} AS label, count(*) AS cells FROM cells WHERE session_id = ? "  # noqa: S608
            "GROUP BY class_name, label",
            (session_id,),
        ).fetchall()
        counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        for row in rows:
            for number, name in enumerate(("class_name", "label")):
                counts[number][row[name]] += row["cells"]
        unknown = sum(cells for name, cells in counts[1].items() if name not in LABELS)
        if unknown:
            self.note(f"session {session_id}: of {unknown} cells the class cannot be read; no count has them")
        classified, corrected = (
            Differential(tuple(of[name] for name in CLASS_NAMES), of[UNCLASSIFIED]) for of in counts
        )
        return classified, corrected

    def count_cells(self, session_id: int | None = None) -> int:
        """How many cells a session has; all, if None."""
        return int(
            self._connection.execute(
                "SELECT count(*) FROM cells WHERE ?1 IS NULL OR session_id = ?1", (session_id,)
            ).fetchone()[0]
        )

    def corrections(self, session_id: int | None = None, cell_id: int | None = None) -> list[Correction]:
        """Corrections in the order in which they were made: of a session, of a cell, or all."""
        rows = self._connection.execute(
            "SELECT corrections.* FROM corrections JOIN cells ON cells.id = cell_id "
            "WHERE (?1 IS NULL OR session_id = ?1) AND (?2 IS NULL OR cell_id = ?2) ORDER BY corrections.id",
            (session_id, cell_id),
        )
        return [self._noted(f"correction of cell {row['cell_id']}", correction_of(row)) for row in rows]

    def last_correction(self) -> int:
        """The id of the last correction in the store; 0 where there is none."""
        return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM corrections").fetchone()[0])

    def events(
        self, limit: int = 100, before_id: int | None = None, session_id: int | None = None
    ) -> list[Event]:
        """Events, newest first: those before a given one, those of one session, or all."""
        rows = self._connection.execute(
            "SELECT * FROM events WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR session_id = ?2) "
            "ORDER BY id DESC LIMIT ?3",
            (before_id, session_id, limit),
        )
        return [self._noted(f"event {row['id']}", event_of(row)) for row in rows]

    def messages(self, limit: int = 100, after_id: int = 0) -> list[tuple[int, Message]]:
        """Messages that wait to be sent, oldest first, each with its id; those after a given one."""
        rows = self._connection.execute(
            "SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit)
        )
        return [
            (
                row["id"],
                Message(
                    row["topic"], _payload(row["payload"]), bool(row["retain"]), bool(row["latest_only"])
                ),
            )
            for row in rows
        ]

    def count_messages(self) -> int:
        """How many messages wait to be sent."""
        return int(self._connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    def last_place(self, session_id: int) -> tuple[int, int]:
        """The highest number of a cell of a session and its last area; zeros where it has no cell."""
        row = self._connection.execute(
            "SELECT coalesce(max(number), 0), coalesce(max(area), 0) FROM cells "
            "WHERE session_id = ? AND typeof(number) = 'integer' AND typeof(area) = 'integer'",
            (session_id,),
        ).fetchone()
        return int(row[0]), int(row[1])

    def _row(self, question: str, number: int) -> sqlite3.Row | None:
        """The row that an id names, if there is one."""
        if abs(number) > MAX_ID:
            return None
        row: sqlite3.Row | None = self._connection.execute(question, (number,)).fetchone()
        return row


@contextmanager
def open_reader(folder: Path) -> Iterator[Reader]:
    """The store in a folder, whether a daemon is writing it or not.

    Raises:
        StoreError: there is none, it cannot be opened or read, or is damaged, newer or older than this
            program, or of another one.
    """
    with explained(folder / FILE_NAME), open_for_reading(folder) as connection:
        yield Reader(connection)


def _payload(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def no_session(session_id: int) -> NotStoredError:
    """What is said of a session that is not there."""
    return NotStoredError(
        f"session {session_id}: there is none; hematovision sessions list shows those there are"
    )


def no_cell(cell_id: int) -> NotStoredError:
    """What is said of a cell that is not there."""
    return NotStoredError(f"cell {cell_id}: there is none; its session may have been deleted")
