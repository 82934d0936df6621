"""A real broker on loopback that can be stopped, killed and cut off, and a client that hears what it gets."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from threading import Event, Thread
from time import monotonic, sleep

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.faults.page import HERE, free_port
from hematovision.errors import HematoVisionError, MissingPartError

_START_LIMIT_S, _STOP_LIMIT_S = 10.0, 10.0
_TURN_S = 0.05


class Mosquitto:
    """Debian's broker, in a process of its own, on a free port of this machine.

    Args:
        folder: for its configuration, its log and what it keeps.
        extra: further lines of its configuration.

    Raises:
        MissingPartError: it is not installed.
    """

    def __init__(self, folder: Path, *extra: str) -> None:
        self._program = find_mosquitto()
        self._folder = folder
        self._extra = extra or ("allow_anonymous true",)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self, persistent: bool = False) -> None:
        """Start it and wait until it answers; ``persistent``: with what it had kept before.

        Raises:
            HematoVisionError: it does not answer.
        """
        lines = [
            f"listener {self.port} {HERE}",
            "user root",  # its own user could not read a folder of ours
            f"persistence {str(persistent).lower()}",
            f"persistence_location {self._folder}/",
            *self._extra,
        ]
        config = self._folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (self._folder / "mosquitto.log").open("ab") as log:
            command = [self._program, "-c", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
        until = monotonic() + _START_LIMIT_S
        while True:
            with suppress(OSError), socket.create_connection((HERE, self.port), timeout=1):
                return
            if monotonic() > until or self._process.poll() is not None:
                self.stop()
                raise HematoVisionError(f"mosquitto does not start; see {self._folder}/mosquitto.log")
            sleep(0.01)

    def read_again(self) -> None:
        """Have it read users and topics again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self, kill: bool = False) -> None:
        """End it as systemd does, or kill it; nothing where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        (process.kill if kill else process.terminate)()
        process.wait(_STOP_LIMIT_S)


class Relay(Thread):
    """A way to a broker that can be closed, cut and made to hang.

    A client connects to ``port``. While `shut`, every connection is ended as soon as it is made.
    """

    def __init__(self, to_port: int) -> None:
        super().__init__(name="relay", daemon=True)
        self._to_port = to_port
        self._listening = socket.create_server((HERE, 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._ended, self._shut, self._hung, self._cut = Event(), Event(), Event(), Event()
        self.port = int(self._listening.getsockname()[1])

    def shut(self) -> None:
        """Let nothing through any more."""
        self._shut.set()
        self.cut()

    def let(self) -> None:
        """Let everything through again."""
        self._hung.clear()
        self._shut.clear()

    def cut(self) -> None:
        """End all connections there are."""
        self._cut.set()
        self._hung.clear()

    def hang(self) -> None:
        """Let nothing through, and tell nobody."""
        self._hung.set()

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Pass on what comes; called by the thread itself."""
        while not self._ended.is_set():
            if self._cut.is_set():
                self._cut.clear()
                self._end_pairs()
            if self._hung.is_set():
                sleep(_TURN_S)
                continue
            ends = {one: other for pair in self._pairs for one, other in (pair, pair[::-1])}
            ready, _, _ = select([self._listening, *ends], [], [], _TURN_S)
            for one in ready:
                if one is self._listening:
                    self._accept()
                elif not _pass_on(one, ends[one]):
                    self._end_pairs()
                    break
        self._end_pairs()
        self._listening.close()

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        if self._shut.is_set():
            client.close()
            return
        try:
            self._pairs.append((client, socket.create_connection((HERE, self._to_port), timeout=1)))
        except OSError:
            client.close()

    def _end_pairs(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()
        self._pairs.clear()


class Listener(Thread):
    """Hears every message below some topics, and connects again whenever it has to.

    It subscribes with quality of service 0. A broker writes such a message to the subscriber's socket before
    it acknowledges it to the publisher: what it acknowledged arrives here, even if it is killed then.

    Args:
        port: of the broker.
        topics: filters.
        heard: called by this thread with topic, payload and whether it was retained.
    """

    def __init__(self, port: int, topics: list[str], heard: Callable[[str, bytes, bool], None]) -> None:
        super().__init__(name="listener", daemon=True)
        self._port = port
        self._topics = [(topic, 0) for topic in topics]
        self._ended, self._listening = Event(), Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topics)
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_message = lambda _client, _data, one: heard(one.topic, bytes(one.payload), one.retain)

    def wait(self, limit_s: float = _START_LIMIT_S) -> None:
        """Wait until it hears what is published from now on.

        Raises:
            HematoVisionError: it does not within the limit, in seconds.
        """
        if not self._listening.wait(limit_s):
            raise HematoVisionError("no subscription at the broker; see its log")

    def wait_lost(self, limit_s: float = _START_LIMIT_S) -> None:
        """Wait until it has heard all that a broker sent that is gone. Raises `HematoVisionError`."""
        until = monotonic() + limit_s
        while self._listening.is_set():
            if monotonic() > until:
                raise HematoVisionError("a subscriber did not notice that the broker was gone")
            sleep(_TURN_S)

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Listen; called by the thread itself."""
        while not self._ended.is_set():
            try:
                self._client.connect(HERE, self._port)
            except OSError:
                sleep(_TURN_S)
                continue
            while self._client.loop(_TURN_S) == mqtt.MQTT_ERR_SUCCESS and not self._ended.is_set():
                pass
            self._listening.clear()


def find_mosquitto() -> str:
    """Path of the program. Raises `MissingPartError` where it is not installed."""
    # Where it is on Debian, which is on root's path alone.
    program = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if program is None:
        raise MissingPartError("mosquitto is not installed (apt install mosquitto)")
    return program


def _pass_on(one: socket.socket, other: socket.socket) -> bool:
    try:
        data = one.recv(65_536)
        other.sendall(data)
    except OSError:
        return False
    return bool(data)
