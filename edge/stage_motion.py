"""Where the stage stands, from what the frames show: each is laid on one seen before.

The displacement of two pictures is proposed by phase correlation (Kuglin and Hines 1975), which finds it at a
fifth of common field and within a tenth of a micrometre, but always proposes something. What decides is the
correlation of what the two pictures would then both show: 0.9 or so where they do, below 0.5 where they do
not, whatever the smear is like.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.optics import Field

#: Two pictures show a common part of the slide if they correlate by so much over it.
MIN_CORRELATION = 0.65
#: Less in common than this share of a field is not looked for: phase correlation does not find it.
MIN_OVERLAP = 0.15
#: A picture with less contrast (standard deviation of green transmittance) shows nothing to go by: half a
#: red cell in a field of 128 x 96 µm has this much.
MIN_CONTRAST = 0.01
#: Pictures kept to find a place again, the last used; each has 20 to 65 kB.
KEYS_KEPT = 64

# A red cell is 9 pixels wide.
_PICTURE_UM_PER_PIXEL = 0.8
_MAX_PICTURE_SIDE = 256
_LEVELS = 200.0  # of 255, for a transmittance of 1
_TAPER = 0.2  # of each side: what enters and leaves at the borders must not stand out
_FINEST_PX = 1.0  # finer than this is noise
_PEAKS = 3
_PEAK_REACH_PX = 3
# A picture becomes a key where none kept has so much in common with it.
_KEY_OVERLAP = 0.6
# One kept is laid on where it has so much in common by its position, which may be some µm off.
_NEAR_OVERLAP = 0.2


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame, small: ``levels`` (h, w) uint8 of green light let through; µm per pixel in x and y."""

    levels: NDArray[np.uint8]
    um_per_pixel: tuple[float, float]

    @property
    def contrast(self) -> float:
        """Standard deviation of the transmittance."""
        return float(cv2.meanStdDev(self.levels)[1][0, 0]) / _LEVELS

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height on the slide."""
        height, width = self.levels.shape
        return width * self.um_per_pixel[0], height * self.um_per_pixel[1]

    def like(self, other: "Picture") -> bool:
        """Whether both are of frames of one size and scale."""
        return self.levels.shape == other.levels.shape and self.um_per_pixel == other.um_per_pixel


class Motion(NamedTuple):
    """Way of the stage between two pictures: of the frame's middle on the slide, in µm."""

    x_um: float
    y_um: float
    correlation: float


class Position(NamedTuple):
    """Middle of a frame in µm from the middle of the frame that its area began with."""

    area: int
    x_um: float
    y_um: float

    def after(self, motion: Motion) -> "Position":
        """Where the stage stands after a motion from here."""
        return Position(self.area, self.x_um + motion.x_um, self.y_um + motion.y_um)

    def distance_um(self, other: "Position") -> float:
        """How far another position is; infinitely where it is in another area."""
        if other.area != self.area:
            return math.inf
        return math.hypot(self.x_um - other.x_um, self.y_um - other.y_um)


class Stand(NamedTuple):
    """Where the stage stands, and its way since the picture before: infinite where that is not known."""

    position: Position
    moved_um: float


def make_picture(field: Field) -> Picture:
    """The small picture of a field that motion is measured on."""
    height, width = field.image.shape[:2]
    size_um = width * field.um_per_pixel, height * field.um_per_pixel
    px_um = max(_PICTURE_UM_PER_PIXEL, max(size_um) / _MAX_PICTURE_SIDE)
    columns, rows = (cv2.getOptimalDFTSize(max(8, round(side / px_um))) for side in size_um)
    # Haemoglobin absorbs green: in it the red cells stand out, and they are nearly everywhere.
    green = cv2.extractChannel(field.transmittance, 1)
    small = cv2.resize(green, (columns, rows), interpolation=cv2.INTER_AREA)
    return Picture(cv2.convertScaleAbs(small, alpha=_LEVELS), (size_um[0] / columns, size_um[1] / rows))


