"""A broker that is away, stopped, killed and cut off under load: what became of the cells' messages.

A real mosquitto on loopback; store, outbox and publisher are the device's. First cells are counted while
there is no broker; then it comes, and goes again and again at random moments while the outbox is emptied and
more cells are counted; now and then the publisher itself starts anew. A subscriber hears what comes through.
"""

import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.faults.mosquitto import Listener, Mosquitto, Relay
from benchmarks.faults.page import HERE
from edge.cameras import Camera, Frame, open_camera
from edge.config import MqttSettings, Settings, StoreSettings
from edge.device import Device, State
from edge.health import read_health
from edge.pipeline import LiveLine, SeenFrame
from edge.publish import Publisher, Times, cell_messages
from edge.store import Store
from edge.tracker import TrackedCell
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import Classifier, default_model_path
from hematovision.errors import HematoVisionError
from hematovision.model_file import read_model_file

#: What the process may grow by while the outbox is emptied, in MB: far less than 20,000 messages take.
MAX_GROWTH_MB = 16.0

#: As the device's own, but quicker to come back.
_TIMES = Times(pause_s=0.1, longest_pause_s=0.5, silence_s=1.0, differential_s=0.5, health_s=2.0)
_FAULTS = ("stopped", "killed", "cut", "hung", "restarted")
# Messages in the outbox that are no cell's, at most: a differential and a health.
_STATES = 2
# Cells counted beside what waits in the outbox already.
_CELLS_A_SECOND = 200
_LIMIT_S = 120.0
_CROP = np.full((16, 16, 3), 200, np.uint8)


@dataclass(frozen=True)
class BrokerTrial:
    """What came of it.

    ``cells``: counted; ``away``: of these, while there was no broker. ``states``: messages in the outbox then
    that were no cell's. ``faults``: how often each. ``missing``: cells of which no message came. ``twice``:
    messages that came again with the same id; ``altered``: cells of which two different messages came.
    ``growth_mb``: of the process's resident memory, in 10^6 bytes, until no cell's message was in the outbox
    any more, which took so many ``seconds``.
    """

    cells: int
    away: int
    states: int
    faults: dict[str, int]
    missing: int
    twice: int
    altered: int
    growth_mb: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing is missing, and memory stayed bounded."""
        return (
            not (self.missing or self.altered) and self.states <= _STATES and self.growth_mb <= MAX_GROWTH_MB
        )


class _Heard:
    """The cells' messages that came: number to what was said of it."""

    def __init__(self) -> None:
        self.twice = 0
        self.altered = 0
        self._first: dict[int, int] = {}

    def __call__(self, topic: str, payload: bytes, _retained: bool) -> None:
        if not topic.endswith("/cells"):
            return
        number, content = int(json.loads(payload)["number"]), hash(payload)
        if number not in self._first:
            self._first[number] = content
        elif self._first[number] == content:
            self.twice += 1
        else:
            self.altered += 1

    def missing(self, cells: int) -> int:
        """How many of the cells from 1 on did not come."""
        return sum(number not in self._first for number in range(1, cells + 1))


def measure_broker(
    messages: int, times: int, seed: int = 1, tell: Callable[[str], None] = lambda _: None
) -> BrokerTrial:
    """Count so many cells without a broker, then bring so many faults over it.

    Args:
        messages: cells that wait when the broker comes.
        times: faults, each at a random moment.
        seed: of the faults.
        tell: called with a line now and then.

    Raises:
        HematoVisionError: the broker does not start, or the outbox is not emptied in minutes.
    """
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        mosquitto = Mosquitto(folder)
        undo.callback(mosquitto.stop)
        heard = _Heard()
        listener, relay = Listener(mosquitto.port, ["hematovision/#"], heard), Relay(mosquitto.port)
        relay.shut()
        for helper in (listener, relay):
            helper.start()
            undo.callback(helper.end)
        counter = undo.enter_context(_Counter(folder, relay.port))
        tell(f"{messages} cells are counted without a broker")
        counter.count(messages)
        states = counter.waiting() - messages
        before_mb, most_mb, began = counter.memory_mb(), 0.0, monotonic()
        rng, faults = random.Random(seed), Counter[str]()
        mosquitto.start()
        listener.wait()
        relay.let()
        for _ in range(times):
            counter.count_for(rng.uniform(0.05, 0.6))
            fault = rng.choice(_FAULTS)
            faults[fault] += 1
            tell(f"{fault}, with {counter.waiting()} messages in the outbox")
            if fault == "restarted":
                counter.restart()
            else:
                _bring(fault, mosquitto, relay, listener, persistent=rng.random() < 0.5)
            most_mb = max(most_mb, counter.memory_mb())
        while counter.cells_waiting():
            sleep(0.1)
            most_mb = max(most_mb, counter.memory_mb())
            if monotonic() - began > _LIMIT_S + times:
                raise HematoVisionError(f"{counter.waiting()} messages were not taken in minutes")
        seconds = monotonic() - began
        sleep(0.5)  # for the last to arrive at the subscriber
        return BrokerTrial(
            cells=counter.cells,
            away=messages,
            states=states,
            faults=dict(faults),
            missing=heard.missing(counter.cells),
            twice=heard.twice,
            altered=heard.altered,
            growth_mb=most_mb - before_mb,
            seconds=seconds,
        )


