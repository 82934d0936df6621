"""Note what was reported as stored outside of the database, so that it is noticed when the file has less.

SQLite takes a write-ahead log that is missing or damaged for one that ends earlier, without a word, and the
cells in it are gone. This note of the last ids is written after each commit, over itself and without a sync:
it costs the card next to nothing, and can only be behind what is on the disk, never ahead of it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

ENDING = "-stored"
#: Tables whose ids are never given twice.
TABLES = ("sessions", "cells", "corrections")
_FORM = "sessions {:>19}\ncells {:>19}\ncorrections {:>19}\nlook closely {:>1}\n"
_MAX_BYTES = 200


class Mark:
    """The note beside a file.

    Args:
        path: the store's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}{ENDING}")
        self.last: dict[str, int] = {}
        self.look_closely = (
            False  # at every page, when the device starts: damage was met while it was written
        )
        self._read()

    @property
    def exists(self) -> bool:
        """Return whether there is one: a store of ours was here."""
        return bool(self.last)

    def note(self, last: Mapping[str, int]) -> None:
        """Note the last ids that were reported. Where the disk does not take it, it stays behind."""
        if any(last.get(table, 0) > self.last.get(table, -1) for table in TABLES):
            self.last = {table: max(last.get(table, 0), self.last.get(table, 0)) for table in TABLES}
            self._write()

    def ask_for_close_look(self, wanted: bool) -> None:
        """Have the next start look at every page, however large the file is."""
        if wanted != self.look_closely:
            self.look_closely = wanted
            self._write()

    def _read(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                lines = os.read(descriptor, _MAX_BYTES).decode("ascii", "replace").splitlines()
                words = dict(line.rsplit(None, 1) for line in lines if len(line.split()) > 1)
                self.last = {table: int(words[table]) for table in TABLES}
                self.look_closely = words.get("look closely") == "1"
        except (OSError, KeyError, ValueError):
            self.last = {}  # as if there were none: it says less, and nothing wrong
        finally:
            os.close(descriptor)

    def _write(self) -> None:
        numbers = [self.last.get(table, 0) for table in TABLES]
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.pwrite(descriptor, _FORM.format(*numbers, int(self.look_closely)).encode(), 0)
        except OSError:
            pass
        finally:
            os.close(descriptor)
