"""Publishing: nothing counted is lost to a broker, whatever that does, and what is wrong is said."""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, StrictUndefined

from benchmarks.faults.mosquitto import Listener, Mosquitto, Relay
from benchmarks.faults.page import HERE, free_port
from edge.config import MqttSettings, Settings, StoreSettings
from edge.device import Device, State
from edge.home_assistant import discovery
from edge.messages import Topics
from edge.pipeline import LiveLine
from edge.publish import Publisher, PublisherStatus, Times, cell_messages
from edge.store import Message, Store
from edge.tracker import TrackedCell
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import Classifier, default_model_path
from hematovision.errors import SettingError, StoreError
from hematovision.model_file import read_model_file

LIMIT_S = 20.0
SECRET = "correct horse battery"
#: Pauses are short; what is only a limit is not, for a machine that has much else to do.
QUICK = Times(
    open_s=1.0,
    pause_s=0.1,
    longest_pause_s=0.4,
    silence_s=1.0,
    store_pause_s=0.1,
    differential_s=0.2,
    stop_s=10.0,
    farewell_s=5.0,
)
NAME = "bench-7"


@pytest.fixture(scope="module")
def line() -> LiveLine:
    return LiveLine(Classifier(read_model_file(default_model_path()), threads=1))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    mosquitto = Mosquitto(folder)
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


