"""``bench faults kill``: the device is killed while it counts, and what it reported as stored is looked for.

It is the device itself, ``hematovision run`` on a drawn slide, and reported is what its page says of cells
stored. The file is looked into with SQLite alone, not with the device's own reader.
"""

import random
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.faults.page import page_running
from edge.store import FILE_NAME
from hematovision.errors import HematoVisionError
from hematovision.terminal.progress import Progress

_CAMERA = "phantom:rate=30,path=selftest,width=640,height=480,um_per_pixel=0.2"
_FIRST_CELL_S = 60.0
# Counting goes on for so long, at random, before the process is killed.
_LONGEST_S = 2.5
_LOOK_S = 0.01


@dataclass(frozen=True)
class Killed:
    """What killing a run brought.

    ``reported``: cells that the runs said were stored; ``kept``: cells that the file has. ``missing``: cells
    reported, or once in the file, and not in it after a kill. ``damaged``: files that SQLite found fault
    with. ``not_continued``: starts that did not go on with the session that was cut off.
    """

    times: int
    reported: int
    kept: int
    missing: int
    damaged: int
    not_continued: int

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, and something was there to lose."""
        return self.reported > 0 and not (self.missing or self.damaged or self.not_continued)


@click.command()
@click.option("--times", default=50, show_default=True, type=click.IntRange(min=1), help="How often.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def kill(times: int, seed: int) -> None:
    """Kill the device (SIGKILL) at random moments while it counts.

    Every cell that it reported as stored must be in the file, the file whole, and the next start must go on
    with the session. Exit status 1 otherwise.
    """
    console = Console(highlight=False)
    with Progress("Killing"), tempfile.TemporaryDirectory() as folder:
        result = measure_kills(Path(folder), times, seed)
    console.print(
        f"Killed {result.times} times: {result.reported} cells reported as stored, {result.kept} in the "
        f"file, {result.missing} missing; {result.damaged} times the file was damaged; "
        f"{result.not_continued} starts did not go on with the session.",
        soft_wrap=True,
    )
    if not result.passed:
        raise SystemExit(1)


def measure_kills(folder: Path, times: int, seed: int = 0) -> Killed:
    """Start and kill the device so many times on one state folder.

    Raises:
        HematoVisionError: it does not start.
    """
    moments = random.Random(seed)
    cells: set[tuple[int, ...]] = set()
    session: int | None = None
    reported = missing = damaged = not_continued = 0
    for number in range(times):
        said = _count_and_kill(folder, moments.uniform(0, _LONGEST_S))
        now = said["session"]
        not_continued += session not in (None, now["id"]) or now["continued"] != number
        session = now["id"]
        whole, kept = _look_into(folder / FILE_NAME)
        damaged += not whole
        stored = int(said["store"]["stored"])
        missing += len(cells - kept) + max(0, stored - len(kept - cells))
        reported, cells = reported + stored, kept
    return Killed(times, reported, len(cells), missing, damaged, not_continued)


def _count_and_kill(folder: Path, after_s: float) -> dict[str, Any]:
    """Let the device count for so many seconds from its first cell on; what its page said last."""
    end, kill_at = time.monotonic() + _FIRST_CELL_S, None
    with page_running(folder, _CAMERA) as page:
        while True:
            said = page.status()
            now = time.monotonic()
            if kill_at is None and said["store"]["stored"] + said["store"]["pending"] > 0:
                kill_at = now + after_s
            if kill_at is not None and now >= kill_at:
                page.process.kill()
                return said
            if now > end:
                raise HematoVisionError(f"the device counts no cell; see {folder / 'log'}")
            time.sleep(_LOOK_S)


def _look_into(path: Path) -> tuple[bool, set[tuple[int, ...]]]:
    """Whether a file is whole, and its cells: id, session and number."""
    connection = sqlite3.connect(path)
    try:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = set(connection.execute("SELECT id, session_id, number FROM cells"))
    finally:
        connection.close()
    return whole, kept
