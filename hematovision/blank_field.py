"""The light of an empty field, recorded once: what dust, vignetting and the lamp do to every frame alike."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import SettingError
from hematovision.images import RGBImage

_FULL = 65535  # what 255 of a frame's 8-bit levels is recorded as


@dataclass(frozen=True, eq=False)
class BlankField:
    """The light of an empty field.

    ``levels``: (height, width, 3) uint16 RGB, the mean of some frames; 65535 is 255 of a frame. ``name``:
    what messages call it.
    """

    levels: NDArray[np.uint16]
    name: str
    _gains: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def check_size(self, width: int, height: int) -> None:
        """Raise `SettingError` where frames of so many pixels are not what this was recorded with."""
        blank_height, blank_width = self.levels.shape[:2]
        if (width, height) != (blank_width, blank_height):
            raise SettingError(
                f"{self.name}: a blank field of {blank_width}x{blank_height} pixels does not fit frames of "
                f"{width}x{height}; record it again at the size in use (hematovision calibrate --blank)"
            )

    @property
    def reference(self) -> NDArray[np.float32]:
        """(3,) float32, the level (0 to 255) that an empty field is made even to: its median."""
        return (np.median(self.levels[::4, ::4], axis=(0, 1)) * (255 / _FULL)).astype(np.float32)

    def flatten(self, part: RGBImage, left: int, top: int) -> NDArray[np.float32]:
        """Part of a frame, (h, w, 3) uint8 from (left, top) on, as it would be in even light: float32."""
        height, width = part.shape[:2]
        return part * self._gain_of(self.levels[top : top + height, left : left + width])

    def flatten_small(self, small: RGBImage) -> NDArray[np.float32]:
        """A whole frame shrunk to (h, w, 3) uint8 as it would be in even light: float32."""
        size = small.shape[1], small.shape[0]
        if size not in self._gains:
            self._gains[size] = self._gain_of(cv2.resize(self.levels, size, interpolation=cv2.INTER_AREA))
        return small * self._gains[size]

    def _gain_of(self, levels: NDArray[np.uint16]) -> NDArray[np.float32]:
        return self.reference / np.maximum(levels * np.float32(255 / _FULL), 1)
