"""The live picture: one encoder for all who watch, and only while somebody does."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic

from flask import Blueprint, Response
from werkzeug.exceptions import ServiceUnavailable

from edge.device import Device
from edge.threads import STOP_LIMIT_S
from edge.web.drawing import draw
from hematovision.errors import StuckThreadError

#: Pictures a second at most.
RATE = 10.0
_BOUNDARY = b"hematovision-picture"
_HEAD = b"--%b\r\nContent-Type: image/jpeg\r\n\r\n" % _BOUNDARY
# Nothing new for so long: the last is sent again, which shows who has gone away.
_REPEAT_S = 2.0
_FIRST_PICTURE_S = 2.0
# How soon the encoder notices that it is to end.
_LOOK_S = 0.2


@dataclass(frozen=True)
class Picture:
    """A frame as it is shown: its running number, and JPEG."""

    number: int
    jpeg: bytes
    part: bytes  # the same with the head of the next part; one object for all who watch


class LivePicture:
    """Encodes the newest frame for all who watch. It owns a thread until `close`.

    Args:
        device: whose frames are shown.
        viewers: how many may watch at a time.
    """

    def __init__(self, device: Device, viewers: int) -> None:
        #: Pictures encoded so far.
        self.encoded = 0
        self._device = device
        self._limit = viewers
        self._viewers = 0
        self._picture: Picture | None = None
        self._closed = False
        #: What ended the encoder early.
        self.error: BaseException | None = None
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="live picture", daemon=True)
        self._thread.start()

    @property
    def viewers(self) -> int:
        """How many watch now."""
        return self._viewers

    def join(self) -> None:
        """Be one of those who watch, until `leave`. Raises `ServiceUnavailable` where there are too many."""
        with self._changed:
            self._check()
            if self._viewers >= self._limit:
                raise ServiceUnavailable(
                    f"{self._limit} are watching already, as many as the settings allow (web.viewers)",
                    retry_after=10,
                )
            self._viewers += 1
            self._changed.notify_all()

    def leave(self) -> None:
        """Watch no longer."""
        with self._changed:
            self._viewers -= 1
            if not self._viewers:
                self._picture = None  # whoever watches next gets no old one

    def next(self, after: int, limit_s: float) -> Picture | None:
        """The newest picture once it is newer than number ``after``; None where none comes in time.

        Raises:
            ServiceUnavailable: the page is closing, or the encoder failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.error or self._number > after, limit_s)
            self._check()
            return self._picture if self._number > after else None

    def first(self) -> Picture:
        """What whoever joined sees first. Raises `ServiceUnavailable` where there is no picture so far."""
        picture = self.next(-1, _FIRST_PICTURE_S)
        if picture is None:
            raise ServiceUnavailable("there is no picture yet", retry_after=2)
        return picture

    def close(self) -> None:
        """End all streams and the thread; may be called more than once. Raises `StuckThreadError`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(STOP_LIMIT_S)
        if self._thread.is_alive():
            raise StuckThreadError(f"the thread '{self._thread.name}' did not stop; end the process")

    @property
    def _number(self) -> int:
        return -1 if self._picture is None else self._picture.number

    def _check(self) -> None:
        if self.error is not None:
            raise ServiceUnavailable("the live picture failed; its reason is in the device's log")
        if self._closed:
            raise ServiceUnavailable("the device is stopping")

    def _run(self) -> None:
        try:
            while self._wait_for_viewer():
                started = monotonic()
                self._encode_newest()
                with self._changed:  # not faster than RATE
                    self._changed.wait_for(lambda: self._closed, started + 1 / RATE - monotonic())
        except Exception as error:
            with self._changed:
                self.error = error
                self._changed.notify_all()
            raise  # to the log

    def _wait_for_viewer(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._viewers)
            return not self._closed

    def _encode_newest(self) -> None:
        found = self._device.wait_frame(self._number, _LOOK_S)
        if found is None:
            return
        number, frame = found
        jpeg = draw(frame.frame.image, frame.cells)
        picture = Picture(number, jpeg, b"%b\r\n%b" % (jpeg, _HEAD))
        self.encoded += 1
        with self._changed:
            if self._viewers:
                self._picture = picture
            self._changed.notify_all()


def live_pages(live: LivePicture) -> Blueprint:
    """``/live.mjpg``, pictures as they come, and ``/live.jpg``, the newest."""
    pages = Blueprint("live", __name__)

    @pages.get("/live.mjpg")
    def stream() -> Response:
        # Now, so that whoever is one too many or too early is told by the status. Without a picture nothing
        # would be sent, and nothing would show who has gone away.
        live.join()
        try:
            first = live.first()
        except ServiceUnavailable:
            live.leave()
            raise

        def parts(picture: Picture) -> Iterator[bytes]:
            # The head of a part comes with the picture before: Chromium shows that only then.
            yield _HEAD
            while True:
                yield picture.part
                try:
                    picture = live.next(picture.number, _REPEAT_S) or picture
                except ServiceUnavailable:
                    return

        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        response = Response(parts(first), content_type=kind)
        response.call_on_close(live.leave)
        return response

    @pages.get("/live.jpg")
    def newest() -> Response:
        live.join()
        try:
            return Response(live.first().jpeg, mimetype="image/jpeg")
        finally:
            live.leave()

    return pages
