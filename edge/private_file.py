"""Files that hold a secret: read only where nobody else can, written so that nobody else ever could."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from hematovision.errors import SettingError
from hematovision.images import shown_path
from hematovision.regular_file import open_regular_file, read_open_file

_MAX_BYTES = 4096


def read_private_file(path: Path, what: str, max_bytes: int = _MAX_BYTES) -> bytes:
    """The bytes of a small file, where only its owner could write it and no other user can read it.

    Args:
        path: the file. Its group may read it: root shares a secret with a service in that way.
        what: what messages call it.
        max_bytes: that it may have.

    Raises:
        FileNotFoundError: there is no such file.
        SettingError: it cannot be read, is no plain file, is too large, or other users can read or change it.
    """
    name = shown_path(path)
    try:
        with open_regular_file(path, follow_links=False) as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise SettingError(
                    f"{what}: other users can read or change {name}; end that with chmod g-w,o= {name}"
                )
            return read_open_file(file, max_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise SettingError(f"{what}: {name} is a link; name the file itself") from error
        raise SettingError(
            f"{what}: {name} cannot be read ({error.strerror}); check the path and its owner"
        ) from error


def write_private_file(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, in the place of any that is there, whole or not at all.

    Its owner is that of the folder: root may write it for the service's user.

    Raises:
        SettingError: the folder is not there or cannot be written.
    """
    name = shown_path(path)
    written: Path | None = None
    try:
        owner = path.parent.stat()
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            written = Path(file.name)  # with mode 0600
            file.write(content)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if written is not None:
            with suppress(FileNotFoundError):
                written.unlink()
        raise SettingError(f"{name}: cannot be written ({error.strerror}); check folder and owner") from error
