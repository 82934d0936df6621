"""What cameras read through OpenCV's VideoCapture share: its silence, its colours, its ends."""

import os
from abc import abstractmethod
from time import monotonic

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras.live import LiveCamera, Picture
from hematovision.errors import CameraError, ImageError
from hematovision.images import RGBImage, decode_image

_LOG_ERRORS_ONLY = 2


def silence_libraries() -> None:
    """Keep the warnings of FFmpeg and OpenCV off stderr: what is wrong is said once, by an error."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 4.13 moved it from cv2 to cv2.utils.logging. A release with neither says more than it should,
    # which is no reason to end. (OPENCV_LOG_LEVEL counts only before the first import of cv2, anywhere.)
    for holder in (getattr(cv2.utils, "logging", cv2), cv2):
        if hasattr(holder, "setLogLevel"):
            holder.setLogLevel(_LOG_ERRORS_ONLY)
            return


silence_libraries()

_END_OF_JPEG = b"\xff\xd9"
_MJPEG = cv2.VideoWriter.fourcc(*"MJPG")


class CaptureCamera(LiveCamera):
    """A live camera that OpenCV reads. A subclass opens ``_capture`` in ``_connect``."""

    #: What it says when no more pictures come.
    ended = "the camera stopped"

    _capture: cv2.VideoCapture | None = None
    #: When it opened or gave its last good picture, by the monotonic clock.
    _good_at = 0.0

    @property
    @abstractmethod
    def _patience_s(self) -> float:
        """How long `_wait` waits for a picture, in seconds."""

    def _grab(self) -> Picture:
        capture = self._capture
        assert capture is not None
        if not self._wait(capture):
            # A connection that hung in the middle of a picture gives that torn first, and then ends.
            if monotonic() - self._good_at >= self._patience_s:
                raise CameraError(f"{self.name}: no picture for {self._patience_s:g} s; {self.advice}")
            raise CameraError(f"{self.name}: {self.ended}; {self.advice}")
        taken_at = self._taken_at(capture)
        there, retrieved = capture.retrieve()
        if not there:
            raise ImageError(f"cannot be decoded; {self.advice}")
        picture = Picture(to_rgb(retrieved), taken_at)
        self._good_at = monotonic()
        return picture

    def _wait(self, capture: cv2.VideoCapture) -> bool:
        """Whether there is another picture to retrieve."""
        return bool(capture.grab())

    def _disconnect(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _taken_at(self, capture: cv2.VideoCapture) -> float:  # noqa: ARG002 (not every source tells it)
        """When the picture grabbed last was taken, by the monotonic clock in seconds."""
        return monotonic()


def sends_jpeg(capture: cv2.VideoCapture) -> bool:
    """Whether the open camera sends each picture as a JPEG."""
    return int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPEG


def to_rgb(retrieved: NDArray[np.uint8]) -> RGBImage:
    """RGB from what OpenCV retrieves: (height, width, 3) BGR, or (1, n) the JPEG as the camera sent it.

    Where there is a choice, take the JPEG: OpenCV decodes one that is cut short without a word, and shows
    the picture before in its place.

    Raises:
        ImageError: the JPEG is cut short or damaged, or a grey one by its kind.
    """
    if retrieved.ndim == 3:
        return cv2.cvtColor(retrieved, cv2.COLOR_BGR2RGB)
    jpeg = retrieved.tobytes()
    if _END_OF_JPEG not in jpeg:
        raise ImageError("is torn: the picture was not sent to its end")
    try:
        # Whether it is black, or grey where it should not be, is judged as of any other picture.
        return decode_image(jpeg, "picture", may_be_neutral=True)
    except ImageError as error:
        raise ImageError(f"cannot be used ({error})") from error
