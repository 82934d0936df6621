"""Recording the light of an empty field, and reading it again; what is no empty field is refused."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.blank_field import STEPS, BlankField
from hematovision.errors import CalibrationError, ImageError, SettingError
from hematovision.images import MAX_FILE_BYTES, RGBImage, shown_path
from hematovision.model_file import write_atomically
from hematovision.own_pictures import BLANK, marked
from hematovision.regular_file import read_regular_file

_JUDGED_WIDTH = 320  # an empty field is judged on a copy this wide: noise is averaged out, cells are not
_MIN_MEAN_LEVEL = 40
_SATURATED_LEVEL, _MAX_SATURATED = 254, 0.001
_SURROUND_LEVEL = 8  # darker is what lies around the field, as behind a telephone on an eyepiece
# What is in the light path takes a little of all colours from a few per cent of the field; a stained cell,
# and even one red cell, takes far more of the green than of the red.
_NEIGHBOURHOOD = 0.125  # of the width, to which colour and brightness are compared
_CONTRAST = 0.04  # optical density
_MAX_COLOURED, _MAX_UNEVEN = 0.0005, 0.2  # shares of the field
# While it is recorded, nothing may change.
_MAX_CHANGE = 0.05


def read_blank(path: Path) -> BlankField:
    """Read what `write_blank` wrote.

    Raises:
        ImageError: the file cannot be read, or is not a picture of that kind.
        CalibrationError: it does not show an empty field.
    """
    name = shown_path(path)
    try:
        data = np.frombuffer(read_regular_file(path, MAX_FILE_BYTES), np.uint8)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    levels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if levels is None or levels.dtype != np.uint16 or levels.shape[2:] != (3,):
        raise ImageError(f"{name}: no blank field; record one with hematovision calibrate --blank")
    levels = cv2.cvtColor(levels, cv2.COLOR_BGR2RGB)
    check_empty((levels // STEPS).astype(np.uint8), name)
    return BlankField(np.maximum(levels, 1), name)


def record_blank(frames: Iterable[tuple[str, RGBImage]], name: str) -> tuple[BlankField, int]:
    """The mean of some frames of an empty field, and how many they were.

    Args:
        frames: what messages call each, and its picture, (height, width, 3) uint8 RGB, all of one size.
        name: what messages call the blank field.

    Raises:
        SettingError: the frames differ in size.
        CalibrationError: there are none, one does not show an empty field, or the light changed between them.
    """
    total: NDArray[np.float32] | None = None
    first, count = 0.0, 0
    for of_frame, image in frames:
        check_empty(image, of_frame)
        mean = float(image.mean())
        if total is None:
            total, first = np.zeros(image.shape, np.float32), mean
        if image.shape != total.shape:
            raise SettingError(
                f"{of_frame}: {image.shape[1]}x{image.shape[0]} pixels, but the frames before it have "
                f"{total.shape[1]}x{total.shape[0]}; give frames of one camera and resolution"
            )
        if abs(mean / first - 1) > _MAX_CHANGE:
            raise CalibrationError(
                f"{of_frame}: its light differs by {abs(mean / first - 1):.0%} from the first frame's; lock "
                "the camera's exposure, let the lamp warm up and record again"
            )
        cv2.accumulate(image, total)
        count += 1
    if total is None:
        raise CalibrationError(f"{name}: no frame to record a blank field from; give at least one")
    levels = np.maximum(np.rint(total * (STEPS / count)), 1).astype(np.uint16)
    return BlankField(levels, name), count


def write_blank(blank: BlankField, path: Path) -> None:
    """Write it as a 16-bit PNG, which any viewer shows. Raises `ModelFileError` where that cannot be."""
    _, data = cv2.imencode(".png", cv2.cvtColor(blank.levels, cv2.COLOR_RGB2BGR))
    write_atomically(path, marked(data.tobytes(), BLANK))


def check_empty(image: RGBImage, name: str) -> None:
    """Raise `CalibrationError` where a frame, (height, width, 3) uint8 RGB, does not show an empty field.

    It is too dark, saturated, or something stained is in view. Dust is not: it takes all colours alike.
    """
    sample = image[::2, ::2]
    if sample.mean() < _MIN_MEAN_LEVEL:
        raise CalibrationError(
            f"{name}: too dark for a blank field (mean level {sample.mean():.0f} of 255); "
            "turn the lamp up or expose longer"
        )
    saturated = np.count_nonzero(sample.max(axis=2) >= _SATURATED_LEVEL) / (sample.size / 3)
    if saturated > _MAX_SATURATED:
        raise CalibrationError(
            f"{name}: {saturated:.1%} of it is saturated, so that its light cannot be told; expose less"
        )
    width = min(_JUDGED_WIDTH, image.shape[1])
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(small, (5, 5), 0)
    reach = max(3, round(_NEIGHBOURHOOD * width))
    surround = (small.max(axis=2) < _SURROUND_LEVEL).astype(np.uint8)
    inside = cv2.dilate(surround, np.ones((reach, reach), np.uint8)) == 0
    red, green = (-np.log10(np.maximum(small[..., channel], 1.0)) for channel in (0, 1))
    coloured, uneven = (
        float((np.abs(density - cv2.blur(density, (reach, reach))) > _CONTRAST)[inside].mean())
        for density in (green - red, green)
    )
    if not inside.any() or coloured > _MAX_COLOURED or uneven > _MAX_UNEVEN:
        raise CalibrationError(
            f"{name}: not an empty field: {coloured:.1%} of it is stained and {uneven:.1%} uneven; "
            "move to glass without cells or dirt and record again"
        )
