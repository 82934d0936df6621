"""A connection to an MQTT broker, from its beginning to its loss.

MQTT 5: only there does a broker say that it refuses a message; with 3.1.1 it acknowledges what it throws
away. A connection begins clean and takes nothing over from the one before: what was not acknowledged is kept
by whoever published it, and published again. Nothing is subscribed to: a broker that sends anything but
answers is left, so that no broker can make the device hold what it sends.
"""

import errno
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import POLLIN, POLLOUT, poll
from threading import Event
from time import monotonic
from typing import Any

from paho.mqtt import MQTTException
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config import MqttSettings, read_password
from edge.store import Message
from hematovision.errors import SettingError, reason_of
from hematovision.images import shown_path
from hematovision.regular_file import read_regular_file

#: Messages that may wait for their acknowledgement; a broker may ask for fewer.
WINDOW = 100

_PORT, _TLS_PORT = 1883, 8883
_KEEPALIVE_S = 20
_MAX_CA_BYTES = 16_000_000  # Debian's whole bundle has a quarter of a megabyte
# Answers have some tens of bytes, with their reasons in words some hundreds.
_MAX_PACKET_BYTES = 65_536
_ANSWERS = {PacketTypes.CONNACK, PacketTypes.PUBACK, PacketTypes.PINGRESP, PacketTypes.DISCONNECT}
# Beyond one for each message and one a second.
_SPARE_ANSWERS = 20
# What paho was seen to raise where a packet is damaged.
_DAMAGED = (
    MQTTException,
    struct.error,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
_TAKEN_OVER = 0x8E  # why MQTT 5 ends a connection: a client of the same name has come
# What to do where a broker refuses the connection with one of these codes of MQTT 5.
_ADVICE = {
    0x84: "it has to speak MQTT 5",
    0x86: "check mqtt.username and mqtt.password_file",
    0x87: "check mqtt.username and mqtt.password_file",
}


class Disconnected(Exception):  # noqa: N818 (the network's way, no mistake of anybody's)
    """There is no connection, or none any more; the text says why."""


@dataclass(frozen=True)
class Refused:
    """A message that the broker did not take; ``row``: its row of the outbox, if it has one."""

    topic: str
    row: int | None
    why: str


class _Client(mqtt.Client):
    """paho's client; it leaves a broker that sends other than answers.

    paho itself would take packets of up to 256 MB and keep messages that are never released, and ends in an
    exception where a packet is damaged. What it does with a packet is in methods that are its own, hence the
    upper bound on its version.
    """

    #: Why the broker was left.
    unwanted: str | None = None
    #: Answers that came.
    answers = 0

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > _MAX_PACKET_BYTES:  # the rest of a packet is asked for at once
            self.unwanted = f"the broker announces a packet of {bufsize:,} bytes; check the broker"
            raise OSError(errno.EMSGSIZE, "packet too large")
        return super()._sock_recv(bufsize)

    def _packet_handle(self) -> MQTTErrorCode:
        kind = self._in_packet["command"] >> 4
        if kind not in _ANSWERS:
            self.unwanted = (
                f"the broker sends what nobody asked for (packets of type {kind}); check the broker"
            )
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self.answers += 1
        try:
            return super()._packet_handle()
        except _DAMAGED as error:
            self.unwanted = f"the broker sends damaged packets ({type(error).__name__}); check the broker"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL


class Connection:
    """One connection; used by one thread. It lets the network work only while one of its methods runs.

    Args:
        settings: where the broker is and how to log in.
        name: what the broker knows this client by; two of one name throw each other out.
        will: published by the broker when the connection breaks.

    Raises:
        SettingError: the password or the certificates cannot be read.
    """

    def __init__(self, settings: MqttSettings, name: str, will: Message) -> None:
        self._client = _Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        if settings.username:
            secret = Path(settings.password_file)
            password = read_password(secret) if settings.password_file else None
            self._client.username_pw_set(settings.username, password)
        if settings.tls:
            self._client.tls_set_context(_tls_context(settings.ca_file))
        self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self._client.max_inflight_messages_set(WINDOW)  # paho would hold back all above 20
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._name = name
        self._host, self._port = settings.host, settings.port or (_TLS_PORT if settings.tls else _PORT)
        #: The broker, for messages to people.
        self.where = f"{self._host}:{self._port}"
        self._window = WINDOW
        self._accepted = False
        self._why: str | None = None
        self._in_flight: dict[int, tuple[int | None, str]] = {}
        self._taken: list[int] = []
        self._refused: list[Refused] = []
        self._heard_at = 0.0
        self._asked, self._opened_at = _SPARE_ANSWERS, monotonic()

    def open(self, limit_s: float, stopping: Event) -> None:
        """Connect and log in, each within so many seconds, unless it is to be stopped.

        Looking the host's name up and connecting cannot be stopped, and the former takes as long as the
        system is set to try.

        Raises:
            Disconnected: that did not work.
        """
        self._client.connect_timeout = limit_s
        self._opened_at = monotonic()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = _MAX_PACKET_BYTES
        properties.ReceiveMaximum = 1
        silent = f"no answer within {limit_s:g} s; check mqtt.host, mqtt.port and the network"
        try:
            self._client.connect(
                self._host, self._port, _KEEPALIVE_S, clean_start=True, properties=properties
            )
        except ssl.SSLCertVerificationError as error:
            why = (
                f"its certificate is not accepted ({error.verify_message}); check mqtt.host and mqtt.ca_file"
            )
            raise self._disconnected(why) from error
        except ssl.SSLError as error:
            why = f"no TLS ({error.reason}); check mqtt.port and mqtt.tls"
            raise self._disconnected(why) from error
        except TimeoutError as error:
            raise self._disconnected(silent) from error
        except OSError as error:
            why = f"{error.strerror or error}; check mqtt.host, mqtt.port and the network"
            raise self._disconnected(why) from error
        except UnicodeError as error:
            raise self._disconnected("no host can have this name; check mqtt.host") from error
        until = monotonic() + limit_s
        while not self._accepted and not stopping.is_set():
            if monotonic() > until:
                raise self._disconnected(silent)
            self.turn(0.25)

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        return max(0, self._window - len(self._in_flight))

    @property
    def silent_s(self) -> float:
        """For how long nothing was acknowledged that should be, in seconds."""
        return monotonic() - self._heard_at if self._in_flight else 0.0

    def publish(self, message: Message, row: int | None = None) -> None:
        """Publish a message, to be acknowledged.

        Args:
            message: goes out with quality of service 1.
            row: the row that it has in the outbox, which `taken` gives back.

        Raises:
            Disconnected: there is no connection any more.
        """
        if not self._in_flight:
            self._heard_at = monotonic()
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise self._lost(info.rc)
        self._asked += 1
        self._in_flight[info.mid] = row, message.topic

    def taken(self) -> list[int]:
        """The rows of messages acknowledged since it was asked last."""
        taken, self._taken = self._taken, []
        return taken

    def refused(self) -> list[Refused]:
        """Messages refused since it was asked last."""
        refused, self._refused = self._refused, []
        return refused

    def turn(self, limit_s: float) -> None:
        """Let the network work until something happens, or for so many seconds. Raises `Disconnected`."""
        sock: Any = self._client.socket()
        if sock is None:
            raise self._lost(mqtt.MQTT_ERR_NO_CONN)
        waiting = poll()
        waiting.register(sock, POLLIN | POLLOUT if self._client.want_write() else POLLIN)
        # What TLS has decrypted already no poll shows.
        decrypted = sock.pending() if isinstance(sock, ssl.SSLSocket) else 0
        waiting.poll(0 if decrypted else 1000 * limit_s)
        for step in (self._client.loop_read, self._client.loop_write, self._client.loop_misc):
            code = step()
            if code != mqtt.MQTT_ERR_SUCCESS or self._why is not None:
                raise self._lost(code)
        if self._client.answers > self._asked + monotonic() - self._opened_at:
            raise self._disconnected("the broker answers more than it was asked; check the broker")

    def close(self, farewell: Message, limit_s: float) -> None:
        """Say goodbye: the broker takes a last message, and does not publish the will.

        Where it does not do so in time, the connection is cut and the will says it.
        """
        try:
            self.publish(farewell)
            until = monotonic() + limit_s
            while self._in_flight and monotonic() < until:
                self.turn(0.1)
            if not self._in_flight:
                self._client.disconnect()
        except Disconnected:
            return  # the will says it
        finally:
            self.cut()

    def cut(self) -> None:
        """Close the socket, without a word."""
        sock = self._client.socket()
        if sock is not None:
            with suppress(OSError):
                sock.close()

    def _disconnected(self, why: str) -> Disconnected:
        self.cut()
        return Disconnected(f"{self.where}: {why}")

    def _lost(self, code: int) -> Disconnected:
        """What is to be raised now that paho gave this code."""
        why = self._client.unwanted or self._why
        if why is not None:
            return self._disconnected(why)
        if not self._accepted:
            return self._disconnected("it hangs up, or is no MQTT broker; check mqtt.port and mqtt.tls")
        if code == mqtt.MQTT_ERR_CONN_LOST:
            # mosquitto 2.0.11 (Debian Bookworm's) gives no reason when it throws a client out.
            hint = f"if again and again, another client has the name {self._name} too"
            return self._disconnected(f"the connection broke; {hint}")
        return self._disconnected(f"the connection broke ({mqtt.error_string(code)})")

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            advice = _ADVICE.get(reason.value, "look into its log")
            self._why = f"the broker refuses the connection ({reason}); {advice}"
            return
        self._window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._accepted = True

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if self._why is None and flags.is_disconnect_packet_from_server:
            taken = reason.value == _TAKEN_OVER
            why = f"another client has the name {self._name} too" if taken else str(reason)
            self._why = f"the broker ended the connection ({why})"

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._heard_at = monotonic()
        row, topic = self._in_flight.pop(mid)
        if reason.is_failure:
            self._refused.append(Refused(topic, row, str(reason)))
        elif row is not None:
            self._taken.append(row)


def _tls_context(ca_file: str) -> ssl.SSLContext:
    try:
        # A bundle's comments may be in any encoding, its certificates are ASCII. The line break, because an
        # empty text stands for the system's certificates.
        given = (
            read_regular_file(Path(ca_file), _MAX_CA_BYTES).decode("ascii", "ignore") + "\n"
            if ca_file
            else None
        )
        context = ssl.create_default_context(cadata=given)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else reason_of(error)
        raise SettingError(
            f"mqtt.ca_file: {shown_path(ca_file)} holds no certificates ({reason}); check the path"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if given:
        # Python 3.13 asks of an authority for extensions that openssl's defaults, and so mosquitto's manual,
        # leave out. Signatures, dates and the host's name are checked without them too.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
