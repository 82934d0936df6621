"""A network camera that sends what it likes: no third host and no file is reached, and memory is bounded."""

import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event

import cv2
import numpy as np
import pytest

from edge.cameras import Frame
from edge.cameras.gate import MAX_BYTES_A_PICTURE
from edge.cameras.live import Limits
from edge.cameras.network import NetworkCamera
from hematovision.errors import CameraError

LIMITS = Limits(open_s=30, frame_s=20)
LIMIT_S = 60.0
#: What kernels and FFmpeg may hold beside what is let through.
HELD_BYTES = 32 << 20
MJPEG = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n"
PART = b"--f\r\nContent-Type: image/jpeg\r\n"


def draw(number: int) -> bytes:
    rgb = np.random.default_rng(number).integers(-9, 9, (96, 128, 1)) + np.array((230, 150, 170))
    return cv2.imencode(".jpg", rgb[..., ::-1].astype(np.uint8))[1].tobytes()


JPEGS = [draw(number) for number in range(8)]


def stream() -> Iterator[bytes]:
    for jpeg in itertools.cycle(JPEGS):
        yield PART + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"


class Server:
    """Answers each connection by what ``answers`` says to its first line, until it is left."""

    def __init__(self, answers: Callable[[str], Iterator[bytes]], host: str = "127.0.0.1") -> None:
        self.asked: list[str] = []
        self.sent = 0
        self._answers, self._ending = answers, Event()
        self._listener = socket.create_server((host, 0))
        self.place = f"{host}:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._listen, daemon=True)]

    def __enter__(self) -> "Server":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(1.0)
        with client, client.makefile("rb") as lines, suppress(OSError):
            while not self._ending.is_set():
                request = [*iter(lambda: lines.readline().strip().decode(), "")]
                if not request:
                    return
                self.asked.append(request[0])
                number = next((line for line in request if line.lower().startswith("cseq")), "")
                for piece in self._answers(request[0]):
                    if self._ending.is_set():
                        return
                    client.sendall(piece.replace(b"CSEQ", number.encode()))
                    self.sent += len(piece)
                if request[0].endswith("HTTP/1.1") or request[0].endswith("HTTP/1.0"):
                    return


@pytest.fixture
def third() -> Iterator[Server]:
    """Another host, which nobody may talk to; it would send video."""
    with Server(lambda _: itertools.chain([MJPEG + b"\r\n"], stream()), "127.0.0.2") as server:
        yield server
        assert server.asked == []


def answer(*pieces: bytes) -> Callable[[str], Iterator[bytes]]:
    return lambda _: iter(pieces)


def opened(server: Server, scheme: str = "http", path: str = "/live") -> str:
    """What is said to be wrong with the camera, whenever that is found."""
    with (
        server,
        pytest.raises(CameraError) as caught,
        NetworkCamera(f"{scheme}://{server.place}{path}", 0.1, LIMITS) as camera,
    ):
        for _ in camera.frames():
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("status", [301, 303, 308])
@pytest.mark.parametrize("location", ["http://{}/live", "//{}/live", "http://127.0.0.1@{}/live"])
def test_a_redirect_to_another_host_is_not_followed(third: Server, status: int, location: str) -> None:
    head = f"HTTP/1.1 {status} Found\r\nLocation: {location.format(third.place)}\r\n\r\n".encode()
    assert "redirects to another host (127.0.0.2)" in opened(Server(answer(head)))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "rtsp://{}/live", "concat:{}", "data:,x"])
def test_a_redirect_to_what_is_no_http_is_not_followed(third: Server, location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location.format(third.place)}\r\n\r\n".encode()
    assert "redirects to" in opened(Server(answer(head)))


def test_a_redirect_within_the_camera_is_followed() -> None:
    def answers(request: str) -> Iterator[bytes]:
        if "/live" in request:
            yield b"HTTP/1.1 302 Found\r\nLocation: /other?a=b\r\n\r\n"
        else:
            yield MJPEG + b"\r\n"
            yield from stream()

    with Server(answers) as server, NetworkCamera(f"http://{server.place}/live", 0.1, LIMITS) as camera:
        assert all(isinstance(frame, Frame) for frame in itertools.islice(camera.frames(), 5))
    assert server.asked == ["GET /live HTTP/1.1", "GET /other?a=b HTTP/1.1"]


def test_redirects_in_a_circle_end() -> None:
    server = Server(answer(b"HTTP/1.1 302 Found\r\nLocation: /live\r\n\r\n"))
    assert "redirects more than 5 times" in opened(server)


