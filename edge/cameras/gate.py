"""Between FFmpeg and a camera on the network, so that it reaches that camera alone and takes bounded memory.

FFmpeg follows redirects to anywhere, and holds a picture in memory until that ends. Here it is given an
address of this machine instead, behind which a `Gate` talks to the camera: HTTP as a client of its own, which
follows redirects within the camera's host and passes on the body alone, unless that is a playlist; RTSP
message by message, less what would redirect. What comes between two pictures is limited, and a JPEG's size is
looked at before FFmpeg decodes it.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Lock, Thread
from typing import BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

from hematovision.images import MAX_PIXELS, shown_path

#: From one picture to the next. The largest that is opened takes less as a JPEG of good quality.
MAX_BYTES_A_PICTURE = 48 * 1024 * 1024
PORTS = {"rtsp": 554, "http": 80, "https": 443}

_PIECE = 65_536
_MAX_LINE, _MAX_LINES, _MAX_BODY = 4000, 100, 1 << 20
_MAX_REDIRECTS = 5
_CONNECTIONS = 4  # FFmpeg has one, and another for a moment where it looks elsewhere in a file
_STOP_S = 5.0
_ASKED_ON = ("user-agent", "accept", "range", "authorization", "cookie")
_ANSWERED_ON = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "WWW-Authenticate")
# The frame header of a JPEG: its kind and length, 8 or 12 bits, height and width (here: any), 1, 3 or 4
# channels, and of the first its number, sampling and table. By chance it is in no video for years.
_JPEG_FRAME = re.compile(
    rb"\xff[\xc0-\xc3\xc9\xca\xf7]\x00"
    rb"(?:\x0b[\x08\x0c](?P<one>....)\x01|\x11[\x08\x0c](?P<three>....)\x03|\x14[\x08\x0c](?P<four>....)\x04)"
    rb".[\x11-\x44][\x00-\x03]",
    re.DOTALL,
)
# By this FFmpeg knows the formats in which a file names other files and hosts (HLS, concat, DASH and SDP). It
# looks for that in the first megabyte at most, or behind a tag that it skips.
_PLAYLIST = re.compile(rb"#EXTM3U|ffconcat version|<MPD|(?:\A|[\r\n])c=IN IP", re.IGNORECASE)
_PLAYLIST_WITHIN_BYTES = 8 << 20
_OVERLAP_BYTES = 20


class _Refused(Exception):  # noqa: N818 (the camera's fault, and told by the gate)
    """What the camera sends is not passed on."""


class Gate:
    """A server on this machine for one camera, open until it is closed. It belongs to that camera's thread.

    Args:
        parts: the camera's address.
        limit_s: how long it may say nothing, in seconds.
    """

    def __init__(self, parts: SplitResult, limit_s: float) -> None:
        assert parts.hostname is not None
        self._parts, self._limit_s = parts, limit_s
        self._host = parts.hostname
        self._port = parts.port or PORTS[parts.scheme]
        #: Why something was not passed on, in words that follow the camera's name.
        self.refused: str | None = None
        self._left = MAX_BYTES_A_PICTURE
        self._open: set[socket.socket] = set()
        self._closed = False
        self._changing = Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_CONNECTIONS)
        self._threads = [Thread(target=self._listen, name=f"camera gate {self._host}", daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        """What FFmpeg opens in the place of the camera's address."""
        user = self._parts.netloc.rpartition("@")[0]
        place = f"{user}@127.0.0.1" if user else "127.0.0.1"
        scheme = "rtsp" if self._parts.scheme == "rtsp" else "http"
        return self._parts._replace(
            scheme=scheme, netloc=f"{place}:{self._listener.getsockname()[1]}"
        ).geturl()

    def picture_came(self) -> None:
        """Allow as much again as a picture may have."""
        self._left = MAX_BYTES_A_PICTURE

    def close(self) -> None:
        """Cut all connections and end."""
        with self._changing:
            self._closed = True
            for one in (self._listener, *self._open):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_STOP_S)
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while True:
                ffmpeg, _ = self._listener.accept()
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                if len(self._threads) > _CONNECTIONS:
                    ffmpeg.close()
                    continue
                self._start(self._serve, ffmpeg)

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = Thread(target=work, args=arguments, name=f"camera gate {self._host}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, ffmpeg: socket.socket) -> None:
        try:
            with self._cut_on_close(ffmpeg):
                ffmpeg.settimeout(self._limit_s)
                (self._serve_rtsp if self._parts.scheme == "rtsp" else self._serve_http)(ffmpeg)
        except (_Refused, OSError, HTTPException, ValueError, IndexError):
            pass  # the camera is asked why, once nothing opens

    @contextmanager
    def _cut_on_close(self, one: socket.socket) -> Iterator[None]:
        """Close a socket at the end, and cut it when the gate is closed."""
        with closing(one):
            with self._changing:
                if self._closed:
                    raise OSError("closed")
                self._open.add(one)
            try:
                yield
            finally:
                with self._changing:
                    self._open.discard(one)
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)  # closing alone ends nothing while a thread reads

    def _refuse(self, why: str) -> _Refused:
        self.refused = why  # before FFmpeg is cut off, after which it is asked for
        return _Refused(why)

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise self._refuse(
                f"sends more than {MAX_BYTES_A_PICTURE >> 20} MiB without a picture; check the address"
            )

    # HTTP

    def _serve_http(self, ffmpeg: socket.socket) -> None:
        with ffmpeg.makefile("rb") as asked:
            target = _line(asked).split(" ")[1]
            headers = dict(_headers(asked))
        wanted = {name: headers[name] for name in _ASKED_ON if name in headers}
        with ExitStack() as cameras:
            response = self._answered(target, wanted, cameras)
            ffmpeg.sendall(_head(response))
            seen, passed = b"", 0
            while piece := response.read1(_PIECE):
                self._take(len(piece))
                seen = seen[-_OVERLAP_BYTES:] + piece
                if passed < _PLAYLIST_WITHIN_BYTES and _PLAYLIST.search(seen):
                    raise self._refuse("sends no video but a playlist; give the address of the video itself")
                self._check_jpegs(seen)
                ffmpeg.sendall(piece)
                passed += len(piece)

    def _check_jpegs(self, data: bytes) -> None:
        """Raise `_Refused` where a JPEG begins that is larger than any that is opened."""
        for found in _JPEG_FRAME.finditer(data):
            size = found["one"] or found["three"] or found["four"]
            height, width = int.from_bytes(size[:2]), int.from_bytes(size[2:])
            if width * height > MAX_PIXELS:
                raise self._refuse(
                    f"sends pictures of {width}x{height}, more than {MAX_PIXELS // 1_000_000} megapixels; "
                    "set the camera to fewer"
                )

    def _answered(self, target: str, headers: dict[str, str], cameras: ExitStack) -> HTTPResponse:
        """The camera's answer, redirected within its host at most; ``cameras`` closes what was connected."""
        address = f"{self._parts.scheme}://{self._parts.netloc.rpartition('@')[2]}{target}"
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(address)
            connection = self._connection(parts)
            assert connection.sock is not None
            cameras.enter_context(self._cut_on_close(connection.sock))
            connection.putrequest("GET", _target(parts), skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", parts.netloc.rpartition("@")[2])
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = cameras.enter_context(closing(connection.getresponse()))
            location = response.getheader("Location")
            if not 300 <= response.status < 400 or location is None:
                return response
            address = urljoin(address, location)
        raise self._refuse(f"redirects more than {_MAX_REDIRECTS} times; check the address")

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        if parts.scheme not in ("http", "https"):
            raise self._refuse(
                f"redirects to {shown_path(parts.scheme)}, which is no HTTP; check the address"
            )
        if parts.hostname != self._host:
            raise self._refuse(
                f"redirects to another host ({shown_path(str(parts.hostname))}); "
                "give its address if that is meant"
            )
        port = parts.port or PORTS[parts.scheme]
        if parts.scheme == "http":
            connection = HTTPConnection(self._host, port, timeout=self._limit_s)
        else:
            # Cameras sign their certificates themselves.
            context = ssl._create_unverified_context()  # noqa: S323
            connection = HTTPSConnection(self._host, port, timeout=self._limit_s, context=context)
        connection.connect()
        return connection

    # RTSP

    def _serve_rtsp(self, ffmpeg: socket.socket) -> None:
        camera = socket.create_connection((self._host, self._port), self._limit_s)
        with self._cut_on_close(camera):
            self._start(_pass_on, ffmpeg, camera)
            with camera.makefile("rb") as messages:
                while start := messages.peek(1)[:1]:
                    message = self._media(messages) if start == b"$" else self._message(messages)
                    self._take(len(message))
                    ffmpeg.sendall(message)

    def _media(self, messages: BinaryIO) -> bytes:
        head = messages.read(4)
        return head + messages.read(int.from_bytes(head[2:]))

    def _message(self, messages: BinaryIO) -> bytes:
        """The next answer or request, written anew, so that FFmpeg finds its end where we do."""
        first = _line(messages)
        if not first:
            return b""
        if re.match(r"RTSP/\S+ +3", first):
            raise self._refuse("redirects, which is not followed with RTSP; give the address that is meant")
        headers = dict(_headers(messages))
        headers.pop("location", None)
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= _MAX_BODY:
            raise self._refuse(f"announces a description of {length:,} bytes; check the address")
        headers["content-length"] = str(length)
        lines = [first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + messages.read(length)


def _pass_on(ffmpeg: socket.socket, camera: socket.socket) -> None:
    with suppress(OSError):
        while piece := ffmpeg.recv(_PIECE):
            camera.sendall(piece)
        camera.shutdown(socket.SHUT_RDWR)


def _line(lines: BinaryIO) -> str:
    line = lines.readline(_MAX_LINE)
    if len(line) == _MAX_LINE:
        raise ValueError("a line without an end")
    return line.decode("latin-1").strip().replace("\r", " ")


def _headers(lines: BinaryIO) -> Iterator[tuple[str, str]]:
    """Headers up to the empty line behind them, their names in small letters."""
    for _ in range(_MAX_LINES):
        name, colon, value = _line(lines).partition(":")
        if not name:
            return
        if colon:
            yield name.strip().lower(), value.strip()
    raise ValueError("headers without an end")


def _head(response: HTTPResponse) -> bytes:
    """An answer's head as FFmpeg gets it: where the body goes on, and nothing that leads elsewhere."""
    lines = [f"HTTP/1.1 {response.status} answered", "Connection: close"]
    for name in _ANSWERED_ON:
        if not (name == "Content-Length" and response.chunked):
            lines += [f"{name}: {' '.join(value.split())}" for value in response.headers.get_all(name, ())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
