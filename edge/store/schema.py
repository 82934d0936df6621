"""The tables, and the steps that bring an earlier version's file up to date."""

import sqlite3
from collections.abc import Sequence

#: Marks a file as ours, as `file` and SQLite show it: "HemV".
APPLICATION_ID = 0x48656D56

# Crops stand apart from what is searched and counted: 8 kB each, against 300 bytes.
# AUTOINCREMENT: an id is never given twice, also after its row was deleted; messages carry them.
_FIRST = (
    """CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sample TEXT NOT NULL,
        operator TEXT NOT NULL,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        ended_because TEXT,
        camera TEXT NOT NULL,
        model_name TEXT NOT NULL,
        model_hash TEXT NOT NULL,
        um_per_pixel REAL NOT NULL,
        crop_um REAL NOT NULL,
        target INTEGER,
        settings TEXT NOT NULL,
        continued INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # At most one is open.
    "CREATE UNIQUE INDEX open_session ON sessions ((1)) WHERE ended_at IS NULL",
    """CREATE TABLE cells (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        number INTEGER NOT NULL,
        area INTEGER NOT NULL,
        x_um REAL NOT NULL,
        y_um REAL NOT NULL,
        class_name TEXT NOT NULL,
        probability REAL NOT NULL,
        probabilities TEXT NOT NULL,
        looks INTEGER NOT NULL,
        focus REAL NOT NULL,
        first_seen TEXT NOT NULL,
        confirmed_at TEXT NOT NULL,
        model_hash TEXT NOT NULL,
        corrected TEXT
    ) STRICT""",
    "CREATE INDEX cells_of_session ON cells (session_id)",
    """CREATE TABLE crops (
        cell_id INTEGER PRIMARY KEY REFERENCES cells ON DELETE CASCADE,
        jpeg BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE corrections (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        cell_id INTEGER NOT NULL REFERENCES cells ON DELETE CASCADE,
        at TEXT NOT NULL,
        who TEXT NOT NULL,
        "before" TEXT NOT NULL,
        "after" TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX corrections_of_cell ON corrections (cell_id)",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        session_id INTEGER REFERENCES sessions ON DELETE CASCADE,
        kind TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX events_of_session ON events (session_id)",
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        payload BLOB NOT NULL,
        retain INTEGER NOT NULL,
        latest_only INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX latest_messages ON messages (topic) WHERE latest_only",
)

# What retention goes by, see `edge.store.housekeeping`. start_clock_set, end_clock_set: whether the network
# had set the clock then; NULL is not known, as of sessions of earlier versions. ended_by: a reading of a
# clock known to be set at or after the end. saved_correction: the last correction that is also in an export
# or a backup. notice: why the session is to go, and notice_s: for how many seconds that has been announced.
_RETENTION = (
    "ALTER TABLE sessions ADD COLUMN start_clock_set INTEGER",
    "ALTER TABLE sessions ADD COLUMN end_clock_set INTEGER",
    "ALTER TABLE sessions ADD COLUMN ended_by TEXT",
    "ALTER TABLE sessions ADD COLUMN saved_correction INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN notice TEXT",
    "ALTER TABLE sessions ADD COLUMN notice_s REAL",
    # One row: the last reading of a clock that was set, and since when, by itself, it went without a jump.
    """CREATE TABLE clock (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        start TEXT NOT NULL,
        since_start_s REAL NOT NULL,
        at TEXT NOT NULL,
        steady_since TEXT NOT NULL,
        doubted_until_s REAL NOT NULL
    ) STRICT""",
)

#: Statements of each step; a file that has had the first n of them is of version n. A step, once released,
#: is never changed.
STEPS: Sequence[Sequence[str]] = (_FIRST, _RETENTION)


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]]) -> None:
    """Take the steps that a file still lacks.

    Each is a transaction together with the version that it leads to: where one fails, the file is as the
    step before left it.

    Args:
        connection: in autocommit mode.
        steps: all there are.

    Raises:
        sqlite3.Error: a step fails.
    """
    version = user_version(connection)
    for number, statements in enumerate(steps[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            # Pragmas take no parameters.
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number:d}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def user_version(connection: sqlite3.Connection) -> int:
    """How many steps a file has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