def measure_motion(earlier: Picture, later: Picture) -> Motion | None:
    """Way of the stage from one picture to another; None where they show nothing in common for certain."""
    if not earlier.like(later):
        return None
    one, other = earlier.levels.astype(np.float32), later.levels.astype(np.float32)
    candidates = [(_correlation(one, other, round(x), round(y)), x, y) for x, y in _displacements(one, other)]
    correlation, x, y = max(candidates, default=(0.0, 0.0, 0.0))
    if correlation < MIN_CORRELATION:
        return None
    # The slide moves through the picture against the way of the frame over the slide.
    return Motion(-x * later.um_per_pixel[0], -y * later.um_per_pixel[1], correlation)


_Known = tuple[Position, Picture]


class Stage:
    """Follows the stage from picture to picture, and finds its place again after having lost it.

    A picture is laid on a key, one of the pictures kept of its area, so that errors do not add up while the
    stage stands, or comes back to where it was. Between keys it is laid on the picture before. If it fits
    neither, all others kept are tried; if none of these fits, and it shows the same place as the picture before,
    a new area begins.
    """

    def __init__(self) -> None:
        #: Areas begun so far.
        self.areas = 0
        self._keys: OrderedDict[Position, Picture] = OrderedDict()
        # The latest good picture, not always a key; and the latest of all.
        self._good: tuple[Position, Picture] | None = None
        self._last: Picture | None = None
        self._here: Position | None = None

    def locate(self, picture: Picture, in_focus: bool) -> Stand | None:
        """Where the stage stood for a picture; None where that is not known.

        A picture out of focus is not searched for among all that was seen, nor does an area begin with it: it
        resembles other places as little as its own.
        """
        before, last = self._here, self._last
        position = self._follow(picture)
        if position is None and in_focus:
            position = self._lay_on(reversed(list(self._keys.items())), picture)
        moved_um = math.inf
        if before is not None and position is not None:
            moved_um = position.distance_um(before)
        if math.isinf(moved_um) and in_focus and last is not None:
            motion = measure_motion(last, picture)
            if motion is not None:
                moved_um = math.hypot(motion.x_um, motion.y_um)
                if position is None:
                    self.areas += 1
                    position = Position(self.areas, 0.0, 0.0)
        self._last, self._here = picture, position
        return None if position is None else Stand(position, moved_um)

    def keep(self, picture: Picture, position: Position) -> Position:
        """Keep a good picture to find its place by.

        Returns:
            Its position: in an earlier area, if the stage has come back there without having been lost.
        """
        if all(self._overlap(picture, position, key) < _KEY_OVERLAP for key in self._keys):
            others = [(key, known) for key, known in self._keys.items() if key.area != position.area]
            found = self._lay_on(others, picture)
            if found is None:
                self._keys[position] = picture
                if len(self._keys) > KEYS_KEPT:
                    self._keys.popitem(last=False)
            else:
                position = self._here = found
        self._good = position, picture
        return position

    def _follow(self, picture: Picture) -> Position | None:
        """Position by what is known near the last one."""
        if self._here is None or self._last is None:
            return None
        known = list(self._keys.items())
        found = self._lay_on(self._nearest(known, picture, self._here), picture)
        if found is not None:
            return found
        motion = measure_motion(self._last, picture)
        if motion is None:
            return None
        # The picture before may have been smeared, and then this is not exact.
        rough = self._here.after(motion)
        known += [self._good] if self._good is not None else []
        return self._lay_on(self._nearest(known, picture, rough), picture) or rough

    def _nearest(self, known: list[_Known], picture: Picture, position: Position) -> list[_Known]:
        """The picture that has most in common with another by their positions, if that is enough to tell."""
        near = [(self._overlap(picture, position, one[0]), index) for index, one in enumerate(known)]
        overlap, index = max(near, default=(0.0, 0))
        return [known[index]] if overlap > _NEAR_OVERLAP else []

    def _lay_on(self, known: Iterable[_Known], picture: Picture) -> Position | None:
        for position, other in known:
            motion = measure_motion(other, picture)
            if motion is not None:
                if position in self._keys:
                    self._keys.move_to_end(position)
                return position.after(motion)
        return None

    @staticmethod
    def _overlap(picture: Picture, position: Position, key: Position) -> float:
        """Share of a field that two pictures have in common by their positions."""
        if key.area != position.area:
            return 0.0
        width, height = picture.size_um
        across = 1 - abs(position.x_um - key.x_um) / width
        down = 1 - abs(position.y_um - key.y_um) / height
        return max(across, 0.0) * max(down, 0.0)


