"""A video file, frame by frame; none is skipped."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import cv2

from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.capture import to_rgb
from edge.cameras.video_end import ends_early
from hematovision.errors import CameraError, ImageError
from hematovision.image_folder import IMAGE_SUFFIXES
from hematovision.images import check_size, is_grey, shown_path
from hematovision.regular_file import open_regular_file

#: Endings by which a file is taken for a video: streams without a container, as a Pi's own tools write them,
#: and the containers of telephones, camcorders and programs.
VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".avc", ".h264", ".h265", ".hevc", ".m1v", ".m2v", ".mjpeg", ".mjpg", ".obu", ".y4m"}
    | {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".insv", ".ivf", ".lrv", ".m2t"}
    | {".m2ts", ".m4v", ".mj2", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts"}
    | {".mxf", ".nut", ".ogg", ".ogm", ".ogv", ".qt", ".tod", ".trp", ".ts", ".vob", ".webm", ".wmv"}
    | {".xvid"}
)

# These state a number of frames; of others OpenCV multiplies length by rate.
_COUNTED_SUFFIXES = {".3gp", ".avi", ".m4v", ".mov", ".mp4"}

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
        self._ends_early = False

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
        try:
            with open_regular_file(path) as file:
                self._ends_early = ends_early(file)
        except OSError as error:
            raise CameraError(f"{self.name}: cannot be read ({error.strerror}); check the path") from error
        # Decoding on a thread alone: FFmpeg takes all cores otherwise, which the interpreter is to have.
        capture = cv2.VideoCapture(self._path, cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, 1])
        width, height = (
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if not capture.isOpened() or not width * height:  # where its tables are cut off, it has no size
            raise CameraError(f"{self.name}: not a video that can be read, or cut short; copy it again")
        try:
            check_size(width, height, self.name)
        except ImageError as error:
            capture.release()
            raise CameraError(str(error)) from error
        self._capture, self._opened_at = capture, monotonic()

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Every frame.

        A file that ends before its container says was cut short, likely in the middle of a frame, which the
        decoder fills up with the one before: the last one read comes as a `LostFrame`.

        Raises:
            CameraError: the video has no frames, or is not open.
        """
        if self._capture is None:
            raise CameraError(f"{self.name}: the video is not open")
        capture, sequence, seconds, first = self._capture, 0, 0.0, 0.0
        frames_per_second = capture.get(cv2.CAP_PROP_FPS)
        interval = 1 / (frames_per_second if frames_per_second > 0 else _FRAMES_PER_SECOND)
        held: Frame | LostFrame | None = None
        while capture.grab():
            if held is not None:
                yield held
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = stamp if sequence == 0 else first
            # A clock that stands still or goes back is damaged, or there is none, as in a raw stream.
            seconds = stamp - first if sequence == 0 or stamp - first > seconds else seconds + interval
            held = self._frame(capture, sequence, self._opened_at + seconds)
            sequence += 1
        if held is None:
            raise CameraError(f"{self.name}: a video without frames; copy it again or record it anew")
        counted = Path(self._path).suffix.lower() in _COUNTED_SUFFIXES
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if counted else 0
        if self._ends_early:
            of_stated = f" of the {stated} frames it states" if stated else " frames"
            error = f"{self.name}: cut short: ends after {sequence - 1}{of_stated}; copy it again"
            held = LostFrame(held.sequence, self._path, error)
        elif sequence < stated:
            self.remark = (
                f"{self.name}: {sequence} of the {stated} frames that it states are shown; the others are "
                "trimmed away, repeats (a variable rate) or damaged"
            )
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
