"""``hematovision bench faults viewers``: many watch, two of them badly, and the camera is not to notice."""

import os
import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic, sleep

import click
from rich.console import Console

from benchmarks.faults.page import HERE, Page, page_running
from hematovision.terminal.progress import Progress

#: What the pipeline may lose of its frame rate, and how long ``/healthz`` may take.
MOST_LOST, MOST_HEALTHZ_S = 0.10, 0.2
#: What a viewer gets a second at least, of the ten that there are.
LEAST_PICTURES = 9.0
#: Frames a second that the pipeline is held at; a machine that has no room for them tells nothing.
HELD, LEAST_ALONE = 20.0, 19.0
CAMERA = f"phantom:rate={HELD:g}"

_MARK = b"Content-Type: image/jpeg"
_SETTLE_S = 3.0
_HEALTHZ_EVERY_S = 0.05
_SMALL_BUFFER = 4096


@dataclass(frozen=True)
class Viewing:
    """What came of it.

    ``alone`` and ``watched``: frames a second without and with viewers. ``pictures``: a second, of the viewer
    that got the fewest. ``healthz_s``: the longest answer, of ``healthz`` asked for. ``cut_off``: clients
    that were told to go. ``alive``: viewers that still got pictures at the end. ``cores``: what the device
    computed without and with viewers, in processor seconds a second.
    """

    viewers: int
    alone: float
    watched: float
    pictures: float
    healthz: int
    healthz_s: float
    cut_off: int
    alive: int
    cores: tuple[float, float]

    @property
    def lost(self) -> float:
        """Share of the frame rate that viewers cost."""
        return 1 - self.watched / self.alone

    @property
    def passed(self) -> bool:
        """Whether it is as it must be; not where the machine was too busy to tell."""
        return (
            self.alone >= LEAST_ALONE
            and self.lost < MOST_LOST
            and self.healthz_s < MOST_HEALTHZ_S
            and self.pictures >= LEAST_PICTURES
            and self.alive == self.viewers
        )


def measure_viewers(viewers: int = 20, seconds: float = 20.0) -> Viewing:
    """Frame rate without and with viewers, one more that reads a byte a second and one that reads nothing.

    The viewers run on one core and the device on the others; where there is only one core, all share it.
    """
    cores = sorted(os.sched_getaffinity(0))
    with TemporaryDirectory() as folder:
        others = frozenset(cores[:-1] or cores)
        with page_running(Path(folder), CAMERA, others) as page, _pinned(cores[-1]):
            sleep(_SETTLE_S)
            alone, cores_alone = _pace(page, seconds)
            crowd = _Crowd(page, viewers)
            with crowd.watching():
                sleep(_SETTLE_S)
                crowd.begin()
                watched, cores_watched = _pace(page, seconds)
                counted = crowd.counted()
            _, metrics = page.get("/metrics")
            return Viewing(
                viewers,
                alone,
                watched,
                min(counted) / seconds,
                len(crowd.healthz_s),
                max(crowd.healthz_s),
                _metric(metrics, b"hematovision_clients_cut_off_total"),
                sum(count > 0 for count in counted),
                (cores_alone, cores_watched),
            )


class _Crowd:
    """Viewers that read as fast as they can, one that reads a byte a second, one that never reads."""

    def __init__(self, page: Page, viewers: int) -> None:
        self.healthz_s: list[float] = []
        self._page = page
        self._good = [_watch(page) for _ in range(viewers)]
        self._slow, self._deaf = _watch(page, _SMALL_BUFFER), _watch(page, _SMALL_BUFFER)
        self._counts = [0] * viewers
        self._end = Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """All of them at work."""
        threads = [Thread(target=work) for work in (self._read, self._read_slowly, self._ask_for_health)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()
            for client in (*self._good, self._slow, self._deaf):
                client.close()

    def begin(self) -> None:
        """Count from now."""
        self._counts = [0] * len(self._good)
        self.healthz_s.clear()

    def counted(self) -> list[int]:
        """Pictures that each got since `begin`."""
        return list(self._counts)

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for index, client in enumerate(self._good):
                selector.register(client, selectors.EVENT_READ, index)
            tails = [b""] * len(self._good)
            while not self._end.is_set():
                for key, _ in selector.select(0.1):
                    data = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                    if not data:
                        selector.unregister(key.fileobj)
                        continue
                    seen = tails[key.data] + data
                    self._counts[key.data] += seen.count(_MARK)
                    tails[key.data] = seen[-len(_MARK) + 1 :]

    def _read_slowly(self) -> None:
        with suppress(ConnectionError):  # it is told to go
            while not self._end.wait(1.0):
                self._slow.recv(1)

    def _ask_for_health(self) -> None:
        while not self._end.wait(_HEALTHZ_EVERY_S):
            started = monotonic()
            try:
                self._page.get("/healthz")
            except OSError:
                self.healthz_s.append(inf)
            else:
                self.healthz_s.append(monotonic() - started)


def _watch(page: Page, buffer: int | None = None) -> socket.socket:
    client = socket.socket()
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.connect((HERE, page.port))
    client.sendall(b"GET /live.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pace(page: Page, seconds: float) -> tuple[float, float]:
    """Frames a second, and processor seconds a second."""
    started, frames, computed = monotonic(), page.status()["frames"], page.processor_s()
    sleep(seconds)
    frames, computed = page.status()["frames"] - frames, page.processor_s() - computed
    passed = monotonic() - started
    return frames / passed, computed / passed


def _metric(text: bytes, name: bytes) -> int:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return int(float(line.split()[1]))


@click.command()
@click.option("--viewers", default=20, show_default=True, type=click.IntRange(1, 22), help="That read well.")
@click.option(
    "--seconds", default=20.0, show_default=True, type=click.FloatRange(min=1), help="Of each part."
)
def viewers(viewers: int, seconds: float) -> None:
    """Watch the live picture of a device with many viewers, one reading a byte a second and one nothing.

    Exit status 1 where the frame rate of the pipeline, held at 20 a second, is down by 10 % or more,
    /healthz takes 200 ms or longer, or a viewer that reads gets fewer than 9 pictures a second.
    """
    console = Console(highlight=False)
    with Progress("Watching"):
        result = measure_viewers(viewers, seconds)
    console.print(
        f"Frames a second: {result.alone:.2f} alone, {result.watched:.2f} watched by {result.viewers} and "
        f"two more that hardly read: {100 * result.lost:+.1f} % lost.\n"
        f"Processor: {100 * result.cores[0]:.0f} % of a core alone, {100 * result.cores[1]:.0f} % watched.\n"
        f"Pictures a second: {result.pictures:.1f} for whoever got the fewest; {result.alive} of "
        f"{result.viewers} viewers got them to the end; {result.cut_off} clients cut off.\n"
        f"/healthz: asked {result.healthz} times, {1000 * result.healthz_s:.0f} ms at the longest.",
        soft_wrap=True,
    )
    if result.alone < LEAST_ALONE:
        console.print(f"The machine is too busy to tell: alone there must be {LEAST_ALONE:g} or more.")
    if not result.passed:
        raise SystemExit(1)