def _displacements(one: NDArray[np.float32], other: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Likely ways of the content from one picture to another, in pixels."""
    height, width = one.shape
    cross = np.conj(_spectrum(one)) * _spectrum(other)
    # Whitened by half: wholly, a smeared picture would lie on a sharp one with the ends of its smear.
    cross *= _pass_band(height, width) / (np.sqrt(np.abs(cross)) + 1e-6)
    surface = cv2.dft(
        cross.view(np.float32).reshape(height, width, 2), flags=cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT
    )
    ways = []
    for _ in range(_PEAKS):
        _, _, _, (x, y) = cv2.minMaxLoc(surface)
        fine_x = x + _vertex(surface[y, x - 1], surface[y, x], surface[y, (x + 1) % width])
        fine_y = y + _vertex(surface[y - 1, x], surface[y, x], surface[(y + 1) % height, x])
        # The transform takes pictures to go round: x to the right is also width - x to the left.
        for way_x in (fine_x, fine_x - width):
            for way_y in (fine_y, fine_y - height):
                if (1 - abs(way_x) / width) * (1 - abs(way_y) / height) >= MIN_OVERLAP:
                    ways.append((way_x, way_y))
        rows, columns = (
            np.arange(at - _PEAK_REACH_PX, at + _PEAK_REACH_PX + 1) % side
            for at, side in ((y, height), (x, width))
        )
        surface[np.ix_(rows, columns)] = -np.inf
    return ways


def _spectrum(picture: NDArray[np.float32]) -> NDArray[np.complex64]:
    tapered = (picture - picture.mean()) * _window(*picture.shape)
    return cv2.dft(tapered, flags=cv2.DFT_COMPLEX_OUTPUT).view(np.complex64)[..., 0]


def _vertex(before: float, at: float, after: float) -> float:
    """Where between -0.5 and 0.5 a parabola through three values at -1, 0 and 1 is highest."""
    bend = before - 2 * at + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if np.isfinite(bend) and bend < 0 else 0.0


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32], x: int, y: int) -> float:
    """Pearson's correlation of what both show, if the content moved by x and y pixels; 0 of nothing."""
    height, width = one.shape
    left, right, top, bottom = max(0, x), min(width, width + x), max(0, y), min(height, height + y)
    # Every second pixel is plenty.
    a = one[top - y : bottom - y : 2, left - x : right - x : 2]
    b = other[top:bottom:2, left:right:2]
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    return float(np.vdot(a, b)) / scale if scale > 0 else 0.0


@lru_cache(maxsize=2)
def _window(height: int, width: int) -> NDArray[np.float32]:
    """Tapered cosine (Tukey) window."""

    def taper(side: int) -> NDArray[np.float64]:
        from_edge = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / (_TAPER / 2 * side)
        return 0.5 - 0.5 * np.cos(np.pi * np.minimum(from_edge, 1))

    return np.outer(taper(height), taper(width)).astype(np.float32)


@lru_cache(maxsize=2)
def _pass_band(height: int, width: int) -> NDArray[np.float32]:
    """How much each frequency counts: a Gaussian, so that the peak is one."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    return np.exp(-2 * (np.pi * _FINEST_PX) ** 2 * (x * x + y * y)).astype(np.float32)
