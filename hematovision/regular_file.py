"""Reading files that somebody names: what would block, act when opened, or never end is refused at once."""

import errno
import os
import stat
from io import FileIO
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_UNSTATED_BYTES = 64 * 1024


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most ``max_bytes``.

    Raises:
        OSError: it cannot be read, is a folder, pipe, socket or device, is larger, or has no end; its
            ``strerror`` says which, its ``filename`` is the path.
    """
    with open_regular_file(path) as file:
        return read_open_file(file, max_bytes)


def open_regular_file(path: Path, follow_links: bool = True) -> FileIO:
    """Open a regular file for reading. Raises `OSError` as `read_regular_file` does.

    Where ``follow_links`` is not set, a path that is a link is refused too; its folders may be links.
    """
    # Looked at first: opening some devices does something, and a watchdog restarts the machine.
    _check_regular(path.stat(follow_symlinks=follow_links).st_mode, path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    file = FileIO(
        str(path), opener=lambda name, _: os.open(name, flags | (0 if follow_links else os.O_NOFOLLOW))
    )
    try:
        _check_regular(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def read_open_file(file: FileIO, max_bytes: int) -> bytes:
    """The bytes of a file that `open_regular_file` opened. Raises `OSError` as `read_regular_file` does."""
    stated = os.fstat(file.fileno()).st_size
    if stated > max_bytes:
        raise OSError(errno.EFBIG, f"{stated:,} bytes, more than the {max_bytes:,} that are read", file.name)
    # Files of /proc state no size, and some never end.
    limit = max(stated, min(_UNSTATED_BYTES, max_bytes))
    parts: list[bytes] = []
    try:
        while part := file.read(limit + 1):
            parts.append(part)
            limit -= len(part)
            if limit < 0:
                raise OSError(errno.EINVAL, "without an end, or still being written")
    except OSError as error:
        error.filename = file.name
        raise
    return b"".join(parts)


def _check_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, f"not a file but {_KINDS.get(stat.S_IFMT(mode), 'a link')}", str(path))
