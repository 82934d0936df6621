"""A camera that stalls at random while cells are counted: when frames come again, and what became of cells.

The camera stands over a drawn slide whose stage goes there and back, so that every cell comes into view time
and again and must be counted once. It fails in every way that a live camera fails, under the supervisor of
the device, with its limits and its pauses. While it fails the stage stands still.
"""

import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, cycle
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import click
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from edge.cameras import Camera, LostFrame
from edge.cameras.live import UNATTENDED, LiveCamera, Picture
from edge.cameras.phantom import DrawnFrame
from edge.config import Settings
from edge.device import Device
from edge.phantom_score import PhantomScore, Score
from edge.pipeline import LiveLine, SeenFrame, live_threads
from edge.store import Store
from edge.supervisor import Supervisor
from hematovision.classifier import Classifier, default_model_path
from hematovision.errors import CameraError, HematoVisionError, NoCameraError
from hematovision.images import RGBImage
from hematovision.model_file import read_model_file
from hematovision.phantom import Microscope, PhantomFrame, Slide
from hematovision.phantom.stage import trial
from hematovision.terminal.progress import Progress

#: A camera must give frames again so long after its last good one, in seconds.
RECOVERY_LIMIT_S = 5.0

_UM_PER_PIXEL, _SIZE = 0.2, (640, 480)
_RATE = 50.0
_FRAMES_BETWEEN = 40, 200
_FLUSH_LIMIT_S = 10.0
# Less than a thread may take to end.
_SLOWLY_S = 1.0

_stdout = Console()


class Fault(StrEnum):
    """How a camera fails."""

    SILENT = "no more pictures"
    HANGING = "no more pictures, and hangs a second when it is closed"
    ERROR = "an error"
    SLOW_CLOSE = "an error, and a second to close"
    BUSY_ONCE = "an error, and does not open once"
    BUSY_TWICE = "an error, and does not open twice"
    UNPLUGGED = "an error, and is not there for a while"
    STILL = "the same picture for ever"
    BLACK = "black until it is opened again"

    @property
    def limit_s(self) -> float:
        """How long after its last good picture it must have recovered."""
        # A black picture is one: it is borne with before the camera is taken to have failed.
        return RECOVERY_LIMIT_S + (UNATTENDED.unusable_s if self is Fault.BLACK else 0.0)


@dataclass
class Stall:
    """One of them; times by the monotonic clock. ``recovered_s``: since its last good picture."""

    fault: Fault
    last_picture_at: float
    recovered_s: float | None = None


@dataclass(frozen=True)
class Stalls:
    """What became of a run.

    ``frames`` finished; ``dropped``: overtaken by a newer one; ``lost``: could not be used. ``stored``: cells
    on disk; ``threads_left``: more than there were before. ``error``: what ended it early, a line.
    """

    stalls: tuple[Stall, ...]
    frames: int
    dropped: int
    lost: int
    score: Score
    stored: int
    threads_left: int
    error: str | None

    @property
    def late(self) -> int:
        """Stalls that were not recovered within their limit."""
        return sum(
            stall.recovered_s is None or stall.recovered_s > stall.fault.limit_s for stall in self.stalls
        )

    @property
    def passed(self) -> bool:
        """Whether each was recovered in time, and every cell counted and stored once."""
        score = self.score
        wrong = (
            score.missed + score.twice + score.nothing + self.threads_left + abs(self.stored - score.counted)
        )
        return self.error is None and not self.late and not wrong


class _Stand:
    """The microscope, which stays while cameras come and go, and the faults that are still to come."""

    def __init__(self, seed: int, faults: tuple[Fault, ...]) -> None:
        scene = trial(seed, (_SIZE[0] * _UM_PER_PIXEL, _SIZE[1] * _UM_PER_PIXEL), _UM_PER_PIXEL)
        self._poses = cycle(chain(scene.poses, scene.poses[::-1]))
        self._microscope = Microscope(Slide(scene.smear), *_SIZE, seed=seed)
        self._rng = np.random.default_rng((seed, 11))
        self._faults = cycle(self._rng.permutation(list(faults)).tolist())
        self._left = self._pictures_to_next()
        #: What the pictures on their way show, after when they were taken.
        self.views: deque[tuple[float, PhantomFrame]] = deque()
        self.stalls: list[Stall] = []
        self.refusals: list[HematoVisionError] = []

    def look(self) -> PhantomFrame | Fault:
        """The next picture, or how the camera fails now."""
        if self._left == 0:
            self._left = self._pictures_to_next()
            return Fault(next(self._faults))
        self._left -= 1
        return self._microscope.look(next(self._poses))

    def _pictures_to_next(self) -> int:
        return int(self._rng.integers(*_FRAMES_BETWEEN))


