"""A microscope with a camera over a phantom slide: every frame comes with the truth of what it shows."""

import math
from dataclasses import dataclass
from statistics import NormalDist

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
_NO_NOISE = 255 - GLASS  # within this, nothing saturates before the sensor does


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
    is cut off; ``border_um``: how far the nucleus stays from the nearest border of the frame, negative where
    that cuts it.
    """

    cell: SlideCell
    center: tuple[float, float]
    nucleus_area_um2: float
    border_um: float

    @property
    def whole(self) -> bool:
        """Whether the frame shows all of the nucleus."""
        return self.border_um >= 0

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
    """Looks at a slide; the same looks in the same order give the same frames.

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
        self._lamp = cv2.merge([cv2.convertScaleAbs(falloff, alpha=level) for level in lamp])
        self._noise = _normal_table(noise * GLASS / max(lamp))
        self._rng = np.random.default_rng(seed)

    def look(self, pose: Pose) -> PhantomFrame:
        """Take a frame."""
        px_um = self.slide.smear.um_per_pixel
        blur = max(math.hypot(_RESOLUTION_UM, pose.defocus_um) / px_um, _MIN_BLUR_PX)
        steps = _motion_steps(pose.motion_um[0] / px_um, pose.motion_um[1] / px_um)
        travel = np.abs(steps).reshape(-1, 2).sum(axis=0)
        left = pose.x_um / px_um - (self._width + travel[0]) / 2
        top = pose.y_um / px_um - (self._height + travel[1]) / 2
        column, row = math.floor(left), math.floor(top)
        # The picture is taken larger than the frame: light also comes from beyond it.
        margin = math.ceil(4 * blur) + 2
        light = self.slide.light(
            column - margin,
            row - margin,
            self._width + 2 * margin + int(travel[0]),
            self._height + 2 * margin + int(travel[1]),
        )
        for step in steps:
            light = _mixed(light, step, 0.5)
        light = _mixed(_mixed(light, (1, 0), left - column), (0, 1), top - row)
        light = _blurred(light, _less_mixing(blur, left - column), _less_mixing(blur, top - row))
        light = light[margin : margin + self._height, margin : margin + self._width]
        return PhantomFrame(self._expose(light, pose.exposure), px_um, pose, self._cells_in_view(pose))

    def _expose(self, light: RGBImage, exposure: float) -> RGBImage:
        random = self._rng.integers(0, 2**64, light.size // 8 + 1, np.uint64).view(np.uint8)
        noise = cv2.LUT(random[: light.size].reshape(light.shape), self._noise)
        noisy = cv2.addWeighted(light, 1, noise, 1, -_NO_NOISE)
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
            border_um = min(x0 - left, right - x1, y0 - top, bottom - y1)
            cells.append(CellInView(cell, center, nucleus.area_um2, border_um))
        return tuple(cells)


def _motion_steps(x: float, y: float) -> list[tuple[int, int]]:
    """Steps in whole pixels; mixed half and half with itself moved by each, a picture smears along (x, y)."""
    steps = []
    while max(abs(x), abs(y)) >= 2:
        x, y = x / 2, y / 2
        steps.append((round(x), round(y)))
    return steps


def _mixed(light: RGBImage, step: tuple[int, int], share: float) -> RGBImage:
    """A picture mixed with a share of itself moved: smaller by the step, and shifted by the share of it."""
    (x, y), (height, width) = step, light.shape[:2]
    near = light[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    far = light[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)]
    return cv2.addWeighted(near, 1 - share, far, share, 0)


def _less_mixing(blur: float, share: float) -> float:
    """The blur that is left to do after two neighbouring pixels were mixed: variances add up."""
    return math.sqrt(max(blur**2 - share * (1 - share), 0.01))


def _blurred(light: RGBImage, across: float, down: float) -> RGBImage:
    """A picture blurred with these standard deviations in pixels; up to a coarse pixel is lost at its end."""
    shrink = int(min(across, down))
    if shrink < 2:
        size = 2 * math.ceil(2.5 * across) + 1, 2 * math.ceil(2.5 * down) + 1
        return cv2.GaussianBlur(light, size, across, sigmaY=down)
    # A wide blur leaves nothing that a coarser picture does not show.
    height, width = (side // shrink for side in light.shape[:2])
    coarse = cv2.resize(
        light[: height * shrink, : width * shrink], (width, height), interpolation=cv2.INTER_AREA
    )
    # Making it coarse and fine again is worth half a coarse pixel of blur.
    left = (math.sqrt((blur / shrink) ** 2 - 0.25) for blur in (across, down))
    return cv2.resize(_blurred(coarse, *left), (width * shrink, height * shrink))


def _normal_table(deviation: float) -> NDArray[np.uint8]:
    """(256,) uint8: what evenly distributed bytes become to be normal around `_NO_NOISE`."""
    quantiles = [NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)]
    return np.rint(_NO_NOISE + deviation * np.array(quantiles)).clip(0, 2 * _NO_NOISE).astype(np.uint8)
