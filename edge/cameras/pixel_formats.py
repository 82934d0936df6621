"""How libcamera's streams lay their pixels out in memory, and RGB from each layout that is known.

libcamera names a packed format from the highest byte of a little-endian word to the lowest: what it calls
RGB888 lies in memory as blue, green, red. A format that is not in the tables here is refused by its name,
never guessed at: a smear with red and blue exchanged still looks like a smear.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import CameraError, ImageError
from hematovision.images import RGBImage

_Plane = NDArray[np.uint8]

#: Packed formats: bytes of a pixel, and what makes red, green, blue of their order in memory.
PACKED_FORMATS: dict[str, tuple[int, int | None]] = {
    "BGR888": (3, None),  # red, green, blue
    "RGB888": (3, cv2.COLOR_BGR2RGB),  # blue, green, red
    "XBGR8888": (4, cv2.COLOR_RGBA2RGB),  # red, green, blue, nothing
    "XRGB8888": (4, cv2.COLOR_BGRA2RGB),  # blue, green, red, nothing
}
#: YUV with colour at half the resolution (4:2:0), brightness first: whether U and V alternate in one plane
#: rather than having one each, and whether U comes first.
YUV_FORMATS: dict[str, tuple[bool, bool]] = {
    "YUV420": (False, True),
    "YVU420": (False, False),
    "NV12": (True, True),
    "NV21": (True, False),
}
#: Weights of red and blue in brightness, by libcamera's name of the encoding (ITU-R BT.601, BT.709, BT.2020).
YUV_ENCODINGS = {"Rec601": (0.299, 0.114), "Rec709": (0.2126, 0.0722), "Rec2020": (0.2627, 0.0593)}


@dataclass(frozen=True)
class YuvColour:
    """What the numbers of YUV mean: a name of `YUV_ENCODINGS`, and whether they go from 0 to 255.

    Where they do not, brightness goes from 16 to 235 and colour from 16 to 240.
    """

    encoding: str
    full_range: bool


#: As JPEG files have it, and libcamera's sYCC.
JPEG_COLOUR = YuvColour("Rec601", full_range=True)


@dataclass(frozen=True)
class PixelLayout:
    """A stream's pixels: format by libcamera's name, picture size, and what its YUV means, if it is YUV."""

    pixel_format: str
    width: int
    height: int
    yuv: YuvColour | None = None

    def __post_init__(self) -> None:
        """Raise `CameraError` where the format or its colours are not known."""
        if self.pixel_format in PACKED_FORMATS:
            return
        if self.pixel_format not in YUV_FORMATS:
            known = ", ".join((*PACKED_FORMATS, *YUV_FORMATS))
            raise CameraError(f"pixel format '{self.pixel_format}' is not read; known are {known}")
        encoding = self.yuv.encoding if self.yuv else "none"
        if encoding not in YUV_ENCODINGS:
            raise CameraError(
                f"pixel format '{self.pixel_format}' comes with colour encoding '{encoding}', which is not "
                f"read; known are {', '.join(YUV_ENCODINGS)}"
            )

    def to_rgb(self, array: NDArray[np.uint8]) -> RGBImage:
        """The picture, (height, width, 3) uint8 RGB.

        Args:
            array: what picamera2's ``make_array`` gives: of a packed format (height, width, 3 or 4), of YUV
                (height * 3 / 2, width or more: the ends of its rows may be padding).

        Raises:
            ImageError: the array has another shape; in words that follow the frame's name.
        """
        if self.pixel_format in PACKED_FORMATS:
            channels, conversion = PACKED_FORMATS[self.pixel_format]
            if array.shape != (self.height, self.width, channels):
                raise self._torn(array)
            return array if conversion is None else cv2.cvtColor(array, conversion)
        brightness, u, v = self._planes(array)
        size = self.width, self.height
        return self._mix(brightness, *(cv2.resize(c, size, interpolation=cv2.INTER_LINEAR) for c in (u, v)))

    def to_half_rgb(self, array: NDArray[np.uint8]) -> RGBImage:
        """A YUV picture at half its width and height, where its colour needs no interpolation.

        Otherwise as `to_rgb`.
        """
        brightness, u, v = self._planes(array)
        size = u.shape[1], u.shape[0]
        return self._mix(cv2.resize(brightness, size, interpolation=cv2.INTER_AREA), u, v)

    def _planes(self, array: NDArray[np.uint8]) -> tuple[_Plane, _Plane, _Plane]:
        """Brightness (height, width), then U and V (height / 2, width / 2)."""
        interleaved, u_first = YUV_FORMATS[self.pixel_format]
        rows, columns = self.height // 2, self.width // 2
        if array.ndim != 2 or array.shape[0] != self.height + rows:
            raise self._torn(array)
        stride = array.shape[1]
        if stride < self.width or stride % 2:
            raise self._torn(array)
        brightness, colour = array[: self.height, : self.width], array[self.height :]
        if interleaved:
            first, second = cv2.split(colour[:, : self.width].reshape(rows, columns, 2))
        else:
            # Two rows of a plane lie in one of the array: it is as wide as the rows of brightness.
            first, second = colour.reshape(2, rows, stride // 2)[:, :, :columns]
        return (brightness, first, second) if u_first else (brightness, second, first)

    def _mix(self, brightness: _Plane, u: _Plane, v: _Plane) -> RGBImage:
        assert self.yuv is not None
        return cv2.transform(cv2.merge([brightness, u, v]), _rgb_of_yuv(self.yuv))

    def _torn(self, array: NDArray[Any]) -> ImageError:
        return ImageError(
            f"is torn: an array of {array.shape}, "
            f"not {self.width}x{self.height} pixels of {self.pixel_format}"
        )


def _rgb_of_yuv(yuv: YuvColour) -> NDArray[np.float32]:
    """(3, 4): red, green and blue from Y, U, V and 1."""
    red, blue = YUV_ENCODINGS[yuv.encoding]
    green = 1 - red - blue
    # By definition Y = red R + green G + blue B, U = (B - Y) / (2 - 2 blue), V = (R - Y) / (2 - 2 red).
    of_u, of_v = 2 * (1 - blue), 2 * (1 - red)
    mix = np.array([[1, 0, of_v], [1, -of_u * blue / green, -of_v * red / green], [1, of_u, 0]])
    black = np.array([0, 128, 128])
    if not yuv.full_range:
        black[0] = 16
        mix = mix * (255 / 219, 255 / 224, 255 / 224)
    return np.hstack([mix, -mix @ black[:, None]]).astype(np.float32)
