"""A pulled plug: whether every cell reported as stored is in what was synced by then."""

import os
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import click
import numpy as np
from rich.console import Console

from benchmarks.faults.disk_trace import DiskTrace, Left, trace
from edge.store import FILE_NAME, NewSession, Store, database, statements
from edge.tracker import TrackedCell
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import HematoVisionError
from hematovision.terminal.progress import Progress

#: Cells of a trial: the write-ahead log is copied into the file and begun anew about five times.
CELLS = 600

# How often the program looks whether more is stored: a report that comes too early is too early by little.
_LOOK_S = 0.001

_NAMES = tuple(f"{FILE_NAME}{ending}" for ending in ("", "-wal", "-journal"))
_CHILD = "import sys; from benchmarks.faults.plug import write_cells; write_cells(*sys.argv[1:])"


@dataclass
class _Known:
    """What had been reported: cells by their numbers, sessions by their ids."""

    stored: int = 0
    first_of: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    deleting: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    corrected: dict[int, str] = field(default_factory=dict)

    def hear(self, report: str) -> None:
        """Take in a line of the report."""
        word, *numbers = report.split()
        match word, numbers:
            case "stored", [count]:
                self.stored = int(count)
            case "started", [session, first]:
                self.first_of[int(session)] = int(first)
            case "ended", [session]:
                self.ended.add(int(session))
            case "deleting", [session]:
                self.deleting.add(int(session))
            case "deleted", [session]:
                self.deleted.add(int(session))
            case "corrected", [cell, label]:
                self.corrected[int(cell)] = label
            case _:
                raise HematoVisionError(f"unknown report '{report}'")


