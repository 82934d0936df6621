"""The light of an empty field, recorded once: dust, vignetting, the lamp's colour, which every frame shares.

A frame divided by it shows the smear in even light (flat-field correction). Dust on the sensor and in the
light path drops out, which the light measured on a frame's own glass is too smooth to hold.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import SettingError
from hematovision.images import RGBImage

#: Level (of 255) that a frame of nothing but the empty field has once it is divided by it.
EVEN_LEVEL = 200.0
#: What a level of 8 bits is recorded as: 255 is the largest number of 16 bits.
STEPS = 257


@dataclass(frozen=True, eq=False)
class BlankField:
    """The light of an empty field.

    ``levels``: (height, width, 3) uint16 RGB, 65535 for 255 of a frame and never 0. ``name``: what messages
    call it.
    """

    levels: NDArray[np.uint16]
    name: str
    _shrunk: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def check_size(self, width: int, height: int) -> None:
        """Raise `SettingError` where frames of so many pixels are not what this was recorded with."""
        blank_height, blank_width = self.levels.shape[:2]
        if (width, height) != (blank_width, blank_height):
            raise SettingError(
                f"{self.name}: a blank field of {blank_width}x{blank_height} pixels does not fit frames of "
                f"{width}x{height}; record it again at their size (hematovision calibrate --blank)"
            )

    def divide(self, part: RGBImage, left: int, top: int) -> NDArray[np.float32]:
        """Part of a frame, (h, w, 3) uint8, its first pixel at (left, top), in even light: float32 levels."""
        height, width = part.shape[:2]
        levels = self.levels[top : top + height, left : left + width]
        return cv2.divide(part, levels, scale=EVEN_LEVEL * STEPS, dtype=cv2.CV_32F)

    def divide_small(self, small: RGBImage) -> NDArray[np.float32]:
        """A whole frame at a smaller size, (h, w, 3) uint8, in even light: float32 levels."""
        size = small.shape[1], small.shape[0]
        if size not in self._shrunk:
            levels = cv2.resize(self.levels, size, interpolation=cv2.INTER_AREA)
            self._shrunk[size] = np.float32(EVEN_LEVEL * STEPS) / levels
        return cv2.multiply(small, self._shrunk[size], dtype=cv2.CV_32F)
