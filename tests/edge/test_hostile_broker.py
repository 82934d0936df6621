"""A broker that sends what it likes costs neither memory nor the thread that publishes."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.broker import Connection, Disconnected
from edge.config import MqttSettings
from edge.store import Message

LIMIT_S = 30.0
ACCEPTED = b"\x20\x03\0\0\0"
MEGABYTE = bytes(1 << 20)
#: What both ends' kernels may hold of a stream that nobody reads, and much more.
HELD_BYTES = 48 << 20


class HostileBroker:
    """Takes the CONNECT of whoever comes, then sends a greeting and after it what there is, while it can."""

    def __init__(self, greeting: bytes, stream: Callable[[], Iterator[bytes]]) -> None:
        self.sent, self._greeting, self._stream = 0, greeting, stream
        self._ending = Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT_S)
        self.port = self._listener.getsockname()[1]
        self._thread = Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "HostileBroker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                client.settimeout(1.0)
                client.recv(4096)
                client.sendall(self._greeting)
                for piece in self._stream():
                    if self._ending.is_set():
                        return
                    client.sendall(piece)
                    self.sent += len(piece)
                while not self._ending.wait(0.02):
                    pass


def connection(port: int) -> Connection:
    settings = MqttSettings(host="127.0.0.1", port=port, name="bench")
    return Connection(settings, "bench", will=Message("topic", b"", retain=True))


def left_because(broker: HostileBroker) -> str:
    """Connect, publish, and let the network work until the broker is left; the reason."""
    with broker:
        one = connection(broker.port)
        with pytest.raises(Disconnected) as caught:
            one.open(5.0, Event())
            one.publish(Message("topic", b"a cell", retain=False))
            end = monotonic() + LIMIT_S
            while monotonic() < end:
                one.turn(0.1)
            one.cut()
        assert broker.sent < HELD_BYTES
    return str(caught.value)


def for_ever(packet: bytes) -> Callable[[], Iterator[bytes]]:
    def stream() -> Iterator[bytes]:
        while True:
            yield packet * max(1, 10_000 // len(packet))

    return stream


def released_never() -> Iterator[bytes]:
    """Messages of QoS 2, each of its own number, which a client keeps until they are released."""
    while True:
        for number in range(1, 65_536):
            yield b"\x34\x87\x08\0\1a" + number.to_bytes(2) + b"\0" + bytes(1025)


def packet_of(size: int) -> Callable[[], Iterator[bytes]]:
    def stream() -> Iterator[bytes]:
        length = b""
        left = size
        while left or not length:
            left, digit = divmod(left, 128)
            length += bytes([digit | (128 if left else 0)])
        yield b"\x30" + length
        for _ in range(size >> 20):
            yield MEGABYTE

    return stream


def endless_properties() -> Iterator[bytes]:
    """A CONNACK of 256 MB of user properties."""
    yield b"\x20\xff\xff\xff\x7f\0\0\xf5\xff\xff\x7f"
    while True:
        yield b"\x26\0\1a\0\1b" * 10_000


def test_a_packet_of_256_mb_is_not_read() -> None:
    assert "announces a packet of 268,435,455 bytes" in left_because(
        HostileBroker(ACCEPTED, packet_of(268_435_455))
    )


def test_a_connack_of_endless_properties_is_not_read() -> None:
    assert "announces a packet of" in left_because(HostileBroker(b"", endless_properties))


@pytest.mark.parametrize(
    "stream",
    [
        released_never,
        for_ever(b"\x30\x09\0\1a\0hello"),
        for_ever(b"\x32\x0b\0\1a\0\1\0hello"),
        for_ever(b"\x62\x02\0\1"),
        for_ever(b"\x50\x02\0\1"),
        for_ever(b"\xc0\0"),
        for_ever(b"\x90\x04\0\1\0\0"),
    ],
    ids=[
        "never released",
        "messages",
        "messages to acknowledge",
        "releases",
        "receipts",
        "pings",
        "subscribed",
    ],
)
def test_what_nobody_asked_for_ends_the_connection(stream: Callable[[], Iterator[bytes]]) -> None:
    assert "sends what nobody asked for" in left_because(HostileBroker(ACCEPTED, stream))


@pytest.mark.parametrize(
    "packet", [b"\xd0\0", b"\x40\x02\0\x63", ACCEPTED], ids=["ping", "puback", "connack"]
)
def test_more_answers_than_questions_end_the_connection(packet: bytes) -> None:
    assert "answers more than it was asked" in left_because(HostileBroker(ACCEPTED, for_ever(packet)))


def test_a_broker_that_would_take_no_message_is_left() -> None:
    assert "sends damaged packets" in left_because(HostileBroker(b"\x20\x06\0\0\3\x21\0\0", lambda: iter(())))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([0x20, 0x40, 0xE0, 0xD0, 0xF0, 0x41]),
    body=st.binary(max_size=40),
    early=st.booleans(),
)
def test_a_damaged_answer_ends_the_connection_or_is_passed_over(kind: int, body: bytes, early: bool) -> None:
    packet = bytes([kind, len(body)]) + body
    with HostileBroker(b"" if early else ACCEPTED, lambda: iter([packet, b"\x30\x04\0\1a\0"])) as broker:
        one = connection(broker.port)
        with pytest.raises(Disconnected):
            one.open(LIMIT_S, Event())
            while True:
                one.turn(LIMIT_S)
