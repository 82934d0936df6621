"""A microscope with a camera over a phantom slide: every frame comes with the truth of what it shows."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.images import RGBImage
from hematovision.phantom.layout import SlideCell
from hematovision.phantom.slide import GLASS, Slide

#: Colour of a halogen lamp: 8-bit levels of empty glass in the middle of the field.
WARM_LAMP = (238.0, 226.0, 196.0)

_RESOLUTION_UM = 0.12  # standard deviation of the blur of a lens in focus
_MIN_BLUR_PX = 0.5  # a pixel's own width blurs as much
_COARSE_BLUR_PX = 4.0  # a wider blur is made on a smaller picture
_NOISE_SPARE_PX = 64  # so much larger than a frame is the block that its noise is cut from


@dataclass(frozen=True)
class Pose:
    """Where the stage stands while a frame is taken, and how.

    ``x_um``, ``y_um``: the place of the slide in the middle of the frame. ``defocus_um``: standard deviation
    of the blur that being out of focus adds, on the slide. ``exposure``: at 1 the lamp has the microscope's
    levels; far more is over-exposed. ``motion_um``: how far the stage travels, in x and y, while the frame is
    exposed; half way it is at ``x_um``, ``y_um``.
    """

    x_um: float
    y_um: float
    defocus_um: float = 0.0
    exposure: float = 1.0
    motion_um: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class CellInView:
    """A leukocyte whose nucleus a frame shows.

    ``center``: (x, y) of the nucleus's centroid in pixels of the frame, beyond the frame where more than half
    is cut off; ``whole``: the frame does not cut the nucleus.
    """

    cell: SlideCell
    center: tuple[float, float]
    nucleus_area_um2: float
    whole: bool

    @property
    def class_name(self) -> str:
        """Class of the cell."""
        return self.cell.class_name


@dataclass(frozen=True)
class PhantomFrame:
    """A frame, (height, width, 3) uint8 RGB, how it was taken, and the leukocytes that it shows."""

    image: RGBImage
    um_per_pixel: float
    pose: Pose
    cells: tuple[CellInView, ...]


class Microscope:
    """Looks at a slide; looked through in the same order, it gives the same frames.

    Args:
        slide: what it looks at, at the scale the slide is drawn at.
        width, height: of its frames, in pixels.
        lamp: 8-bit levels of red, green and blue of empty glass in the middle of the field.
        vignetting: share of the light that is lost in the corners.
        noise: standard deviation of the sensor's noise on empty glass, in 8-bit levels.
        seed: of the noise.
    """

    def __init__(
        self,
        slide: Slide,
        width: int = 1280,
        height: int = 960,
        lamp: tuple[float, float, float] = WARM_LAMP,
        vignetting: float = 0.16,
        noise: float = 1.3,
        seed: int = 0,
    ) -> None:
        self.slide = slide
        self._width, self._height = width, height
        x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
        falloff = 1 - vignetting / 2 * (x[None, :] ** 2 + y[:, None] ** 2)
        self._lamp = np.rint(falloff[..., None] * lamp).clip(0, 255).astype(np.uint8)
        self._noise = _noise(width, height, noise * GLASS / max(lamp))
        self._rng = np.random.default_rng(seed)

    def look(self, pose: Pose) -> PhantomFrame:
        """Take a frame."""
        px_um = self.slide.smear.um_per_pixel
        blur = max(math.hypot(_RESOLUTION_UM, pose.defocus_um) / px_um, _MIN_BLUR_PX)
        steps = _motion_steps(pose.motion_um[0] / px_um, pose.motion_um[1] / px_um)
        travel = np.abs(steps).reshape(-1, 2).sum(axis=0)
        # The picture is taken larger than the frame: light also comes from beyond it.
        margin = math.ceil(4 * blur) + 2
        corner = np.array([pose.x_um / px_um - self._width / 2, pose.y_um / px_um - self._height / 2])
        column, row = np.rint(corner - travel / 2).astype(int).tolist()
        light = self.slide.light(
            column - margin,
            row - margin,
            self._width + 2 * margin + int(travel[0]),
            self._height + 2 * margin + int(travel[1]),
        )
        for x, y in steps:
            light = _mean_with_moved(light, x, y)
        light = _blurred(light, blur, corner - travel / 2 - (column, row))
        light = light[margin : margin + self._height, margin : margin + self._width]
        return PhantomFrame(self._expose(light, pose.exposure), px_um, pose, self._cells_in_view(pose))

    def _expose(self, light: RGBImage, exposure: float) -> RGBImage:
        # The same block at two places, added and subtracted: noise without a new random number a pixel.
        x0, y0, x1, y1 = self._rng.integers(0, _NOISE_SPARE_PX + 1, 4).tolist()
        height, width = light.shape[:2]
        noisy = cv2.add(light, self._noise[y0 : y0 + height, x0 : x0 + width])
        noisy = cv2.subtract(noisy, self._noise[y1 : y1 + height, x1 : x1 + width])
        return cv2.multiply(noisy, self._lamp, scale=exposure / GLASS)  # saturates, as a sensor does

    def _cells_in_view(self, pose: Pose) -> tuple[CellInView, ...]:
        px_um = self.slide.smear.um_per_pixel
        left, right = pose.x_um - self._width / 2 * px_um, pose.x_um + self._width / 2 * px_um
        top, bottom = pose.y_um - self._height / 2 * px_um, pose.y_um + self._height / 2 * px_um
        cells = []
        for cell in self.slide.cells_near(left, top, right, bottom):
            nucleus = self.slide.nucleus(cell)
            x0, y0, x1, y1 = nucleus.box_um
            if x1 <= left or x0 >= right or y1 <= top or y0 >= bottom:
                continue
            center = (cell.center_um[0] - left) / px_um - 0.5, (cell.center_um[1] - top) / px_um - 0.5
            whole = x0 >= left and x1 <= right and y0 >= top and y1 <= bottom
            cells.append(CellInView(cell, center, nucleus.area_um2, whole))
        return tuple(cells)


def _motion_steps(x: float, y: float) -> list[tuple[int, int]]:
    """Steps in whole pixels; the mean with itself moved, by each in turn, spreads a picture along (x, y)."""
    steps = []
    while max(abs(x), abs(y)) >= 1:
        x, y = x / 2, y / 2
        steps.append((round(x), round(y)))
    return [step for step in steps if step != (0, 0)]


def _mean_with_moved(light: RGBImage, x: int, y: int) -> RGBImage:
    """Mean of a picture and itself moved, where they overlap: smaller by as much as it was moved."""
    height, width = light.shape[0] - abs(y), light.shape[1] - abs(x)
    x0, y0, x1, y1 = max(-x, 0), max(-y, 0), max(x, 0), max(y, 0)
    one, other = light[y0 : y0 + height, x0 : x0 + width], light[y1 : y1 + height, x1 : x1 + width]
    return cv2.addWeighted(one, 0.5, other, 0.5, 0)


def _blurred(light: RGBImage, blur: float, shift: NDArray[np.float64]) -> RGBImage:
    """A picture blurred, and moved by part of a pixel: what was at ``shift`` comes to (0, 0)."""
    if blur < _COARSE_BLUR_PX:
        return cv2.sepFilter2D(light, cv2.CV_8U, _kernel(blur, shift[0]), _kernel(blur, shift[1]))
    # A wide blur leaves nothing that a smaller picture does not show.
    shrink = int(blur / 2)
    height, width = (side // shrink for side in light.shape[:2])
    small = cv2.resize(
        light[: height * shrink, : width * shrink], (width, height), interpolation=cv2.INTER_AREA
    )
    # Making it smaller and larger again is worth half a small pixel of blur.
    small = _blurred(small, math.sqrt((blur / shrink) ** 2 - 0.25), shift / shrink)
    return cv2.resize(small, (width * shrink, height * shrink), interpolation=cv2.INTER_LINEAR)


def _kernel(blur: float, shift: float) -> NDArray[np.float64]:
    reach = math.ceil(2.5 * blur + 0.5)
    weights = np.exp(-np.square((np.arange(-reach, reach + 1) - shift) / blur) / 2)
    return weights / weights.sum()


@lru_cache(maxsize=2)
def _noise(width: int, height: int, deviation: float) -> RGBImage:
    rng = np.random.default_rng(0)
    shape = height + _NOISE_SPARE_PX, width + _NOISE_SPARE_PX, 3
    block = (rng.standard_normal(shape, np.float32) / math.sqrt(2) + 4) * deviation
    return cv2.convertScaleAbs(block)
