"""Sends what the device counts to an MQTT broker, from an outbox that outlives both of them.

The outbox is a table of the store. A cell's message is written in one transaction with the cell; the
differential and the state of the machine are written here, each in the place of the last one that was not
sent. A row is read, published, and deleted once the broker has acknowledged it. So a broker that is away
costs nothing but delay, and only what was acknowledged just before a connection or the process broke may be
sent again, with the id that it had. Nothing is received: there is no command to give over MQTT.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from threading import Event
from time import monotonic

from edge.broker import Connection, Disconnected
from edge.config import MqttSettings, state_folder
from edge.device import Device, DeviceStatus, PublisherStatus, State
from edge.differential import classifier_error
from edge.health import Health, read_health
from edge.home_assistant import discovery
from edge.messages import OFFLINE, ONLINE, Topics, cell_messages, differential_message, health_message
from edge.outbox import Outbox
from edge.store import Message, Session, Store
from edge.threads import Closed, Handover, Worker
from hematovision import __version__
from hematovision.errors import SettingError, StoreError

__all__ = ["Publisher", "PublisherStatus", "Times", "cell_messages"]

# The longest that one turn of the network takes, hence that a stop goes unnoticed.
_TURN_S = 0.2
# How often the device is looked at for something new.
_LOOK_S = 1.0
# What the device says of them is of this kind.
_KIND = "messages"


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
    ``farewell_s`` of it for the last counts and a goodbye.
    """

    open_s: float = 5.0
    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    silence_s: float = 30.0
    store_pause_s: float = 2.0
    differential_s: float = 3.0
    health_s: float = 30.0
    stop_s: float = 1.0
    farewell_s: float = 0.5


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
        self._offline = Message(self._topics.status, OFFLINE, retain=True)
        self._outbox = Outbox(store)
        self._news = _News(self._topics, device, self._times)
        self._connected_at: float | None = None
        self._wrong: dict[str, str] = {}
        self._told: set[str] = set()
        self._ask_store_at = 0.0
        self._error: BaseException | None = None
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

    @property
    def error(self) -> BaseException | None:
        """What ended it early; None while it works, whether there is a broker or not."""
        return self._error

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
            self._error = error
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
        self._put_news(at_once=True)

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
                self._send(connection)
                connection.turn(_TURN_S)
                self._collect(connection)
            self._part(connection)
        finally:
            self._calling = False
            connection.cut()

    def _part(self, connection: Connection) -> None:
        """Send the last counts, where the outbox is short enough for that, and say goodbye."""
        until = monotonic() + self._times.farewell_s
        self._put_news(at_once=True)
        try:
            if self._store.flush(self._times.farewell_s / 2):
                self._outbox.read(inf)
        except StoreError as error:
            self._say("store", str(error))
        while self._outbox.under_way and monotonic() < until:
            self._send(connection)
            connection.turn(_TURN_S / 4)
            self._collect(connection)
        connection.close(self._offline, max(until - monotonic(), _TURN_S))
        self._outbox.acknowledged(connection.taken())
        self._outbox.drop(inf)

    def _send(self, connection: Connection) -> None:
        while connection.room and (row := self._outbox.next()):
            connection.publish(row.message, row.id)

    def _new_connection(self) -> Connection:
        return Connection(self._settings, f"hematovision-{self._topics.device}", will=self._offline)

    def _greet(self, connection: Connection) -> None:
        """The broker is there: tell it so, and begin with the oldest row."""
        self._outbox.begin()
        self._connected_at = monotonic()
        self._wrong.clear()
        self._told.clear()
        self._device.say(_KIND, f"Messages: connected to {connection.where}.")
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
                "discovery" if refused.row is None else "topic",
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
            self._outbox.drop(now)
            if self._connected_at is not None and self._outbox.read(now):
                self._wrong.pop("topic", None)
            self._outbox.count(now)
            self._put_news()
            self._wrong.pop("store", None)
        except StoreError as error:
            self._ask_store_at = now + self._times.store_pause_s
            self._say("store", str(error))

    def _put_news(self, at_once: bool = False) -> None:
        if news := self._news.due(monotonic(), at_once):
            self._store.put_messages(news)

    def _say(self, what: str, text: str) -> None:
        """Show that something is wrong; the device says it once, until there is a connection again."""
        self._wrong[what] = text
        if text not in self._told and not self._stopping.is_set():
            self._told.add(text)
            self._device.say(_KIND, f"Messages: {text}.")


class _News:
    """What is new about the device since it was last told."""

    def __init__(self, topics: Topics, device: Device, times: Times) -> None:
        self._topics = topics
        self._device = device
        self._times = times
        self._note = classifier_error(device.manifest.accuracy)
        self._session: Session | None = None
        self._looked_at = self._counted_at = self._health_at = -inf
        self._counted: object = None
        self._state: State | None = None

    def health(self) -> Health:
        """The machine's."""
        return read_health(state_folder(self._device.settings))

    def due(self, now: float, at_once: bool = False) -> list[Message]:
        """Messages for the outbox: the differential where it changed, the health from time to time.

        ``at_once``: what has changed does not wait until it may again.
        """
        if now < self._looked_at + _LOOK_S and not at_once:
            return []
        self._looked_at = now
        status = self._device.status()
        return [*self._differential(status, now, at_once), *self._health(status, now)]

    def _differential(self, status: DeviceStatus, now: float, at_once: bool) -> Sequence[Message]:
        self._session = status.session or self._session
        counted = self._session and self._session.id, status.session is None, status.differential
        too_early = now < self._counted_at + self._times.differential_s and not at_once
        if counted == self._counted or too_early:
            return []
        self._counted, self._counted_at = counted, now
        return [differential_message(self._topics, status, self._session, self._note)]

    def _health(self, status: DeviceStatus, now: float) -> Sequence[Message]:
        if status.state == self._state and now < self._health_at + self._times.health_s:
            return []
        self._state, self._health_at = status.state, now
        health = self.health()
        return [health_message(self._topics, status, health, __version__)]