class Heard:
    """What a subscriber got: (topic, payload, retained)."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []

    def __call__(self, topic: str, payload: bytes, retained: bool) -> None:
        self.messages.append((topic, payload, retained))

    def on(self, what: str) -> list[Any]:
        """The contents of what came on a topic of the device."""
        topic = f"hematovision/{NAME}/{what}"
        found = [payload for name, payload, _ in self.messages if name == topic]
        return found if what == "status" else [json.loads(payload) for payload in found]

    def cells(self) -> list[int]:
        """Numbers of the cells that came, in the order in which they did."""
        return [cell["number"] for cell in self.on("cells")]


@pytest.fixture
def heard(broker: Mosquitto) -> Iterator[Heard]:
    heard = Heard()
    listener = Listener(broker.port, ["#"], heard)
    listener.start()
    listener.wait()
    yield heard
    listener.end()


class Bench:
    """A device with its store, and a session that cells are counted into."""

    def __init__(self, folder: Path, line: LiveLine, mqtt: MqttSettings) -> None:
        self.settings = Settings(store=StoreSettings(folder=str(folder)), mqtt=mqtt)
        self.store = Store(folder, messages=cell_messages(mqtt))
        self.line = line
        self.cells = 0

    def __enter__(self) -> "Bench":
        self.store.__enter__()
        self.device = Device(self.settings, self.line.classifier.model, self.store, self.line, "camera", 0.1)
        self.device.enter(State.RUNNING)
        self.session = self.device.start_session("S-12", "N. N.", 100)
        return self

    def __exit__(self, *exception: object) -> None:
        self.store.__exit__(None, None, None)

    def publisher(self, times: Times = QUICK, **changes: Any) -> Publisher:
        return Publisher(replace(self.settings.mqtt, **changes), self.device, self.store, times)

    def count(self, cells: int) -> None:
        for _ in range(cells):
            self.cells += 1
            self.store.add_cell(self.session.id, cell(self.cells), "abc123")
        assert self.store.flush(LIMIT_S)

    def waiting(self) -> list[Message]:
        assert self.store.flush(LIMIT_S)
        with self.store.read() as reader:
            return [message for _, message in reader.messages(10_000)]

    def cells_waiting(self) -> int:
        return sum(message.topic.endswith("/cells") for message in self.waiting())

    def events(self) -> list[str]:
        assert self.store.flush(LIMIT_S)
        with self.store.read() as reader:
            return [event.text for event in reader.events(1000) if event.kind == "messages"]


def cell(number: int) -> TrackedCell:
    return TrackedCell(
        number=number,
        area=2,
        position_um=(12.3456, -7.0),
        class_name="monocyte",
        probabilities=(0.02, 0.01, 0.9, 0.07),
        looks=3,
        focus=0.5,
        first_seen=datetime(2026, 3, 1, 10, 0, 0, 250_000, tzinfo=UTC),
        confirmed_at=datetime(2026, 3, 1, 10, 0, 1, tzinfo=UTC),
        crop=np.full((8, 8, 3), 200, np.uint8),
    )


def mqtt(port: int, **more: Any) -> MqttSettings:
    return MqttSettings(host=HERE, port=port, name=NAME, **more)


def until(condition: Callable[[], object], what: str = "") -> None:
    end = monotonic() + LIMIT_S
    while not condition():
        assert monotonic() < end, what or "it did not come to that"
        sleep(0.02)


def error_of(publisher: Publisher) -> str:
    until(lambda: publisher.status().error, "nothing was said to be wrong")
    return publisher.status().error or ""


@pytest.fixture
def bench(tmp_path: Path, line: LiveLine, broker: Mosquitto) -> Iterator[Bench]:
    with Bench(tmp_path / "state", line, mqtt(broker.port)) as bench:
        yield bench


@pytest.fixture
def lonely(tmp_path: Path, line: LiveLine) -> Iterator[Bench]:
    """A device whose broker is not there."""
    with Bench(tmp_path / "state", line, mqtt(free_port())) as bench:
        yield bench


def test_without_a_broker_in_the_settings_nothing_is_kept_or_sent(tmp_path: Path, line: LiveLine) -> None:
    with Bench(tmp_path, line, MqttSettings()) as bench, bench.publisher() as publisher:
        bench.count(3)
        assert publisher.status() == PublisherStatus()
        assert bench.waiting() == []


@pytest.mark.mosquitto
def test_a_cell_is_published_as_it_was_classified(bench: Bench, heard: Heard) -> None:
    with bench.publisher():
        bench.count(1)
        until(lambda: heard.cells())
    assert heard.on("cells") == [
        {
            "id": f"{NAME}/1/1/2026-03-01T10:00:01.000+00:00",
            "session": 1,
            "number": 1,
            "first_seen": "2026-03-01T10:00:00.250+00:00",
            "confirmed_at": "2026-03-01T10:00:01.000+00:00",
            "label": "monocyte",
            "classified_as": "monocyte",
            "corrected": None,
            "probabilities": {"neutrophil": 0.02, "eosinophil": 0.01, "monocyte": 0.9, "lymphocyte": 0.07},
            "area": 2,
            "position_um": [12.35, -7.0],
            "looks": 3,
            "focus": 0.5,
            "model": "abc123",
        }
    ]


@pytest.mark.mosquitto
def test_what_the_broker_acknowledged_leaves_the_outbox(bench: Bench, heard: Heard) -> None:
    bench.count(1000)
    with bench.publisher() as publisher:
        until(lambda: publisher.status().sent >= 1000)
        until(lambda: not bench.cells_waiting())
        assert publisher.status().connected and publisher.status().error is None
    assert heard.cells() == list(range(1, 1001))  # each once, in the order of counting


def test_without_a_broker_every_cell_waits_and_of_each_state_the_last(lonely: Bench) -> None:
    with lonely.publisher() as publisher:
        for number in range(5):
            lonely.count(10)
            lonely.device.enter(State.RUNNING if number % 2 else State.STALLED)
            sleep(0.3)
        assert "Connection refused; check mqtt.host, mqtt.port" in error_of(publisher)
        assert not publisher.status().connected
        until(lambda: publisher.status().queued >= 50)
        topics = [message.topic.rpartition("/")[2] for message in lonely.waiting()]
    assert topics.count("cells") == 50
    assert topics.count("differential") == topics.count("health") == 1


def test_an_outage_is_one_event_however_often_the_broker_is_called(lonely: Bench) -> None:
    with lonely.publisher() as publisher:
        error_of(publisher)
        sleep(1.0)  # some calls more
    assert len(lonely.events()) == 1


@pytest.mark.mosquitto
def test_a_subscriber_that_comes_late_gets_the_last_states(bench: Bench, broker: Mosquitto) -> None:
    late = Heard()
    listener = Listener(broker.port, ["#"], late)
    with bench.publisher() as publisher:
        until(lambda: publisher.status().sent >= 2)
        listener.start()
        until(
            lambda: (
                {"status", "differential", "health"} <= {t.rpartition("/")[2] for t, _, _ in late.messages}
            )
        )
        assert all(retained for _, _, retained in late.messages)
        assert late.on("status") == [b"online"]
    until(lambda: late.on("status") == [b"online", b"offline"])
    listener.end()


@pytest.mark.mosquitto
def test_the_differential_says_what_its_limits_leave_out_and_not_who_counts(
    bench: Bench, heard: Heard
) -> None:
    with bench.publisher():
        until(lambda: heard.on("differential"))
        bench.device.stop_session()
        until(lambda: not heard.on("differential")[-1]["open"])
    message = heard.on("differential")[-1]
    assert message["sample"] == "S-12" and message["session"] == 1
    assert set(message["classes"]) == set(CLASS_NAMES)
    assert message["classes"]["monocyte"] == {"count": 0, "percent": None, "low": 0.0, "high": 100.0}
    assert "the classifier's own error comes on top" in message["note"]
    assert "N. N." not in str(heard.messages)


@pytest.mark.mosquitto
def test_the_end_of_a_session_at_the_end_of_the_run_still_goes_out(bench: Bench, heard: Heard) -> None:
    with bench.publisher():
        until(lambda: heard.on("differential") and heard.on("health"))
        bench.count(3)
        bench.device.finish("the run was stopped")
    until(lambda: heard.on("status")[-1] == b"offline")
    assert not heard.on("differential")[-1]["open"]
    assert heard.on("health")[-1]["state"] == "stopping"
    assert sorted(heard.cells()) == [1, 2, 3]
    assert bench.waiting() == []


def test_without_a_broker_the_end_of_a_session_waits_too(lonely: Bench) -> None:
    with lonely.publisher():
        sleep(0.2)
        lonely.device.finish("the run was stopped")
    last = [json.loads(message.payload) for message in lonely.waiting() if "differential" in message.topic]
    assert [message["open"] for message in last] == [False]


@pytest.mark.mosquitto
def test_another_state_of_the_camera_is_published_at_once(bench: Bench, heard: Heard) -> None:
    with bench.publisher():
        until(lambda: heard.on("health"))
        bench.device.enter(State.ABSENT, "no camera there")
        until(lambda: heard.on("health")[-1]["state"] == "absent")
    message = heard.on("health")[-1]
    assert message["reason"] == "no camera there"
    assert message["problems"] == ["The camera is absent: no camera there."]
    assert not message["camera_delivers"]


@pytest.mark.mosquitto
def test_a_device_that_dies_is_said_to_be_offline_by_its_broker(
    bench: Bench, broker: Mosquitto, heard: Heard
) -> None:
    relay = Relay(broker.port)
    relay.start()
    with bench.publisher(port=relay.port):
        until(lambda: heard.on("status") == [b"online"])
        relay.cut()
        until(lambda: heard.on("status")[:2] == [b"online", b"offline"])
        until(lambda: heard.on("status")[-1] == b"online")  # it is back
    relay.end()


@pytest.mark.mosquitto
def test_what_was_not_acknowledged_when_the_connection_broke_comes_again_with_its_id(
    bench: Bench, broker: Mosquitto, heard: Heard
) -> None:
    relay = Relay(broker.port)
    relay.start()
    bench.count(600)
    with bench.publisher(port=relay.port):
        for _ in range(8):
            sleep(0.15)
            relay.cut()
        until(lambda: not bench.cells_waiting())
        until(lambda: len(set(heard.cells())) == 600)
    relay.end()
    assert len({message["id"] for message in heard.on("cells")}) == 600


@pytest.mark.mosquitto
def test_a_network_that_goes_dead_without_a_word_is_noticed(
    bench: Bench, broker: Mosquitto, heard: Heard
) -> None:
    relay = Relay(broker.port)
    relay.start()
    with bench.publisher(port=relay.port) as publisher:
        until(lambda: publisher.status().connected)
        relay.hang()
        bench.count(5)
        assert "nothing acknowledged for 1 s" in error_of(publisher)
        relay.let()
        until(lambda: heard.cells()[:5] == [1, 2, 3, 4, 5])
        until(lambda: publisher.status().error is None)
    relay.end()


@pytest.mark.mosquitto
def test_cells_of_an_earlier_run_are_sent_first(
    tmp_path: Path, line: LiveLine, broker: Mosquitto, heard: Heard
) -> None:
    settings = mqtt(broker.port)
    with Bench(tmp_path / "state", line, settings) as bench:
        bench.count(5)
        bench.device.stop_session()
    with Bench(tmp_path / "state", line, settings) as bench, bench.publisher():
        bench.count(2)
        until(lambda: len(heard.cells()) == 7)
    assert [message["session"] for message in heard.on("cells")] == [1] * 5 + [2] * 2


# Brokers that do not let it in


@pytest.mark.mosquitto
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_it_logs_in_with_its_password(tmp_path: Path, line: LiveLine, tls: bool) -> None:
    with closing(Lab(tmp_path, tls)) as lab, Bench(tmp_path / "state", line, lab.settings()) as bench:
        bench.count(500)
        with bench.publisher() as publisher:
            until(lambda: publisher.status().sent >= 500)
        assert "connected" in bench.events()[0]


@pytest.mark.mosquitto
def test_an_authority_made_by_mosquittos_manual_is_enough_for_a_strict_python(
    tmp_path: Path, line: LiveLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default since Python 3.13; openssl's own defaults leave out what it asks for.
    lenient = ssl.create_default_context

    def strict(**arguments: Any) -> ssl.SSLContext:
        context = lenient(**arguments)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    with (
        closing(Lab(tmp_path, tls=True)) as lab,
        Bench(tmp_path / "state", line, lab.settings()) as bench,
        bench.publisher() as publisher,
    ):
        until(lambda: publisher.status().connected or publisher.status().error is not None)
        assert publisher.status().connected, publisher.status().error


@pytest.mark.mosquitto
def test_a_wrong_password_is_said_and_not_shown(tmp_path: Path, line: LiveLine) -> None:
    with closing(Lab(tmp_path)) as lab, Bench(tmp_path / "state", line, lab.settings()) as bench:
        lab.password.write_text("another secret\n")
        with bench.publisher() as publisher:
            error = error_of(publisher)
            assert "Not authorized" in error and "mqtt.password_file" in error
            lab.password.write_text(SECRET + "\n")  # read again with every call
            until(lambda: publisher.status().connected)
        assert "secret" not in " ".join(bench.events())


@pytest.mark.mosquitto
def test_a_certificate_of_an_unknown_authority_is_not_accepted(tmp_path: Path, line: LiveLine) -> None:
    with (
        closing(Lab(tmp_path, tls=True)) as lab,
        Bench(tmp_path / "s", line, lab.settings(ca_file="")) as bench,
    ):
        with bench.publisher() as publisher:
            assert "its certificate is not accepted (unable to get local issuer certificate)" in error_of(
                publisher
            )
            assert SECRET not in error_of(publisher)
        assert SECRET not in " ".join(bench.events())


@pytest.mark.mosquitto
def test_a_certificate_of_another_host_is_not_accepted(tmp_path: Path, line: LiveLine) -> None:
    with (
        closing(Lab(tmp_path, tls=True, name="DNS:elsewhere.example")) as lab,
        Bench(tmp_path / "state", line, lab.settings()) as bench,
        bench.publisher() as publisher,
    ):
        assert "IP address mismatch" in error_of(publisher)


@pytest.mark.mosquitto
def test_a_topic_that_the_broker_refuses_holds_up_no_other_and_loses_nothing(
    tmp_path: Path, line: LiveLine
) -> None:
    with closing(Lab(tmp_path)) as lab, Bench(tmp_path / "state", line, lab.settings()) as bench:
        lab.allow("hematovision/+/health", "hematovision/+/status")
        with bench.publisher() as publisher:
            bench.count(5)
            until(lambda: "refuses messages on hematovision/bench-7/" in (publisher.status().error or ""))
            until(lambda: publisher.status().sent)  # the health
            assert publisher.status().connected
            assert bench.cells_waiting() == 5
            lab.allow("hematovision/#", "homeassistant/#")
            until(lambda: not bench.cells_waiting())


@pytest.mark.mosquitto
def test_two_devices_of_one_name_are_told_so(bench: Bench, tmp_path: Path, line: LiveLine) -> None:
    with Bench(tmp_path / "other", line, bench.settings.mqtt) as other, bench.publisher() as first:
        until(lambda: first.status().connected)
        with other.publisher():
            assert f"another client has the name hematovision-{NAME} too" in error_of(first)


def test_a_name_that_no_server_knows_is_said(lonely: Bench) -> None:
    with lonely.publisher(host="no-such-host.invalid") as publisher:
        assert error_of(publisher).startswith("no-such-host.invalid:")


@pytest.mark.parametrize(
    ("answer", "tls", "said"),
    [
        (b"", False, "no answer within 1 s"),
        (b"", True, "no answer within 1 s"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "is no MQTT broker; check mqtt.port"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            True,
            "no TLS (WRONG_VERSION_NUMBER); check mqtt.port and mqtt.tls",
        ),
        (b"\x20\x02\x00\x01", False, "it has to speak MQTT 5"),
        # It takes the client, and throws it out for another of its name, as Debian Trixie's mosquitto says.
        (b"\x20\x03\0\0\0\xe0\1\x8e", False, f"another client has the name hematovision-{NAME} too"),
        (b"\x20\x03\0\0\0\xe0\1\x8b", False, "the broker ended the connection (Server shutting down)"),
    ],
    ids=[
        "silent",
        "silent to TLS",
        "a web server",
        "a web server without TLS",
        "a broker of MQTT 3.1.1",
        "a broker that has another client of this name",
        "a broker that ends",
    ],
)
def test_a_port_where_no_broker_or_none_for_it_answers_is_said(
    lonely: Bench, answer: bytes, tls: bool, said: str
) -> None:
    ended = Event()
    with socket.create_server((HERE, 0)) as server:

        def serve() -> None:
            server.settimeout(0.1)
            while not ended.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                client.sendall(answer)
                ended.wait(0.2 if answer else LIMIT_S)
                client.close()

        thread = Thread(target=serve)
        thread.start()
        try:
            with lonely.publisher(port=server.getsockname()[1], tls=tls) as publisher:
                assert said in error_of(publisher)
                assert not publisher.status().connected
        finally:
            ended.set()
            thread.join()


# Settings that cannot be


@pytest.mark.parametrize("mode", [0o644, 0o604])
def test_a_password_that_others_can_read_is_refused(lonely: Bench, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET)
    file.chmod(mode)
    with pytest.raises(SettingError, match="chmod") as refused:
        lonely.publisher(username="pi", password_file=str(file))
    assert SECRET not in str(refused.value)


def test_a_file_without_certificates_is_refused(lonely: Bench, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SettingError, match="holds no certificates"):
        lonely.publisher(tls=True, ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(SettingError, match="holds no certificates"):
        lonely.publisher(tls=True, ca_file=str(tmp_path / "not-there.pem"))


# The store, and the end


@pytest.mark.mosquitto
def test_an_outbox_that_cannot_be_read_is_waited_for(
    bench: Bench, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StoreError("the disk fails")

    with bench.publisher() as publisher:
        until(lambda: publisher.status().connected)
        with monkeypatch.context() as patched:
            patched.setattr(bench.store, "read", fail)
            assert error_of(publisher) == "the disk fails"
            assert publisher.status().connected
        bench.count(3)
        until(lambda: heard.cells() == [1, 2, 3])
        until(lambda: publisher.status().error is None)


def test_it_ends_while_a_broker_does_not_answer(lonely: Bench) -> None:
    with socket.create_server((HERE, 0)) as silent:
        with lonely.publisher(port=silent.getsockname()[1]):
            sleep(0.2)
        lonely.count(1)


def test_a_call_that_hangs_is_left_behind(lonely: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = Event()

    def hang(*_arguments: object, **_options: object) -> None:
        answered.wait(LIMIT_S)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "create_connection", hang)
    publisher = lonely.publisher(replace(QUICK, stop_s=0.3))
    with publisher:
        sleep(0.1)
    answered.set()
    sleep(0.2)
    assert not publisher.status().connected
    assert lonely.events() == []  # nothing came of it


def test_what_ends_it_early_is_shown_and_raised(lonely: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_o: 1 / 0)
    publisher = lonely.publisher()
    with pytest.raises(ZeroDivisionError), publisher:
        assert "sending has ended (ZeroDivisionError" in error_of(publisher)
        assert isinstance(publisher.error, ZeroDivisionError)
        assert "sending has ended" in lonely.events()[0]


# Home Assistant


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    message = discovery(Topics("hematovision", NAME), "model.tflite", "1.0", has_temperature=True)
    assert message.topic == f"homeassistant/device/hematovision_{NAME}/config"
    assert message.retain
    content: dict[str, Any] = json.loads(message.payload)
    return content


def test_home_assistant_is_told_of_a_device_with_its_origin(told: dict[str, Any]) -> None:
    assert told["device"]["identifiers"] == [f"hematovision_{NAME}"]
    assert told["device"]["name"] and told["origin"]["name"]
    assert told["availability_topic"] == f"hematovision/{NAME}/status"


def test_each_entity_is_one_of_a_kind_and_takes_no_command(told: dict[str, Any]) -> None:
    entities = told["components"].values()
    assert len({entity["unique_id"] for entity in entities}) == len(entities)
    assert {entity["platform"] for entity in entities} == {"sensor", "binary_sensor"}
    assert not any("command_topic" in entity for entity in entities)


def test_percentages_are_measurements_and_counts_only_rise(told: dict[str, Any]) -> None:
    for name in (*CLASS_NAMES, "unclassified"):
        percent, count = (told["components"][f"{name}_{kind}"] for kind in ("percent", "count"))
        assert (percent["unit_of_measurement"], percent["state_class"]) == ("%", "measurement")
        assert count["state_class"] == "total_increasing"
    temperature = told["components"]["temperature"]
    assert (temperature["device_class"], temperature["unit_of_measurement"]) == ("temperature", "°C")
    assert told["components"]["state"]["options"] == [state.value for state in State]


def test_a_temperature_that_is_not_measured_is_no_entity() -> None:
    message = discovery(Topics("hematovision", NAME), "model.tflite", "1.0", has_temperature=False)
    assert "temperature" not in json.loads(message.payload)["components"]


@pytest.mark.mosquitto
def test_every_entity_finds_its_value_in_what_is_published(
    bench: Bench, heard: Heard, told: dict[str, Any]
) -> None:
    with bench.publisher():
        until(lambda: heard.on("differential") and heard.on("health"))
    messages = {topic: payload for topic, payload, _ in heard.messages}
    templates = Environment(undefined=StrictUndefined, autoescape=True)
    for key, entity in told["components"].items():
        for field, topic in (
            ("value_template", "state_topic"),
            ("json_attributes_template", "json_attributes_topic"),
        ):
            if field in entity:
                content = json.loads(messages[entity[topic]])
                assert templates.from_string(entity[field]).render(value_json=content), key


@pytest.mark.mosquitto
def test_home_assistant_is_told_only_where_that_is_wanted(bench: Bench, heard: Heard) -> None:
    def told_topics() -> list[str]:
        return [topic for topic, _, _ in heard.messages if topic.startswith("homeassistant/")]

    with bench.publisher(discovery=False):
        until(lambda: heard.on("status"))
    assert told_topics() == []
    with bench.publisher():
        until(told_topics)


class Lab:
    """A broker that wants a password, and may want TLS, with certificates made for it."""

    def __init__(self, folder: Path, tls: bool = False, name: str = f"IP:{HERE}") -> None:
        self.folder = folder / "broker"
        self.folder.mkdir()
        self.password = folder / "password"
        self.password.write_text(SECRET + "\n")
        self.password.chmod(0o600)
        self._tls = tls
        users, topics = self.folder / "users", self.folder / "topics"
        _run("mosquitto_passwd", "-b", "-c", str(users), "pi", SECRET)
        extra = [f"password_file {users}", f"acl_file {topics}"]
        if tls:
            self._certify(name)
            extra += [f"certfile {self.folder}/broker.pem", f"keyfile {self.folder}/broker.key"]
        self._mosquitto = Mosquitto(self.folder, *extra)
        self.allow("#", reload=False)
        self._mosquitto.start()

    def settings(self, ca_file: str | None = None) -> MqttSettings:
        return mqtt(
            self._mosquitto.port,
            username="pi",
            password_file=str(self.password),
            tls=self._tls,
            ca_file=(str(self.folder / "ca.pem") if ca_file is None else ca_file) if self._tls else "",
        )

    def allow(self, *topics: str, reload: bool = True) -> None:
        """Let the device write on these topics, and on no others."""
        lines = ["user pi", *(f"topic readwrite {topic}" for topic in topics)]
        (self.folder / "topics").write_text("\n".join(lines) + "\n")
        if reload:
            self._mosquitto.read_again()

    def close(self) -> None:
        self._mosquitto.stop()

    def _certify(self, name: str) -> None:
        def path(file: str) -> str:
            return str(self.folder / file)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        _run(
            "openssl",
            "req",
            "-x509",
            *key,
            "-keyout",
            path("ca.key"),
            "-out",
            path("ca.pem"),
            "-subj",
            "/CN=Lab",
        )
        (self.folder / "names").write_text(f"subjectAltName={name}\n")
        _run(
            "openssl",
            "req",
            *key,
            "-keyout",
            path("broker.key"),
            "-out",
            path("broker.csr"),
            "-subj",
            "/CN=broker",
        )
        _run(
            *(
                "openssl",
                "x509",
                "-req",
                "-in",
                path("broker.csr"),
                "-CA",
                path("ca.pem"),
                "-CAkey",
                path("ca.key"),
            ),
            *("-CAcreateserial", "-extfile", path("names"), "-out", path("broker.pem")),
        )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    "packet", [b"\x20\x01\0", b"\x30\xff\xff\xff\x7f", b"\x34\x07\0\1a\0\1\0x", b"\xd0\0"]
)
def test_a_hostile_broker_ends_no_publishing_and_takes_no_cell(
    tmp_path: Path, line: LiveLine, packet: bytes
) -> None:
    accepted = b"\x20\x03\0\0\0"
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(LIMIT_S)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, suppress(OSError):
                        client.settimeout(LIMIT_S)
                        client.recv(4096)
                        client.sendall(accepted)
                        while True:
                            client.sendall(packet * 1000)

        Thread(target=serve, daemon=True).start()
        with Bench(tmp_path / "state", line, mqtt(listener.getsockname()[1])) as bench:
            with bench.publisher() as publisher:
                bench.count(3)
                assert "check the broker" in error_of(publisher)
                until(lambda: len(bench.events()) >= 2)  # it was tried again
                assert publisher.error is None
            assert bench.cells_waiting() == 3
        listener.shutdown(socket.SHUT_RDWR)
