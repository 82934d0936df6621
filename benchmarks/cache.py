"""Files made from trained networks, kept from run to run, and believed only while their SHA-256 is right.

One folder holds them all: in the user's cache, or where ``--variants`` says. In it is a folder for each
model, and in that SHA256SUMS, as sha256sum writes and checks it. A file that is not in the sums does not
count, so one that was never finished does not.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from hematovision.errors import ModelFileError, SettingError
from hematovision.model_file import file_hash, write_atomically
from train.console import stderr

_SUMS = "SHA256SUMS"
_LOCK = ".lock"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/hematovision/variants``, or in ``~/.cache``.

    Raises:
        SettingError: this user has no home.
    """
    by_user = os.environ.get("XDG_CACHE_HOME", "")
    if by_user.startswith("/"):  # what is not absolute is to be ignored, its specification says
        return Path(by_user) / "hematovision" / "variants"
    try:
        return Path.home() / ".cache" / "hematovision" / "variants"
    except RuntimeError as error:
        raise SettingError("this user has no home folder; give a folder with --variants") from error


def kept_files(folder: Path) -> dict[str, Path]:
    """Files that are kept in a model's folder and found whole, by name; what else is there is named.

    Raises:
        ModelFileError: the sums cannot be read.
    """
    kept = {}
    sums = _read_sums(folder)
    for name, expected in sums.items():
        path = folder / name
        try:
            whole = file_hash(path) == expected
        except OSError:
            whole = False
        if whole:
            kept[name] = path
        else:
            _say(f"{path}: damaged or not there (its SHA-256 is not the one in {_SUMS}); it does not count")
    for path in sorted(folder.glob("*")):
        if path.name not in (*sums, _SUMS, _LOCK):
            _say(f"{path}: not in {_SUMS}, perhaps of a run that was cut off; it does not count")
    return kept


def keep_file(folder: Path, name: str, content: bytes) -> Path:
    """Write a file into a model's folder, whole or not at all, and enter it in the sums.

    Raises:
        ModelFileError: it cannot be written.
    """
    write_atomically(folder / name, content)
    enter(folder, [name])
    return folder / name


def enter(folder: Path, names: Iterable[str]) -> None:
    """Enter files, written whole into a model's folder, in the sums.

    Raises:
        ModelFileError: the sums cannot be written.
    """
    try:
        lock = (folder / _LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise ModelFileError(
            f"{folder}: cannot be written ({error.strerror}); name another folder with --variants"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # or of two runs that build at once, one would forget the other's
        sums = _read_sums(folder) | {name: file_hash(folder / name) for name in names}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        write_atomically(folder / _SUMS, lines.encode())


def _read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by name of file; a line that says something else is passed over, so its file does not count."""
    try:
        lines = (folder / _SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelFileError(
            f"{folder / _SUMS}: cannot be read ({error.strerror}); name another folder with --variants"
        ) from error
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and Path(pair[1]).name == pair[1]}


def _say(text: str) -> None:
    stderr.print(text, soft_wrap=True, markup=False, highlight=False)
