"""``bench faults store-gone``: the store's file goes away while the device counts, in every way there is.

It is the device itself, ``hematovision run`` on a drawn slide. Cells that its page said were stored are
looked for with SQLite alone: in the file at its path, in one kept beside it, and on the disk that was
taken away.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import click
from rich.console import Console

from benchmarks.faults.mounts import alone, may_mount
from benchmarks.faults.page import Page, page_running
from edge.store import FILE_NAME
from hematovision.errors import HematoVisionError, RecoveryError
from hematovision.terminal.progress import Progress

_CAMERA = "phantom:rate=30,path=selftest,width=640,height=480,um_per_pixel=0.2"
_CHILD = "import sys; from benchmarks.faults.store_gone import lose_mounted; lose_mounted(*sys.argv[1:])"
_CELLS = 5  # stored before it goes away, and after it is back
_LIMIT_S = 60.0
_LOOK_S = 0.02
_OTHER = "other.db"


@dataclass(frozen=True)
class Way:
    """A way to go: done to the store's folder; ``mended``: whether counting goes on stored by itself.

    ``mounted``: the folder is on a disk of its own, which `go` takes away; ``back`` brings it again.
    """

    name: str
    go: Callable[[Path], object]
    mended: bool = True
    mounted: bool = False
    back: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class Gone:
    """The outcome of a file that went away.

    ``noticed_s``: until ``/healthz`` said 503 with a reason, None where it never did. ``early``: cells that
    were reported as stored while nothing was in its place. ``reported``: as stored, in all; ``found``: of
    these; ``not_stored``: said to be so at the end. ``went_on``: cells were stored again where they must be.
    """

    way: str
    noticed_s: float | None
    early: int
    reported: int
    found: int
    went_on: bool

    @property
    def passed(self) -> bool:
        """Return whether nothing was lost silently, and something was there to lose."""
        return (
            self.noticed_s is not None and not self.early and 0 < self.reported <= self.found and self.went_on
        )


def _remove_all(folder: Path) -> None:
    for file in folder.glob(f"{FILE_NAME}*"):
        file.unlink()


def _unmount(folder: Path) -> None:
    # Lazily, as a stick that is pulled: what is open stays open.
    subprocess.run(["umount", "--lazy", str(folder.parent)], check=True)  # noqa: S603, S607


def _mount(folder: Path) -> None:
    disk = folder.parent
    subprocess.run(["mount", "--bind", str(_behind(disk)), str(disk)], check=True)  # noqa: S603, S607


def _behind(disk: Path) -> Path:
    """Return what is mounted there."""
    return disk.with_name("behind")


WAYS = (
    Way("the file removed", lambda folder: (folder / FILE_NAME).unlink()),
    Way("all its files removed", _remove_all),
    Way("its folder removed", shutil.rmtree),
    Way("the file moved", lambda folder: (folder / FILE_NAME).rename(folder / "moved.db")),
    Way("its folder moved", lambda folder: folder.rename(folder.with_name("moved"))),
    Way("its write-ahead log removed", lambda folder: (folder / f"{FILE_NAME}-wal").unlink()),
    Way(
        "another file in its place", lambda folder: (folder.parent / _OTHER).rename(folder / FILE_NAME), False
    ),
    Way("its disk taken away, and brought again", _unmount, mounted=True, back=_mount),
    Way("its disk taken away", _unmount, False, mounted=True),
)


def measure_store_gone(place: Path, ways: Sequence[Way] = WAYS) -> list[Gone]:
    """Lose the file of a running device in each way.

    Args:
        place: an empty folder; for ways with a disk, where mounting changes nothing for others.
        ways: which.

    Raises:
        HematoVisionError: the device does not start, or counts no cell.
    """
    results = []
    for number, way in enumerate(ways):
        disk = place / str(number) / "disk"
        disk.mkdir(parents=True)
        if way.mounted:
            _behind(disk).mkdir()
            tmpfs = ["mount", "-t", "tmpfs", "tmpfs", str(_behind(disk))]
            subprocess.run(tmpfs, check=True)  # noqa: S603
            _mount(disk / "store")
        (disk / "store").mkdir()
        results.append(_lose(disk / "store", way))
    return results


def lose_mounted(place: str, answer: str) -> None:
    """Do so where disks may be mounted; arguments as text."""
    Path(answer).write_text(
        json.dumps([asdict(one) for one in measure_store_gone(Path(place))]), encoding="utf-8"
    )


def _lose(folder: Path, way: Way) -> Gone:
    noticed_s: float | None = None
    went_on = way.mounted and not way.mended
    reported = early = 0
    _make_other(folder.parent / _OTHER)
    with page_running(folder, _CAMERA) as page:
        _wait(page, lambda said: said["store"]["stored"] >= _CELLS)
        way.go(folder)
        gone_at = monotonic()
        before = reported = _stored(page)
        while noticed_s is None and page.process.poll() is None and monotonic() < gone_at + _LIMIT_S:
            try:
                status, text = page.get("/healthz")
                noticed_s = monotonic() - gone_at if status == 503 and FILE_NAME.encode() in text else None
                reported = max(reported, _stored(page))
            except OSError:
                break  # it has ended
            sleep(_LOOK_S)
        early = reported - before
        if way.back is not None:
            way.back(folder)
        if way.mended and noticed_s is not None:
            # What waited meanwhile is stored, too.
            said = _wait(
                page,
                lambda said: said["store"]["error"] is None and said["store"]["stored"] >= before + _CELLS,
            )
            went_on, reported = said is not None, _stored(page)
        elif not way.mended and way.mounted:
            sleep(2)
            early, reported = early + _stored(page) - reported, _stored(page)
        elif not way.mended:
            # A new process is to go on with what is there now.
            with suppress(subprocess.TimeoutExpired):
                went_on = page.process.wait(_LIMIT_S) == RecoveryError.exit_status
    return Gone(way.name, noticed_s, early, reported, _found(folder, way), went_on)


def _make_other(path: Path) -> None:
    """Another store, without a cell."""
    from edge.store import Store

    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        with Store(Path(place)):
            pass
        (Path(place) / FILE_NAME).rename(path)


def _wait(page: Page, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    end = monotonic() + _LIMIT_S
    while monotonic() < end:
        said = page.status()
        if reached(said):
            return said
        sleep(_LOOK_S)
    return None


def _stored(page: Page) -> int:
    return int(page.status()["store"]["stored"])


def _found(folder: Path, way: Way) -> int:
    """Return how many cells there are in the file at the path, beside it, or on the disk that is away."""
    places = [folder / FILE_NAME, *folder.glob(f"{FILE_NAME}.replaced-*")]
    if way.mounted:
        places.append(_behind(folder.parent) / folder.name / FILE_NAME)
    return max((_cells(path) for path in places if path.exists()), default=0)


def _cells(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            return 0
        return int(connection.execute("SELECT count(*) FROM cells JOIN crops ON cell_id = id").fetchone()[0])


@click.command("store-gone")
def store_gone() -> None:
    """Take the store's file away from a counting device: removed, moved, replaced, its disk unmounted.

    Exit status 1 where a cell is lost that was reported as stored, or one is reported while the file is not
    in its place. The two ways with a disk need root.
    """
    console = Console(highlight=False)
    with Progress("Losing the file"), tempfile.TemporaryDirectory() as place:
        if may_mount():
            answer = Path(place) / "answer"
            python = [sys.executable, "-c", _CHILD, place, str(answer)]
            ended = subprocess.run(  # noqa: S603
                [*alone(), *python], capture_output=True, encoding="utf-8", errors="replace", check=False
            )
            if ended.returncode:
                raise HematoVisionError(f"the trial failed: {ended.stderr.strip()[-500:]}")
            results = [Gone(**one) for one in json.loads(answer.read_text(encoding="utf-8"))]
        else:
            console.print("No disk can be mounted here: the ways with a disk are left out; run this as root.")
            results = measure_store_gone(Path(place), [way for way in WAYS if not way.mounted])
    for one in results:
        noticed = "never" if one.noticed_s is None else f"after {one.noticed_s:.1f} s"
        console.print(
            f"{one.way}: noticed {noticed}; {one.reported} cells reported as stored, {one.found} found, "
            f"{one.early} reported while it was gone{'' if one.passed else ': FAILED'}",
            soft_wrap=True,
        )
    if not all(one.passed for one in results):
        raise SystemExit(1)
