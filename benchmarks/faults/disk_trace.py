"""What a program wrote to a folder, from a trace of its system calls, and what a pulled plug leaves of it.

Nothing is taken for kept but what the program synced: of all else any part may be on the disk, down to single
sectors, or none. Names are kept when their folder is synced; of later changes to it the first few may be, in
order, as journals of file systems keep them.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from hematovision.errors import HematoVisionError, MissingPartError

SECTOR = 512

# Threads too; names beside descriptors; every text in hexadecimal, and whole.
_OPTIONS = ("-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000")
# All that changes a file or its name, or syncs it; a `?` before what not every processor has.
_CALLS = (
    *("?open", "openat", "openat2", "?creat", "write", "writev", "pwrite64", "pwritev", "pwritev2"),
    *("truncate", "ftruncate", "fallocate", "copy_file_range", "sendfile", "splice", "mmap", "msync"),
    *("fsync", "fdatasync", "syncfs", "sync_file_range"),
    *("?rename", "?renameat", "renameat2", "?link", "linkat", "?symlink", "symlinkat", "?unlink", "unlinkat"),
)
# ARM has the second only.
_UNLINKS = ("unlink", "unlinkat")
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_OUTCOME = re.compile(r"(.*)\) += (.*)")
_DESCRIPTOR = re.compile(r"\d+<((?:\\x..)*)>")
_TEXT = re.compile(r'"((?:\\x..)*)"(\.\.\.)?')


class Left(Enum):
    """What of the unsynced writes reached the disk."""

    NOTHING = "nothing"
    SOME_WRITES = "some writes"
    SOME_SECTORS = "some sectors"


@dataclass(frozen=True)
class Change:
    """A write or, without data, a cut of a file. The program was at it from ``start`` to ``end``."""

    start: int
    end: int
    offset: int
    data: bytes | None


@dataclass(frozen=True)
class Naming:
    """That a file got a name in the folder, or lost it if ``file`` is None."""

    start: int
    end: int
    name: str
    file: int | None


@dataclass
class _File:
    changes: list[Change] = field(default_factory=list)
    syncs: list[tuple[int, int]] = field(default_factory=list)


class DiskTrace:
    """What was done to the files of a folder. Moments are lines of the trace, from 0 to ``moments``.

    ``reports``: what the program wrote to its report, each with the moment when it began to.
    """

    def __init__(self) -> None:
        self.moments = 0
        self.reports: list[tuple[int, str]] = []
        self._files: list[_File] = []
        self._namings: list[Naming] = []
        self._folder_syncs: list[tuple[int, int]] = []

    @property
    def syncs(self) -> int:
        """How often a file was synced."""
        return sum(len(one.syncs) for one in self._files)

    @property
    def writes(self) -> int:
        """How often a file was written or cut."""
        return sum(len(one.changes) for one in self._files)

    def rebuild(self, folder: Path, moment: int, left: Left, rng: np.random.Generator) -> None:
        """Make the files as they may be found after the plug was pulled at a moment."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, number in self._names(moment, left, rng).items():
            (folder / name).write_bytes(self._content(self._files[number], moment, left, rng))

    def _names(self, moment: int, left: Left, rng: np.random.Generator) -> dict[str, int]:
        begun = [one for one in self._namings if one.start <= moment]
        kept = sum(one.end <= _synced(self._folder_syncs, moment) for one in begun)
        if left is not Left.NOTHING:
            kept = int(rng.integers(kept, len(begun) + 1))
        names: dict[str, int] = {}
        for one in begun[:kept]:
            if one.file is None:
                names.pop(one.name, None)
            else:
                names[one.name] = one.file
        return names

    def _content(self, file: _File, moment: int, left: Left, rng: np.random.Generator) -> bytes:
        synced = _synced(file.syncs, moment)
        content = bytearray()
        for change in file.changes:
            if change.start > moment:
                break
            if change.end <= synced or (left is Left.SOME_WRITES and rng.random() < 0.5):
                _apply(content, change)
            elif left is Left.SOME_SECTORS:
                for part in sectors(change):
                    if rng.random() < 0.5:
                        _apply(content, part)
        return bytes(content)

    def see(self, name: str, call: str, arguments: str, start: int, end: int) -> None:
        """Take in what a call did to the file of a name; an empty name is the folder itself."""
        if call in ("fsync", "fdatasync"):
            syncs = self._files[self._number(name)].syncs if name else self._folder_syncs
            syncs.append((start, end))
        elif call == "openat" and "O_TRUNC" not in arguments:
            if "O_CREAT" in arguments and name and self._named(name) is None:
                self._files.append(_File())
                self._namings.append(Naming(start, end, name, len(self._files) - 1))
        elif call in _UNLINKS:
            self._namings.append(Naming(start, end, name, None))
        elif call == "pwrite64":
            offset = int(arguments.rsplit(",", 1)[1])
            data = text_of(arguments)
            self._files[self._number(name)].changes.append(Change(start, end, offset, data))
        elif call == "ftruncate":
            size = int(arguments.rsplit(",", 1)[1])
            self._files[self._number(name)].changes.append(Change(start, end, size, None))
        else:
            raise HematoVisionError(
                f"{call} of {name or 'the folder'}: this trace does not know what it does"
            )

    def _named(self, name: str) -> int | None:
        return next((one.file for one in reversed(self._namings) if one.name == name), None)

    def _number(self, name: str) -> int:
        number = self._named(name)
        assert number is not None, f"{name} was used before it was made"
        return number


