"""The light of an empty field, recorded once: dust, vignetting, the lamp's colour, which every frame shares.

A frame divided by it shows the smear in even light (flat-field correction). Dust on the sensor and in the
light path drops out, which the light measured on a frame's own glass is too smooth to hold.
"""

from dataclasses import dataclass, field
from hashlib import sha256

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import SettingError
from hematovision.images import RGBImage

#: Level (of 255) that a frame of nothing but the empty field has once it is divided by it.
EVEN_LEVEL = 200.0
#: What a level of 8 bits is recorded as: 255 is the largest number of 16 bits.
STEPS = 257

_PLACES = 16  # along a side of a part, at which levels are taken from coarser ones


@dataclass(frozen=True, eq=False)
class BlankField:
    """The light of an empty field.

    ``levels``: (height, width, 3) uint16 RGB, 65535 for 255 of a frame and never 0. ``name``: what messages
    call it. ``enlarged``: width and height of the frames where the levels are coarser, as those of one that
    was learnt are.
    """

    levels: NDArray[np.uint16]
    name: str
    enlarged: tuple[int, int] | None = None
    _shrunk: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def check_size(self, width: int, height: int) -> None:
        """Raise `SettingError` where frames of so many pixels are not what this was recorded with."""
        blank_width, blank_height = self.enlarged or (self.levels.shape[1], self.levels.shape[0])
        if (width, height) != (blank_width, blank_height):
            raise SettingError(
                f"{self.name}: a blank field of {blank_width}x{blank_height} pixels does not fit frames of "
                f"{width}x{height}; record it again at their size (hematovision calibrate --blank)"
            )

    def divide(self, part: RGBImage, left: int, top: int) -> NDArray[np.float32]:
        """Part of a frame, (h, w, 3) uint8, its first pixel at (left, top), in even light: float32 levels."""
        height, width = part.shape[:2]
        if self.enlarged is None:
            levels = self.levels[top : top + height, left : left + width]
        else:
            levels = self._part(left, top, width, height)
        return cv2.divide(part, levels, scale=EVEN_LEVEL * STEPS, dtype=cv2.CV_32F)

    def divide_small(self, small: RGBImage) -> NDArray[np.float32]:
        """A whole frame at a smaller size, (h, w, 3) uint8, in even light: float32 levels."""
        size = small.shape[1], small.shape[0]
        if size not in self._shrunk:
            method = cv2.INTER_AREA if self.enlarged is None else cv2.INTER_LINEAR
            levels = cv2.resize(self.levels, size, interpolation=method)
            self._shrunk[size] = np.float32(EVEN_LEVEL * STEPS) / levels
        return cv2.multiply(small, self._shrunk[size], dtype=cv2.CV_32F)

    def sha256(self) -> str:
        """Return what tells it from others, as hexadecimal digits."""
        return sha256(self.levels.tobytes()).hexdigest()

    def _part(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint16]:
        """Levels of a part of the frame, from those that are coarser."""
        assert self.enlarged is not None
        rows, columns = self.levels.shape[:2]
        # At some places first, and from there to all pixels: many times faster than at all at once.
        across, down = columns / self.enlarged[0], rows / self.enlarged[1]
        step_x, step_y = across * width / _PLACES, down * height / _PLACES
        to_coarse = np.array(
            [
                [step_x, 0, left * across + step_x / 2 - 0.5],
                [0, step_y, top * down + step_y / 2 - 0.5],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = _PLACES, _PLACES
        places = cv2.warpAffine(self.levels, to_coarse, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return cv2.resize(places, (width, height), interpolation=cv2.INTER_LINEAR)
