"""The light of an empty field learnt from fields of a smear: at every place of it some of them show glass.

Retrospective flat-field correction: over enough places of the slide a high percentile of each pixel is the
light, as no cell is everywhere. Halos, dust and all that is fixed in the light path belong to it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.blank_field import STEPS, BlankField
from hematovision.errors import CalibrationError
from hematovision.images import RGBImage
from hematovision.optics import Field

#: A blank field is learnt from so many places, no two of which show the same cells.
MIN_PLACES = 30

_PERCENTILE = 0.85
_LONG_SIDE_PX = 128  # of what is kept of each place: light is smooth
_SMOOTH_PX = 1.5
_MIN_GLASS = 0.2  # of a field, within so much of its light
_GLASS_TOLERANCE = 0.08
_MIN_LEVEL = 8  # of 255: darker is what surrounds a round field
_COARSE = (16, 12)
# While the places were taken: of a channel's light, and of how that is spread over single fields.
_MAX_CHANGE, _MAX_UNLIKE = 0.15, 0.2
# What single fields say of the light and what they say together, at most so far apart: in the colour of all
# of it, in the colour of a place, in brightness, and in what is not smooth.
_MAX_COLOUR, _MAX_LOCAL_COLOUR, _MAX_DARKER, _MAX_ROUGH = 0.04, 0.12, 0.10, 0.05


class BlankLearner:
    """Keeps a small picture of each place until they are enough: of one camera, lamp and exposure."""

    def __init__(self) -> None:
        self._pictures: list[RGBImage] = []
        self._lights: list[NDArray[np.float32]] = []  # of the same places, coarse

    @property
    def places(self) -> int:
        """Return how many places there are."""
        return len(self._pictures)

    def add(self, field: Field) -> bool:
        """Take a place that shows no cell of the others; False where it has too little glass of its own.

        Args:
            field: divided by no blank field.
        """
        near = cv2.inRange(field.transmittance, *((1 + sign * _GLASS_TOLERANCE,) * 3 for sign in (-1, 1)))
        seen = near[~field.dark]
        if np.count_nonzero(seen) < _MIN_GLASS * max(seen.size, 1):
            return False
        height, width = field.small.shape[:2]
        shrink = min(1.0, _LONG_SIDE_PX / max(width, height))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        self._pictures.append(cv2.resize(field.small, size, interpolation=cv2.INTER_AREA))
        self._lights.append(field.light.over(*_COARSE))
        return True

    def learn(self, width: int, height: int, name: str) -> BlankField:
        """Return the blank field of frames of so many pixels.

        Raises:
            CalibrationError: it would be none; in words that follow "no blank field was learnt: ".
        """
        logs = np.log(self._lights)
        of_each = logs.mean(axis=(1, 2), keepdims=True)
        if np.median(_spread(logs - of_each)) > _MAX_UNLIKE:
            raise CalibrationError("single fields do not agree on the light")
        if _spread(of_each).max() > _MAX_CHANGE:
            raise CalibrationError("the light changed meanwhile")
        pictures = np.stack(self._pictures)
        rank = int(_PERCENTILE * len(pictures))
        bright = np.partition(pictures, rank, axis=0)[rank].astype(np.float32)
        inside = (bright.max(axis=2) >= _MIN_LEVEL).astype(np.float32)
        share = cv2.GaussianBlur(inside, (0, 0), _SMOOTH_PX)
        smooth = cv2.GaussianBlur(bright * inside[..., None], (0, 0), _SMOOTH_PX)
        smooth = np.where(inside[..., None] > 0, smooth / np.maximum(share, 1e-3)[..., None], bright)
        smooth = np.maximum(smooth, 1.0)
        _check(bright, smooth, inside > 0, np.median(self._lights, axis=0))
        return BlankField(np.rint(smooth * STEPS).astype(np.uint16), name, (width, height))


def _spread(of_places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far most of the places lie apart."""
    low, high = np.percentile(of_places, (5, 95), axis=0)
    return high - low


def _check(
    bright: NDArray[np.float32],
    smooth: NDArray[np.float32],
    inside: NDArray[np.bool_],
    single: NDArray[np.float32],
) -> None:
    """Raise `CalibrationError` where fields together do not say of the light what each says by itself."""
    # Glass is smooth; cells that are at one place in too many fields are not.
    rough = np.abs(bright - smooth).max(axis=2) / smooth.mean(axis=2)
    if not inside.any() or np.percentile(rough[inside], 95) > _MAX_ROUGH:
        raise CalibrationError("the same cells are in too many of the fields")
    seen = cv2.resize(inside.astype(np.float32), _COARSE, interpolation=cv2.INTER_AREA) == 1
    logs = np.log(cv2.resize(smooth, _COARSE, interpolation=cv2.INTER_AREA) / single)[seen]
    if not len(logs):
        raise CalibrationError("the field in view is too small")
    of_all = np.median(logs, axis=0)
    local = logs - of_all
    colour, local_colour = (part - part.mean(axis=-1, keepdims=True) for part in (of_all, local))
    if np.abs(colour).max() > _MAX_COLOUR or np.percentile(np.abs(local_colour), 95) > _MAX_LOCAL_COLOUR:
        raise CalibrationError("its colour is not that of the glass in the single fields")
    if of_all.mean() < -_MAX_DARKER:
        raise CalibrationError("too few of the fields show glass where the others show cells")
