"""Who may look at the page, who may change something, and what others cannot make them do."""

import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from edge.config import WebSettings
from edge.token import new_token
from edge.web import create_app, sign_ins
from edge.web.auth import WRONG_TOKENS, WrongTokens, page_key
from edge.web.sign_ins import SignIns
from hematovision.errors import SettingError
from tests.edge.fed_device import FedDevice, fed_device

MakeApp = Callable[..., Flask]
READ = (
    "/",
    "/cells",
    "/sessions",
    "/device",
    "/api/v1/status",
    "/api/v1/openapi.json",
    "/metrics",
    "/live.jpg",
)
WRITE = (("POST", "/api/v1/sessions"), ("POST", "/sessions/start"), ("DELETE", "/api/v1/sessions/1"))


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[FedDevice]:
    with fed_device(tmp_path) as fed:
        fed.feed(1)
        yield fed


@pytest.fixture
def make_app(fed: FedDevice) -> Iterator[MakeApp]:
    """Makes the application with other settings of the page."""
    made: list[Flask] = []

    def make(**web: object) -> Flask:
        settings = replace(fed.device.settings, web=WebSettings(**web))  # type: ignore[arg-type]
        made.append(create_app(fed.device, fed.store, settings))
        return made[-1]

    yield make
    for app in made:
        app.extensions["hematovision"].live.close()


def csrf_of(client: FlaskClient, path: str = "/sign-in") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def sign_in(client: FlaskClient, token: str, who: str = "Ada", **more: str) -> int:
    form = {"who": who, "token": token, "csrf_token": csrf_of(client), **more}
    return client.post("/sign-in", data=form).status_code


def test_on_this_machine_everybody_reads_and_nobody_writes(make_app: MakeApp) -> None:
    client = make_app().test_client()
    assert {path: client.get(path).status_code for path in READ} == dict.fromkeys(READ, 200)
    for method, path in WRITE:
        assert client.open(path, method=method).status_code == 401


