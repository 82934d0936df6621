"""A copy of the store that can be taken while a daemon writes."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from edge.store.database import FILE_NAME, explain, explained, open_for_reading, sync_folder
from hematovision.errors import StoreError
from hematovision.images import shown_path


def back_up(folder: Path, target: Path) -> int:
    """Copy the store as it is at one moment to a new file.

    The copy is made under another name, checked, and on the disk before it gets its own.

    Returns:
        Its size in bytes.

    Raises:
        StoreError: the file is there already, cannot be written, or the store is damaged.
    """
    name = shown_path(target)
    if os.path.lexists(target):
        raise StoreError(f"{name}: is there already; give another name")
    try:
        # On the same disk, so that it can be renamed.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
            copy = Path(place) / target.name
            copy.touch(mode=0o600)  # as the store: there are samples' names in it
            with explained(folder / FILE_NAME), open_for_reading(folder) as connection:
                # As a URI: a path need not be text.
                connection.execute("VACUUM INTO ?", (copy.absolute().as_uri(),))
            _check(copy, folder)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            copy.rename(target)
        sync_folder(target.parent)
        return target.stat().st_size
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
        raise StoreError(
            f"{shown_path(folder / FILE_NAME)}: is damaged ({found[0]}); restore an earlier backup"
        )
