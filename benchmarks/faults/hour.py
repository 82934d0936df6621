"""A run of the device over a long time, on the phantom: memory, frame age and database size while it counts.

``hematovision run`` is watched from outside as an operator could: what the system says of the process, what
its page answers, and how large its files are. During parts of the run somebody watches the live picture.
"""

import csv
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import monotonic, sleep
from urllib.request import urlopen

import click
from rich.console import Console

from benchmarks.faults.page import HERE, Page, page_running
from edge.store import FILE_NAME, open_reader
from hematovision.errors import HematoVisionError
from hematovision.own_pictures import PLOT, mark_of
from hematovision.terminal.progress import Progress

#: Memory may grow by so many MB once the first minutes, in which every cache fills, are over.
GROWTH_LIMIT_MB = 20.0
#: No frame that the page tells of may be older.
AGE_LIMIT_S = 2.0
#: SIGTERM to the end of the process.
STOP_LIMIT_S = 5.0

CAMERA = "phantom:rate=20"
_SETTLED_MINUTES = 10.0
_SAMPLE_S = 2.0
_ANSWER_LIMIT_S = 10.0
# When somebody watches, as shares of the run: never in the parts whose memory is compared.
_WATCHED = (0.04, 0.14), (0.35, 0.5), (0.6, 0.85)
# Of what is compared, the first part after it has settled and the last of all.
_COMPARED_SHARE = 0.1
_MB = 1e6

_stdout = Console()


@dataclass(frozen=True)
class Sample:
    """The device at a moment, ``minute`` of the run.

    ``memory_mb`` resident, ``threads`` of the process; ``frame_age_s`` and the counts as the page has them,
    which took ``answer_s``; ``database_mb`` of the database's file, ``log_mb`` of its write-ahead log.
    ``watched``: whether a viewer was there.
    """

    minute: float
    memory_mb: float
    threads: int
    state: str
    frame_age_s: float
    frames: int
    frames_per_second: float
    dropped: int
    lost: int
    cells: int
    stored: int
    not_stored: int
    answer_s: float
    database_mb: float
    log_mb: float
    watched: bool


