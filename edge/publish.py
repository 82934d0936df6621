"""Sends what the device counts to an MQTT broker, from an outbox that outlives both of them.

The outbox is a table of the store. A cell's message is written in one transaction with the cell; the
differential and the state of the machine are written here, each in the place of the last one that was not
sent. A row is read, published, and deleted once the broker has acknowledged it. So a broker that is away
costs nothing but delay, and only what was acknowledged just before a connection or the process broke may be
sent again, with the id that it had. Nothing is received: there is no command to give over MQTT.
"""

import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from time import monotonic
from typing import NamedTuple

from edge.broker import Connection, Disconnected
from edge.config import MqttSettings, state_folder
from edge.device import Device, DeviceStatus, State
from edge.differential import classifier_error
from edge.health import Health, read_health
from edge.home_assistant import discovery
from edge.messages import OFFLINE, ONLINE, Topics, cell_messages, differential_message, health_message
from edge.store import Message, Session, Store
from edge.threads import Closed, Handover, Worker
from hematovision import __version__
from hematovision.errors import SettingError, StoreError

__all__ = ["Publisher", "PublisherStatus", "Times", "cell_messages"]

# Rows of the outbox held in memory at a time, and acknowledged rows deleted at a time.
_PAGE, _BATCH = 200, 100
# How often an empty outbox is looked into, its rows are counted, and rows are deleted that are few.
_POLL_S, _COUNT_S, _DROP_S = 0.5, 2.0, 0.2
# The longest that one turn of the network takes, hence that a stop goes unnoticed.
_TURN_S = 0.2
# How often the device is looked at for something new.
_LOOK_S = 1.0
# Kind of the events written here.
_EVENT = "messages"


@dataclass(frozen=True)
class Times:
    """Seconds that the publisher takes.

    ``open_s``: for the broker to accept a connection. ``pause_s``: after a failure; it doubles after each
    further one, up to ``longest_pause_s``, until a connection has lasted longer than that. Each pause is
    shortened by up to half at random, so that devices of a laboratory do not all come at once. The longest
    is also what a message waits for that the broker refused.
    ``silence_s``: for the first acknowledgement of what was published. ``store_pause_s``: before a store
    that failed is asked again. ``differential_s``: between two differentials at least. ``health_s``: between
    two messages about the machine, unless its state changes. ``stop_s``: for the thread to end,
    ``farewell_s`` of it for the broker to hear that.
    """

    open_s: float = 5.0
    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    silence_s: float = 30.0
    store_pause_s: float = 2.0
    differential_s: float = 3.0
    health_s: float = 30.0
    stop_s: float = 1.0
    farewell_s: float = 0.4


@dataclass(frozen=True)
class PublisherStatus:
    """How messages get on.

    ``error``: what is wrong, in a line, None where nothing is or messages are off. ``queued``: in the outbox
    when it was last counted. ``sent``: acknowledged since the process started.
    """

    connected: bool = False
    error: str | None = None
    queued: int = 0
    sent: int = 0


