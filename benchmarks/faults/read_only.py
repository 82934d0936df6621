"""``bench faults read-only``: a card that becomes read-only while the device counts, and what is on it then.

A small ext4 file system is made read-only by the kernel's own answer to an error of it, as with a worn card.
"""

import csv
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep

import click
from rich.console import Console

from benchmarks.faults.mounts import run_on_disk
from benchmarks.faults.page import Page, page_running
from edge.store import FILE_NAME
from hematovision.errors import HematoVisionError, MissingPartError
from hematovision.terminal.progress import Progress

_CAMERA = "phantom:rate=30,path=selftest,width=640,height=480,um_per_pixel=0.2"
_CHILD = "import sys; from benchmarks.faults.read_only import wear_out; wear_out(*sys.argv[1:])"
_DISK_MB = 64
_CELLS = 10
_LIMIT_S = 60.0
_LOOK_S = 0.02


@dataclass(frozen=True)
class Worn:
    """The outcome of a card that became read-only.

    ``noticed_s``: until ``/healthz`` said 503, None where it never did. ``reported``: cells reported as
    stored; ``not_stored``: that were said to be lost, or still waited. ``pages``: cells that the running
    device's API still gave; ``left``: by the state in which the files were left, cells that ``sessions
    export`` gave. ``failures``: what was not as it must be.
    """

    noticed_s: float | None
    reported: int
    not_stored: int
    pages: int
    left: dict[str, int]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether every cell reported as stored was read, and it was said that no more are."""
        read = [self.pages, *self.left.values()]
        return not self.failures and self.noticed_s is not None and 0 < self.reported <= min(read)


def measure_read_only() -> Worn:
    """Make the disk of a running device read-only, where no other process sees it.

    Raises:
        MissingPartError: no file system can be mounted here.
        HematoVisionError: the trial fails.
    """
    with tempfile.TemporaryDirectory() as place:
        image, disk, answer = (Path(place) / name for name in ("image", "disk", "answer"))
        disk.mkdir()
        make_disk(image)
        mount = 'mount -o loop,errors=remount-ro "$1" "$2"'
        python = [sys.executable, "-c", _CHILD, str(disk), str(answer)]
        run_on_disk(mount, (str(image), str(disk)), python)
        result = json.loads(answer.read_text(encoding="utf-8"))
    return Worn(**result | {"failures": tuple(result["failures"])})


def make_disk(image: Path) -> None:
    """Make a small file system. Raises `MissingPartError` where nothing here can."""
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise MissingPartError("mkfs.ext4 is not installed; apt install e2fsprogs brings it")
    with image.open("wb") as file:
        file.truncate(_DISK_MB * 1024 * 1024)
    subprocess.run([program, "-q", str(image)], check=True)  # noqa: S603


def wear_out(disk: str, answer: str) -> None:
    """Count on a mounted disk, and wear it out; arguments as text."""
    Path(answer).write_text(json.dumps(asdict(_wear_out(Path(disk)))), encoding="utf-8")


def _wear_out(disk: Path) -> Worn:
    folder = disk / "store"
    folder.mkdir()
    failures: list[str] = []
    with page_running(folder, _CAMERA) as page:
        _wait_for_cells(page)
        _fail(disk)
        failed_at = monotonic()
        noticed_s = None
        while noticed_s is None and monotonic() < failed_at + _LIMIT_S:
            noticed_s = monotonic() - failed_at if page.get("/healthz")[0] == 503 else None
            sleep(_LOOK_S)
        sleep(2)  # it counts on
        said = page.status()["store"]
        pages = _cells_of_api(page)
        for address in ("/", "/sessions", "/sessions/1", "/cells", "/device"):
            status, _ = page.get(address)
            if status != 200:
                failures.append(f"{address} was answered with {status}")
    reported = int(said["stored"])
    if not said["not_stored"] + said["pending"] or not said["error"]:
        failures.append(f"cells were counted as if nothing were wrong: {said}")
    left = {"as it was": _exported(folder, failures)}
    with tempfile.TemporaryDirectory() as place:
        for name in ("without the log's index", "after a clean end"):
            copied = Path(place) / name
            copied.mkdir()
            for ending in ("", "-wal"):
                shutil.copyfile(folder / f"{FILE_NAME}{ending}", copied / f"{FILE_NAME}{ending}")
            if name == "after a clean end":
                with closing(sqlite3.connect(copied / FILE_NAME)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for command in (["--bind"], ["-o", "remount,bind,ro"]):
                subprocess.run(["mount", *command, str(copied), str(copied)], check=True)  # noqa: S603, S607
            left[name] = _exported(copied, failures)
            subprocess.run(["umount", str(copied)], check=True)  # noqa: S603, S607
    return Worn(noticed_s, reported, said["not_stored"] + said["pending"], pages, left, tuple(failures))


def _fail(disk: Path) -> None:
    """Let the file system meet an error: it makes itself read-only."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    fields = next(line.split() for line in lines if line.split()[4] == str(disk))
    device = Path(fields[fields.index("-") + 2]).name
    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1", encoding="utf-8")


def _wait_for_cells(page: Page) -> None:
    end = monotonic() + _LIMIT_S
    while page.status()["store"]["stored"] < _CELLS:
        if monotonic() > end:
            raise HematoVisionError("the device counts no cell")
        sleep(_LOOK_S)


def _cells_of_api(page: Page) -> int:
    status, text = page.get("/api/v1/sessions/1/export?format=csv")
    return sum(1 for _ in csv.DictReader(io.StringIO(text.decode()))) if status == 200 else 0


def _exported(folder: Path, failures: list[str]) -> int:
    """Cells of session 1 that the commands list, show and export from a folder."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "cells.csv"
        crops = Path(place) / "crops"
        for arguments in (
            ["list"],
            ["show", "1"],
            ["export", "1", "--format", "csv", "--out", str(out)],
            ["export", "1", "--format", "crops", "--out", str(crops)],
        ):
            command = [sys.executable, "-m", "hematovision", "sessions", *arguments, "--folder", str(folder)]
            ended = subprocess.run(  # noqa: S603
                command, capture_output=True, encoding="utf-8", errors="replace", check=False
            )
            if ended.returncode:
                failures.append(f"sessions {' '.join(arguments[:2])}: {ended.stderr.strip()[-300:]}")
                return 0
        with out.open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.DictReader(file))


@click.command("read-only")
def read_only() -> None:
    """Make the disk of a counting device read-only, and read what is on it.

    Needs root and ext4. Exit status 1 where a cell that was reported as stored cannot be listed, shown and
    exported any more, or more are reported as stored.
    """
    console = Console(highlight=False)
    with Progress("Wearing out a disk"):
        result = measure_read_only()
    noticed = "never" if result.noticed_s is None else f"after {result.noticed_s:.1f} s"
    left = ", ".join(f"{cells} {name}" for name, cells in result.left.items())
    console.print(
        f"Disk read-only while counting: noticed {noticed}; {result.reported} cells reported as stored, "
        f"{result.not_stored} said not to be.\n"
        f"Read back: {result.pages} by the device's page, by sessions export {left}; "
        f"{len(result.failures)} failures.",
        soft_wrap=True,
    )
    for line in result.failures:
        console.print(line, markup=False, soft_wrap=True)
    if not result.passed:
        raise SystemExit(1)
