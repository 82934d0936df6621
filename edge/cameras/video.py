"""A video file, frame by frame; none is skipped."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import cv2

from edge.cameras import Camera, Frame, LostFrame
from hematovision.errors import CameraError, ImageError
from hematovision.images import check_size, is_grey, shown_path

#: Endings by which a file is taken for a video.
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

# A file with fewer frames than it states, by more than this share, was cut short.
_FRAME_COUNT_TOLERANCE = 0.01

# Colour, where there is any, is in every part of a smear.
_GREY_STEP = 4

_SIDES = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)

# What is wrong with a file is said once, by an error; FFmpeg's own lines would come beside it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class VideoCamera(Camera):
    """The frames of a video file. A cell stays in view over many of them."""

    places_apart = False
    live = False

    def __init__(self, path: str, um_per_pixel: float) -> None:
        self._path = path
        self._name = shown_path(path)
        self._um_per_pixel = um_per_pixel
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Open the file. Raises `CameraError` where it is missing, no video, too small or too large."""
        try:
            mode = Path(self._path).stat().st_mode
        except OSError as error:
            raise CameraError(f"{self._name}: no such file ({error.strerror}); check the path") from error
        if not stat.S_ISREG(mode):
            raise CameraError(f"{self._name}: no such file (a pipe or device); record the video to a file")
        capture = cv2.VideoCapture(self._path)
        if not capture.isOpened():
            raise CameraError(f"{self._name}: not a video that can be read, or cut short; copy it again")
        width, height = (int(capture.get(side)) for side in _SIDES)
        try:
            check_size(width, height, self._name)
        except ImageError as error:
            capture.release()
            raise CameraError(str(error)) from error
        self._capture = capture

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Every frame; where fewer can be read than the file states, a `LostFrame` comes last.

        Raises:
            CameraError: the video has no frames, or is not open.
        """
        if self._capture is None:
            raise CameraError(f"{self._name}: the video is not open")
        sequence = 0
        while True:
            there, image = self._capture.read()
            if not there:
                break
            # Not into the same array: the next frame must not overwrite one that is still in use.
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            if is_grey(rgb[::_GREY_STEP, ::_GREY_STEP]):
                yield LostFrame(
                    sequence, self._path, f"{self._name}: frame {sequence} has no colour; record it in colour"
                )
            else:
                yield Frame.now(rgb, sequence, self._um_per_pixel, self._path)
            sequence += 1
        if sequence == 0:
            raise CameraError(f"{self._name}: a video without frames; copy it again or record it anew")
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if sequence < stated * (1 - _FRAME_COUNT_TOLERANCE):
            error = f"{self._name}: ends after {sequence} of the {stated} frames it states; copy it again"
            yield LostFrame(sequence, self._path, error)

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
