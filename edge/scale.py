"""The scale that a batch is looked at with: given, and checked on its red cells, or measured from them."""

import math
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge.cameras import Camera, Frame
from hematovision.errors import CalibrationError, CameraError, ImageError
from hematovision.optics import check_um_per_pixel
from hematovision.red_cells import measure_red_cells, measure_scale, scale_warning

# Enough for a scale to within a per cent or two; and how many frames are searched for them.
_ENOUGH_RED_CELLS = 200
_MOST_FRAMES = 40
# Neighbouring frames of a video show the same red cells.
_VIDEO_STEP = 25


def choose_scale(given: float | None, cameras: Iterable[Camera]) -> tuple[float, str | None]:
    """Decide µm per pixel for a batch.

    Args:
        given: what the user said, or None to measure it.
        cameras: the batch, each camera closed; the first frames are read for their red cells.

    Returns:
        µm per pixel, and a line for the user: how it was measured, or that the red cells disagree with what
        was given; None where there is nothing to say. The scale is NaN, which nothing is classified with,
        where nothing was given and not one frame can be read.

    Raises:
        SettingError: what was given is no scale.
        CalibrationError: nothing was given, and there are too few red cells to measure it.
    """
    if given is not None:
        check_um_per_pixel(given)
        return given, scale_warning(given, sample_red_cells(cameras))
    diameters = sample_red_cells(cameras)
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


def sample_red_cells(cameras: Iterable[Camera]) -> list[NDArray[np.float32]]:
    """Diameters in pixels of the red cells in the first frames of a batch, one array a frame.

    What cannot be read is passed over here: it is reported when its turn to be classified comes.
    """
    diameters: list[NDArray[np.float32]] = []
    for camera in cameras:
        try:
            with camera:
                for frame in islice(camera.frames(), 0, None, 1 if camera.places_apart else _VIDEO_STEP):
                    if isinstance(frame, Frame):
                        diameters.append(_red_cells(frame))
                    if len(diameters) >= _MOST_FRAMES or sum(map(len, diameters)) >= _ENOUGH_RED_CELLS:
                        return diameters
        except CameraError:
            continue
    return diameters


def _red_cells(frame: Frame) -> NDArray[np.float32]:
    try:
        return measure_red_cells(frame.image)
    except ImageError:  # black
        return np.zeros(0, np.float32)
