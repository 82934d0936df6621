"""Sources of frames, one small class each behind one protocol."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Self

from hematovision.errors import SettingError
from hematovision.images import RGBImage


@dataclass(frozen=True)
class Frame:
    """One picture from a camera.

    ``image``: (height, width, 3) uint8 RGB. ``sequence``: number of the frame in its source, from 0.
    ``captured_at`` (UTC) and ``monotonic`` (seconds): when it was taken, or read from its file. ``source``:
    what a person calls where it comes from; of a file, its path as it was given.
    """

    image: RGBImage
    sequence: int
    captured_at: datetime
    monotonic: float
    um_per_pixel: float
    source: str

    @classmethod
    def now(cls, image: RGBImage, sequence: int, um_per_pixel: float, source: str) -> Self:
        """A frame taken at this moment."""
        return cls(image, sequence, datetime.now(UTC), monotonic(), um_per_pixel, source)


@dataclass(frozen=True)
class LostFrame:
    """A frame that was there and could not be used; ``error`` is the one line that says why."""

    sequence: int
    source: str
    error: str


class Camera(ABC):
    """A source of frames: opened, read to its end, closed. ``with camera:`` opens and closes it."""

    #: Whether every frame shows another place of the smear, so that no cell comes twice.
    places_apart: bool

    @abstractmethod
    def open(self) -> None:
        """Open the source. Raises `CameraError` where it is missing, empty or cannot be opened."""

    @abstractmethod
    def frames(self) -> Iterator[Frame | LostFrame]:
        """Frames in order, until the source ends. One that cannot be used comes as a `LostFrame`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the source; may be called more than once."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_camera(spec: str, um_per_pixel: float) -> Camera:
    """The camera that a text such as ``folder:DIR`` or ``file:VIDEO`` names; ``with`` opens it.

    Raises:
        SettingError: no camera has that name, or what must follow it is lacking.
    """
    # Each is imported only where it is wanted: some need what not every machine has.
    name, _, path = spec.partition(":")
    if name == "folder" and path:
        from edge.cameras.folder import FolderCamera

        return FolderCamera(path, um_per_pixel)
    if name == "file" and path:
        from edge.cameras.video import VideoCamera

        return VideoCamera(path, um_per_pixel)
    raise SettingError(f"no camera is called '{spec}'; known are folder:DIR and file:VIDEO")