class Publisher:
    """Publishes from the store's outbox while it is entered; does nothing where the setting names no broker.

    It belongs to the daemon, and is left before the store is closed.

    Args:
        settings: where the broker is, and what topics begin with.
        device: what is told about.
        store: holds the outbox; made with `cell_messages`.
        times: for tests and trials.

    Raises:
        SettingError: the password or the certificates cannot be read.
    """

    def __init__(
        self, settings: MqttSettings, device: Device, store: Store, times: Times | None = None
    ) -> None:
        self._settings = settings
        self._device = device
        self._store = store
        self._times = times or Times()
        self._topics = Topics.of(settings)
        self._outbox = _Outbox(store)
        self._news = _News(self._topics, device, self._times)
        self._connected_at: float | None = None
        self._wrong: dict[str, str] = {}
        self._told: set[str] = set()
        self._ask_store_at = 0.0
        self._calling = False
        self._stopping = Event()
        self._done: Handover[None] = Handover()
        self._thread: Worker | None = None
        if settings.host:
            self._new_connection()

    def __enter__(self) -> "Publisher":
        if self._settings.host:
            self._thread = Worker("messages", self._work, self._done)
            self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def status(self) -> PublisherStatus:
        """How messages get on, from any thread."""
        return PublisherStatus(
            connected=self._connected_at is not None,
            error="; ".join(self._wrong.copy().values()) or None,
            queued=self._outbox.queued,
            sent=self._outbox.sent,
        )

    def close(self) -> None:
        """Say goodbye to the broker and end; what is in the outbox is sent after the next start.

        A call to a broker that does not answer is left to end by itself; nothing comes of it any more.

        Raises:
            StuckThreadError: the thread does not end.
            BaseException: what ended it early.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        self._done.close()
        thread.join(self._times.stop_s)
        if not (thread.is_alive() and self._calling):
            thread.finish(self._times.stop_s)
        with suppress(Closed):
            self._done.take()

    # All below runs on the thread.

    def _work(self) -> None:
        try:
            self._keep_publishing()
        except BaseException as error:
            self._say(
                "thread", f"sending has ended ({type(error).__name__}: {error}); start the device again"
            )
            raise
        finally:
            self._connected_at = None

    def _keep_publishing(self) -> None:
        pause = self._times.pause_s
        while not self._stopping.is_set():
            try:
                self._publish()
            except (Disconnected, SettingError) as error:
                connected_at, self._connected_at = self._connected_at, None
                self._say("broker", str(error))
                longest = self._times.longest_pause_s
                if connected_at is not None and monotonic() - connected_at > longest:
                    pause = self._times.pause_s
                self._wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, longest)

    def _publish(self) -> None:
        """Connect and publish until the publisher is stopped. Raises `Disconnected` and `SettingError`."""
        connection = self._new_connection()
        try:
            self._calling = True
            connection.open(self._times.open_s, self._stopping)
            self._calling = False
            if self._stopping.is_set():
                return
            self._greet(connection)
            while not self._stopping.is_set():
                self._ask_store()
                while connection.room and (row := self._outbox.next()):
                    connection.publish(row.message, row.id)
                connection.turn(_TURN_S)
                self._collect(connection)
            connection.close(Message(self._topics.status, OFFLINE, retain=True), self._times.farewell_s)
            self._outbox.acknowledged(connection.taken())
            self._ask_store()
        finally:
            self._calling = False
            connection.cut()

    def _new_connection(self) -> Connection:
        will = Message(self._topics.status, OFFLINE, retain=True)
        return Connection(self._settings, f"hematovision-{self._topics.device}", will)

    def _greet(self, connection: Connection) -> None:
        """The broker is there: tell it so, and begin with the oldest row."""
        self._outbox.begin()
        self._connected_at = monotonic()
        self._wrong.pop("broker", None)
        self._told.clear()
        self._store.add_event(_EVENT, f"connected to {connection.where}")
        if self._settings.discovery:
            has_temperature = self._news.health().temperature_c is not None
            model = self._device.model.path.name
            connection.publish(discovery(self._topics, model, __version__, has_temperature))
        connection.publish(Message(self._topics.status, ONLINE, retain=True))

    def _collect(self, connection: Connection) -> None:
        self._outbox.acknowledged(connection.taken())
        for refused in connection.refused():
            if refused.row is not None:
                self._outbox.refused(monotonic() + self._times.longest_pause_s)
            self._say(
                "topic",
                f"the broker refuses messages on {refused.topic} ({refused.why}); "
                "allow this device to write there",
            )
        if connection.silent_s > self._times.silence_s:
            raise Disconnected(
                f"{connection.where}: nothing acknowledged for {self._times.silence_s:g} s; check the broker"
            )

    def _wait(self, pause_s: float) -> None:
        """Let time pass without a broker, looking after the outbox."""
        until = monotonic() + pause_s
        self._ask_store()
        while (left := until - monotonic()) > 0 and not self._stopping.wait(min(left, _LOOK_S)):
            self._ask_store()

    def _ask_store(self) -> None:
        """All that is due with the store; one that fails is asked again after a pause."""
        now = monotonic()
        if now < self._ask_store_at:
            return
        try:
            self._outbox.drop(now, everything=self._stopping.is_set())
            if self._stopping.is_set():
                return
            if self._connected_at is not None:
                self._outbox.read(now)
            self._outbox.count(now)
            if news := self._news.due(now):
                self._store.put_messages(news)
            self._wrong.pop("store", None)
        except StoreError as error:
            self._ask_store_at = now + self._times.store_pause_s
            self._say("store", str(error))

    def _say(self, what: str, text: str) -> None:
        """Show that something is wrong; it is an event once, until there is a connection again."""
        self._wrong[what] = text
        if text not in self._told and not self._stopping.is_set():
            self._told.add(text)
            self._store.add_event(_EVENT, text)


class _Row(NamedTuple):
    id: int
    message: Message


class _Outbox:
    """What is in memory of the outbox: a page of it, and ids, however much waits there."""

    def __init__(self, store: Store) -> None:
        self.queued = 0
        self.sent = 0
        self._store = store
        self._page: deque[_Row] = deque()
        self._in_flight = 0
        self._acknowledged: list[int] = []
        self._read_to = 0
        self._read_again_at: float | None = None
        self._read_at = self._counted_at = self._dropped_at = float("-inf")

    def begin(self) -> None:
        """Begin again with the oldest row: a connection forgets what was not acknowledged on the last."""
        self._page.clear()
        self._in_flight = self._read_to = 0
        self._read_again_at = None
        self._read_at = float("-inf")

    def next(self) -> _Row | None:
        """The next row to be published; None where there is none in memory."""
        if not self._page:
            return None
        self._in_flight += 1
        return self._page.popleft()

    def acknowledged(self, rows: Sequence[int]) -> None:
        """These are the broker's now."""
        self._in_flight -= len(rows)
        self.sent += len(rows)
        self._acknowledged += rows

    def refused(self, read_again_at: float) -> None:
        """One was refused; it stays, and is read again at that time."""
        self._in_flight -= 1
        self._read_again_at = self._read_again_at or read_again_at

    def drop(self, now: float, everything: bool = False) -> None:
        """Delete what was acknowledged, not each row by itself unless ``everything`` has to go now."""
        due = everything or len(self._acknowledged) >= _BATCH or now >= self._dropped_at + _DROP_S
        if self._acknowledged and due:
            self._store.drop_messages(self._acknowledged)
            self._acknowledged = []
            self._dropped_at = now

    def read(self, now: float) -> None:
        """Read the next page where the last one is published."""
        if self._page or now < self._read_at + _POLL_S or len(self._acknowledged) >= _BATCH:
            return
        nothing_out = not self._in_flight and not self._acknowledged
        if not self._read_to and not nothing_out:
            return  # or rows that the broker has would be read again
        if self._read_again_at is not None and now >= self._read_again_at and nothing_out:
            self._read_to, self._read_again_at = 0, None
        with self._store.read() as reader:
            self._page.extend(_Row(*row) for row in reader.messages(_PAGE, after_id=self._read_to))
        if self._page:
            self._read_to = self._page[-1].id
        else:
            self._read_at = now

    def count(self, now: float) -> None:
        """Count the rows, where that was a while ago."""
        if now >= self._counted_at + _COUNT_S:
            with self._store.read() as reader:
                self.queued = reader.count_messages()
            self._counted_at = now