@dataclass(frozen=True)
class LongRun:
    """What a run gave. ``on_disk``: cells in the file afterwards; ``pictures``: that the viewer was sent."""

    samples: tuple[Sample, ...]
    on_disk: int
    pictures: int
    stop_s: float
    exit_status: int

    @property
    def growth_mb(self) -> float:
        """Memory at the end above memory once it had settled: medians, so that no moment decides."""
        length = self.samples[-1].minute
        settled = min(_SETTLED_MINUTES, length / 2)
        part = _COMPARED_SHARE * length
        first = [one.memory_mb for one in self.samples if settled <= one.minute <= settled + part]
        last = [one.memory_mb for one in self.samples if one.minute >= length - part]
        return median(last) - median(first)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest frame that was the newest one when it was asked for."""
        return max(one.frame_age_s for one in self.samples)

    @property
    def complaints(self) -> list[str]:
        """What is wrong with it, a line each."""
        last = self.samples[-1]
        states = {one.state for one in self.samples} - {"running"}
        checks = (
            (self.growth_mb > GROWTH_LIMIT_MB, f"memory grows: more than {GROWTH_LIMIT_MB:g} MB"),
            (self.oldest_s > AGE_LIMIT_S, f"frames are old: more than {AGE_LIMIT_S:g} s"),
            (bool(states), f"the camera was not running all the time: {', '.join(sorted(states))}"),
            (last.not_stored > 0, f"{last.not_stored} cells could not be stored"),
            (
                self.on_disk < last.stored,
                f"of {last.stored} cells reported as stored {self.on_disk} are there",
            ),
            (not self.pictures, "the viewer was sent no picture"),
            (self.exit_status != 0, f"it ended with status {self.exit_status}"),
            (self.stop_s > STOP_LIMIT_S, f"it took {self.stop_s:.1f} s to stop"),
        )
        return [complaint for wrong, complaint in checks if wrong]


def measure_hour(minutes: float, out: Path, tell: Callable[[Sample], None] = lambda _: None) -> LongRun:
    """Run the device for so long; its store and its log stay in ``store`` in the folder ``out``.

    Raises:
        HematoVisionError: it does not start, or ends before it is to.
    """
    store = out / "store"
    store.mkdir()
    with page_running(store, CAMERA) as page:
        samples, pictures = _watch(page, store, minutes, tell)
        began = monotonic()
        page.process.send_signal(signal.SIGTERM)
        try:
            exit_status = page.process.wait(4 * STOP_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise HematoVisionError(f"it does not stop; see {store / 'log'}") from error
        stop_s = monotonic() - began
    with open_reader(store) as reader:
        on_disk = reader.count_cells()
    return LongRun(tuple(samples), on_disk, pictures, stop_s, exit_status)


def _watch(
    page: Page, store: Path, minutes: float, tell: Callable[[Sample], None]
) -> tuple[list[Sample], int]:
    began, length = monotonic(), 60 * minutes
    step = min(_SAMPLE_S, length / 30)
    samples: list[Sample] = []
    viewer = _Viewer(page.port)
    viewer.start()
    try:
        while (passed := monotonic() - began) < length:
            if any(start <= passed / length < end for start, end in _WATCHED):
                viewer.watching.set()
            else:
                viewer.watching.clear()
            samples.append(_sample(page, store, passed / 60, viewer.watching.is_set()))
            tell(samples[-1])
            sleep(max(0.0, began + step * (passed // step + 1) - monotonic()))
    finally:
        viewer.leave()
    return samples, viewer.pictures


def _sample(page: Page, store: Path, minute: float, watched: bool) -> Sample:
    asked = monotonic()
    try:
        status = page.status()
    except OSError as error:
        raise HematoVisionError(
            f"after {minute:.1f} minutes the page does not answer ({error}); see {store / 'log'}"
        ) from error
    answer_s = monotonic() - asked
    file, log = store / FILE_NAME, store / f"{FILE_NAME}-wal"
    return Sample(
        minute=minute,
        memory_mb=page.memory_mib() * 2**20 / _MB,
        threads=len(list(Path(f"/proc/{page.process.pid}/task").iterdir())),
        state=status["state"],
        frame_age_s=status["frame_age_s"],
        frames=status["frames"],
        frames_per_second=status["frames_per_second"],
        dropped=status["dropped"],
        lost=status["lost"],
        cells=status["differential"]["total"],
        stored=status["store"]["stored"],
        not_stored=status["store"]["not_stored"],
        answer_s=answer_s,
        database_mb=file.stat().st_size / _MB,
        log_mb=log.stat().st_size / _MB if log.exists() else 0.0,
        watched=watched,
    )


class _Viewer(Thread):
    """Somebody who watches the live picture while ``watching`` is set; ``pictures``: how many came."""

    def __init__(self, port: int) -> None:
        super().__init__(name="viewer", daemon=True)
        self.watching = Event()
        self.pictures = 0
        self._port = port
        self._leave = Event()

    def run(self) -> None:
        """Watch; called by the thread itself."""
        while not self._leave.is_set():
            if not self.watching.wait(0.2):
                continue
            with urlopen(f"http://{HERE}:{self._port}/live.mjpg", timeout=_ANSWER_LIMIT_S) as stream:
                while self.watching.is_set() and (line := stream.readline()):
                    self.pictures += line.startswith(b"Content-Type")

    def leave(self) -> None:
        """Go; the thread ends."""
        self._leave.set()
        self.watching.clear()
        self.join(_ANSWER_LIMIT_S)


def write_samples(samples: Sequence[Sample], path: Path) -> None:
    """The samples as CSV, a column for each field."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        for sample in samples:
            rounded = {
                name: round(value, 3) if isinstance(value, float) else value
                for name, value in asdict(sample).items()
            }
            writer.writerow(rounded)


