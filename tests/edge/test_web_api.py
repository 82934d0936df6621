"""The API: it answers what its description says, and nothing that it does not say."""

import csv
import io
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from http.client import HTTPConnection
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from edge.device import PublisherStatus
from edge.store import FILE_NAME
from edge.store.housekeeping import Housekeeper
from edge.web import create_app
from edge.web.openapi import description
from edge.web.server import PageServer
from hematovision.errors import StoreError
from hematovision.images import decode_image
from tests.edge.fed_device import FedDevice, fed_device

DOCUMENT = description("hematovision")
JSON = {"Content-Type": "application/json"}


class Client:
    """Asks a running server, and holds every answer against the description."""

    def __init__(self, app: Flask, fed: FedDevice, address: str) -> None:
        self.fed = fed
        self.seen: set[tuple[str, str, int]] = set()
        self._rules = app.url_map.bind("localhost")
        self._port = int(address.rstrip("/").rpartition(":")[2])

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: bool = True,
    ) -> tuple[int, Any]:
        """Status, and the JSON or bytes of the answer."""
        headers = headers or {}
        if isinstance(body, dict):
            body, headers = json.dumps(body), JSON | headers
        if token:
            headers = headers | {"Authorization": f"Bearer {self.fed.token}"}
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        kind = (answer.getheader("Content-Type") or "").split(";")[0]
        data = b"" if kind == "multipart/x-mixed-replace" else answer.read()
        connection.close()
        rule, _ = self._rules.match(path.partition("?")[0], method, return_rule=True)
        template = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        operation = DOCUMENT["paths"][template][method.lower()]
        assert str(answer.status) in operation["responses"], (method, template, answer.status, data)
        self.seen.add((method, template, answer.status))
        content = operation["responses"][str(answer.status)].get("content", {})
        assert kind in {one.split(";")[0] for one in content} or (not content and not data)
        if kind != "application/json":
            return answer.status, data
        found = json.loads(data)
        if schema := content[kind].get("schema"):
            Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(found)
        return answer.status, found


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with fed_device(tmp_path_factory.mktemp("state")) as fed:
        app = create_app(fed.device, fed.store, fed.device.settings)
        with PageServer(app, fed.device.settings.web, any_port=True) as server:
            fed.device.start_session("Blood of A", "Ada", 100)
            fed.feed(4)
            fed.device.stop_session()
            fed.device.start_session("=B", "", None)
            fed.feed(2)
            yield Client(app, fed, server.address)


def form(**fields: bytes | str) -> tuple[bytes, dict[str, str]]:
    """A form with a file, as a browser sends it."""
    parts = []
    for name, value in fields.items():
        is_file = isinstance(value, bytes)
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="../../x"' if is_file else "")
        data = value if isinstance(value, bytes) else value.encode()
        parts.append(b"--limit\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + b"--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}