def test_from_elsewhere_nobody_reads_without_the_token(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app(host="0.0.0.0").test_client()
    for path in READ:
        answer = client.get(path)
        is_page = not path.startswith(("/api", "/metrics", "/live"))
        assert answer.status_code == (302 if is_page else 401)
        assert not is_page or answer.location.startswith("/sign-in?next=/")
    assert client.get("/healthz").status_code == 401
    assert client.get("/api/v1/status").headers["WWW-Authenticate"] == "Bearer"
    known = {"Authorization": f"Bearer {fed.token}"}
    assert {client.get(path, headers=known).status_code for path in READ} == {200}


def test_from_elsewhere_everybody_reads_where_the_settings_allow_it(make_app: MakeApp) -> None:
    client = make_app(host="0.0.0.0", read_without_token=True).test_client()
    assert {client.get(path).status_code for path in READ} == {200}
    for method, path in WRITE:
        assert client.open(path, method=method).status_code == 401


def test_it_does_not_listen_elsewhere_without_a_token(make_app: MakeApp, fed: FedDevice) -> None:
    (fed.store.folder / "token").unlink()
    for host in ("0.0.0.0", "::", "192.0.2.1", "microscope.example"):
        with pytest.raises(SettingError, match="hematovision token new"):
            make_app(host=host)
    for host in ("127.0.0.1", "::1", "localhost"):
        make_app(host=host)


def test_without_a_token_on_the_device_no_token_is_right(make_app: MakeApp, fed: FedDevice) -> None:
    (fed.store.folder / "token").unlink()
    client = make_app().test_client()
    for given in ("", "None", fed.token):
        answer = client.post("/api/v1/sessions", json={}, headers={"Authorization": f"Bearer {given}"})
        assert answer.status_code == 401


def test_whoever_signs_in_writes_under_that_name(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    assert sign_in(client, fed.token, " Ada ") == 303
    token = csrf_of(client, "/sessions")
    form = {"sample": "a", "operator": "b", "target": "", "csrf_token": token}
    assert client.post("/sessions/start", data=form).status_code == 303
    session = client.get("/api/v1/status").get_json()["session"]
    headers = {"X-CSRF-Token": token}
    stopped = client.post(f"/api/v1/sessions/{session['id']}/stop", headers=headers).get_json()
    assert stopped["ended_because"] == "stopped by Ada"


def test_the_cookie_is_for_our_pages_only_and_holds_no_token(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    form = {"who": "Ada", "token": fed.token, "csrf_token": csrf_of(client)}
    cookie = client.post("/sign-in", data=form).headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert fed.token not in cookie
    over_tls = make_app().test_client().get("/sign-in", base_url="https://localhost")
    assert "Secure" in over_tls.headers["Set-Cookie"].split("; ")


def test_a_forged_request_of_somebody_signed_in_is_refused(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    sign_in(client, fed.token)
    for form in ({}, {"csrf_token": ""}, {"csrf_token": "wrong"}, {"csrf_token": "é"}):
        for path in ("/sessions/start", "/sign-out", "/classify", "/api/v1/sessions"):
            assert client.post(path, data=form).status_code == 403
    assert client.delete("/api/v1/sessions/1").status_code == 403
    assert client.get("/api/v1/status").get_json()["session"] is None


def test_what_forms_carry_is_another_after_the_sign_in(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    before = csrf_of(client)  # which whoever planted the cookie knows
    sign_in(client, fed.token)
    assert csrf_of(client, "/sessions") != before


def test_a_sign_in_cannot_be_forged_either(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    assert client.post("/sign-in", data={"who": "Eve", "token": fed.token}).status_code == 403


def test_a_new_token_signs_everybody_out(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app(host="0.0.0.0").test_client()
    sign_in(client, fed.token)
    assert client.get("/api/v1/status").status_code == 200
    new = new_token(fed.store.folder)
    assert client.get("/api/v1/status").status_code == 401
    assert sign_in(client, fed.token) == 401
    assert sign_in(client, new) == 303


def test_another_device_on_this_machine_has_another_cookie(make_app: MakeApp, fed: FedDevice) -> None:
    def cookie() -> str:
        return make_app().test_client().get("/sign-in").headers["Set-Cookie"].partition("=")[0]

    first = cookie()
    assert cookie() == first
    (fed.store.folder / "web_key").unlink()
    assert cookie() != first


def test_signing_out_ends_it(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app(host="0.0.0.0").test_client()
    sign_in(client, fed.token)
    client.post("/sign-out", data={"csrf_token": csrf_of(client, "/sessions")})
    assert client.get("/api/v1/status").status_code == 401


def copied_cookie(client: FlaskClient) -> dict[str, str]:
    """The cookie of whoever signed in, as somebody else sends it."""
    name = client.application.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    return {"Cookie": f"{name}={cookie.value}"}


def test_signing_out_ends_every_copy_of_the_cookie_also_after_a_restart(
    make_app: MakeApp, fed: FedDevice
) -> None:
    client, other = (make_app(host="0.0.0.0").test_client() for _ in range(2))
    sign_in(client, fed.token)
    copied = copied_cookie(client)
    assert (
        make_app(host="0.0.0.0").test_client(use_cookies=False).get("/cells", headers=copied).status_code
        == 200
    )
    client.post("/sign-out", data={"csrf_token": csrf_of(client, "/sessions")})
    stranger = client.application.test_client(use_cookies=False)
    assert stranger.get("/api/v1/status", headers=copied).status_code == 401
    assert stranger.get("/cells", headers=copied).location.startswith("/sign-in")
    restarted = make_app(host="0.0.0.0").test_client(use_cookies=False)
    assert restarted.get("/api/v1/status", headers=copied).status_code == 401
    assert sign_in(other, fed.token) == 303


def test_signing_in_anew_ends_the_sign_in_before(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app(host="0.0.0.0").test_client()
    sign_in(client, fed.token)
    copied = copied_cookie(client)
    assert sign_in(client, fed.token) == 303
    stranger = client.application.test_client(use_cookies=False)
    assert stranger.get("/api/v1/status", headers=copied).status_code == 401
    assert client.get("/api/v1/status").status_code == 200


def test_signing_out_ends_nobody_elses_sign_in(make_app: MakeApp, fed: FedDevice) -> None:
    app = make_app(host="0.0.0.0")
    one, other = app.test_client(), app.test_client()
    sign_in(one, fed.token)
    sign_in(other, fed.token)
    one.post("/sign-out", data={"csrf_token": csrf_of(one, "/sessions")})
    assert other.get("/api/v1/status").status_code == 200


def test_sign_ins_are_bounded_and_the_oldest_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "SIGN_INS", 3)
    known = SignIns(tmp_path, 60)
    names = [known.begin() for _ in range(5)]
    assert [known.lasts(name) for name in names] == [False, False, True, True, True]
    assert [SignIns(tmp_path, 60).lasts(name) for name in names] == [False, False, True, True, True]
    assert stat.S_IMODE((tmp_path / "sign_ins").stat().st_mode) == 0o600


def test_as_many_sign_ins_as_there_may_be_are_read_again(tmp_path: Path) -> None:
    known = SignIns(tmp_path, 60)
    known._begun = {f"{number:022}": 10_000_000_000 for number in range(sign_ins.SIGN_INS)}
    name = known.begin()
    assert not SignIns(tmp_path, 60).lasts(name)  # it is older than what the others claim
    assert SignIns(tmp_path, 60).lasts(f"{sign_ins.SIGN_INS - 1:022}")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": null}', b"\xff", b"x" * 100])
def test_a_damaged_file_of_sign_ins_signs_everybody_out_and_no_more(tmp_path: Path, content: bytes) -> None:
    name = SignIns(tmp_path, 60).begin()
    (tmp_path / "sign_ins").write_bytes(content)
    known = SignIns(tmp_path, 60)
    assert not known.lasts(name)
    assert known.lasts(known.begin())


def test_on_a_full_disk_somebody_can_still_sign_in_and_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = SignIns(tmp_path, 60)

    def fail(path: Path, content: bytes) -> None:
        raise SettingError("full")

    monkeypatch.setattr(sign_ins, "write_private_file", fail)
    name = known.begin()
    assert known.lasts(name)
    known.end(name)
    assert not known.lasts(name)


def test_a_sign_in_ends_after_some_hours(
    make_app: MakeApp, fed: FedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_app(host="0.0.0.0").test_client()
    sign_in(client, fed.token)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 12.1 * 3600)
    assert client.get("/api/v1/status").status_code == 401


def test_a_sign_in_ends_also_for_who_is_busy(
    make_app: MakeApp, fed: FedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_app(host="0.0.0.0").test_client()
    sign_in(client, fed.token)
    start, status = time.time(), []
    for hours in (11.5, 12.5):
        now = start + hours * 3600
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr("edge.web.sign_ins.time", time.time)
        client.get("/sessions/compare")  # leaves a message for the next page, and so a new cookie
        status.append(client.get("/api/v1/status").status_code)
    assert status == [200, 401]


def test_a_cookie_that_we_did_not_sign_is_nobody(make_app: MakeApp) -> None:
    app = make_app(host="0.0.0.0")
    client = app.test_client(use_cookies=False)
    for cookie in ("eyJ3aG8iOiJBZGEifQ.Zm9v.YmFy", "x", "..", "eyJ3aG8iOiJBZGEifQ", "\xe9" * 10):
        headers = {"Cookie": f"{app.config['SESSION_COOKIE_NAME']}={cookie}"}
        assert client.get("/api/v1/status", headers=headers).status_code == 401


def test_a_wrong_token_is_refused_also_where_reading_is_open(make_app: MakeApp) -> None:
    client = make_app().test_client()
    for given in ("Bearer", "Bearer wrong", "bearer wrong", "Bearer \xe9"):
        assert client.get("/api/v1/status", headers={"Authorization": given}).status_code == 401


def test_what_a_proxy_passes_on_is_not_from_this_machine(make_app: MakeApp, fed: FedDevice) -> None:
    # As a browser sends it to a proxy that asks for a password, too.
    by_proxy = {"X-Forwarded-For": "192.0.2.7", "Authorization": "Basic YTpi"}
    client = make_app().test_client()
    assert client.get("/api/v1/status", headers=by_proxy).status_code == 401
    assert client.get("/cells", headers=by_proxy).location.startswith("/sign-in")
    assert sign_in(client, fed.token) == 303
    assert client.get("/cells", headers=by_proxy).status_code == 200
    anybody = make_app(read_without_token=True).test_client()
    assert anybody.get("/api/v1/status", headers=by_proxy).status_code == 200


def test_many_wrong_tokens_are_told_to_wait_and_the_right_one_is_let_in(
    make_app: MakeApp, fed: FedDevice
) -> None:
    client = make_app().test_client()
    seen = [sign_in(client, f"wrong{number}") for number in range(WRONG_TOKENS + 2)]
    assert seen == [401] * WRONG_TOKENS + [429] * 2
    answer = client.get("/api/v1/status", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    refused = client.get("/metrics", headers={"Authorization": "Bearer wrong"}, environ_base=elsewhere)
    assert refused.status_code == 401
    assert sign_in(client, fed.token) == 303
    assert fed.store.flush(5)
    with fed.store.read() as reader:
        told = [event.text for event in reader.events() if event.kind == "sign-in"]
    assert sum("wrong token" in text for text in told) == 1  # the record is not flooded
    assert not any(fed.token in text or "wrong0" in text for text in told)


def test_not_every_address_with_a_wrong_token_is_kept_for_ever() -> None:
    wrong = WrongTokens()
    for number in range(3000):
        assert wrong.add(str(number)) == 1
    assert len(wrong._times) <= 1000


def test_a_name_that_cannot_be_kept_is_refused(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    for who in ("", "  ", "a" * 101, "a\nb", "a\x1b[2J"):
        assert sign_in(client, fed.token, who) == 400


def test_a_sign_in_leads_to_our_own_pages_only(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    for target, leads_to in (
        ("/cells?class=monocyte", "/cells?class=monocyte"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\tevil", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ):
        form = {"who": "Ada", "token": fed.token, "csrf_token": csrf_of(client), "next": target}
        assert client.post("/sign-in", data=form).location == leads_to


def test_it_answers_to_its_own_names_only(make_app: MakeApp) -> None:
    client = make_app(names=("scope.lab",)).test_client()
    own = (
        "localhost:8765",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1:8765",
        "192.0.2.1",
        "[::1]:8765",
        "scope.lab",
    )
    for host in own:
        assert client.get("/api/v1/status", headers={"Host": host}).status_code == 200
    foreign = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:1@localhost")
    for host in (*foreign, "", "[::1", "localhost:x"):
        assert client.get("/api/v1/status", headers={"Host": host}).status_code == 400


def test_another_site_may_lead_here_and_do_nothing_else(make_app: MakeApp) -> None:
    client = make_app().test_client()
    for site, mode, method, path, status in (
        ("cross-site", "navigate", "GET", "/", 200),
        ("cross-site", "no-cors", "GET", "/live.mjpg", 403),
        ("same-site", "cors", "GET", "/api/v1/status", 403),  # another port of this machine
        ("cross-site", "cors", "GET", "/api/v1/status", 403),
        ("cross-site", "navigate", "POST", "/sign-in", 403),
        ("same-origin", "no-cors", "GET", "/live.jpg", 200),
        ("none", "navigate", "GET", "/cells", 200),
    ):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        assert client.open(path, method=method, headers=headers).status_code == status


def test_every_answer_tells_browsers_what_they_may_do_with_it(make_app: MakeApp) -> None:
    client = make_app().test_client()
    for path in (*READ, "/healthz", "/nothing", "/api/v1/nothing", "/static/style.css", "/static/nothing"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert path.startswith("/static") or headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_damaged_token_lets_nobody_in_and_is_told(make_app: MakeApp, fed: FedDevice) -> None:
    client = make_app().test_client()
    sign_in(client, fed.token)
    (fed.store.folder / "token").write_text("sha256:0")
    for headers in ({}, {"Authorization": f"Bearer {fed.token}"}):
        answer = client.get("/api/v1/status", headers=headers)
        assert answer.status_code == 503
        assert "damaged" in answer.get_json()["error"]


def test_the_key_of_the_cookies_is_kept_and_is_nobody_elses(tmp_path: Path) -> None:
    key = page_key(tmp_path)
    assert page_key(tmp_path) == key
    assert len(key) == 32
    file = tmp_path / "web_key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with pytest.raises(SettingError, match="web_key"):
        page_key(tmp_path)
    file.chmod(0o600)
    file.write_bytes(b"short")
    with pytest.raises(SettingError, match="damaged"):
        page_key(tmp_path)
