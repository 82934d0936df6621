"""``/metrics`` and ``/healthz``: what other programs watch a device by is what it says elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from edge import health
from edge.device import State
from edge.health import Health
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from tests.edge.fed_device import FedDevice, fed_device


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[FedDevice]:
    with fed_device(tmp_path) as fed:
        yield fed


@pytest.fixture
def client(fed: FedDevice) -> Iterator[FlaskClient]:
    app = fed.app()
    yield app.test_client()
    app.extensions["hematovision"].live.close()


def metrics(client: FlaskClient) -> dict[tuple[str, str], float]:
    """Values by name and label."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.mimetype == "text/plain"
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_device_without_a_frame_yet_is_not_healthy(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.get_json()["healthy"] is False
    assert "no frame" in answer.get_json()["problems"][0]
    assert metrics(client)["hematovision_healthy", ""] == 0
    assert ("hematovision_frame_age_seconds", "") not in metrics(client)  # none, rather than a guess


def test_a_device_that_does_its_work_is_healthy(client: FlaskClient, fed: FedDevice) -> None:
    fed.feed(1)
    assert client.get("/healthz").status_code == 200
    assert metrics(client)["hematovision_healthy", ""] == 1


def test_old_frames_are_not_healthy(
    client: FlaskClient, fed: FedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed.feed(1)
    monkeypatch.setattr(health, "OLD_FRAME_S", -1.0)
    assert client.get("/healthz").status_code == 503


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_only_a_running_camera_is_healthy(client: FlaskClient, fed: FedDevice, state: State) -> None:
    fed.feed(1)
    fed.device.enter(state, "for a reason")
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert "for a reason" in answer.get_json()["problems"][0]
    found = metrics(client)
    assert [name for (metric, name), value in found.items() if metric.endswith("camera_state") and value] == [
        str(state)
    ]


def test_metrics_say_what_the_status_says(client: FlaskClient, fed: FedDevice) -> None:
    fed.device.start_session("a", "b", None)
    fed.feed(3)
    found, status = metrics(client), client.get("/api/v1/status").get_json()
    assert found["hematovision_frames_total", ""] == status["frames"] == 3
    assert found["hematovision_cells_stored_total", ""] == status["store"]["stored"] > 0
    assert found["hematovision_session_open", ""] == 1
    counted = {one["name"]: one["count"] for one in status["differential"]["classes"]}
    counted[UNCLASSIFIED] = status["differential"]["unclassified"]["count"]
    assert {
        name: found["hematovision_session_cells", name] for name in (*CLASS_NAMES, UNCLASSIFIED)
    } == counted


def test_names_and_units_are_as_prometheus_wants_them(
    client: FlaskClient, fed: FedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed.feed(1)
    sensors = Health(50.5, ("throttled now",), 1500.0, True, 2000.0, 300.0, 4000.0, 0.5)
    monkeypatch.setattr("edge.web.metrics.read_health", lambda _: sensors)
    found = metrics(client)
    for name, value in (
        ("processor_temperature_celsius", 50.5),
        ("processor_frequency_hertz", 1.5e9),
        ("store_free_bytes", 2e9),
        ("memory_available_bytes", 4e9),
    ):
        assert found[f"hematovision_{name}", ""] == value
    assert found["hematovision_throttled", "throttled now"] == 1
    assert found["hematovision_throttled", "undervoltage now"] == 0  # rather than none
    assert found["process_resident_memory_bytes", ""] > 1e7
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert all(family.documentation for family in families.values())
    assert all(name.startswith(("hematovision_", "process_")) for name in families)
    assert not [name for name in families if re.search(r"mega|kilo|milli|percent|minute|_total$", name)]


def test_a_sensor_that_the_machine_lacks_has_no_sample(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = Health(None, None, None, None, None, None, None, None)
    monkeypatch.setattr("edge.web.metrics.read_health", lambda _: none)
    names = {name for name, _ in metrics(client)}
    assert not names & {
        f"hematovision_{name}"
        for name in ("processor_temperature_celsius", "throttled", "store_free_bytes", "time_synchronised")
    }