def field_jpeg(client: Client) -> bytes:
    found = client.fed.device.wait_frame(-1, 5)
    assert found is not None
    _, data = cv2.imencode(".png", cv2.cvtColor(found[1].frame.image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def test_the_description_keeps_to_its_standard() -> None:
    validate(DOCUMENT)


def test_every_route_is_described_and_every_description_has_its_route(client: Client) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client._rules.map.iter_rules()
        if rule.endpoint.partition(".")[0] in ("api", "live", "metrics")
        for method in rule.methods or ()
        if method != "HEAD"
    }
    described = {
        (path, method)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert routes == described


def test_every_question_is_answered_as_described(client: Client) -> None:
    _, sessions = client.ask("GET", "/api/v1/sessions")
    second, first = (one["id"] for one in sessions["sessions"])
    assert [one["sample"] for one in sessions["sessions"]] == ["=B", "Blood of A"]
    for path in ("openapi.json", "status", "health", "model", "settings", "events?limit=3", "cells"):
        assert client.ask("GET", f"/api/v1/{path}")[0] == 200
    _, cells = client.ask("GET", f"/api/v1/cells?session_id={first}&limit=2")
    cell = cells["cells"][0]["id"]
    for path in (
        f"sessions/{first}",
        f"sessions/{first}/differential",
        f"sessions/{first}/export?format=json",
        f"sessions/compare?id={first}&id={second}",
        f"cells/{cell}",
        f"cells/{cell}/crop.jpg",
    ):
        assert client.ask("GET", f"/api/v1/{path}")[0] == 200
    for path in ("/live.jpg", "/live.mjpg", "/metrics", "/healthz"):
        assert client.ask("GET", path)[0] == 200


def test_how_messages_get_on_is_told_where_they_are_sent(client: Client) -> None:
    assert client.ask("GET", "/api/v1/status")[1]["messages"] is None
    told = PublisherStatus(connected=False, error="refused", queued=3, sent=1)
    client.fed.device.reports_messages(lambda: told)
    assert client.ask("GET", "/api/v1/status")[1]["messages"] == asdict(told)
    assert b"hematovision_messages_queued 3.0" in client.ask("GET", "/metrics")[1]


def test_a_session_is_judged_by_what_was_measured_of_its_own_model(client: Client) -> None:
    _, both = client.ask("GET", "/api/v1/sessions/1/differential")
    assert "Measured: " in both["as_classified"]["classifier_error"]
    assert "accuracy" not in client.ask("GET", "/api/v1/sessions/1")[1]["settings"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("events?limit=0", 400),
        ("events?limit=501", 400),
        ("events?before_id=x", 400),
        ("sessions?limit=nan", 400),
        ("cells?class=basophil", 400),
        ("cells?min_probability=2", 400),
        ("cells?corrected=maybe", 400),
        ("sessions/compare?id=1", 400),
        ("sessions/compare?id=1&id=1", 400),
        ("sessions/compare?id=1&id=x", 400),
        ("sessions/compare?id=1&id=99999999999999999999", 400),
        ("sessions/compare?id=1&id=99", 404),
        ("sessions/99", 404),
        ("sessions/99/differential", 404),
        ("sessions/99/export?format=csv", 404),
        ("sessions/1/export?format=exe", 400),
        ("cells/999999", 404),
        ("cells/9007199254740992", 404),
        ("cells/999999/crop.jpg", 404),
        ("classified/none.jpg", 404),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_in_one_line(
    client: Client, path: str, status: int
) -> None:
    got, found = client.ask("GET", f"/api/v1/{path}")
    assert got == status
    assert "\n" not in found["error"]
    assert found["error"]


def test_a_number_beyond_all_ids_and_another_method_are_no_failures(client: Client) -> None:
    web = client._rules.map
    assert web is not None
    connection = HTTPConnection("127.0.0.1", client._port)
    for method, path, status in (
        ("GET", "/api/v1/cells/99999999999999999999999999", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/status", 405),
        ("OPTIONS", "/api/v1/status", 405),
    ):
        connection.request(method, path, headers={"Authorization": f"Bearer {client.fed.token}"})
        answer = connection.getresponse()
        assert answer.status == status
        assert set(json.loads(answer.read())) == {"error"}


def test_a_store_that_fails_is_told_and_the_rest_still_answers(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("hematovision.db: the disk is full")

    monkeypatch.setattr(client.fed.store, "read", fail)
    monkeypatch.setattr(client.fed.store, "correct", fail)
    for method, path in (("GET", "cells"), ("GET", "sessions/1"), ("POST", "cells/1/correction")):
        status, found = client.ask(
            method, f"/api/v1/{path}", {"class": "monocyte"} if method == "POST" else None
        )
        assert (status, found["error"]) == (503, "hematovision.db: the disk is full")
    assert client.ask("GET", "/api/v1/status")[0] == 200
    assert client.ask("GET", "/metrics")[0] == 200


def test_a_failure_of_our_own_shows_no_traceback(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(client.fed.store, "correct", fail)
    status, found = client.ask("POST", "/api/v1/cells/1/correction", {"class": "monocyte"})
    assert status == 500
    assert "secret" not in found["error"]
    assert client.ask("GET", "/api/v1/status")[0] == 200


def test_sessions_are_started_stopped_and_deleted(client: Client) -> None:
    status, session = client.ask("POST", "/api/v1/sessions", {"sample": "C", "operator": "Bo", "target": 200})
    assert (status, session["sample"], session["operator"], session["target"]) == (201, "C", "Bo", 200)
    number = session["id"]
    assert client.ask("GET", "/api/v1/status")[1]["session"]["id"] == number
    assert client.ask("DELETE", f"/api/v1/sessions/{number}")[0] == 409
    status, stopped = client.ask("POST", f"/api/v1/sessions/{number}/stop")
    assert (status, stopped["ended_because"]) == (200, "stopped by API")
    assert client.ask("POST", f"/api/v1/sessions/{number}/stop")[0] == 409
    assert client.ask("DELETE", f"/api/v1/sessions/{number}")[0] == 204
    assert client.ask("DELETE", f"/api/v1/sessions/{number}")[0] == 404
    assert client.ask("POST", f"/api/v1/sessions/{number}/stop")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"target": 150},
        {"target": True},
        {"target": 100.0},
        {"sample": 5},
        {"sample": "a\nb"},
        {"sample": "a" * 201},
        {"samples": "a"},
        "[]",
        "{",
        "[" * 5000,
        '{"sample": "\\ud800"}',
        "",
    ],
)
def test_a_session_that_cannot_be_meant_is_refused(client: Client, body: Any) -> None:
    before = client.fed.device.status().session
    assert client.ask("POST", "/api/v1/sessions", body, JSON)[0] == 400
    assert client.fed.device.status().session == before


def test_a_correction_keeps_who_when_and_what_was_before(client: Client) -> None:
    cell = client.ask("GET", "/api/v1/cells?limit=1")[1]["cells"][0]
    path = f"/api/v1/cells/{cell['id']}"
    status, correction = client.ask("POST", f"{path}/correction", {"class": "monocyte", "who": "Ada"})
    assert status == 200
    assert (correction["before"], correction["after"], correction["who"]) == (
        cell["label"],
        "monocyte",
        "Ada",
    )
    client.ask("POST", f"{path}/correction", {"class": "unclassified"})
    _, found = client.ask("GET", path)
    assert (found["label"], found["classified_as"]) == ("unclassified", cell["classified_as"])
    assert [one["who"] for one in found["corrections"]] == ["Ada", "API"]
    _, both = client.ask("GET", f"/api/v1/sessions/{cell['session_id']}/differential")
    assert both["as_corrected"]["unclassified"]["count"] == both["as_classified"]["unclassified"]["count"] + 1
    _, only = client.ask("GET", "/api/v1/cells?corrected=true&class=unclassified")
    assert [one["id"] for one in only["cells"]] == [cell["id"]]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("cells/1/correction", {"class": "basophil"}, JSON, 400),
        ("cells/1/correction", {"class": ["monocyte"]}, JSON, 400),
        ("cells/1/correction", {"class": "monocyte", "who": ""}, JSON, 400),
        ("cells/1/correction", {"class": "monocyte", "who": "a\tb"}, JSON, 400),
        ("cells/999999/correction", {"class": "monocyte"}, JSON, 404),
        ("cells/1/correction", "class=monocyte", {"Content-Type": "text/plain"}, 415),
        ("cells/1/correction", "x" * 70_000, JSON, 413),
        ("sessions", "sample=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("classify", "{}", JSON, 415),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(
    client: Client, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    assert client.ask("POST", f"/api/v1/{path}", body, headers)[0] == status


def test_cells_come_a_page_at_a_time(client: Client) -> None:
    after, seen = 0, []
    while page := client.ask("GET", f"/api/v1/cells?limit=3&after_id={after}")[1]["cells"]:
        seen += [one["id"] for one in page]
        after = seen[-1]
    assert seen == sorted(set(seen))
    with client.fed.store.read() as reader:
        assert len(seen) == reader.count_cells()


def test_exports_hold_every_cell(client: Client) -> None:
    _, table = client.ask("GET", "/api/v1/sessions/1/export?format=csv")
    _, whole = client.ask("GET", "/api/v1/sessions/1/export?format=json")
    _, packed = client.ask("GET", "/api/v1/sessions/1/export?format=crops")
    with client.fed.store.read() as reader:
        count = reader.count_cells(1)
        unclassified = reader.differential(1)[1].unclassified
    assert len(list(csv.DictReader(io.StringIO(table.decode())))) == len(whole["cells"]) == count
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == count - unclassified
        assert decode_image(archive.read(archive.namelist()[0]), "crop").shape == (128, 128, 3)


def test_a_download_that_lacks_something_is_no_export_of_its_corrections(client: Client) -> None:
    fed = client.fed
    with fed.store.read() as reader:
        [cell] = reader.cells(1, limit=1)
    fed.store.correct(cell.id, "monocyte", "Ada")
    with closing(sqlite3.connect(fed.store.folder / FILE_NAME, isolation_level=None)) as connection:
        before = connection.execute("SELECT saved_correction FROM sessions WHERE id = 1").fetchone()
        connection.execute("UPDATE crops SET jpeg = x'00' WHERE cell_id = ?", (cell.id,))
    _, packed = client.ask("GET", "/api/v1/sessions/1/export?format=crops")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist()[-1].endswith("unreadable.txt")
    with closing(sqlite3.connect(fed.store.folder / FILE_NAME)) as connection:
        saved = connection.execute("SELECT saved_correction FROM sessions WHERE id = 1").fetchone()
        [newest] = connection.execute("SELECT max(id) FROM corrections").fetchone()
    assert saved == before
    assert saved[0] < newest


def test_a_whole_download_is_an_export_of_its_corrections(client: Client) -> None:
    fed, path = client.fed, "/api/v1/sessions/1/export?format=csv"
    with fed.store.read() as reader:
        [cell] = reader.cells(1, limit=1)
    fed.store.correct(cell.id, "monocyte", "Ada")

    def is_kept() -> bool:
        with closing(sqlite3.connect(fed.store.folder / FILE_NAME)) as connection:
            return 1 not in Housekeeper(fed.store.folder, 1, 0, keep_sessions=0).may_go(connection)

    app = fed.app()
    cut_off = app.test_client().get(path)
    next(cut_off.iter_encoded())
    cut_off.close()
    app.extensions["hematovision"].live.close()
    assert is_kept()
    client.ask("GET", path)
    assert not is_kept()


def test_two_downloads_at_a_time_leave_the_server_to_others(client: Client) -> None:
    app = client.fed.app()
    asker = app.test_client()
    path = "/api/v1/sessions/1/export?format=csv"
    first, second, third = (asker.get(path) for _ in range(3))  # of each, only the head is taken
    assert [one.status_code for one in (first, second, third)] == [200, 200, 503]
    first.close()
    assert asker.get(path).status_code == 200
    app.extensions["hematovision"].live.close()


def test_a_picture_is_classified_and_comes_back_with_its_cells_boxed(client: Client) -> None:
    shown = client.fed.device.wait_frame(-1, 5)
    assert shown is not None
    status, found = client.ask(
        "POST", "/api/v1/classify", *form(image=field_jpeg(client), um_per_pixel="0.1")
    )
    assert status == 200
    assert len(found["cells"]) == len(shown[1].cells) > 0
    assert (found["um_per_pixel"], found["um_per_pixel_measured"]) == (0.1, False)
    _, picture = client.ask("GET", found["picture"])
    assert decode_image(picture, "picture").shape == (720, 960, 3)


def test_without_a_scale_it_is_measured_or_the_reason_is_told(client: Client) -> None:
    status, found = client.ask("POST", "/api/v1/classify", *form(image=field_jpeg(client), um_per_pixel=""))
    assert (status, found["um_per_pixel_measured"]) == (200, True)
    assert found["um_per_pixel"] == pytest.approx(0.1, rel=0.1)
    noise = np.random.default_rng(1).integers(180, 220, (64, 64, 3), np.uint8)
    _, small = cv2.imencode(".png", noise)
    status, found = client.ask("POST", "/api/v1/classify", *form(image=small.tobytes()))
    assert status == 422
    assert "red cells" in found["error"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"image": b""}, 422),
        ({"image": b"no picture"}, 422),
        ({"kind": "field"}, 400),
        ({"image": b"x", "kind": "slide"}, 400),
        ({"image": b"x", "um_per_pixel": "wide"}, 400),
        ({"image": b"x", "um_per_pixel": "nan"}, 400),
        ({"image": b"x", "um_per_pixel": "1e9"}, 400),
        ({"image": b"x" * 20_200_000}, 413),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused(
    client: Client, fields: dict[str, bytes | str], status: int
) -> None:
    assert client.ask("POST", "/api/v1/classify", *form(**fields))[0] == status


def test_nothing_is_changed_without_the_token(client: Client) -> None:
    for method, path in (
        ("POST", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions/1/stop"),
        ("DELETE", "/api/v1/sessions/1"),
        ("POST", "/api/v1/cells/1/correction"),
        ("POST", "/api/v1/classify"),
    ):
        assert client.ask(method, path, {}, token=False)[0] == 401


def test_the_description_says_that_changes_take_a_sign_in_or_the_token() -> None:
    for item in DOCUMENT["paths"].values():
        for method in item.keys() & {"post", "delete", "put", "patch"}:
            assert {} not in item[method]["security"]


def test_no_question_of_the_description_was_left_out(client: Client) -> None:
    """Runs last: of every operation the answers above have been seen."""
    described = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described <= {(method, path) for method, path, status in client.seen if status < 300}
