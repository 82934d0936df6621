"""What live cameras share: a thread to read on, a limit on every wait, checks of what comes."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from time import monotonic

import numpy as np

from edge.cameras import Camera, Frame, LostFrame
from edge.threads import STOP_LIMIT_S, Closed, Handover, Worker
from hematovision.errors import CameraError, ImageError, StuckThreadError
from hematovision.images import RGBImage, check_size, is_grey

# Every so many pixels in x and y are looked at: no fault that is told here is as small as that.
_SAMPLE_STEP = 8
# Of 255; a dark sensor's noise, and the 16 that video takes for black, lie below.
_BLACK = 24
# Of 255; where every pixel is saturated there is no noise either, and the picture seems to stand still.
_WHITE = 250
# Of 255, from one pixel looked at to the next: a cell's edge, more than noise and vignetting do.
_EDGE = 30


@dataclass(frozen=True)
class Limits:
    """How long a live camera is waited for, in seconds.

    ``open_s``: for it to open. ``frame_s``: for a picture. ``unusable_s``: while every picture is black,
    torn or otherwise unusable. ``still_s``: while every picture is bit for bit the one before.
    ``still_video_s``: the same of compressed video, in which a still field may repeat itself until the next
    key frame. ``stop_s``: for its thread to end.
    """

    open_s: float = 10.0
    frame_s: float = 5.0
    unusable_s: float = 10.0
    still_s: float = 10.0
    still_video_s: float = 30.0
    stop_s: float = STOP_LIMIT_S


#: Of a device that is left alone, whose camera must give frames again 5 s after it stalled. Noticed after
#: 2.5 s, closed and paused half a second, it has 2 s left to open, which USB and Pi cameras do in about one.
#: A camera that gives less than a picture in 2.5 s is none to move a slide by. A sensor's noise makes any
#: two pictures differ, so one that repeats itself as long has stalled too. What is black or torn does come,
#: and opening the camera again does not switch a lamp on: that is borne with for longer. Ending is as quick
#: as a service must be that has 5 s for all of it.
UNATTENDED = Limits(frame_s=2.5, still_s=2.5, stop_s=2.0)


@dataclass(frozen=True)
class Picture:
    """What a camera's driver gives: (height, width, 3) uint8 RGB, and the monotonic clock when it was taken.

    ``small``: as in `Frame`.
    """

    image: RGBImage
    monotonic: float
    small: RGBImage | None = None


class LiveCamera(Camera):
    """A camera that goes on while nobody looks.

    A subclass connects, grabs one picture after the other and disconnects, all three on one thread, which
    this class owns: a library that hangs there is noticed here. Nothing is dropped but repeats; who wants
    the newest frame reads without pause and drops the others. Any thread may close it, at any time: that ends
    an `open` that waits with an error, and `frames`.
    """

    places_apart = False
    live = True
    #: What a person should look at when the camera fails.
    advice = "check its cable and power"
    #: Whether its pictures are compressed one by the other.
    video = False

    def __init__(self, name: str, um_per_pixel: float, limits: Limits | None = None) -> None:
        self.name = name
        self._um_per_pixel = um_per_pixel
        self._limits = limits or Limits()
        #: Width and height that every picture must have; where `_connect` sets none, those of the first.
        self._size: tuple[int, int] | None = None
        self._handover: Handover[Picture | ImageError | None] | None = None
        self._thread: Worker | None = None
        self._opening_or_closing = Lock()
        self._sequence = 0
        self._last: RGBImage | None = None
        #: Whether it is to be closed: what waits in Python looks this up, and raises `CameraError`.
        self._closing = False

    @abstractmethod
    def _connect(self) -> None:
        """Open the device. Raises `CameraError` or `SettingError`, after which `_disconnect` follows too."""

    @abstractmethod
    def _grab(self) -> Picture:
        """The next picture, waited for less long than ``Limits.frame_s`` where the library can.

        Raises:
            ImageError: there was one, and it cannot be used; what is wrong, in words that follow "frame 7".
            CameraError: the camera stopped.
        """

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of the device, also where connecting failed half-way."""

    def open(self) -> None:
        """Open the camera.

        Raises:
            CameraError: it does not open, or not within its limit, or is closed meanwhile.
            NoCameraError: there is no such camera.
            SettingError: it does not have what was asked of it.
            StuckThreadError: it still hangs since it was closed last.
        """
        handover: Handover[Picture | ImageError | None] = Handover()
        with self._opening_or_closing:
            if self._handover is not None:
                raise CameraError(f"{self.name}: is open already; close it first")
            if self._thread is not None and self._thread.is_alive():
                raise StuckThreadError(
                    f"{self.name}: still hangs since it was closed last: end the process; {self.advice}"
                )
            self._size, self._last, self._sequence, self.repeats = None, None, 0, 0
            self._closing = False
            self._handover = handover
            self._thread = Worker(f"camera {self.name}", lambda: self._read(handover), handover)
            self._thread.start()
        with ExitStack() as undo:
            undo.callback(self.close)
            try:
                handover.take(self._limits.open_s)
            except Closed as error:
                raise CameraError(f"{self.name}: was closed while it opened") from error
            except TimeoutError as error:
                raise CameraError(
                    f"{self.name}: did not open within {self._limits.open_s:g} s; {self.advice}"
                ) from error
            undo.pop_all()

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Frames as they come, until the camera is closed.

        Raises:
            CameraError: the camera stopped; it gave no picture, no usable one, or only the same one for
                longer than its limits; or it is not open.
        """
        handover = self._handover
        if handover is None:
            raise CameraError(f"{self.name}: the camera is not open")
        return self._checked(handover)

    def close(self) -> None:
        """Let go of the camera and end its thread.

        Whoever closes it while another does waits until that is done; the other is told what went wrong.

        Raises:
            CameraError: the device cannot be let go of.
            StuckThreadError: the thread does not end within its limit.
        """
        with self._opening_or_closing:
            if self._handover is None or self._thread is None:
                return
            self._closing = True
            self._handover.close()
            self._handover = None
            self._thread.finish(self._limits.stop_s)

    def _checked(self, handover: Handover[Picture | ImageError | None]) -> Iterator[Frame | LostFrame]:
        limits = self._limits
        still_s = limits.still_video_s if self.video else limits.still_s
        fresh_at = monotonic()
        while True:
            try:
                item = handover.take(limits.frame_s)
            except Closed:
                return
            except TimeoutError as error:
                raise CameraError(
                    f"{self.name}: no picture for {limits.frame_s:g} s; {self.advice}"
                ) from error
            sequence, self._sequence = self._sequence, self._sequence + 1
            picture = self._usable(item)
            waited = monotonic() - fresh_at
            if isinstance(picture, str):
                if waited > limits.unusable_s:
                    raise CameraError(
                        f"{self.name}: no usable picture for {limits.unusable_s:g} s, the last one {picture}"
                    )
                yield LostFrame(sequence, self.name, f"{self.name}: frame {sequence} {picture}")
            elif self._is_repeat(picture):
                self.repeats += 1
                if waited > still_s:
                    raise CameraError(
                        f"{self.name}: the picture has stood still for {still_s:g} s; {self.advice}"
                    )
            else:
                yield Frame.taken(
                    picture.monotonic, picture.image, sequence, self._um_per_pixel, self.name, picture.small
                )
                fresh_at = monotonic()  # what the frame's user took for it is no fault of the camera's

    def _read(self, handover: Handover[Picture | ImageError | None]) -> None:
        """What the thread does: connect, say so, then one picture after the other until nobody takes them."""
        try:
            self._connect()
            handover.put(None)
            while True:
                item: Picture | ImageError
                try:
                    item = self._grab()
                except ImageError as error:
                    item = error
                handover.put(item)
        except CameraError:
            if not self._closing:  # else nobody waits for a picture any more
                raise
        finally:
            self._disconnect()

    def _usable(self, item: Picture | ImageError | None) -> Picture | str:
        """The picture, or what is wrong with it."""
        if not isinstance(item, Picture):
            return str(item)
        height, width = item.image.shape[:2]
        if self._size is not None and self._size != (width, height):
            return f"is {width}x{height} pixels, not {self._size[0]}x{self._size[1]}; {self.advice}"
        try:
            check_size(width, height, "picture")
        except ImageError as error:
            return f"cannot be used ({error})"
        sample = _sample(item.image)
        if sample.mean() < _BLACK:
            return "is black; switch the lamp on, open the diaphragm or expose longer"
        if sample.min() > _WHITE:
            return "is white all over; turn the lamp down or expose shorter"
        if _has_edges(sample) and is_grey(sample):
            return "has no colour; the stain is told by it, so set the camera to colour"
        self._size = width, height
        return item

    def _is_repeat(self, picture: Picture) -> bool:
        """Whether a picture is bit for bit the last one: a sensor's noise alone makes any two differ."""
        sample = _sample(picture.image)
        repeat = self._last is not None and np.array_equal(sample, self._last)
        self._last = sample.copy()  # the sample itself would keep the whole picture in memory
        return repeat


def _has_edges(sample: RGBImage) -> bool:
    """Whether anything is in view: an empty field, its white balanced, is grey by right."""
    green = sample[..., 1].astype(np.int16)
    return bool(np.abs(np.diff(green)).max() >= _EDGE)


def _sample(image: RGBImage) -> RGBImage:
    return image[::_SAMPLE_STEP, ::_SAMPLE_STEP]
