"""Which frames are worth a look: in focus, not smeared, not over-exposed.

The limits come from what degraded pictures cost: 400 cells of the PBC and 200 of the Kaggle training side,
named by the shipped model. A blur with a standard deviation of 0.3 µm and a smear of 1 µm cost nothing,
0.5 µm and 2 µm a half to four points.
"""

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.images import RGBImage
from hematovision.optics import Field

#: A frame counts as blurred below this share of the sharpness that the slide and the camera have shown. It is
#: reached at a blur of about 0.43 µm, or a smear of 1.5 µm.
MIN_SHARE_OF_BEST = 0.5
#: Above this share of pixels white in every channel a frame is over-exposed: glass has no colour left, and
#: pale stain is lost with it. It is reached at 1.25 to 1.3 times a usual exposure; at 1.2 nothing is lost.
MAX_WHITE_SHARE = 0.1

_WHITE = 254
_WHITE_STEP = 24
# What has been the best is forgotten by half in so many frames: a minute or so, and the camera is taken to be
# as soft as it has become.
_HALF_LIFE_FRAMES = 1000
# A single frame does not set the best: noise or a torn frame may look sharper than any.
_STEADY_FRAMES = 3
_SMOOTH = 1 / 16
_NO_CONTRAST = 1e-9  # mean square, of transmittance: less is rounding


def is_overexposed(image: RGBImage) -> bool:
    """Whether so much of a frame, (height, width, 3) uint8, is white in all channels that stain is lost."""
    red, green, blue = cv2.split(image[::_WHITE_STEP, ::_WHITE_STEP])
    white = cv2.min(cv2.min(red, green), blue) >= _WHITE
    return float(white.mean()) > MAX_WHITE_SHARE


def sharpness(field: Field) -> float:
    """How sharp a field is, whatever it shows: 0 for no detail, about 0.1 for a microscope in focus.

    The mean squared difference of green transmittance over 0.5 µm, as a share of that over 2 µm, less what
    a smooth slope has. It is taken along rows and along columns, and the lower counts: a smear blurs one way.
    Of fields in focus it differs by 5 to 15 % (standard deviation) on the collections, of the same field it
    halves with a blur of 0.43 µm. A field without contrast has no sharpness but its noise's.
    """
    green = cv2.extractChannel(field.transmittance, 1)
    # Every fourth row, every fourth column: plenty for a mean.
    return min(_detail(green[::4]), _detail(np.ascontiguousarray(green[:, ::4].T)))


class FocusMemory:
    """How sharp frames have been, to tell which are blurred on this slide and with this camera."""

    def __init__(self) -> None:
        self._best = 0.0
        self._latest: deque[float] = deque(maxlen=_STEADY_FRAMES)

    def share_of_best(self, value: float) -> float | None:
        """A sharpness as a share of the best so far; None at first."""
        return value / self._best if self._best > 0 else None

    def is_blurred(self, value: float) -> bool:
        """Whether a frame of this sharpness is blurred; it is remembered."""
        self._latest.append(value)
        self._best *= 0.5 ** (1 / _HALF_LIFE_FRAMES)
        if len(self._latest) == _STEADY_FRAMES:
            self._best = max(self._best, min(self._latest))
        return value < MIN_SHARE_OF_BEST * self._best


def _detail(green: NDArray[np.float32]) -> float:
    fine, coarse = green[:, 1:] - green[:, :-1], green[:, 4:] - green[:, :-4]
    fine_energy, coarse_energy = (float(np.vdot(steps, steps)) / steps.size for steps in (fine, coarse))
    return max(fine_energy / coarse_energy - _SMOOTH, 0.0) if coarse_energy > _NO_CONTRAST else 0.0
