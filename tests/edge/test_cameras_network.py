"""Cameras on the network, against real servers on this machine, well-behaved and otherwise."""

import base64
import errno
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event

import cv2
import numpy as np
import pytest

from edge.cameras import Frame, LostFrame, open_camera
from edge.cameras.live import Limits
from edge.cameras.network import NetworkCamera, shown_address
from hematovision.errors import CameraError, NoCameraError, SettingError

PATIENT = Limits(open_s=20, frame_s=20)
# For a wait that ends with nothing: of the camera itself, and while it opens.
QUICK = Limits(open_s=20, frame_s=1, still_video_s=0.5)
QUICK_TO_OPEN = Limits(open_s=1.5)
UPPER, LOWER = (230, 150, 170), (90, 60, 200)
TORN = 3  # number of the picture that is torn
PASSWORD = "s3cret"
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:t\r\n"
GARBAGE = bytes(range(256)) * 800


def draw(number: int) -> bytes:
    """A JPEG, upper half pink and lower half violet, noisy as a sensor is."""
    rgb = np.random.default_rng(number).integers(-9, 9, (96, 128, 1)) + np.array(UPPER)
    rgb[48:] += np.array(LOWER) - np.array(UPPER)
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1].clip(0, 255).astype(np.uint8))
    return jpeg.tobytes()


JPEGS = [draw(number) for number in range(30)]