class _Stalling(LiveCamera):
    """One of the cameras of the stand: from opening to failing."""

    def __init__(self, stand: _Stand) -> None:
        super().__init__("stalling camera", _UM_PER_PIXEL, UNATTENDED)
        self._stand = stand
        self._fault: Fault | None = None
        self._shown: RGBImage | None = None
        self._shown_at = self._due = 0.0
        self._never = Event()

    def _connect(self) -> None:
        if self._stand.refusals:
            raise self._stand.refusals.pop(0)

    def _grab(self) -> Picture:
        self._due = max(self._due + 1 / _RATE, monotonic())
        sleep(max(0.0, self._due - monotonic()))
        if self._fault is None:
            view = self._stand.look()
            if isinstance(view, PhantomFrame):
                self._shown, self._shown_at = view.image, monotonic()
                self._stand.views.append((self._shown_at, view))
                return Picture(view.image, self._shown_at)
            self._fault = view
            self._stand.stalls.append(Stall(view, self._shown_at))
        return self._failing(self._fault)

    def _failing(self, fault: Fault) -> Picture:
        assert self._shown is not None, "it gives a picture before it fails"
        if fault is Fault.STILL:
            return Picture(self._shown, monotonic())
        if fault is Fault.BLACK:
            return Picture(np.zeros_like(self._shown), monotonic())
        if fault in (Fault.SILENT, Fault.HANGING):
            while not self._closing:
                self._never.wait(0.05)
            sleep(_SLOWLY_S if fault is Fault.HANGING else 0.0)
        busy = {Fault.BUSY_ONCE: 1, Fault.BUSY_TWICE: 2}.get(fault, 0)
        self._stand.refusals += [CameraError(f"{self.name}: is in use") for _ in range(busy)]
        if fault is Fault.UNPLUGGED:
            self._stand.refusals.append(NoCameraError(f"{self.name}: no such camera"))
        raise CameraError(f"{self.name}: the camera stopped")

    def _disconnect(self) -> None:
        if self._fault is Fault.SLOW_CLOSE:
            sleep(_SLOWLY_S)


def measure_stalls(
    classifier: Classifier, frames: int, seed: int = 0, faults: tuple[Fault, ...] = tuple(Fault)
) -> Stalls:
    """Count cells over so many frames of a camera that stalls in these ways, each as often as the others."""
    threads_before = threading.active_count()
    stand, stop, score = _Stand(seed, faults), Event(), PhantomScore()
    line = LiveLine(classifier)
    error: str | None = None

    def check(result: SeenFrame | LostFrame, camera: Camera) -> None:
        if isinstance(result, LostFrame):
            return
        while stand.views[0][0] < result.frame.monotonic:
            stand.views.popleft()  # overtaken
        _, view = stand.views[0]
        score.see(replace(result, frame=DrawnFrame.of(view, result.frame.sequence, camera.name)))
        for stall in stand.stalls:
            if stall.recovered_s is None and result.frame.monotonic > stall.last_picture_at:
                stall.recovered_s = monotonic() - stall.last_picture_at
        if device.status().frames >= frames:
            stop.set()

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        device = Device(Settings(), classifier.model, store, line, "stalling camera", _UM_PER_PIXEL)
        device.start_session_with_first_frame(None)
        try:
            Supervisor(device, line, lambda: _Stalling(stand), lambda: classifier, stop, check, _alive).run()
        except HematoVisionError as caught:
            error = str(caught)
        store.flush(_FLUSH_LIMIT_S)
        status = device.status()
        with store.read() as reader:
            stored = reader.count_cells()
    # One that has only just happened when the run ends is no failure to recover.
    stalls = [stall for stall in stand.stalls if stall.recovered_s is not None or error is not None]
    return Stalls(
        stalls=tuple(stalls),
        frames=status.frames,
        dropped=status.dropped,
        lost=status.lost,
        score=score.score(),
        stored=stored,
        threads_left=threading.active_count() - threads_before,
        error=error,
    )


def _alive() -> None:
    """What feeds the watchdog of a service; there is none here."""


@click.command()
@click.option("--frames", default=10_000, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of slide and faults.")
def stalls(frames: int, seed: int) -> None:
    """A camera that stalls at random, in all ways that cameras do, while the cells of a slide are counted.

    Exit status 1 where frames came again later than 5 s after the last good one (of a black picture, which
    is borne with for a while, after that), or a cell was missed, counted twice or not stored.
    """
    threads = live_threads()
    cv2.setNumThreads(threads.opencv)
    classifier = Classifier(read_model_file(default_model_path()), threads=threads.interpreter)
    with Progress("Counting"):
        result = measure_stalls(classifier, frames, seed)
    table = Table(title="seconds from the last good picture to the next frame finished")
    for heading in ("the camera gives", "stalls", "mean", "longest", "limit"):
        table.add_column(heading, justify="left" if heading == "the camera gives" else "right")
    for fault, times in _by_fault(result):
        longest = f"{max(times):.2f}"
        table.add_row(fault, str(len(times)), f"{sum(times) / len(times):.2f}", longest, f"{fault.limit_s:g}")
    _stdout.print(table)
    score = result.score
    for text in (
        f"{len(result.stalls)} stalls in {result.frames} frames: {result.late} not recovered in time.",
        f"{result.dropped} frames overtaken by a newer one, {result.lost} lost, black.",
        f"{score.shown} cells shown long enough, {score.missed} of them missed; {score.counted} counted, "
        f"{score.briefly} of these shown more briefly, {score.twice} counted twice, {score.nothing} counts "
        f"of what is no cell; {result.stored} on disk.",
        f"{result.threads_left} threads left.",
        *([f"Ended early: {result.error}"] if result.error else []),
    ):
        _stdout.print(text, soft_wrap=True)
    if not result.passed:
        raise SystemExit(1)


def _by_fault(result: Stalls) -> Iterator[tuple[Fault, list[float]]]:
    for fault in Fault:
        times = [
            float("inf") if stall.recovered_s is None else stall.recovered_s
            for stall in result.stalls
            if stall.fault is fault
        ]
        if times:
            yield fault, times
