"""Opening the file: by whom, with which guarantees, and what is said where it cannot be."""

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from edge.store.rows import decode_text
from edge.store.schema import APPLICATION_ID, STEPS, migrate, user_version
from hematovision.errors import StoreError, reason_of
from hematovision.images import shown_path

FILE_NAME = "hematovision.db"
# What lies beside it: SQLite's write-ahead log, the index into that, an older kind of log; see
# `edge.store.rescue.mark` for the last.
_ENDINGS = ("-wal", "-shm", "-journal", "-stored")

#: The log is synced at each commit; less would leave that to the next checkpoint, or to chance.
SYNCHRONOUS = "FULL"
#: How long a writer waits for another process that is writing, such as ``hematovision sessions delete``.
BUSY_S = 2.0
# The write-ahead log is cut back to this after it had to grow. What it keeps can be written when the disk is
# full, so that deleting still works then.
_LOG_BYTES = 4 * 1024 * 1024

_WHAT_TO_DO = {
    "SQLITE_NOTADB": "is no database; stop the device, and restore a backup if it was one, or move it away",
    "SQLITE_CORRUPT": "is damaged; restore a backup (hematovision sessions backup makes them), or stop the "
    "device and start it again: it keeps what can be read, and sets this file aside",
    "SQLITE_CANTOPEN": "cannot be opened; check its folder, and its disk, which may be read-only, and run "
    "this as the user whom it belongs to",
    "SQLITE_READONLY": "may not be written: its disk is read-only, or it belongs to another user; check the "
    "disk, or run this as that user",
    "SQLITE_PERM": "may not be opened by this user; run this as the user whom the folder belongs to",
    "SQLITE_FULL": "cannot grow, the disk is full; make room on it",
    "SQLITE_BUSY": "is being written by another program; try again when that is done",
    "SQLITE_IOERR": "cannot be read or written, the disk fails or is full; check it",
}


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite's error means, and what to do about it."""
    name = getattr(error, "sqlite_errorname", "")
    what = next((text for start, text in _WHAT_TO_DO.items() if name.startswith(start)), None)
    return StoreError(
        f"{shown_path(path)}: {what} ({reason_of(error)})"
        if what
        else f"{shown_path(path)}: SQLite fails ({reason_of(error)}); check the file, restore a backup"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Within it, what SQLite raises becomes a `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written within it, or nothing; on the disk when it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself undoes it where the disk fails
            connection.execute("ROLLBACK")
        raise


def open_store(folder: Path) -> sqlite3.Connection:
    """Open the file to write, made if it is not there, brought up to date if it is of an earlier version.

    For one owner at a time; the connection may be used by any one thread.

    Raises:
        StoreError: it cannot be opened or written, or is damaged, newer, or not ours.
    """
    path = folder / FILE_NAME
    require_plain_files(path)
    try:
        # For its user alone: there are samples' names in it. SQLite gives the files beside it the same.
        path.touch(mode=0o600)
        sync_folder(folder)
    except OSError as error:
        raise _unreachable(path, error) from error
    with explained(path):
        connection = connect(path, "rw", BUSY_S)
        try:
            _check(connection, path, newest_only=False)
            if user_version(connection) == 0:
                # Has its effect before the first table is made, never later.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            migrate(connection, STEPS)
            # Where it cannot be had, SQLite goes on without it, and says no more than this.
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(
                    f"{shown_path(path)}: its disk fails, or takes no write-ahead log, as those of other "
                    "machines do not; give a folder on a disk of this one"
                )
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def open_writer(folder: Path, busy_s: float) -> Iterator[sqlite3.Connection]:
    """A connection to a file that is there, to write beside the daemon that owns it.

    Raises:
        StoreError: there is none, or it cannot be used.
    """
    with explained(folder / FILE_NAME), _open_existing(folder, "rw", busy_s) as connection:
        yield connection


@contextmanager
def open_for_reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; also to a file on a disk, or in a folder, that may not be written.

    Raises:
        StoreError: there is no file, or it cannot be used.
    """
    path = folder / FILE_NAME
    with explained(path), ExitStack() as undo:
        try:
            connection = undo.enter_context(_open_to_read(folder))
        except _EarlierVersionError:
            if os.access(folder, os.W_OK):
                raise
            connection = undo.enter_context(_open_copy(path))
        yield connection


class _EarlierVersionError(StoreError):
    """The file lacks steps that only a writer may take."""


@contextmanager
def _open_existing(folder: Path, mode: str, busy_s: float) -> Iterator[sqlite3.Connection]:
    path = folder / FILE_NAME
    try:
        path.stat()
    except OSError as error:
        raise _unreachable(path, error) from error
    require_plain_files(path)
    with closing(connect(path, mode, busy_s)) as connection:
        _check(connection, path, newest_only=True)
        yield connection


@contextmanager
def _open_to_read(folder: Path) -> Iterator[sqlite3.Connection]:
    with ExitStack() as undo:
        try:
            connection = undo.enter_context(_open_existing(folder, "ro", BUSY_S))
        except sqlite3.OperationalError as error:
            # Without a place for the index into the log, SQLite opens no file that has had one.
            if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                raise
            path = folder / FILE_NAME
            log = Path(f"{path.resolve()}-wal")
            if log.exists() and log.stat().st_size:
                connection = undo.enter_context(_open_copy(path))
            else:  # nobody has it open, who might change it meanwhile
                connection = undo.enter_context(_open_existing(folder, "ro&immutable=1", BUSY_S))
        yield connection


@contextmanager
def _open_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of a file that nobody can be writing, with what its log holds, brought up to date."""
    with tempfile.TemporaryDirectory(prefix="hematovision-") as place:
        copy = Path(place) / FILE_NAME
        try:
            for ending in ("", "-wal"):
                source = Path(f"{path.resolve()}{ending}")
                if source.exists():
                    shutil.copyfile(source, f"{copy}{ending}")
        except OSError as error:
            raise StoreError(
                f"{shown_path(path)}: its disk is read-only, and to be read it cannot be copied to "
                f"{shown_path(place)} ({error.strerror}); set TMPDIR to a folder with more room"
            ) from error
        with closing(connect(copy, "rw", BUSY_S)) as connection:
            _check(connection, path, newest_only=False)
            migrate(connection, STEPS)
        with closing(connect(copy, "ro", BUSY_S)) as connection:
            yield connection


def sync_folder(folder: Path) -> None:
    """See to it that names given or taken in a folder are on the disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_plain_files(path: Path) -> None:
    """Raise `StoreError` where SQLite would wait for a pipe, or write to a device."""
    for file in (path, *(Path(f"{path.resolve()}{ending}") for ending in _ENDINGS)):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue  # it is not there; or what opens it says why it cannot
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")
            raise StoreError(
                f"{shown_path(file)}: is {kind}, and a file is needed; move it away, or give another folder"
            )


def _unreachable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{shown_path(path)}: cannot be opened ({error.strerror}); give the folder that hematovision run "
        "keeps, as the user whom it belongs to"
    )


def connect(path: Path, mode: str, busy_s: float) -> sqlite3.Connection:
    """Open a file as a mode of SQLite's addresses says; ``busy_s``: how long others are waited for."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,  # transactions begin and end where the code says so
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.text_factory = decode_text
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES:d}")
    # Debian's SQLite overwrites what is deleted with zeros: 800 MB for a session of 100,000 cells.
    connection.execute("PRAGMA secure_delete = FAST")
    return connection


def _check(connection: sqlite3.Connection, path: Path, newest_only: bool) -> None:
    """Raise `StoreError` unless this is a file of ours, or a new one."""
    name = shown_path(path)
    version = user_version(connection)
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and version == 0:
        if newest_only:
            raise StoreError(f"{name}: is empty; hematovision run makes a store of it when it starts")
        return
    if application != APPLICATION_ID:
        raise StoreError(f"{name}: is a database of another program; give another folder")
    if version > len(STEPS):
        raise StoreError(
            f"{name}: was written by a newer hematovision (version {version} of the file, this one knows "
            f"{len(STEPS)}); install that one, or give another folder"
        )
    if version < len(STEPS) and newest_only:
        raise _EarlierVersionError(
            f"{name}: is of an earlier version; hematovision run brings it up to date when it starts"
        )