def _bring(fault: str, mosquitto: Mosquitto, relay: Relay, listener: Listener, persistent: bool) -> None:
    """Bring a fault, and let it pass."""
    if fault == "cut":
        relay.cut()
    elif fault == "hung":
        relay.hang()
        sleep(1.5 * _TIMES.silence_s)
        relay.let()
    else:
        mosquitto.stop(kill=fault == "killed")
        # What a broker takes before the subscriber is back has nobody to go to.
        relay.shut()
        listener.wait_lost()
        mosquitto.start(persistent)
        listener.wait()
        relay.let()


class _Counter:
    """The device's store and publisher, given cells to count."""

    def __init__(self, folder: Path, port: int) -> None:
        self.cells = 0
        self._folder = folder
        mqtt = MqttSettings(host=HERE, port=port, name="trial")
        self._settings = Settings(store=StoreSettings(folder=str(folder)), mqtt=mqtt)
        self._undo = ExitStack()

    def __enter__(self) -> "_Counter":
        mqtt = self._settings.mqtt
        with ExitStack() as undo:
            self._store = undo.enter_context(Store(self._folder, messages=cell_messages(mqtt)))
            model = read_model_file(default_model_path())
            line = LiveLine(Classifier(model, threads=1))
            camera = undo.enter_context(open_camera("phantom:width=640,height=480", 0.1))
            device = Device(self._settings, model, self._store, line, "phantom", 0.1)
            device.enter(State.RUNNING)
            self._seen = replace(_first(line, camera), slide=line.start_slide() + 1)
            self._session = device.start_session("trial", "", None)
            self._device = device
            self._publisher = self._new_publisher()
            undo.callback(lambda: self._publisher.close())
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def restart(self) -> None:
        """End the publisher, and start another in its place, which knows only what is in the outbox."""
        self._publisher.close()
        self.wait_stored()  # as the store does when a process ends
        self._publisher = self._new_publisher()

    def _new_publisher(self) -> Publisher:
        return Publisher(self._settings.mqtt, self._device, self._store, _TIMES).__enter__()

    def count(self, cells: int) -> None:
        """Count so many cells as fast as the store takes them."""
        for _ in range(cells):
            self._count_one()
            if self.cells % 1000 == 0:
                self.wait_stored()
        self.wait_stored()

    def count_for(self, seconds: float) -> None:
        """Count cells for so long."""
        until = monotonic() + seconds
        while monotonic() < until:
            self._count_one()
            sleep(1 / _CELLS_A_SECOND)

    def wait_stored(self) -> None:
        """Wait until every cell is stored, its message with it."""
        if not self._store.flush(_LIMIT_S) or self._store.counts().not_stored:
            raise HematoVisionError(f"cells were not stored: {self._store.counts()}")

    def waiting(self) -> int:
        """How many messages are in the outbox."""
        self.wait_stored()
        with self._store.read() as reader:
            return reader.count_messages()

    def cells_waiting(self) -> bool:
        """Whether a cell's message is in the outbox; the newest state of the device may always be."""
        with self._store.read() as reader:
            return any(not message.latest_only for _, message in reader.messages(_STATES + 1))

    def memory_mb(self) -> float:
        """Resident memory of this process, in 10^6 bytes."""
        return read_health(self._folder).memory_used_mb or 0.0

    def _count_one(self) -> None:
        self.cells += 1
        self._device.saw(replace(self._seen, counted=(_cell(self.cells),)))


def _first(line: LiveLine, camera: Camera) -> SeenFrame:
    for frame in camera.frames():
        assert isinstance(frame, Frame)
        seen = line.see(frame)
        if isinstance(seen, SeenFrame):
            return seen
    raise AssertionError("the phantom has no end")


def _cell(number: int) -> TrackedCell:
    now = datetime.now(UTC)
    probabilities = [0.01] * len(CLASS_NAMES)
    probabilities[number % len(CLASS_NAMES)] = 0.97
    return TrackedCell(
        number=number,
        area=1,
        position_um=(10.0 * number, 0.0),
        class_name=CLASS_NAMES[number % len(CLASS_NAMES)],
        probabilities=tuple(probabilities),
        looks=3,
        focus=1.0,
        first_seen=now,
        confirmed_at=now,
        crop=_CROP,
    )


@click.command()
@click.option(
    "--messages", default=20_000, show_default=True, help="Cells whose messages wait when the broker comes."
)
@click.option("--times", default=20, show_default=True, help="Faults, each at a random moment.")
@click.option("--seed", default=1, show_default=True, help="Of the faults.")
def broker(messages: int, times: int, seed: int) -> None:
    """Stop, kill, cut off and hang a real broker (mosquitto) while messages are sent; restart the sender.

    Each cell's message has to arrive, and may come twice only with the same id; memory stays bounded.
    """
    console = Console(highlight=False)
    trial = measure_broker(messages, times, seed, lambda line: console.print(line, style="dim"))
    table = Table(title="Messages", show_header=False)
    faults = ", ".join(f"{count} {fault}" for fault, count in sorted(trial.faults.items()))
    for what, value in (
        ("cells counted", f"{trial.cells}, {trial.away} of them without a broker"),
        ("other messages in the outbox then", f"{trial.states}, at most {_STATES} wanted"),
        ("faults", faults or "none"),
        ("missing", f"{trial.missing}"),
        ("came again with the same id", f"{trial.twice}"),
        ("came with another id or content", f"{trial.altered}"),
        (
            "memory while the outbox was emptied",
            f"{trial.growth_mb:+.1f} MB, at most +{MAX_GROWTH_MB:g} wanted",
        ),
        ("emptied in", f"{trial.seconds:.1f} s"),
    ):
        table.add_row(what, value)
    console.print(table)
    if not trial.passed:
        raise SystemExit(1)