@dataclass(frozen=True)
class PlugResult:
    """Pulled plugs: at so many random ``moments`` and at each of ``reports``; ``rebuilt`` files of these.

    ``reported``: cells reported as stored, all rebuilt files together. ``writes``, ``syncs``, ``reports``:
    of the traced run. ``failures``: what was wrong with which file.
    """

    moments: int
    rebuilt: int
    reported: int
    writes: int
    syncs: int
    reports: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing reported was missing, ever, and something was reported."""
        return not self.failures and self.reported > 0


def measure_plug(
    points: int = 200, cells: int = CELLS, seed: int = 1, synchronous: str = "FULL"
) -> PlugResult:
    """Trace a program that stores cells, and pull its plug at random moments and whenever it reports.

    For each random moment the files are rebuilt three times: with nothing of what was not synced, with some
    of these writes, and with some of their sectors; when it reports, with nothing else, which tells a report
    that came before its sync. They are opened as a device opens them when it starts, and searched for what
    had been reported.

    Args:
        points: random moments.
        cells: stored by the program.
        seed: of all that is random.
        synchronous: what SQLite is to sync; with less than FULL this must fail.

    Raises:
        MissingPartError: there is no strace.
        HematoVisionError: the program fails.
    """
    rng = np.random.default_rng(seed)
    failures: list[str] = []
    reported = rebuilt = 0
    with tempfile.TemporaryDirectory() as place:
        folder, report = Path(place) / "store", Path(place) / "report"
        folder.mkdir()
        arguments = [str(folder), str(report), str(cells), str(seed), synchronous]
        traced = trace(
            [sys.executable, "-c", _CHILD, *arguments], folder, _NAMES, report, Path(place) / "trace"
        )
        pulled = [
            (int(moment), left) for moment in rng.integers(0, traced.moments + 1, points) for left in Left
        ]
        pulled += [(moment, Left.NOTHING) for moment, _ in traced.reports]
        for moment, left in pulled:
            known = _known(traced, moment)
            found = Path(place) / "rebuilt"
            traced.rebuild(found, moment, left, rng)
            rebuilt += 1
            reported += known.stored
            failures += [f"moment {moment}, {left.value} left: {what}" for what in _wrong(found, known)]
    return PlugResult(
        points,
        rebuilt,
        reported,
        traced.writes,
        traced.syncs,
        len(traced.reports),
        tuple(failures),
    )


def _known(traced: DiskTrace, moment: int) -> _Known:
    known = _Known()
    for at, report in traced.reports:
        if at <= moment:
            known.hear(report)
    return known


def _wrong(folder: Path, known: _Known) -> list[str]:
    """What is wrong with a rebuilt store."""
    try:
        # As when the device is switched on again.
        with Store(folder) as store:
            with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
                [found] = connection.execute("PRAGMA integrity_check").fetchone()
            if found != "ok":
                return [f"integrity_check: {found}"]
            with store.read() as reader:
                sessions = {one.id: one for one in reader.sessions()}
                cells = reader.cells(limit=sys.maxsize)
                crops = {cell.number: reader.crop(cell.id) for cell in cells}
    except (HematoVisionError, sqlite3.Error, ValueError) as error:  # the last: texts that are none
        return [f"does not open: {error}"]
    wrong = []
    for session, first in known.first_of.items():
        if session not in sessions:
            if session not in known.deleting:
                wrong.append(f"session {session} is not there")
            continue
        if session in known.deleted:
            wrong.append(f"session {session} is there again")
        if session in known.ended and sessions[session].ended_at is None:
            wrong.append(f"session {session} is open again")
        following = min((other for other in known.first_of.values() if other > first), default=sys.maxsize)
        wanted = range(first, min(following, known.stored + 1))
        missing = [number for number in wanted if number not in crops]
        if missing:
            wrong.append(f"{len(missing)} of {len(wanted)} cells reported as stored are not there")
    if len(crops) != len(cells):
        wrong.append(f"{len(cells) - len(crops)} cells are there twice")
    if any(jpeg != _crop(number) for number, jpeg in crops.items()):
        wrong.append("a crop is another than was stored")
    labels = {cell.id: cell.corrected for cell in cells}
    if any(labels.get(cell) != label for cell, label in known.corrected.items()):
        wrong.append("a correction is not there")
    return wrong


# --- the traced program ---


def write_cells(folder: str, report: str, cells: str, seed: str, synchronous: str) -> None:
    """Store cells as a device does: two sessions, the first deleted later, and a restart.

    Each line of the report is written when the store has said so, not before; arguments as text.
    """
    database.SYNCHRONOUS = synchronous
    _Device(Path(folder), Path(report), random.Random(int(seed))).count(int(cells))


class _Device:
    def __init__(self, folder: Path, report: Path, rng: random.Random) -> None:
        self._folder = folder
        self._report = os.open(report, os.O_WRONLY | os.O_CREAT)
        self._rng = rng
        self._given = self._stored_before = self._told = 0

    def count(self, cells: int) -> None:
        """Store so many cells."""
        with Store(self._folder) as store:
            first = self._start(store)
            self._add(store, first, cells // 3)
            store.end_session(first, "stopped")
            self._say(f"ended {first}")
            second = self._start(store)
            self._add(store, second, cells // 3)
            self._say(f"deleting {first}")
            store.delete_session(first)
            self._say(f"deleted {first}")
            with store.read() as reader:
                [cell] = reader.cells(second, limit=1)
            store.correct(cell.id, "monocyte", "trial")
            self._say(f"corrected {cell.id} monocyte")
            self._add(store, second, cells // 6)
        self._stored_before = self._told
        with Store(self._folder) as store:
            store.continue_session(second)
            self._add(store, second, cells - self._given)
            store.end_session(second, "stopped")
            self._say(f"ended {second}")

    def _start(self, store: Store) -> int:
        session = store.start_session(NewSession("trial", "", "none", "none", "0" * 64, 0.1))
        self._say(f"started {session.id} {self._given + 1}")
        return session.id

    def _add(self, store: Store, session: int, cells: int) -> None:
        """Add cells, some at once and some apart, and report when they are stored."""
        end = self._given + cells
        while self._told < end:
            for _ in range(min(self._rng.choice((1, 1, 2, 5, 20)), end - self._given)):
                self._given += 1
                store.add_cell(session, some_cell(self._given), "0" * 64)
            until = monotonic() + self._rng.choice((0.0, 0.05, 0.2))
            self._tell(store)
            while monotonic() < until:
                sleep(_LOOK_S)
                self._tell(store)

    def _tell(self, store: Store) -> None:
        counts = store.counts()
        if self._stored_before + counts.stored > self._told:
            self._told = self._stored_before + counts.stored
            self._say(f"stored {self._told}")
        if counts.error is not None or counts.not_stored:
            raise HematoVisionError(f"cells could not be stored: {counts}")

    def _say(self, line: str) -> None:
        os.write(self._report, f"{line}\n".encode())


def some_cell(number: int, side_px: int = 64) -> TrackedCell:
    """A cell with a crop of noise, the same for the same number: noise is what JPEG keeps least small."""
    rng = np.random.default_rng(number)
    now = datetime.now(UTC)
    return TrackedCell(
        number=number,
        area=1,
        position_um=(float(number), 0.0),
        class_name=CLASS_NAMES[number % len(CLASS_NAMES)],
        probabilities=(0.7, 0.1, 0.1, 0.1),
        looks=3,
        focus=0.1,
        first_seen=now,
        confirmed_at=now,
        crop=rng.integers(0, 256, (side_px, side_px, 3), np.uint8),
    )


@cache
def _crop(number: int) -> bytes:
    return statements.new_cell(0, some_cell(number), "").jpeg


# --- the command ---


@click.command()
@click.option("--points", default=200, show_default=True, type=click.IntRange(min=1), help="Moments.")
@click.option("--cells", default=CELLS, show_default=True, type=click.IntRange(min=6), help="Cells stored.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of all that is random."
)
def plug(points: int, cells: int, seed: int) -> None:
    """Pull the plug of a program that stores cells, by a trace of what it wrote, synced and reported.

    At random moments, and at each report. Needs strace. Exit status 1 where a file does not open or lacks
    what was reported as stored.
    """
    console = Console(highlight=False)
    with Progress("Pulling plugs"):
        result = measure_plug(points, cells, seed)
    console.print(
        f"Traced: {result.writes} writes, {result.syncs} syncs, {result.reports} reports of {cells} cells.\n"
        f"Plug pulled at {result.moments} random moments and at each report, {result.rebuilt} files rebuilt "
        f"(nothing, some writes, some sectors of what was not synced): {result.reported} cells looked for, "
        f"{len(result.failures)} failures.",
        soft_wrap=True,
    )
    for line in result.failures:
        console.print(line, markup=False, soft_wrap=True)
    if not result.passed:
        raise SystemExit(1)
