"""The page's server: whoever is slow, silent, greedy or wrong holds up nobody else."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Event
from time import monotonic, sleep

import pytest

from edge.config import WebSettings
from edge.web import create_app, server
from edge.web.context import Web
from edge.web.server import PageServer
from hematovision.errors import ChildEnding, ChildError, SettingError
from tests.edge.fed_device import FedDevice, fed_device

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMALL = 4096


class Served:
    """A page that is served, and clients of every kind."""

    def __init__(self, fed: FedDevice, page: PageServer, web: Web) -> None:
        self.fed, self.page, self.web = fed, page, web
        self.port = int(page.address.rstrip("/").rpartition(":")[2])
        #: Headers of whoever may send a picture.
        self.form = f"Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer {fed.token}\r\n"
        self._undo = ExitStack()

    def connect(self, data: bytes = b"", buffer: int | None = None) -> socket.socket:
        """A client that has sent something."""
        client = self._undo.enter_context(socket.socket())
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        client.sendall(data)
        return client

    def status_of(self, data: bytes) -> tuple[int, bytes]:
        """What a request is answered with: status and body."""
        client = self.connect(data)
        head, _, body = read_all(client).partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def is_well(self) -> bool:
        return (
            self.status_of(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/healthz")[0] == 200
        )

    def close(self) -> None:
        self._undo.close()


def read_all(client: socket.socket) -> bytes:
    """All that comes until the server ends it."""
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FedDevice]:
    with fed_device(tmp_path_factory.mktemp("state")) as fed:
        fed.feed(1)
        yield fed


@pytest.fixture
def serve(fed: FedDevice) -> Iterator[Serve]:
    """Serves the page with other settings."""
    with ExitStack() as undo:

        def make(**settings: object) -> Served:
            web = WebSettings(**settings)  # type: ignore[arg-type]
            app = create_app(fed.device, fed.store, replace(fed.device.settings, web=web))
            page = undo.enter_context(PageServer(app, web, any_port=True))
            served = Served(fed, page, app.extensions["hematovision"])
            undo.callback(served.close)
            return served

        yield make


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    end = monotonic() + limit_s
    while not condition() and monotonic() < end:
        sleep(0.02)
    return condition()


def post(path: str, length: int, body: bytes = b"", more: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body
    )


def test_every_viewer_gets_pictures_and_one_too_many_is_told(serve: Serve) -> None:
    served = serve(viewers=3)
    with served.fed.feeding(0.02):
        viewers = [served.connect(GET % b"/live.mjpg") for _ in range(3)]
        for viewer in viewers:
            seen = b""
            while seen.count(b"image/jpeg") < 3:
                seen += viewer.recv(1 << 16)
        status, body = served.status_of(
            GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/live.mjpg"
        )
        assert status == 503
        assert "3 are watching already" in json.loads(body)["error"]
        viewers[0].close()
        assert until(lambda: served.web.live.viewers == 2)
        assert served.is_well()


def test_a_viewer_that_does_not_read_is_cut_off_and_holds_up_nobody(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_S", 0.5)
    monkeypatch.setattr(server, "_LOOP_S", 0.05)
    served = serve(viewers=2)
    with served.fed.feeding(0.02):
        deaf = served.connect(GET % b"/live.mjpg", SMALL)
        reader = served.connect(GET % b"/live.mjpg")
        while served.web.traffic.cut_off == 0:
            assert reader.recv(1 << 16)  # it goes on for who reads
        assert until(lambda: served.web.live.viewers == 1)
        assert served.is_well()
        with pytest.raises(ConnectionResetError):
            while True:
                assert deaf.recv(1 << 16)


def test_what_is_kept_for_a_viewer_that_does_not_read_is_a_picture_or_two(serve: Serve) -> None:
    served = serve(viewers=1)
    with served.fed.feeding(0.02):
        served.connect(GET % b"/live.mjpg", SMALL)
        assert until(lambda: served.web.live.encoded > 12)
    channels = served.page._channels()
    picture = len(
        served.status_of(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/live.jpg")[1]
    )
    assert max(channel.total_outbufs_len for channel in channels) <= 64 * 1024 + 2 * max(picture, 64 * 1024)


def test_whoever_goes_away_is_noticed_also_while_the_camera_gives_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.web.live._REPEAT_S", 0.05)
    served = serve(viewers=1)
    viewer = served.connect(GET % b"/live.mjpg")
    assert until(lambda: served.web.live.viewers == 1)
    viewer.close()
    assert until(lambda: served.web.live.viewers == 0)


def test_streams_end_when_the_page_is_closed(serve: Serve) -> None:
    served = serve(viewers=2)
    with served.fed.feeding(0.02):
        viewer, deaf = (served.connect(GET % b"/live.mjpg", buffer) for buffer in (None, SMALL))
        assert until(lambda: served.web.live.viewers == 2)
        viewer.recv(1 << 16)
        served.page.close()
        read_all(viewer)
    assert served.web.live.viewers == 0
    with pytest.raises(ConnectionRefusedError):
        served.connect()
    deaf.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nHost:",
        post("/api/v1/sessions", 5000, b"{"),
        post("/api/v1/classify", 5_000_000, b"x" * 10_000, "{form}"),
    ],
)
def test_a_request_that_does_not_come_is_not_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(server, "HEADER_S", 0.2)
    monkeypatch.setattr(server, "_LOOP_S", 0.05)
    served = serve()
    assert served.status_of(data.replace(b"{form}", served.form.encode()))[0] == 408
    assert served.web.traffic.cut_off == 1
    assert served.is_well()


def test_whoever_asks_for_nothing_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_S", 0.2)
    monkeypatch.setattr(server, "_LOOP_S", 0.05)
    served = serve()
    client = served.connect()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/api/v1/sessions", 70_000, 413), ("/healthz", 10**15, 413), ("/api/v1/classify", 21_000_000, 413)],
)
def test_too_much_is_refused_before_it_comes(serve: Serve, path: str, length: int, status: int) -> None:
    got, body = serve().status_of(post(path, length))
    assert got == status
    assert json.loads(body)["error"].startswith("more than the ")


def test_who_sends_too_much_gets_to_read_why(serve: Serve) -> None:
    client = serve().connect()
    client.sendall(post("/api/v1/classify", 60_000_000))
    for _ in range(30):
        client.sendall(b"x" * 100_000)
    assert b" 413 " in read_all(client)


def test_a_connection_kept_for_later_is_closed_and_blamed_on_nobody(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADER_S", 0.2)
    monkeypatch.setattr(server, "_LOOP_S", 0.05)
    served = serve()
    client = served.connect(GET % b"/healthz")
    assert read_all(client).startswith(b"HTTP/1.1 200")  # to its end, not to a reset
    assert served.web.traffic.cut_off == 0


def test_a_body_without_an_end_is_refused_at_its_limit(serve: Serve) -> None:
    client = serve().connect(
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    client.sendall((b"1000\r\n" + b"x" * 0x1000 + b"\r\n") * 20)
    assert b" 413 " in read_all(client)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_told_so(serve: Serve, data: bytes, status: int) -> None:
    assert serve().status_of(data)[0] == status


def test_only_some_pictures_are_on_their_way_at_a_time(serve: Serve) -> None:
    served = serve()
    request = post("/api/v1/classify", 1_000_000, b"x", served.form)
    under_way = [served.connect(request) for _ in range(server.UPLOADS)]
    assert until(lambda: len(served.page._limits.uploading) == server.UPLOADS)
    status, body = served.status_of(request)
    assert status == 503
    assert "on their way" in json.loads(body)["error"]
    assert served.is_well()
    under_way.pop().close()
    assert until(lambda: len(served.page._limits.uploading) == server.UPLOADS - 1)


@pytest.mark.parametrize("length", ["Content-Length: 15000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("Content-Type: multipart/form-data; boundary=x", 401),
        ("Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer wrong", 401),
        ("Content-Type: multipart/form-data; boundary=x\r\nCookie: hematovision-00000000=eyJ3", 401),
        (
            "Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer {token}\r\n"
            "Host: evil.example",
            400,
        ),
        (
            "Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer {token}\r\n"
            "Sec-Fetch-Site: cross-site",
            403,
        ),
        ("Content-Type: image/png\r\nAuthorization: Bearer {token}", 415),
        ("Authorization: Bearer {token}", 415),
        ("Expect: 100-continue", 401),
    ],
)
def test_an_upload_that_its_headers_refuse_is_answered_before_its_body(
    serve: Serve, more: str, status: int, length: str
) -> None:
    served = serve()
    head = f"POST /api/v1/classify HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{more}\r\n\r\n"
    got, body = served.status_of(head.format(token=served.fed.token).encode())
    assert got == status
    assert set(json.loads(body)) == {"error"}


def test_strangers_who_send_slowly_hold_no_place_of_an_upload(serve: Serve) -> None:
    served = serve()
    form = "Content-Type: multipart/form-data; boundary=x\r\n"
    strangers = [
        served.connect(post(path, 1_000_000, b"x", form))
        for path in ("/api/v1/classify", "/classify") * server.UPLOADS
    ]
    assert b" 401 " in strangers[0].recv(1 << 16)
    mine = post("/api/v1/classify", 4, b"--x\r", served.form + "Connection: close\r\n")
    assert served.status_of(mine)[0] == 400
    assert until(lambda: len(served.page._limits.uploading) == 0)


def test_what_stands_in_a_body_that_was_not_taken_is_no_request(serve: Serve) -> None:
    served = serve()
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client = served.connect(post("/api/v1/classify", len(hidden), hidden))
    answer = read_all(client)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b" 401 " in answer


def test_a_picture_whose_sender_goes_away_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = Event(), Event()

    @contextmanager
    def never(data: bytes, wanted: object, is_wanted: Callable[[], bool]) -> Iterator[None]:
        begun.set()
        while is_wanted():
            sleep(0.02)
        ended.set()
        if not is_wanted():
            raise ChildError("child", ChildEnding.UNWANTED)
        yield

    monkeypatch.setattr("edge.web.uploads.find_in_child", never)
    served = serve()
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n--x--\r\n'
    client = served.connect(post("/api/v1/classify", len(body), body, served.form))
    assert begun.wait(10)
    assert not ended.wait(0.3)
    client.close()
    assert ended.wait(10)


def test_connections_that_ask_for_nothing_make_room(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOOP_S", 0.05)
    served = serve()
    # Only now: the kernel's queue, which begins to drop where it is full, stays as long as it is.
    monkeypatch.setattr(server, "CONNECTIONS", 12)
    for number in range(30):
        served.connect(b"GET / HTTP/1.1\r\nHost: " if number % 2 else b"")
    assert served.is_well()


def test_who_was_refused_already_makes_room_before_who_is_about_to_ask(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOP_S", 0.05)
    monkeypatch.setattr(server, "_LINGER_S", 60.0)
    served = serve()
    asker = served.connect()
    refused = [served.connect(b"nonsense\r\n\r\n") for _ in range(8)]
    for client in refused:
        read_all(client)
    monkeypatch.setattr(server, "CONNECTIONS", 12)
    for _ in range(4):
        served.connect()
    assert served.is_well()
    asker.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/healthz")
    assert b" 200 " in read_all(asker)


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(serve: Serve) -> None:
    served = serve()
    request = b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n"
    for header, secure in ((b"X-Forwarded-Proto: https\r\n", True), (b"", False)):
        head = read_all(served.connect(request % header)).partition(b"\r\n\r\n")[0]
        cookie = next(line for line in head.splitlines() if line.startswith(b"Set-Cookie"))
        assert (b"Secure" in cookie) == secure


BY_PROXY = (
    "X-Forwarded-Proto: https",
    "X-Forwarded-Proto:",
    "X-Forwarded-For: 192.0.2.7",
    "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: lab.example\r\nX-Forwarded-Server: lab.example",
    "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1",
    "x-forwarded-for:",
    "X_FORWARDED_FOR: 192.0.2.7",
    "X_Forwarded_For: 192.0.2.7",
    "X-Forwarded_For: 127.0.0.1",
    "X_Real_IP:192.0.2.7",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /scope",
    "X-Forwarded-By: proxy",
    "X-Forwarded: for=192.0.2.7",
    "Forwarded: for=192.0.2.7;proto=https;host=lab.example",
    "FORWARDED:",
    "forwarded: nonsense",
    "Via: 1.1 proxy.example",
    "VIA:",
    "X-Real-IP: 192.0.2.7",
    "X-Real-Ip: 127.0.0.1",
    "X-Client-IP: 192.0.2.7",
    "X-Cluster-Client-IP: 192.0.2.7",
    "Client-IP: 192.0.2.7",
    "True-Client-IP: 192.0.2.7",
    "CF-Connecting-IP: 192.0.2.7",
    "CF-Ray: 1",
    "Fastly-Client-IP: 192.0.2.7",
    "X-Original-URL: /",
    "X-Original-Forwarded-For: 192.0.2.7",
    "X-Scheme: https",
    "X-Envoy-External-Address: 192.0.2.7",
    "X-Remote-Addr: 192.0.2.7",
    "Front-End-Https: on",
    "CDN-Loop: cloudflare",
    "X-ProxyUser-IP: 192.0.2.7",
    "X-NginX-Proxy: true",
    "X-Kong-Proxy-Latency: 1",
    "WL-Proxy-SSL: true",
    "X-ForwardedFor: 192.0.2.7",
    "X-Vercel-Forwarded-For: 192.0.2.7",
    "HTTP_X_FORWARDED_FOR: 192.0.2.7",
    "X-MS-Forwarded-Client-Cert: x",
    "X-Originating-IP: 192.0.2.7",
    "X-BlueCoat-Via: x",
    "X-NF-Client-Connection-IP: 192.0.2.7",
    "X-Sucuri-ClientIP: 192.0.2.7",
    "CloudFront-Viewer-Country: DE",
    "Surrogate-Capability: varnish=ESI/1.0",
    "Max-Forwards: 9",
    "X-Rewrite-URL: /",
    "X-HTTPS: on",
    "SSL-Client-Cert: x",
    "X-Traefik-Router: x",
    "X-Ingress-Path: /x",
    "X-Auth-Request-User: x",
)


@pytest.mark.parametrize("path", ["/api/v1/status", "/live.jpg", "/metrics"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_whatever_mark_a_proxy_leaves_makes_a_request_one_from_elsewhere(
    serve: Serve, path: str, version: str
) -> None:
    served = serve()
    request = f"GET {path} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n%s\r\n"
    let_in = [
        mark for mark in BY_PROXY if served.status_of((request % f"{mark}\r\n").encode())[0] not in (400, 401)
    ]
    assert let_in == []
    assert served.status_of((request % "").encode())[0] == 200


def test_what_browsers_and_programs_send_by_themselves_is_no_mark_of_a_proxy(serve: Serve) -> None:
    sent = (
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Language: de\r\nDNT: 1\r\n"
        'Accept-Encoding: gzip\r\nCookie: a=b\r\nSec-CH-UA: "Chromium"\r\nSec-CH-UA-Platform: "Linux"\r\n'
        "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nPriority: 0\r\n"
        "X-Requested-With: XMLHttpRequest\r\nX-Request-ID: 1\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n"
        "Origin: http://localhost\r\nReferer: http://localhost/\r\nIf-None-Match: x\r\nRange: bytes=0-\r\n"
        "Authorization: Basic YTpi\r\nTraceparent: 00-1-1-00\r\nX_Own_Name: x\r\nProxy-Connection: keep-alive"
    )
    request = f"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{sent}\r\n\r\n"
    assert serve().status_of(request.encode())[0] == 200


def test_a_proxy_that_says_what_it_cannot_is_refused(serve: Serve) -> None:
    request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: %s\r\n\r\n"
    for said in ("https, http", "gopher"):
        assert serve().status_of((request % said).encode())[0] == 400


def test_where_it_cannot_listen_is_told_at_once(fed: FedDevice, serve: Serve) -> None:
    taken = serve().port
    for web, why in (
        (WebSettings(port=taken), "another program uses it"),
        (WebSettings(host="192.0.2.1"), "no such address"),
        (WebSettings(host="no.such.host.invalid"), "not known"),
    ):
        app = create_app(fed.device, fed.store, replace(fed.device.settings, web=web))
        with pytest.raises(SettingError, match=why):
            PageServer(app, web).__enter__()


def test_a_live_picture_that_failed_is_a_failure_of_the_page(serve: Serve) -> None:
    served = serve()
    assert served.page.error is None
    served.web.live.error = ValueError("no encoder")
    assert served.page.error is served.web.live.error


def test_the_address_is_what_a_browser_opens(serve: Serve) -> None:
    assert serve().page.address.startswith("http://127.0.0.1:")
    assert serve(host="::1").page.address.startswith("http://[::1]:")
