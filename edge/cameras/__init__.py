"""Sources of frames, one small class each behind one protocol."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hematovision.errors import SettingError
from hematovision.images import RGBImage, shown_path
from hematovision.terminal.mistyped import did_you_mean

if TYPE_CHECKING:
    from edge.cameras.live import Limits


@dataclass(frozen=True)
class Frame:
    """One picture from a camera.

    ``image``: (height, width, 3) uint8 RGB. ``sequence``: number of the frame in its source, from 0.
    ``captured_at`` (UTC) and ``monotonic`` (seconds): when it was taken, or read from its file. ``source``:
    what a person calls where it comes from, without a password; of a file, its path as it was given.
    ``small``: the same exposure at a lower resolution, (h, w, 3) uint8 RGB, where the camera makes one.
    """

    image: RGBImage
    sequence: int
    captured_at: datetime
    monotonic: float
    um_per_pixel: float
    source: str
    small: RGBImage | None = None

    @classmethod
    def now(cls, image: RGBImage, sequence: int, um_per_pixel: float, source: str) -> Self:
        """A frame taken at this moment."""
        return cls(image, sequence, datetime.now(UTC), monotonic(), um_per_pixel, source)

    @classmethod
    def taken(
        cls,
        at: float,
        image: RGBImage,
        sequence: int,
        um_per_pixel: float,
        source: str,
        small: RGBImage | None = None,
    ) -> Self:
        """A frame taken at a time of the monotonic clock, in seconds."""
        captured_at = datetime.now(UTC) - timedelta(seconds=monotonic() - at)
        return cls(image, sequence, captured_at, at, um_per_pixel, source, small)


@dataclass(frozen=True)
class LostFrame:
    """A frame that was there and could not be used; ``error`` is the one line that says why."""

    sequence: int
    source: str
    error: str


class Camera(ABC):
    """A source of frames: opened, read to its end, closed. ``with camera:`` opens and closes it."""

    #: What a person calls it, without a password.
    name: str
    #: Whether every frame shows another place of the smear, so that no cell comes twice.
    places_apart: bool
    #: Whether it goes on while a frame is looked at, so that only the newest matters; else none may be lost.
    live: bool
    #: Scale that it knows by itself; None where the user says it or it is measured.
    um_per_pixel: float | None = None
    #: How many frames it has, once it is open and where that is known.
    expected: int | None = None
    #: What a person should know of it, such as files that are left out; in one line, from when it is known.
    remark: str | None = None
    #: Pictures that came again unchanged, and were dropped.
    repeats: int = 0

    @abstractmethod
    def open(self) -> None:
        """Open the source.

        Raises:
            CameraError: it is missing, empty, busy or cannot be opened.
            NoCameraError: of a live camera, there is none at all.
            SettingError: it does not have what was asked of it.
        """

    @abstractmethod
    def frames(self) -> Iterator[Frame | LostFrame]:
        """Frames in order, until the source ends. One that cannot be used comes as a `LostFrame`.

        Raises:
            CameraError: the source stopped, or gave nothing within its limit.
        """

    def is_locked(self) -> bool:
        """Return whether exposure, gains and white balance are known to stay. Any thread may ask."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Let go of the source; may be called more than once.

        Raises:
            StuckThreadError: a thread of the camera does not end.
        """

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class CameraKind:
    """A kind of camera: how it is written, what it is, and the class, which takes the text after the colon.

    The classes of `whole` addresses take all of the text instead, those of a `device` also its `Limits`.
    """

    usage: str
    help: str
    module: str
    class_name: str
    whole: bool = False
    device: bool = False

    @property
    def name(self) -> str:
        """What stands before the colon."""
        return self.usage.partition(":")[0].partition("[")[0]

    @property
    def needs_argument(self) -> bool:
        """Whether something must stand after the colon."""
        return self.usage[len(self.name)] == ":"


_NETWORK = "network", "NetworkCamera"
#: Every camera there is.
CAMERA_KINDS = (
    CameraKind(
        "picamera2[:N,OPTIONS]", "a Raspberry Pi's camera, number N", "picamera2", "PiCamera", device=True
    ),
    CameraKind("v4l2:/dev/videoN[,OPTIONS]", "a USB camera", "v4l2", "V4L2Camera", device=True),
    CameraKind("rtsp://ADDRESS", "a network camera", *_NETWORK, whole=True, device=True),
    CameraKind("http://ADDRESS", "a network camera, MJPEG or video", *_NETWORK, whole=True, device=True),
    CameraKind("https://ADDRESS", "the same, encrypted", *_NETWORK, whole=True, device=True),
    CameraKind("file:VIDEO", "a video file", "video", "VideoCamera"),
    CameraKind("folder:DIR", "a folder of images, each a place of its own", "folder", "FolderCamera"),
    CameraKind("phantom[:OPTIONS]", "a drawn slide", "phantom", "PhantomCamera"),
)


def open_camera(spec: str, um_per_pixel: float, limits: "Limits | None" = None) -> Camera:
    """The camera that a text such as ``folder:DIR`` or ``v4l2:/dev/video0`` names; ``with`` opens it.

    Args:
        spec: kind, a colon, and which.
        um_per_pixel: scale of its frames; NaN where it is still to be measured.
        limits: how long a device is waited for; without, as a person in front of it would.

    Raises:
        SettingError: no camera has that name, or what follows it cannot be meant.
        MissingPartError: the camera needs a library that is not installed.
    """
    name, _, argument = spec.partition(":")
    kind = next((kind for kind in CAMERA_KINDS if kind.name == name), None)
    if kind is None:
        # Not all of the text: a mistyped address may hold a password.
        known = ", ".join(kind.usage for kind in CAMERA_KINDS)
        raise SettingError(f"no camera is called '{shown_path(name)}'; known are {known}{_meant(spec)}")
    if kind.needs_argument and not argument:
        raise SettingError(f"camera '{spec}' says not which; write {kind.usage}")
    # Each is imported only where it is wanted: some need what not every machine has.
    camera_class = getattr(import_module(f"edge.cameras.{kind.module}"), kind.class_name)
    which = spec if kind.whole else argument
    return camera_class(which, um_per_pixel, limits) if kind.device else camera_class(which, um_per_pixel)


def _meant(spec: str) -> str:
    """What is to be asked of a text that begins with no kind of camera: whether another was meant."""
    # Unlike Path's, these raise nothing for a path that cannot be looked at.
    if os.path.exists(spec):  # noqa: PTH110
        kind = "folder" if os.path.isdir(spec) else "v4l2" if spec.startswith("/dev/") else "file"  # noqa: PTH112
        return f"; did you mean '{kind}:{shown_path(spec)}'?"
    return did_you_mean(spec.partition(":")[0], (kind.name for kind in CAMERA_KINDS))
