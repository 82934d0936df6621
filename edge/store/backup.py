"""A copy of the store that can be taken while a daemon writes."""

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.store.database import (
    BUSY_S,
    FILE_NAME,
    connect,
    explain,
    explained,
    open_for_reading,
    sync_folder,
)
from edge.store.reader import MAX_ID, Reader
from edge.store.rescue.mark import Mark
from edge.store.rescue.salvage import find_damage, find_missing
from hematovision.errors import NotStoredError, StoreError
from hematovision.images import shown_path

_PAGE = 500


@dataclass(frozen=True)
class Backup:
    """A copy that was made: its size in bytes, and what of the store it could not have, a line each."""

    size: int
    lacking: tuple[str, ...]


def back_up(folder: Path, target: Path) -> Backup:
    """Copy the store as it is at one moment to a new file.

    The copy is made under another name, checked, and on the disk before it gets its own.

    Raises:
        StoreError: the file is there already, cannot be written, or the store is damaged.
    """
    name = shown_path(target)
    mark = Mark(folder / FILE_NAME)  # before the copy: more may be stored meanwhile
    if os.path.lexists(target):
        raise StoreError(f"{name}: is there already; give another name")
    try:
        # On the same disk, so that it can be renamed.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
            copy = Path(place) / target.name
            copy.touch(mode=0o600)  # as the store: there are samples' names in it
            with explained(folder / FILE_NAME), open_for_reading(folder) as connection:
                connection.execute("BEGIN")
                missing = find_missing(connection, mark)
                damage = find_damage(connection)
                connection.execute("ROLLBACK")
                if damage is not None:
                    raise _damaged(folder, damage)
                # As a URI: a path need not be text.
                connection.execute("VACUUM INTO ?", (copy.absolute().as_uri(),))
            _check(copy, folder)
            unreadable = _unreadable(copy)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            copy.rename(target)
        sync_folder(target.parent)
        return Backup(target.stat().st_size, (*([missing] if missing else []), *unreadable))
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{name}: cannot be written ({error.strerror}); check the folder and its room"
        ) from error


def _check(copy: Path, folder: Path) -> None:
    try:
        with closing(sqlite3.connect(copy.absolute().as_uri(), uri=True)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        raise explain(copy, error) from error
    if found != ["ok"]:
        raise _damaged(folder, found[0])


def _damaged(folder: Path, damage: str) -> StoreError:
    return StoreError(
        f"{shown_path(folder / FILE_NAME)}: is damaged ({damage}); restore an earlier backup, or stop the "
        "device and start it again: it keeps what can be read"
    )


def _unreadable(copy: Path) -> list[str]:
    """The values of a copy that cannot be read."""
    with closing(connect(copy, "ro", BUSY_S)) as connection:
        reader = Reader(connection)
        for session in reader.sessions(MAX_ID):
            reader.differential(session.id)
        after = 0
        while cells := reader.cells(limit=_PAGE, after_id=after):
            for cell in cells:
                with suppress(NotStoredError):
                    reader.crop(cell.id)
            after = cells[-1].id
        reader.corrections()
        reader.events(MAX_ID)
        return reader.unreadable
