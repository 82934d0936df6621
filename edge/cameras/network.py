"""A camera on the network, by its address: RTSP, or MJPEG or other video over HTTP.

``rtsp://USER:PASSWORD@HOST/PATH`` and the like. No message and no frame shows the user, the password, or
the part of an address in which cameras take them. Of https, the certificate is not checked. FFmpeg reads it
through a `Gate`, which reaches no other host.
"""

import errno
import os
import re
import socket
from time import monotonic
from urllib.parse import urlsplit

import cv2

from edge.cameras.capture import CaptureCamera, sends_jpeg
from edge.cameras.gate import PORTS, Gate
from edge.cameras.live import Limits
from hematovision.errors import CameraError, NoCameraError, SettingError
from hematovision.images import MAX_PIXELS, shown_path

# Over UDP, FFmpeg's first choice, packets get lost and pictures come torn, which nothing tells. (That the
# variable is there is enough for TCP; OpenCV's wheels were seen to take no other option from it.)
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
# What FFmpeg opens is on this machine.
os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1"]))

# FFmpeg's waits end before ours do, so that the error says which it was; so does asking the server why. They
# cannot be interrupted: that for a picture ends within what `UNATTENDED` gives for closing.
_OPEN_SHARE, _ASK_SHARE, _FRAME_SHARE = 0.6, 0.15, 0.7

# A machine that is off, or not on this network: not one that is there and refuses what it is asked for.
_NOBODY_THERE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}

_QUESTIONS = {
    "http": "GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n",
    "rtsp": "DESCRIBE {target} RTSP/1.0\r\nCSeq: 1\r\n\r\n",
}
_STATUS_LINE = re.compile(r"(?:HTTP|RTSP)/\d\.\d (\d{3}.*)")


class NetworkCamera(CaptureCamera):
    """The camera at an address that begins with ``rtsp://``, ``http://`` or ``https://``."""

    advice = "check the camera and the network"
    ended = "the stream ended"
    video = True

    _gate: Gate | None = None

    def __init__(self, address: str, um_per_pixel: float, limits: Limits | None = None) -> None:
        scheme = address.partition(":")[0]
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
            if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # what is before it may be a password
                raise ValueError
        except ValueError:  # its text may be a part of the password
            raise SettingError(
                f"the address of the {scheme} camera cannot be read; write @ in it as %40, and of a password "
                "also / ? # : as %2F %3F %23 %3A"
            ) from None
        if not host or not address.startswith(f"{scheme}://"):
            raise SettingError(
                f"the address of the {scheme} camera names no host; write {scheme}://HOST/PATH"
            )
        super().__init__(shown_address(address), um_per_pixel, limits)
        self._parts = parts
        self._scheme, self._host, self._port = scheme, host, port or PORTS[scheme]
        self._place = f"{self._host}:{self._port}"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._target = f"rtsp://{host}:{self._port}{target}" if scheme == "rtsp" else target or "/"

    @property
    def _patience_s(self) -> float:
        return self._limits.frame_s * _FRAME_SHARE

    def _connect(self) -> None:
        start, limit = monotonic(), self._limits.open_s * _OPEN_SHARE
        self._gate = Gate(self._parts, max(self._limits.open_s, self._limits.frame_s))
        capture = self._capture = cv2.VideoCapture(
            self._gate.address,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * limit)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * self._patience_s)),
                # Decoding on several threads delays the picture by as many frames.
                *(cv2.CAP_PROP_N_THREADS, 1),
            ],
        )
        if not capture.isOpened():
            if self._gate.refused is not None:
                raise CameraError(f"{self.name}: {self._gate.refused}")
            late = monotonic() - start >= limit
            with self._reach() as connection:
                why = f"no video within {limit:g} s; {self.advice}" if late else self._ask_why(connection)
            raise CameraError(f"{self.name}: {why}")
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise CameraError(
                f"{self.name}: sends pictures of {width:.0f}x{height:.0f}, more than "
                f"{MAX_PIXELS // 1_000_000} megapixels; set the camera to fewer"
            )
        if sends_jpeg(capture):
            capture.set(cv2.CAP_PROP_FORMAT, -1)  # as it was sent
        self._good_at = monotonic()

    def _wait(self, capture: cv2.VideoCapture) -> bool:
        assert self._gate is not None
        came = super()._wait(capture)
        if came:
            self._gate.picture_came()
        elif self._gate.refused is not None:
            raise CameraError(f"{self.name}: {self._gate.refused}")
        return came

    def _disconnect(self) -> None:
        # First, so that FFmpeg waits for nothing.
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        super()._disconnect()

    def _reach(self) -> socket.socket:
        """A connection to the server. OpenCV only says that nothing opened: is there anybody?"""
        try:
            return socket.create_connection((self._host, self._port), self._limits.open_s * _ASK_SHARE)
        except socket.gaierror as error:
            reason = f"the host {self._host} is not found ({error.strerror}); check the address"
            raise NoCameraError(f"{self.name}: {reason}") from error
        except OSError as error:
            reason = f"{self._place} does not answer ({error.strerror or error}); {self.advice}"
            absent = isinstance(error, TimeoutError) or error.errno in _NOBODY_THERE
            raise (NoCameraError if absent else CameraError)(f"{self.name}: {reason}") from error

    def _ask_why(self, connection: socket.socket) -> str:
        """What the server says to being asked for the video. One line, without the camera's name."""
        place = self._place
        question = _QUESTIONS.get(self._scheme)
        if question is None:  # what is encrypted is left to FFmpeg
            return "sends no video; check the address"
        try:
            connection.sendall(question.format(target=self._target, host=place).encode())
            answer = connection.recv(200).decode("latin-1")
        except OSError as error:
            return f"{place} does not answer ({error.strerror or error}); {self.advice}"
        status = _STATUS_LINE.match(answer)
        if status is None:
            return f"{place} answers with something else than {self._scheme.upper()}; check the port"
        if status[1].startswith("2"):
            return "sends no video that can be read; check the address"
        return (
            f"{place} answers {shown_path(status[1].strip())}; check path, user and password in the address"
        )


def shown_address(address: str) -> str:
    """An address as messages show it: host, port and path, nothing in which cameras take a password."""
    scheme, _, rest = address.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    path = re.split("[?#]", behind, maxsplit=1)[0]
    # Some cameras take /user=admin&password=... in the path.
    shown = "/…" if "=" in path else path
    return shown_path(f"{scheme}://{authority.rpartition('@')[2]}{shown}{'?…' if behind != path else ''}")