class MjpegHandler(BaseHTTPRequestHandler):
    """Each path has a fault of its own; ``stop`` ends what hangs."""

    stop: Event
    video: bytes

    def do_GET(self) -> None:
        path, _, _ = self.path.strip("/").partition("?")
        if path == "missing":
            self.send_error(404)
        elif path == "private" and self.headers["Authorization"] != _basic("admin", PASSWORD):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif path == "silent":
            self.stop.wait(20)
        elif path == "page":
            self._send("text/html", b"<html>please log in</html>")
        elif path == "garbage":
            self._send("multipart/x-mixed-replace; boundary=frame", GARBAGE)
        elif path == "video.avi":
            self._send("video/x-msvideo", self.video)
        else:
            self._send("multipart/x-mixed-replace; boundary=frame", b"")
            self._stream(path)

    def _stream(self, path: str) -> None:
        if path == "headers-only":
            self.stop.wait(20)
        for number, jpeg in enumerate(itertools.cycle(JPEGS[:1] if path == "still" else JPEGS)):
            fault = path if number == TORN else ""
            sent = jpeg[: len(jpeg) // 2] if fault in {"torn", "hang", "close"} else jpeg
            length = len(sent) if fault == "torn" else len(jpeg)
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
            if path != "no-length":
                self.wfile.write(b"Content-Length: %d\r\n" % length)
            self.wfile.write(b"\r\n")
            if fault == "garbage-later":
                self.wfile.write(GARBAGE)
            if fault == "end":
                return
            self.wfile.write(sent)
            if fault == "hang":
                self.stop.wait(20)
            if fault in {"hang", "close"}:
                return
            self.wfile.write(b"\r\n")
            self.stop.wait(0.005)

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the camera was closed
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class RtspHandler(StreamRequestHandler):
    """A camera that sends JPEGs as RTP in the RTSP connection itself (RFC 2326 and RFC 2435)."""

    stop: Event

    def handle(self) -> None:
        while request := self._request():
            method, address, number = request
            if "missing" in address:
                self._answer(number, status="404 Stream Not Found")
            elif "silent" in address:
                self.stop.wait(20)
            elif method == "DESCRIBE":
                self._answer(number, "Content-Type: application/sdp", SDP)
            elif method == "SETUP":
                self._answer(number, "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1")
            elif method == "PLAY":
                self._answer(number, "Session: 1")
                with suppress(ConnectionError):  # the camera was closed
                    self._play(hang="hang" in address)
                return
            else:
                self._answer(number, "Public: DESCRIBE, SETUP, PLAY, TEARDOWN")

    def _request(self) -> tuple[str, str, str] | None:
        lines = [*iter(lambda: self.rfile.readline().strip().decode(), "")]
        if not lines:
            return None
        method, address, _ = lines[0].split(" ")
        (number,) = (line.split(":")[1] for line in lines if line.lower().startswith("cseq"))
        return method, address, number

    def _answer(self, number: str, header: str = "", body: str = "", status: str = "200 OK") -> None:
        head = f"RTSP/1.0 {status}\r\nCSeq:{number}\r\n" + (f"{header}\r\n" if header else "")
        self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def _play(self, hang: bool) -> None:
        sequence = itertools.count()
        for number in itertools.count():
            if hang and number == 60:
                self.stop.wait(20)
            if self.stop.wait(0.02):
                return
            tables, scan = _tables_and_scan(JPEGS[number % len(JPEGS)])
            header = struct.pack("!BBHBBBBBBH", 0, 0, 0, 1, 255, 128 // 8, 96 // 8, 0, 0, len(tables))
            packet = struct.pack("!BBHII", 0x80, 0x80 | 26, next(sequence), 1800 * number, 7)
            packet += header + tables + scan
            self.wfile.write(b"$\0" + struct.pack("!H", len(packet)) + packet)


def _tables_and_scan(jpeg: bytes) -> tuple[bytes, bytes]:
    tables, place = b"", 2
    while True:
        marker, length = struct.unpack("!HH", jpeg[place : place + 4])
        if marker == 0xFFDB:
            tables += jpeg[place + 5 : place + 2 + length]
        place += 2 + length
        if marker == 0xFFDA:
            return tables, jpeg[place:-2]


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Address of a path: ``server("torn")``, ``server("live", scheme="rtsp")``."""
    path = tmp_path_factory.mktemp("video") / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 96))
    for jpeg in JPEGS:
        writer.write(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
    writer.release()
    stop = Event()
    MjpegHandler.stop = RtspHandler.stop = stop
    MjpegHandler.video = path.read_bytes()
    servers = {
        "http": ThreadingHTTPServer(("127.0.0.1", 0), MjpegHandler),
        "rtsp": ThreadingTCPServer(("127.0.0.1", 0), RtspHandler),
    }
    for one in servers.values():
        threading.Thread(target=one.serve_forever, args=(0.05,), name="server").start()
    yield (
        lambda path, scheme="http", user="": (
            f"{scheme}://{user}127.0.0.1:{servers[scheme].server_address[1]}/{path}"
        )
    )
    stop.set()
    for one in servers.values():
        one.shutdown()
        one.server_close()


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]


def look(camera: NetworkCamera, count: int) -> list[Frame | LostFrame]:
    with camera:
        return [*itertools.islice(camera.frames(), count)]


def assert_drawn(frame: Frame | LostFrame) -> None:
    assert isinstance(frame, Frame)
    assert frame.image.shape == (96, 128, 3)
    for half, color in ((frame.image[:44], UPPER), (frame.image[52:], LOWER)):
        np.testing.assert_allclose(half.mean(axis=(0, 1)), color, atol=6)


@pytest.mark.parametrize("path", ["live", "no-length"])
def test_pictures_come_in_order_and_in_rgb(server: Callable[..., str], path: str) -> None:
    frames = look(NetworkCamera(server(path), 0.1, PATIENT), 8)
    for frame in frames:
        assert_drawn(frame)
    assert [frame.sequence for frame in frames] == [*range(8)]
    times = [frame.monotonic for frame in frames if isinstance(frame, Frame)]
    assert times == sorted(times)


def test_video_that_is_no_mjpeg_comes_in_rgb_too_and_its_end_is_an_error(server: Callable[..., str]) -> None:
    with NetworkCamera(server("video.avi"), 0.1, PATIENT) as camera:
        frames = camera.frames()
        for _ in JPEGS:
            assert_drawn(next(frames))
        with pytest.raises(CameraError, match="the stream ended"):
            next(frames)


def test_a_torn_picture_is_lost_and_the_rest_follows(server: Callable[..., str]) -> None:
    frames = look(NetworkCamera(server("torn"), 0.1, PATIENT), TORN + 3)
    lost = frames.pop(TORN)
    assert isinstance(lost, LostFrame)
    assert f"frame {TORN} is torn: the picture was not sent to its end" in lost.error
    for frame in frames:
        assert_drawn(frame)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("hang", r"no picture for 0\.\d+ s; check the camera and the network"),
        ("close", "the stream ended; check the camera and the network"),
        ("end", "the stream ended"),
        ("garbage-later", "the stream ended"),
        ("still", r"the picture has stood still for 0\.5 s"),
    ],
)
def test_a_stream_that_goes_wrong_on_its_way_is_an_error(
    server: Callable[..., str], path: str, complaint: str
) -> None:
    address = server(path)
    seen: list[Frame | LostFrame] = []
    with (
        NetworkCamera(address, 0.1, QUICK) as camera,
        pytest.raises(CameraError, match=f"{address}: {complaint}"),
    ):
        for frame in camera.frames():
            seen.append(frame)
    good = [frame for frame in seen if isinstance(frame, Frame)]
    assert len(good) == (1 if path == "still" else TORN)
    for frame in good:
        assert_drawn(frame)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("garbage", "sends no video that can be read; check the address"),
        ("page", "sends no video that can be read; check the address"),
        ("missing", "answers 404 Not Found; check path, user and password in the address"),
        ("private", "answers 401 Unauthorized; check path, user and password in the address"),
    ],
)
def test_a_server_that_sends_no_video_is_told_with_its_reason(
    server: Callable[..., str], path: str, complaint: str
) -> None:
    with pytest.raises(CameraError, match=complaint) as caught:
        NetworkCamera(server(path), 0.1, PATIENT).open()
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, NoCameraError)


@pytest.mark.parametrize(
    ("scheme", "path"), [("http", "silent"), ("http", "headers-only"), ("rtsp", "silent")]
)
def test_a_server_that_says_nothing_is_not_waited_for(
    server: Callable[..., str], scheme: str, path: str
) -> None:
    camera = NetworkCamera(server(path, scheme=scheme), 0.1, QUICK_TO_OPEN)
    with pytest.raises(
        CameraError, match=r"no video within 0\.9 s; check the camera and the network"
    ) as caught:
        camera.open()
    assert not isinstance(caught.value, NoCameraError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), NoCameraError),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), NoCameraError),
        (TimeoutError("timed out"), NoCameraError),
        (PermissionError(errno.EPERM, "Operation not permitted"), CameraError),
        (OSError(errno.EMFILE, "Too many open files"), CameraError),
    ],
)
def test_only_a_host_that_is_not_reached_is_taken_for_absent(
    monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[CameraError]
) -> None:
    def connect(*_: object) -> socket.socket:
        raise error

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(CameraError, match=f"127.0.0.1:{port} does not answer") as caught:
        NetworkCamera(f"http://127.0.0.1:{port}/live", 0.1, PATIENT).open()
    assert type(caught.value) is kind


def test_a_camera_that_is_switched_off_while_it_is_read_is_absent_when_it_is_opened_again() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), MjpegHandler) as only_one:
        camera = NetworkCamera(f"http://127.0.0.1:{only_one.server_address[1]}/end", 0.1, PATIENT)
        serving = threading.Thread(target=only_one.handle_request, name="server")
        serving.start()
        with camera, pytest.raises(CameraError, match="the stream ended"):
            for _ in camera.frames():
                pass
        serving.join()
    with pytest.raises(NoCameraError, match="refused"):
        camera.open()


def test_a_host_that_does_not_exist_or_does_not_listen_is_told(server: Callable[..., str]) -> None:
    with pytest.raises(NoCameraError, match=r"the host nowhere\.invalid is not found"):
        NetworkCamera("http://nowhere.invalid/live", 0.1, PATIENT).open()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for scheme in ("http", "https", "rtsp"):
        with pytest.raises(NoCameraError, match=f"127.0.0.1:{port} does not answer .*refused"):
            NetworkCamera(f"{scheme}://127.0.0.1:{port}/live", 0.1, PATIENT).open()


def test_a_server_of_another_kind_is_told(server: Callable[..., str]) -> None:
    with pytest.raises(CameraError, match="sends no video; check the address"):
        NetworkCamera(server("live").replace("http", "https"), 0.1, PATIENT).open()


def test_a_user_and_password_open_the_camera_and_are_never_shown(server: Callable[..., str]) -> None:
    address = server("private", user=f"admin:{PASSWORD}@")
    (frame,) = look(NetworkCamera(address, 0.1, PATIENT), 1)
    assert_drawn(frame)
    assert frame.source == server("private")
    wrong = server("private", user=f"admin:{PASSWORD}x@") + f"?pwd={PASSWORD}"
    with pytest.raises(CameraError, match="401") as caught:
        NetworkCamera(wrong, 0.1, PATIENT).open()
    assert PASSWORD not in str(caught.value)
    assert "admin" not in str(caught.value)


def test_rtsp_pictures_come_in_rgb(server: Callable[..., str]) -> None:
    for frame in look(NetworkCamera(server("live", scheme="rtsp"), 0.1, PATIENT), 5):
        assert_drawn(frame)


def test_an_rtsp_camera_that_falls_silent_is_an_error(server: Callable[..., str]) -> None:
    with (
        NetworkCamera(server("hang", scheme="rtsp"), 0.1, QUICK) as camera,
        pytest.raises(CameraError, match=r"no picture for 0\.\d+ s; check the camera and the network"),
    ):
        for frame in camera.frames():
            assert_drawn(frame)


def test_an_rtsp_server_that_sends_no_video_is_told_with_its_reason(server: Callable[..., str]) -> None:
    with pytest.raises(CameraError, match="answers 404 Stream Not Found; check path, user and password"):
        NetworkCamera(server("missing", scheme="rtsp"), 0.1, PATIENT).open()


def test_libraries_add_no_lines_of_their_own(
    server: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    for path in ("torn", "garbage-later", "missing", "silent", "hang"):
        try:
            look(NetworkCamera(server(path), 0.1, Limits(open_s=1.5, frame_s=1)), TORN + 3)
        except CameraError:
            continue
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://10.0.0.5:8554/live", "rtsp://10.0.0.5:8554/live"),
        ("http://[fe80::1]:80/a/b", "http://[fe80::1]:80/a/b"),
        ("rtsp://admin:s3cret@10.0.0.5/live", "rtsp://10.0.0.5/live"),
        ("rtsp://admin:s3@cret@10.0.0.5/live", "rtsp://10.0.0.5/live"),
        ("http://10.0.0.5/video.cgi?user=admin&pwd=s3cret", "http://10.0.0.5/video.cgi?…"),
        ("http://10.0.0.5?pwd=s3cret", "http://10.0.0.5?…"),
        ("rtsp://10.0.0.5:554/user=admin&password=s3cret&channel=1", "rtsp://10.0.0.5:554/…"),
        ("http://10.0.0.5/a\nb", "http://10.0.0.5/a\\nb"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert open_camera(address, 0.1).name == shown


@pytest.mark.parametrize(
    "address", ["http://", "http:///live", "rtsp:live", "https://:443/live", "http:10.0.0.5/live"]
)
def test_an_address_without_a_host_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match=r"names no host; write (http|https|rtsp)://HOST/PATH"):
        open_camera(address, 0.1)


@pytest.mark.parametrize(
    "address",
    [
        "http://admin:s3/cret@10.0.0.5/",
        "rtsp://admin:12/s3cret@10.0.0.5/live",
        "rtsp://admin:12?s3cret@10.0.0.5/live",
        "http://10.0.0.5:port/",
        "http://[fe80/",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(SettingError, match="camera cannot be read; write @ in it as %40") as caught:
        open_camera(address, 0.1)
    assert "admin" not in str(caught.value)
