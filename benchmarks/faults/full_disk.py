"""A disk that fills up while cells are stored, and is cleared again: what is said, kept and counted."""

import errno
import json
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep

import click
from rich.console import Console

from benchmarks.faults.mounts import run_on_disk
from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, NewSession, Store
from hematovision.errors import StoreError, reason_of
from hematovision.terminal.progress import Progress

#: The disk: room for all cells that are given, while nothing else is on it.
DISK_MB = 64

_CHILD = "import sys; from benchmarks.faults.full_disk import fill_disk; fill_disk(*sys.argv[1:])"
_LIMIT_S = 20.0
_HASH = "0" * 64
_SIDE_PX = 16


@dataclass(frozen=True)
class FullDiskResult:
    """Cells given while a disk was full and cleared again, so many times.

    ``refused``: times that the store said that it cannot write, with the reason; ``recovered``: times that
    it wrote again. ``in_file``: cells found in the file at the end. ``failures``: what was not as it must be.
    """

    times: int
    refused: int
    recovered: int
    given: int
    stored: int
    not_stored: int
    in_file: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the disk was full each time, and nothing was lost that had been reported as stored."""
        return not self.failures and self.refused == self.recovered == self.times


def measure_full_disk(times: int = 10, seed: int = 1) -> FullDiskResult:
    """Fill a small disk in memory while cells are stored.

    It is mounted where no other process sees it, which needs root or user namespaces.

    Raises:
        MissingPartError: no disk can be mounted here.
        HematoVisionError: the storing process crashes.
    """
    with tempfile.TemporaryDirectory() as place:
        disk, answer = Path(place) / "disk", Path(place) / "answer"
        disk.mkdir()
        mount = f'mount -t tmpfs -o size={DISK_MB}m tmpfs "$1"'
        python = [sys.executable, "-c", _CHILD, str(disk), str(answer), str(times), str(seed)]
        run_on_disk(mount, (str(disk),), python)
        result = json.loads(answer.read_text(encoding="utf-8"))
    return FullDiskResult(**result | {"failures": tuple(result["failures"])})


def fill_disk(disk: str, answer: str, times: str, seed: str) -> None:
    """Store cells on a small disk that is filled and cleared; arguments as text."""
    trial = _Trial(Path(disk), random.Random(int(seed)))
    for number in range(int(times)):
        trial.fill_and_clear(last=number == int(times) - 1)
    Path(answer).write_text(json.dumps(asdict(trial.result(int(times)))), encoding="utf-8")


class _Trial:
    def __init__(self, disk: Path, rng: random.Random) -> None:
        self._folder = disk / "store"
        self._ballast = disk / "ballast"
        self._rng = rng
        self._given = self._stored = self._not_stored = self._refused = self._recovered = 0
        self._failures: list[str] = []

    def fill_and_clear(self, last: bool) -> None:
        """One life of a store, in which the disk fills up and is cleared; the last time after its end."""
        given_before = self._given
        store = Store(self._folder)
        try:
            with store:
                session = store.start_session(NewSession("trial", "", "none", "none", _HASH, 0.1))
                self._add(store, session.id, self._rng.randrange(60))
                sleep(self._rng.choice((0.0, 0.1, 0.3)))
                self._fill()
                self._until_refused(store, session.id)
                # At times more than the queue holds.
                self._add(store, session.id, self._rng.choice((50, 3000)))
                self._check(store, given_before)
                ended = self._try_to_end(store, session.id)
                if not last:
                    self._clear()
                    self._until_written(store)
                    if not ended:
                        store.end_session(session.id, "stopped")
        except StoreError as error:
            if not last or "could not be stored" not in str(error):
                raise
        else:
            self._require(not last, "cells were lost at the end without a word")
        counts = store.counts()
        self._require(counts.pending == 0, f"{counts.pending} cells still pending after the end")
        self._stored += counts.stored
        self._not_stored += counts.not_stored
        self._clear()
        if last:
            with Store(self._folder) as store, store.read() as reader:
                self._recovered += reader.open_session() is not None or ended
        self._require(self._given == self._stored + self._not_stored, "the counts do not add up")
        self._require(self._in_file() == self._stored, "another number of cells is in the file than was said")

    def result(self, times: int) -> FullDiskResult:
        """What came of all."""
        with closing(sqlite3.connect(self._folder / FILE_NAME)) as connection:
            [found] = connection.execute("PRAGMA integrity_check").fetchone()
        self._require(found == "ok", f"integrity_check: {found}")
        return FullDiskResult(
            times,
            self._refused,
            self._recovered,
            self._given,
            self._stored,
            self._not_stored,
            self._in_file(),
            tuple(self._failures),
        )

    def _until_refused(self, store: Store, session: int) -> None:
        end = monotonic() + _LIMIT_S
        while store.counts().error is None and monotonic() < end:
            self._add(store, session, 5)
            sleep(0.01)
        self._refused += store.counts().error is not None

    def _until_written(self, store: Store) -> None:
        # Nobody asks it to: it has to try again by itself.
        end = monotonic() + _LIMIT_S
        while ((counts := store.counts()).error or counts.pending) and monotonic() < end:
            sleep(0.05)
        written = store.flush(_LIMIT_S)  # what it says of the disk
        self._require(written and counts.error is None, f"does not write again: {counts}")
        self._require(counts.pending == 0, f"still pending: {counts}")
        with store.read() as reader:
            said = any("writes again" in event.text for event in reader.events())
        self._require(said, "no event says that nothing could be written")
        self._recovered += written and said

    def _try_to_end(self, store: Store, session: int) -> bool:
        """End a session on the full disk: it may fit, or is refused in time."""
        try:
            store.end_session(session, "stopped")
        except StoreError as error:
            self._require("disk" in reason_of(error), f"refused for another reason: {error}")
            return False
        return True

    def _check(self, store: Store, given_before: int) -> None:
        """What is said while the disk is full."""
        counts = store.counts()
        total = counts.stored + counts.not_stored + counts.pending
        self._require(total == self._given - given_before, f"the counts do not add up: {counts}")
        self._require(not store.failed, f"the writer has ended: {counts.error}")
        found = self._in_file()
        self._require(found >= self._stored + counts.stored, f"{found} cells in the file, {counts}")

    def _in_file(self) -> int:
        with closing(sqlite3.connect(self._folder / FILE_NAME)) as connection:
            return int(
                connection.execute("SELECT count(*) FROM cells JOIN crops ON cell_id = id").fetchone()[0]
            )

    def _add(self, store: Store, session: int, cells: int) -> None:
        for _ in range(cells):
            self._given += 1
            store.add_cell(session, some_cell(self._given, _SIDE_PX), _HASH)

    def _fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def _clear(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def _require(self, right: bool, otherwise: str) -> None:
        if not right:
            self._failures.append(otherwise)


@click.command("full-disk")
@click.option(
    "--times", default=10, show_default=True, type=click.IntRange(min=1), help="Times it is filled."
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of all that is random."
)
def full_disk(times: int, seed: int) -> None:
    """Fill a small disk while cells are stored, and clear it again.

    Needs root, or a system where users may mount a disk in memory of their own. Exit status 1 where the
    store crashes, says that a cell is stored which is not, or does not write again.
    """
    console = Console(highlight=False)
    with Progress("Filling the disk"):
        result = measure_full_disk(times, seed)
    console.print(
        f"Disk full {result.times} times: said {result.refused} times, written again {result.recovered} "
        "times.\n"
        f"Cells: {result.given} given, {result.stored} reported as stored, {result.in_file} in the file, "
        f"{result.not_stored} counted as not stored; {len(result.failures)} failures.",
        soft_wrap=True,
    )
    for line in result.failures:
        console.print(line, markup=False, soft_wrap=True)
    if not result.passed:
        raise SystemExit(1)