def trace(command: Sequence[str], folder: Path, names: Sequence[str], report: Path, log: Path) -> DiskTrace:
    """Run a command that writes files of these names in a folder, and lines to a report.

    Args:
        command: to run to its end.
        folder: new; nothing else is written in it that has to last.
        names: of the files.
        report: a file outside of the folder, opened to be written.
        log: where the trace is kept.

    Raises:
        MissingPartError: there is no strace.
        HematoVisionError: the command fails, or does what this cannot follow.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise MissingPartError("strace is not installed; apt install strace brings it")
    watched = [folder, *(folder / name for name in names), report]
    options = [option for path in watched for option in ("-P", str(path))]
    calls = f"trace={','.join(_CALLS)}"
    ended = subprocess.run(  # noqa: S603 (no shell)
        [strace, *_OPTIONS, "-e", calls, "-o", str(log), *options, *command],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if ended.returncode:
        raise HematoVisionError(f"the traced program failed: {ended.stderr.strip()[-500:]}")
    return read_trace(log, folder, report)


def read_trace(log: Path, folder: Path, report: Path) -> DiskTrace:
    """Read what strace wrote. Raises `HematoVisionError` where it cannot be followed."""
    result = DiskTrace()
    unfinished: dict[tuple[str, str], tuple[int, str]] = {}
    with log.open(encoding="utf-8", errors="replace") as lines:
        for moment, line in enumerate(lines):
            found = _LINE.match(line)
            if found is None:
                continue  # a signal, or a thread's end
            process, resumed, call, rest = found.groups()
            start, arguments = moment, rest
            if resumed:
                call = resumed
                start, before = unfinished.pop((process, call))
                arguments = before + rest
            if arguments.endswith("<unfinished ...>"):
                unfinished[process, call] = moment, arguments.removesuffix("<unfinished ...>")
                continue
            whole = _OUTCOME.match(arguments)
            if whole is None:
                raise HematoVisionError(f"{log}: line {moment + 1} cannot be read; use strace 6 or later")
            inside, outcome = whole.groups()
            if outcome.startswith("-1"):
                continue
            path = _path(call, inside, outcome)
            if path == report:
                if call == "write":
                    result.reports.append((start, text_of(inside).decode()))
            else:
                name = "" if path == folder else path.name
                result.see(name, call, inside, start, moment)
            result.moments = moment
    return result


def text_of(arguments: str) -> bytes:
    """The text among a call's arguments."""
    found = _TEXT.search(arguments)
    assert found is not None
    assert not found[2], "strace cut a text short"
    return _bytes(found[1])


def _path(call: str, arguments: str, outcome: str) -> Path:
    if call in _UNLINKS:
        return Path(text_of(arguments).decode())
    found = _DESCRIPTOR.match(outcome if call == "openat" else arguments)
    if found is None:
        raise HematoVisionError(f"{call}({arguments[:80]}…): this trace does not know what it does")
    # A deleted file's descriptor says so behind its name, outside of what is in hexadecimal.
    return Path(_bytes(found[1]).decode())


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def _synced(syncs: list[tuple[int, int]], moment: int) -> int:
    """What had ended by then is on the disk at a moment: when the last sync that had come back began."""
    return max((start for start, end in syncs if end <= moment), default=-1)


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        length = change.offset
        del content[length:]
        content.extend(bytes(length - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def sectors(change: Change) -> list[Change]:
    """A write in the pieces that a disk writes whole."""
    if change.data is None:
        return [change]
    first = change.offset - change.offset % SECTOR
    return [
        Change(change.start, change.end, max(at, change.offset), piece)
        for at in range(first, change.offset + len(change.data), SECTOR)
        if (piece := change.data[max(0, at - change.offset) : at - change.offset + SECTOR])
    ]
