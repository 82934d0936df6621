"""A video file, frame by frame; none is skipped."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import cv2

from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.capture import to_rgb
from hematovision.errors import CameraError, ImageError
from hematovision.image_folder import IMAGE_SUFFIXES
from hematovision.images import check_size, is_grey, shown_path

#: Endings by which a file is taken for a video.
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

# A file with fewer frames than it states, by more than this share, was cut short.
_FRAME_COUNT_TOLERANCE = 0.01

# Colour, where there is any, is in every part of a smear.
_GREY_STEP = 4

# Of a file that does not say how fast it is to be shown.
_FRAMES_PER_SECOND = 25.0


class VideoCamera(Camera):
    """The frames of a video file. A cell stays in view over many of them.

    A frame's ``monotonic`` is when the file was opened, and further on by the file's own clock: what moves in
    the video moves as fast as it did before the camera.
    """

    places_apart = False
    live = False

    def __init__(self, path: str, um_per_pixel: float) -> None:
        self._path = path
        self.name = shown_path(path)
        self._um_per_pixel = um_per_pixel
        self._capture: cv2.VideoCapture | None = None
        self._opened_at = 0.0

    def open(self) -> None:
        """Open the file. Raises `CameraError` where it is missing, no video, too small or too large."""
        path = Path(self._path)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise CameraError(f"{self.name}: no such file ({error.strerror}); check the path") from error
        if stat.S_ISDIR(mode):
            raise CameraError(f"{self.name}: a folder; write folder:{self.name} for the images in it")
        if not stat.S_ISREG(mode):
            raise CameraError(f"{self.name}: no such file (a pipe or device); record the video to a file")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise CameraError(f"{self.name}: an image, not a video; write folder:{self.name}")
        # Decoding on a thread alone: FFmpeg takes all cores otherwise, which the interpreter is to have.
        capture = cv2.VideoCapture(self._path, cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise CameraError(f"{self.name}: not a video that can be read, or cut short; copy it again")
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        try:
            check_size(int(width), int(height), self.name)
        except ImageError as error:
            capture.release()
            raise CameraError(str(error)) from error
        self._capture, self._opened_at = capture, monotonic()

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Every frame.

        Where fewer can be read than the file states, it was cut short, likely in the middle of a frame, which
        the decoder fills up with the one before: the last one read comes as a `LostFrame`.

        Raises:
            CameraError: the video has no frames, or is not open.
        """
        if self._capture is None:
            raise CameraError(f"{self.name}: the video is not open")
        capture, sequence, seconds = self._capture, 0, 0.0
        frames_per_second = capture.get(cv2.CAP_PROP_FPS)
        interval = 1 / (frames_per_second if frames_per_second > 0 else _FRAMES_PER_SECOND)
        held: Frame | LostFrame | None = None
        while capture.grab():
            if held is not None:
                yield held
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # A clock that stands still or goes back is damaged.
            seconds = stamp if sequence == 0 or stamp > seconds else seconds + interval
            held = self._frame(capture, sequence, self._opened_at + seconds)
            sequence += 1
        if held is None:
            raise CameraError(f"{self.name}: a video without frames; copy it again or record it anew")
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if sequence < stated * (1 - _FRAME_COUNT_TOLERANCE):
            error = f"{self.name}: ends after {sequence - 1} of the {stated} frames it states; copy it again"
            held = LostFrame(held.sequence, self._path, error)
        yield held

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _frame(self, capture: cv2.VideoCapture, sequence: int, at: float) -> Frame | LostFrame:
        there, image = capture.retrieve()
        if not there:
            error = "cannot be decoded; copy the file again"
        # Not into the same array: the next frame must not overwrite one that is still in use.
        elif is_grey((rgb := to_rgb(image))[::_GREY_STEP, ::_GREY_STEP]):
            error = "has no colour; record it in colour"
        else:
            frame = Frame.now(rgb, sequence, self._um_per_pixel, self._path)
            return replace(frame, monotonic=at)
        return LostFrame(sequence, self._path, f"{self.name}: frame {sequence} {error}")
