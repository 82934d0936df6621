"""Have the file open to be written, notice that it went away, and put back what it holds."""

import os
import sqlite3
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from edge.store.database import FILE_NAME, explain, open_store, sync_folder
from edge.store.folder_lock import FolderLock
from edge.store.rescue.mark import Mark
from edge.store.rescue.salvage import Slow, last_ids, open_whole
from hematovision.errors import RecoveryError, StoreError, StoreGoneError
from hematovision.images import shown_path

# Files that SQLite keeps beside the store's while it is open: the write-ahead log, and the index into it.
_BESIDE = ("-wal", "-shm")

_Identity = tuple[int, int]


class OpenFile:
    """The store's file, open to be written by one thread.

    A file that is removed, moved or replaced stays open, and takes what is written: it would be gone with the
    process. So `check` compares what is at the path with what is open, and `mend` puts the whole content back
    while it is still in hand.

    ``slow`` is told of what takes long, see `open_whole`. ``said``: what was wrong with
    it when it was opened, a line each.

    Raises:
        StoreError: as `open_whole`.
    """

    def __init__(self, folder: Path, lock: FolderLock, slow: Slow) -> None:
        self.path = folder / FILE_NAME
        self._folder = folder
        self._lock = lock
        opened = open_whole(folder, slow)
        self.said = opened.said
        self._use(opened.connection)
        # What was in its place when it was looked at last.
        self._found: tuple[object, ...] | None = None

    def _use(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._mark = Mark(self.path)
        # With the first question SQLite makes the files beside it.
        self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        self._beside = [Path(f"{self.path.resolve()}{ending}") for ending in _BESIDE]
        self._known = {file: _identity(file) for file in (self.path, *self._beside)}
        self._disk = self._folder.stat().st_dev

    def check(self) -> None:
        """Raise `StoreGoneError` unless all of it is where it was opened."""
        for file, known in self._known.items():
            found = _identity(file)
            if known is None or found == known:
                continue
            name = shown_path(file)
            if found is None:
                what = "is not there any more (removed or moved while it is written, or its disk is gone)"
            else:
                what = "is another file than the one that is being written"
            raise StoreGoneError(
                f"{name}: {what}; put it back, or stop the device and start it again, which begins a new one"
            )
        self._lock.renew()

    def mend(self) -> str | None:
        """Put back what went away, once nobody has changed anything there between two calls.

        What is open holds everything that was ever stored, also where its name is gone. Where the place is
        free, all of it is written there again. Where another file has taken it, the content is kept beside
        that one, which is left to a new process.

        Returns:
            What was done, in words; None where it must be tried again later.

        Raises:
            StoreError: it cannot be written there.
            RecoveryError: a new process has to go on, with the other file.
        """
        found = (*map(_look, self._known), _identity(self._folder))
        settled, self._found = found == self._found, found
        if not settled:
            return None
        there = _identity(self.path)
        if there == self._known[self.path]:
            self._checkpoint()
            self._reopen()
            return (
                f"files beside {FILE_NAME} had been removed or replaced while it was written; all that was "
                "stored is in it"
            )
        if there is not None:
            raise RecoveryError(
                f"{shown_path(self.path)}: was replaced while it was written; {self._keep_aside()}. Stop the "
                "device before the file is replaced"
            )
        if not self._on_same_disk():
            return None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.renew()
        self._copy_to(self.path)
        with suppress(sqlite3.Error):  # a file that was moved then holds all that its log did
            self._checkpoint()
        self._reopen()
        sessions, cells = (
            self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("sessions", "cells")
        )
        return (
            f"{FILE_NAME} had been removed or moved while it was written: its content, {sessions} sessions "
            f"with {cells} cells, was still in hand and is back in its place. Stop the device before "
            "the file is moved"
        )

    def reported(self) -> None:
        """Note outside of the file what is in it, once that is reported as stored.

        Raises:
            RecoveryError: it has less than was noted before; a new process says what.
        """
        last = last_ids(self.connection)
        if any(last.get(table, 0) < noted for table, noted in self._mark.last.items()):
            raise RecoveryError(
                f"{shown_path(self.path)}: was overwritten while it was written, with an earlier copy; stop "
                "the device before the file is replaced"
            )
        self._mark.note(last)

    def is_damaged(self) -> None:
        """Have the next start look at every page."""
        self._mark.ask_for_close_look(True)

    def close(self) -> None:
        """Close it. What only an open file still holds is gone with this."""
        self.connection.close()

    def _checkpoint(self) -> None:
        """Copy the log into the file."""
        try:
            [busy, _, _] = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise explain(self.path, error) from error
        if busy:
            raise StoreError(f"{shown_path(self.path)}: is being read by another program; end that one")

    def _reopen(self) -> None:
        self.connection.close()
        for file in self._beside:
            # The log of another file would be taken for this one's.
            if _identity(file) == self._known[file]:
                file.unlink(missing_ok=True)
            elif _identity(file) is not None:
                file.rename(f"{file}.set-aside-{_now()}")
        self._use(open_store(self._folder))
        self.reported()
        self._found = None

    def _keep_aside(self) -> str:
        """Keep the content beside the file that took its place, and say where."""
        aside = self.path.with_name(f"{FILE_NAME}.replaced-{_now()}")
        try:
            self._copy_to(aside)
            self._checkpoint()
            for file in self._beside:
                if _identity(file) == self._known[file]:
                    file.unlink(missing_ok=True)  # or the file in its place would take this log for its own
        except OSError as error:
            return f"what was stored until then is only in the file that was there, and not copied ({error})"
        return f"what was stored until then is in {shown_path(aside)}"

    def _copy_to(self, target: Path) -> None:
        """Write all that is open to a new file, whole or not at all."""
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{FILE_NAME}-") as place:
                copy = Path(place) / FILE_NAME
                copy.touch(mode=0o600)
                self.connection.execute("VACUUM INTO ?", (copy.absolute().as_uri(),))
                with copy.open("rb") as file:
                    os.fsync(file.fileno())
                if os.path.lexists(target):
                    raise StoreError(f"{shown_path(target)}: is there already; move it away")
                copy.rename(target)
            sync_folder(target.parent)
        except sqlite3.Error as error:
            raise explain(target, error) from error
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{shown_path(target)}: cannot be written again ({error.strerror}); check the folder and "
                "its room"
            ) from error

    def _on_same_disk(self) -> bool:
        """Return whether the folder, or what is left of its path, is on the disk that the file was on."""
        there = next((one for one in (self._folder, *self._folder.absolute().parents) if one.exists()), None)
        return there is not None and there.stat().st_dev == self._disk


def _identity(file: Path) -> _Identity | None:
    """Return what a path leads to; None where that is nothing."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _look(file: Path) -> tuple[int, int, int, int] | None:
    """Return its identity, and what changes while it is being copied."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