def plot_samples(samples: Sequence[Sample], path: Path) -> None:
    """Memory, frame age and database size over the minutes of a run, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    memory, age, size = figure.subplots(3, 1, sharex=True)
    minutes = [one.minute for one in samples]
    memory.plot(minutes, [one.memory_mb for one in samples])
    memory.set(ylabel="memory, MB", title=f"hematovision run --camera {CAMERA}")
    age.plot(minutes, [1000 * one.frame_age_s for one in samples], linewidth=0.6)
    age.set(ylabel="age of the newest frame, ms")
    size.plot(minutes, [one.database_mb for one in samples], label="database")
    size.plot(minutes, [one.log_mb for one in samples], label="write-ahead log")
    size.set(ylabel="size, MB", xlabel="minutes")
    size.legend()
    for panel in (memory, age, size):
        panel.set_ylim(0, 1.1 * panel.dataLim.ymax)
        panel.margins(x=0)
        watched = panel.fill_between(
            minutes,
            0,
            1,
            where=[one.watched for one in samples],
            transform=panel.get_xaxis_transform(),
            color="0.9",
        )
    memory.legend([watched], ["somebody watches the live picture"], loc="lower right")
    figure.savefig(path, dpi=110, metadata={"Comment": mark_of(PLOT)})


@click.command()
@click.option(
    "--minutes", default=60.0, show_default=True, type=click.FloatRange(min=0.1), help="How long it runs."
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="A new folder for samples.csv, plot.png and the store.",
)
def hour(minutes: float, out: Path) -> None:
    """The device on the phantom for an hour: memory, frame age and database size, in a table and a plot.

    Exit status 1 where memory still grows after the first ten minutes (of a shorter run, its first half) by
    more than 20 MB, a frame is ever older than 2 s, a cell is not stored, or it does not stop within 5 s.
    """
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise HematoVisionError(f"{out}: is there already; name a new folder") from error
    samples: list[Sample] = []
    try:
        with Progress("Running") as progress:

            def tell(sample: Sample) -> None:
                samples.append(sample)
                progress.at(f"minute {sample.minute:.0f} of {minutes:g}, {sample.memory_mb:.0f} MB")

            run = measure_hour(minutes, out, tell)
    finally:
        if samples:  # also of a run that failed
            write_samples(samples, out / "samples.csv")
            plot_samples(samples, out / "plot.png")
    first, last = run.samples[0], run.samples[-1]
    most_mb, threads, answer_s, log_mb = (
        max(getattr(one, field) for one in run.samples)
        for field in ("memory_mb", "threads", "answer_s", "log_mb")
    )
    age_s = median(one.frame_age_s for one in run.samples)
    for text in (
        f"{last.minute:.1f} minutes, {last.frames} frames, {last.frames / (60 * last.minute):.1f} a second; "
        f"{last.dropped} overtaken, {last.lost} lost.",
        f"Memory: {most_mb:.0f} MB at most, {last.memory_mb:.0f} MB at the end, {run.growth_mb:+.1f} MB "
        f"since it had settled; {threads} threads at most.",
        f"Age of the newest frame: {1000 * age_s:.0f} ms, {1000 * run.oldest_s:.0f} ms at most; the page "
        f"answered within {1000 * answer_s:.0f} ms; {run.pictures} pictures sent to a viewer.",
        f"{last.cells} cells counted, {run.on_disk} on disk in the end, {last.not_stored} not stored; "
        f"database {first.database_mb:.2f} to {last.database_mb:.2f} MB, its log {log_mb:.2f} MB at most.",
        f"Stopped after {run.stop_s:.1f} s, with status {run.exit_status}.",
        *(f"Wrong: {complaint}." for complaint in run.complaints),
    ):
        _stdout.print(text, soft_wrap=True)
    if run.complaints:
        raise SystemExit(1)