class _News:
    """What is new about the device since it was last told."""

    def __init__(self, topics: Topics, device: Device, times: Times) -> None:
        self._topics = topics
        self._device = device
        self._times = times
        self._note = classifier_error(device.manifest.accuracy)
        self._session: Session | None = None
        self._looked_at = self._counted_at = self._health_at = float("-inf")
        self._counted: object = None
        self._state: State | None = None

    def health(self) -> Health:
        """The machine's."""
        return read_health(state_folder(self._device.settings))

    def due(self, now: float) -> list[Message]:
        """Messages for the outbox: the differential where it changed, the health from time to time."""
        if now < self._looked_at + _LOOK_S:
            return []
        self._looked_at = now
        status = self._device.status()
        return [*self._differential(status, now), *self._health(status, now)]

    def _differential(self, status: DeviceStatus, now: float) -> Sequence[Message]:
        self._session = status.session or self._session
        counted = self._session and self._session.id, status.session is None, status.differential
        if counted == self._counted or now < self._counted_at + self._times.differential_s:
            return []
        self._counted, self._counted_at = counted, now
        return [differential_message(self._topics, status, self._session, self._note)]

    def _health(self, status: DeviceStatus, now: float) -> Sequence[Message]:
        if status.state == self._state and now < self._health_at + self._times.health_s:
            return []
        self._state, self._health_at = status.state, now
        health = self.health()
        return [health_message(self._topics, status, health, __version__)]