@pytest.mark.parametrize("kind", ["application/vnd.apple.mpegurl", "video/mp4", "multipart/x-mixed-replace"])
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\nhttp://{}/a.ts\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://{}/a.m3u8\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://{}/a.ts\n",
        "v=0\no=- 0 0 IN IP4 {}\ns=-\nc=IN IP4 127.0.0.2\nt=0 0\nm=video 5004 RTP/AVP 26\n",
        '<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>http://{}/</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
    ],
    ids=["hls", "hls of several", "hls of a file", "concat", "sdp", "dash"],
)
def test_a_playlist_is_no_video(third: Server, playlist: str, kind: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n"
    body = playlist.format(third.place).encode()
    for before in (b"", b"ID3\4\0\0\0\0\0\5" + bytes(5), b"--f\r\n\r\n"):
        server = Server(answer(head.encode(), *(bytes([one]) for one in before + body)))
        assert "sends no video but a playlist" in opened(server, path="/live.m3u8")


def test_a_location_beside_video_is_not_looked_at(third: Server) -> None:
    head = MJPEG + f"Location: http://{third.place}/live\r\n\r\n".encode()
    with (
        Server(lambda _: itertools.chain([head], stream())) as server,
        NetworkCamera(f"http://{server.place}/live", 0.1, LIMITS) as camera,
    ):
        assert all(isinstance(frame, Frame) for frame in itertools.islice(camera.frames(), 5))


def endless(*start: bytes) -> Callable[[str], Iterator[bytes]]:
    return lambda _: itertools.chain(start, itertools.repeat(bytes(range(255)) * 256))


@pytest.mark.parametrize(
    "answers",
    [
        endless(MJPEG + b"\r\n", PART + b"\r\n", JPEGS[0][:-2]),
        endless(MJPEG + b"\r\n", PART + b"Content-Length: 2000000000\r\n\r\n", JPEGS[0][:-2]),
        endless(MJPEG + b"\r\n", *itertools.islice(stream(), 20), PART + b"\r\n", JPEGS[0][:-2]),
        endless(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", JPEGS[0][:-2]),
    ],
    ids=["no boundary", "a length", "after some pictures", "no part"],
)
def test_a_picture_without_an_end_is_given_up(answers: Callable[[str], Iterator[bytes]]) -> None:
    server = Server(answers)
    assert f"sends more than {MAX_BYTES_A_PICTURE >> 20} MiB without a picture" in opened(server)
    assert server.sent < MAX_BYTES_A_PICTURE + HELD_BYTES


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n\r\n",
    ],
)
def test_heads_and_errors_without_an_end_are_given_up(head: bytes) -> None:
    server = Server(endless(head))
    assert opened(server)
    assert server.sent < MAX_BYTES_A_PICTURE + HELD_BYTES


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_picture_of_enormous_size_is_not_decoded(before: int, chunked: bool) -> None:
    jpeg = JPEGS[0]
    at = jpeg.index(b"\xff\xc0") + 5
    bomb = jpeg[:at] + struct.pack(">HH", 16_000, 16_000) + jpeg[at + 4 :]
    pieces = [
        *itertools.islice(stream(), before),
        PART + b"\r\n" + bomb + b"\r\n",
        *itertools.islice(stream(), 20),
    ]
    head = MJPEG + b"\r\n"
    if chunked:  # in the middle of what is looked for
        head = MJPEG + b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"".join(pieces)
        parts = [body[place : place + 3] for place in range(0, len(body), 3)]
        pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]
    assert "sends pictures of 16000x16000" in opened(Server(answer(head, *pieces)))


RTSP_OK = "RTSP/1.0 200 OK\r\nCSEQ\r\n"
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:{}\r\n"


def rtsp(instead: dict[str, str], control: str = "t") -> Callable[[str], Iterator[bytes]]:
    """A camera that answers some methods otherwise."""
    sdp = SDP.format(control)
    usual = {
        "OPTIONS": f"{RTSP_OK}Public: DESCRIBE, SETUP, PLAY\r\n\r\n",
        "DESCRIBE": f"{RTSP_OK}Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
        "SETUP": f"{RTSP_OK}Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
        "PLAY": f"{RTSP_OK}Session: 1\r\n\r\n",
    }

    def answers(request: str) -> Iterator[bytes]:
        method = request.split(" ")[0]
        yield (usual | instead).get(method, f"{RTSP_OK}\r\n").encode()

    return answers


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
@pytest.mark.parametrize("status", [301, 305])
@pytest.mark.parametrize("name", ["Location", "lOCATION ", "Location:\r\nLocation"])
def test_an_rtsp_redirect_is_not_followed(third: Server, method: str, status: int, name: str) -> None:
    moved = f"RTSP/1.0 {status} Moved\r\nCSEQ\r\n{name}: rtsp://{third.place}/live\r\n\r\n"
    said = opened(Server(rtsp({method: moved})), "rtsp")
    assert "redirects, which is not followed with RTSP" in said


def test_an_rtsp_description_leads_nowhere_else(third: Server) -> None:
    assert opened(Server(rtsp({"PLAY": ""}, control=f"rtsp://{third.place}/t")), "rtsp")
    moved = (
        f"{RTSP_OK}Session: 1\r\nTransport: RTP/AVP;unicast;source=127.0.0.2;server_port=5004-5005\r\n\r\n"
    )
    assert opened(Server(rtsp({"SETUP": moved})), "rtsp")


@pytest.mark.parametrize(
    "start",
    [
        b"RTSP/1.0 200 OK\r\nCSEQ\r\nX: ",
        b"RTSP/1.0 200 OK\r\nCSEQ\r\nContent-Length: 2000000000\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSEQ\r\nContent-Length: -1\r\n\r\n",
        b"",
        b"$\0\xff\xff",
    ],
)
def test_rtsp_without_an_end_is_given_up(start: bytes) -> None:
    server = Server(endless(start))
    assert opened(server, "rtsp")
    assert server.sent < MAX_BYTES_A_PICTURE + HELD_BYTES
