"""Reading the store, from the daemon's own threads or from another process."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge.store.database import FILE_NAME, explained, open_for_reading
from edge.store.records import Correction, Event, Message, Session, StoredCell
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import NotStoredError

if TYPE_CHECKING:
    from edge.differential import Differential

#: No id is larger: SQLite counts with 64 bits, and takes no larger number in a question either.
MAX_ID = 2**63 - 1

#: Why a session is to be deleted, by what the file says; and for how long that is announced before, in
#: seconds in which the device runs.
NOTICES = {"age": "past its time (store.keep_days)", "room": "to make room (store.keep_free_mb)"}
NOTICE_S = 86_400.0

_LABEL = "coalesce(corrected, class_name)"


class Reader:
    """Questions to the store; each sees all that was stored until then. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

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
        return [session_of(row) for row in rows]

    def session(self, session_id: int) -> Session:
        """A session. Raises `NotStoredError` where there is none of that number."""
        row = self._row("SELECT * FROM sessions WHERE id = ?", session_id)
        if row is None:
            raise no_session(session_id)
        return session_of(row)

    def open_session(self) -> Session | None:
        """The session that has not ended."""
        row = self._connection.execute("SELECT * FROM sessions WHERE ended_at IS NULL").fetchone()
        return None if row is None else session_of(row)

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
        return [cell_of(row) for row in rows]

    def cell(self, cell_id: int) -> StoredCell:
        """A cell. Raises `NotStoredError` where there is none of that number."""
        row = self._row("SELECT * FROM cells WHERE id = ?", cell_id)
        if row is None:
            raise no_cell(cell_id)
        return cell_of(row)

    def crop(self, cell_id: int) -> bytes:
        """The crop of a cell, as JPEG. Raises `NotStoredError` where there is no such cell."""
        row = self._row("SELECT jpeg FROM crops WHERE cell_id = ?", cell_id)
        if row is None:
            raise no_cell(cell_id)
        return bytes(row[0])

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
            counts[0][row["class_name"]] += row["cells"]
            counts[1][row["label"]] += row["cells"]
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
        return [
            Correction(row["cell_id"], _time(row["at"]), row["who"], row["before"], row["after"])
            for row in rows
        ]

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
        return [
            Event(row["id"], _time(row["at"]), row["session_id"], row["kind"], row["text"]) for row in rows
        ]

    def messages(self, limit: int = 100, after_id: int = 0) -> list[tuple[int, Message]]:
        """Messages that wait to be sent, oldest first, each with its id; those after a given one."""
        rows = self._connection.execute(
            "SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit)
        )
        return [
            (
                row["id"],
                Message(row["topic"], bytes(row["payload"]), bool(row["retain"]), bool(row["latest_only"])),
            )
            for row in rows
        ]

    def count_messages(self) -> int:
        """How many messages wait to be sent."""
        return int(self._connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    def last_place(self, session_id: int) -> tuple[int, int]:
        """The highest number of a cell of a session and its last area; zeros where it has no cell."""
        row = self._connection.execute(
            "SELECT coalesce(max(number), 0), coalesce(max(area), 0) FROM cells WHERE session_id = ?",
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


def session_of(row: sqlite3.Row) -> Session:
    """A row of the table."""
    return Session(
        id=row["id"],
        sample=row["sample"],
        operator=row["operator"],
        started_at=_time(row["started_at"]),
        ended_at=None if row["ended_at"] is None else _time(row["ended_at"]),
        ended_because=row["ended_because"],
        camera=row["camera"],
        model_name=row["model_name"],
        model_hash=row["model_hash"],
        um_per_pixel=row["um_per_pixel"],
        target=row["target"],
        settings=json.loads(row["settings"]),
        continued=row["continued"],
        crop_um=row["crop_um"],
        start_clock_set=_yes_or_no(row["start_clock_set"]),
        end_clock_set=_yes_or_no(row["end_clock_set"]),
        goes_because=None if row["notice"] is None else NOTICES[row["notice"]],
        goes_in_h=None if row["notice"] is None else max(0.0, NOTICE_S - row["notice_s"]) / 3600,
    )


def cell_of(row: sqlite3.Row) -> StoredCell:
    """A row of the table."""
    return StoredCell(
        id=row["id"],
        session_id=row["session_id"],
        number=row["number"],
        area=row["area"],
        position_um=(row["x_um"], row["y_um"]),
        class_name=row["class_name"],
        probabilities=tuple(json.loads(row["probabilities"])),
        looks=row["looks"],
        focus=row["focus"],
        first_seen=_time(row["first_seen"]),
        confirmed_at=_time(row["confirmed_at"]),
        model_hash=row["model_hash"],
        corrected=row["corrected"],
    )


def no_session(session_id: int) -> NotStoredError:
    """What is said of a session that is not there."""
    return NotStoredError(
        f"session {session_id}: there is none; hematovision sessions list shows those there are"
    )


def no_cell(cell_id: int) -> NotStoredError:
    """What is said of a cell that is not there."""
    return NotStoredError(f"cell {cell_id}: there is none; its session may have been deleted")


def _yes_or_no(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
