"""The scale that a batch is looked at with: given or measured, and checked on the red cells in view."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.cameras import Camera, Frame
from hematovision.errors import CalibrationError, CameraError, ImageError
from hematovision.images import shown_path
from hematovision.optics import check_um_per_pixel
from hematovision.red_cells import DISAGREEMENT, measure_red_cells, measure_scale, scale_warning

#: Enough for a scale to within a per cent or two; and how many frames are searched for them.
ENOUGH_RED_CELLS = 200
MOST_FRAMES = 40
#: Neighbouring frames of a video or live camera show the same red cells.
VIDEO_STEP = 25
# Once the window below is full; measuring takes ten times as long as finding white cells does.
_SETTLED_STEP = 100
# Frames whose red cells are pooled: at a handful in each, enough for a median that chance does not move.
_WINDOW = 20
# Frames measured in vain before that is noted while the batch goes on.
_ENOUGH_TRIES = 5


class Batch(Protocol):
    """Frames that are looked at one after the other: a camera's, or what they go through."""

    @property
    def places_apart(self) -> bool:
        """Return whether each frame shows another place."""


class ScaleWatch:
    """Measures red cells while a batch is looked at, and says when they disagree with the batch's scale.

    It remembers the last `_WINDOW` frames measured, so that a change in the middle of a batch is noticed.
    """

    #: How the red cells contradict the scale now; None from when they agree with it to half of what is borne.
    contradiction: str | None = None

    def __init__(self, um_per_pixel: float) -> None:
        self._um_per_pixel = um_per_pixel
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=_WINDOW)
        self._told = um_per_pixel
        self._wait = 0  # frames until the next is measured
        self._checked = False
        self._doubt: str | None = None

    def see(self, frame: Frame, camera: Batch) -> str | None:
        """A line for the user where red cells disagree by more than 15 %; once until they change again.

        Every image is measured; of a video or live camera every 25th frame, later every 100th.
        """
        if self._wait:
            self._wait -= 1
            return None
        settled = len(self._recent) == _WINDOW and not camera.places_apart
        self._wait = (_SETTLED_STEP if settled else _step(camera)) - 1
        self._recent.append(_red_cells(frame))
        try:
            measured = measure_scale(self._recent).um_per_pixel
        except CalibrationError as error:
            self._doubt = str(error).partition(";")[0]
            return None
        self._checked = True
        warning = scale_warning(self._um_per_pixel, self._recent)
        if warning is None:
            # Not at the first agreement: red cells just at the limit would be told of again and again.
            if abs(measured / self._um_per_pixel - 1) <= DISAGREEMENT / 2:
                self._told = self._um_per_pixel
                self.contradiction = None
            return None
        self.contradiction = warning
        if abs(measured / self._told - 1) <= DISAGREEMENT:
            return None
        self._told = measured
        return f"{shown_path(frame.source)}: {warning}"

    @property
    def unconfirmed(self) -> str | None:
        """A note where the red cells of several frames could not show whether the scale is right."""
        return self.end() if len(self._recent) >= _ENOUGH_TRIES else None

    def end(self) -> str | None:
        """A line for the user where, to the end of the batch, nothing showed whether its scale is right."""
        if self._checked or self._doubt is None:
            return None
        return (
            f"µm per pixel is taken as {self._um_per_pixel:.4g}; the red cells in view could not confirm it "
            f"({self._doubt})"
        )


def choose_scale(
    given: float | None, cameras: Iterable[Camera], progress: Callable[[int, int], None] | None = None
) -> tuple[float, str | None]:
    """Decide µm per pixel for a batch.

    Args:
        given: what the user said, or None to measure it.
        cameras: the batch, each camera closed; where nothing was given, the first frames are read.
        progress: called with how many frames were measured, and how many will be at most.

    Returns:
        µm per pixel, and a line for the user: how it was measured; None where it was given. The scale is NaN,
        which nothing is classified with, where nothing was given and not one frame can be read.

    Raises:
        SettingError: what was given is no scale.
        CalibrationError: nothing was given, and there are too few red cells to measure it.
    """
    if given is not None:
        return check_um_per_pixel(given), None
    diameters = sample_red_cells(cameras, progress)
    if not diameters:
        return math.nan, None
    try:
        scale = measure_scale(diameters)
    except CalibrationError as error:
        raise CalibrationError(f"{error}; or say what it is with --um-per-pixel") from error
    return scale.um_per_pixel, (
        f"µm per pixel: {scale.um_per_pixel:.4f} ({scale.low:.4f} to {scale.high:.4f}), measured from "
        f"{scale.cells} red cells in {scale.images} images; --um-per-pixel sets it"
    )


def sample_red_cells(
    cameras: Iterable[Camera], progress: Callable[[int, int], None] | None = None
) -> list[NDArray[np.float32]]:
    """Diameters in pixels of the red cells in the first frames of a batch, one array a frame.

    What cannot be read is passed over here: it is reported when its turn to be classified comes.
    """
    diameters: list[NDArray[np.float32]] = []
    if progress is not None:
        progress(0, MOST_FRAMES)
    for camera in cameras:
        try:
            with camera:
                for frame in islice(camera.frames(), 0, None, _step(camera)):
                    if isinstance(frame, Frame):
                        diameters.append(_red_cells(frame))
                        if progress is not None:
                            progress(len(diameters), MOST_FRAMES)
                    if len(diameters) >= MOST_FRAMES or sum(map(len, diameters)) >= ENOUGH_RED_CELLS:
                        return diameters
        except CameraError:
            continue
    return diameters


def _step(camera: Batch) -> int:
    return 1 if camera.places_apart else VIDEO_STEP


def _red_cells(frame: Frame) -> NDArray[np.float32]:
    try:
        return measure_red_cells(frame.image)
    except ImageError:  # black
        return np.zeros(0, np.float32)
