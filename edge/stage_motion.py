"""Where the stage stands, from what the frames show: each is laid on one seen before.

The displacement of two pictures is proposed by phase correlation (Kuglin and Hines 1975), which finds it at a
fifth of common field and within a tenth of a micrometre, but always proposes something. What decides is the
correlation of what the two pictures would then both show: 0.9 or so where they do, below 0.5 where they do
not, whatever the smear is like.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.optics import Field

#: Two pictures show a common part of the slide only if they correlate by so much over it.
MIN_CORRELATION = 0.65
#: Less in common than this share of a field is not looked for: phase correlation does not find it.
MIN_OVERLAP = 0.15
#: They do so, whatever was expected, if they agree in so many spots of 6 µm, each the size of a red cell. Of
#: a leukocyte or two that agree there are fewer, and other leukocytes would agree as well.
MIN_SPOTS = 9.0
#: With fewer, the way must be this near to what was expected. Leukocytes are farther apart than this.
MAX_SURPRISE_UM = 15.0
#: A picture with less contrast (standard deviation of green transmittance) shows nothing to go by: half a
#: red cell in a field of 128 x 96 µm has this much.
MIN_CONTRAST = 0.01
#: Pictures kept to find a place by, spread over all that was seen; each has 20 to 65 kB.
KEYS_KEPT = 128

# A red cell is 9 pixels wide.
_PICTURE_UM_PER_PIXEL = 0.8
_MAX_PICTURE_SIDE = 256
_LEVELS = 200.0  # of 255, for a transmittance of 1
_TAPER = 0.2  # of each side: what enters and leaves at the borders must not stand out
_FINEST_PX = 1.0  # finer than this is noise
_PEAKS = 3
_CERTAIN = 0.85  # no other way is tried
# By so much must a way that was not expected correlate better than any other, lest rows of cells deceive.
_LEAD, _SAME_WAY_UM = 0.15, 5.0
_PEAK_REACH_PX = 3
_SQUARE = 4
# A picture becomes a key where none kept has this share of a field in common with it.
_KEY_SHARE = 0.6
# It is laid on a key that has so much in common with it by its position, which may be some µm off.
_NEAR_SHARE = 0.2


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

    def moved(self, x_um: float, y_um: float) -> "Position":
        """The position so far from here."""
        return Position(self.area, self.x_um + x_um, self.y_um + y_um)

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


def measure_motion(
    earlier: Picture, later: Picture, expected: tuple[float, float] | None = None
) -> Motion | None:
    """Way of the stage from one picture to another; None where they do not show for certain what it was.

    Args:
        earlier: the picture before.
        later: the picture after.
        expected: way in x and y in µm, as the stage moved before. Where both pictures show so little that it
            might be somewhere else, such as a single cell, only a way near it is believed.
    """
    if not earlier.like(later):
        return None
    px_x, px_y = later.um_per_pixel
    candidates: list[tuple[Motion, float]] = []
    for x, y in _displacements(earlier, later):
        correlation, spots = _match(earlier.levels, later.levels, round(x), round(y))
        # The slide moves through the picture against the way of the frame over the slide.
        candidates.append((Motion(-x * px_x, -y * px_y, correlation), spots))
        if correlation >= _CERTAIN and spots >= MIN_SPOTS:
            break
    best, spots = max(candidates, key=lambda one: one[0].correlation)
    if best.correlation < MIN_CORRELATION:
        return None
    if expected is not None and math.dist(best[:2], expected) <= MAX_SURPRISE_UM:
        return best
    others = (one.correlation for one, _ in candidates if math.dist(one[:2], best[:2]) > _SAME_WAY_UM)
    alone = best.correlation >= _CERTAIN or best.correlation >= max(others, default=0.0) + _LEAD
    return best if alone and spots >= MIN_SPOTS else None


_Known = tuple[Position, Picture]
_STANDING = (0.0, 0.0)


class _Album:
    """Pictures whose positions are known."""

    def __init__(self, known: Sequence[_Known] = ()) -> None:
        self.known = known
        self.places = np.array([position for position, _ in known]).reshape(-1, 3)

    def shares(self, picture: Picture, position: Position) -> NDArray[np.float64]:
        """Share of a field that each has in common with a picture taken at a position, by their positions."""
        common = 1 - np.abs(self.places[:, 1:] - position[1:]) / picture.size_um
        return common.clip(0).prod(axis=1) * (self.places[:, 0] == position.area)

    def nearest(self, picture: Picture, position: Position) -> list[_Known]:
        """The one that has most in common with a picture, if it is enough to tell."""
        shares = self.shares(picture, position)
        return [self.known[int(shares.argmax())]] if shares.max(initial=0.0) > _NEAR_SHARE else []

    def thinned_out(self) -> "_Album":
        """Without one where they are closest together; the last stays."""
        apart = np.hypot(*(self.places[:, None, 1:] - self.places[None, :-1, 1:]).T)
        apart[self.places[:-1, None, 0] != self.places[None, :, 0]] = np.inf
        np.fill_diagonal(apart, np.inf)
        left_out = int(apart.min(axis=1).argmin())
        return _Album([*self.known[:left_out], *self.known[left_out + 1 :]])


class Stage:
    """Follows the stage from picture to picture, and finds its place again after having lost it.

    A picture is laid on a key, one of the pictures kept of its area, so that errors do not add up while the
    stage stands, or comes back to where it was. Between keys it is laid on the picture before. If it fits
    neither, all others kept are tried; if none of these fits, and it shows the same place as the picture
    before, a new area begins.
    """

    def __init__(self) -> None:
        #: Areas begun so far.
        self.areas = 0
        self._keys = _Album()
        # The latest good picture, not always a key; and the latest of all.
        self._good = _Album()
        self._last: Picture | None = None
        self._here: Position | None = None
        self._way = _STANDING  # from the picture before to the latest

    def locate(self, picture: Picture, in_focus: bool) -> Stand | None:
        """Where the stage stood for a picture; None where that is not known.

        A picture out of focus is not searched for among all that was seen, nor does an area begin with it: it
        resembles other places as little as its own.
        """
        before, last = self._here, self._last
        position = self._follow(picture)
        if position is None and in_focus:
            position = self._lay_on(reversed(self._keys.known), picture)
        way = None
        if before is not None and position is not None and position.area == before.area:
            way = position.x_um - before.x_um, position.y_um - before.y_um
        elif in_focus and last is not None:
            motion = measure_motion(last, picture, _STANDING)
            if motion is not None:
                way = motion.x_um, motion.y_um
                if position is None:
                    self.areas += 1
                    position = Position(self.areas, 0.0, 0.0)
        self._last, self._here, self._way = picture, position, way or _STANDING
        if position is None:
            return None
        return Stand(position, math.inf if way is None else math.hypot(*way))

    def keep(self, picture: Picture, position: Position) -> Position:
        """Keep a good picture to find its place by.

        Returns:
            Its position. It is in another area where the stage has come to one seen before: then all of the
            area that it was in has become part of that one, moved as the position has.
        """
        if self._keys.shares(picture, position).max(initial=0.0) < _KEY_SHARE:
            found = self._lay_on([key for key in self._keys.known if key[0].area != position.area], picture)
            if found is not None:
                self._join(position, found)
                position = self._here = found
            self._keys = _Album([*self._keys.known, (position, picture)])
            if len(self._keys.known) > KEYS_KEPT:
                self._keys = self._keys.thinned_out()
        self._good = _Album([(position, picture)])
        return position

    def _join(self, position: Position, same: Position) -> None:
        """Make an area part of another, by a position in each that are the same place."""
        x, y = same.x_um - position.x_um, same.y_um - position.y_um
        self._keys = _Album(
            [
                (where.moved(x, y)._replace(area=same.area) if where.area == position.area else where, key)
                for where, key in self._keys.known
            ]
        )

    def _follow(self, picture: Picture) -> Position | None:
        """Position by what is known near the last one."""
        if self._here is None or self._last is None:
            return None
        ahead = self._here.moved(*self._way)
        found = self._lay_on(self._keys.nearest(picture, self._here), picture, ahead)
        if found is not None:
            return found
        motion = measure_motion(self._last, picture, self._way)
        if motion is None:
            return None
        # The picture before may have been smeared, and then this is not exact.
        rough = self._here.moved(motion.x_um, motion.y_um)
        near = self._keys.nearest(picture, rough) or self._good.nearest(picture, rough)
        return self._lay_on(near, picture, rough) or rough

    @staticmethod
    def _lay_on(
        known: Iterable[_Known], picture: Picture, expected: Position | None = None
    ) -> Position | None:
        """Position by the first of the known pictures that shows it."""
        for position, other in known:
            way = None
            if expected is not None:
                way = expected.x_um - position.x_um, expected.y_um - position.y_um
            motion = measure_motion(other, picture, way)
            if motion is not None:
                return position.moved(motion.x_um, motion.y_um)
        return None


def _displacements(earlier: Picture, later: Picture) -> Iterator[tuple[float, float]]:
    """Ways of the content from one picture to another in pixels, the likeliest first."""
    height, width = earlier.levels.shape
    cross = np.conj(_spectrum(earlier))
    cross *= _spectrum(later)
    # Whitened by half: wholly, a smeared picture would lie on a sharp one with the ends of its smear.
    cross *= _pass_band(height, width) / (np.sqrt(np.abs(cross)) + 1e-6)
    surface = cv2.dft(
        cross.view(np.float32).reshape(height, width, 2), flags=cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT
    )
    for _ in range(_PEAKS):
        _, _, _, (x, y) = cv2.minMaxLoc(surface)
        fine_x = x + _vertex(surface[y, x - 1], surface[y, x], surface[y, (x + 1) % width])
        fine_y = y + _vertex(surface[y - 1, x], surface[y, x], surface[(y + 1) % height, x])
        # The transform takes pictures to go round: x to the right is also width - x to the left.
        for way_x in sorted((fine_x, fine_x - width), key=abs):
            for way_y in sorted((fine_y, fine_y - height), key=abs):
                if (1 - abs(way_x) / width) * (1 - abs(way_y) / height) >= MIN_OVERLAP:
                    yield way_x, way_y
        rows, columns = (
            np.arange(at - _PEAK_REACH_PX, at + _PEAK_REACH_PX + 1) % side
            for at, side in ((y, height), (x, width))
        )
        surface[np.ix_(rows, columns)] = -np.inf


# A key is compared with frame after frame.
@lru_cache(maxsize=4)
def _spectrum(picture: Picture) -> NDArray[np.complex64]:
    levels = picture.levels.astype(np.float32)
    levels -= levels.mean()
    levels *= _window(*levels.shape)
    return cv2.dft(levels, flags=cv2.DFT_COMPLEX_OUTPUT).view(np.complex64)[..., 0]


def _vertex(before: float, at: float, after: float) -> float:
    """Where between -0.5 and 0.5 a parabola through three values at -1, 0 and 1 is highest."""
    bend = before - 2 * at + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if np.isfinite(bend) and bend < 0 else 0.0


class _Match(NamedTuple):
    """How well pictures agree where both show the slide: Pearson's correlation, and in how many spots."""

    correlation: float
    spots: float


def _match(one: NDArray[np.uint8], other: NDArray[np.uint8], x: int, y: int) -> _Match:
    """Compare two pictures, if the content moved by x and y pixels."""
    height, width = one.shape
    left, right, top, bottom = max(0, x), min(width, width + x), max(0, y), min(height, height + y)
    # Every second pixel is plenty.
    a = one[top - y : bottom - y : 2, left - x : right - x : 2].astype(np.float32)
    b = other[top:bottom:2, left:right:2].astype(np.float32)
    a -= a.mean()
    b -= b.mean()
    scale = math.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    product = a * b
    correlation = float(product.sum()) / scale if scale > 0 else 0.0
    if correlation < MIN_CORRELATION:
        return _Match(correlation, 0.0)
    # If n of the squares agree alike and the others show nothing, this is n.
    squares = max(1, product.shape[1] // _SQUARE), max(1, product.shape[0] // _SQUARE)
    agreeing = cv2.resize(np.maximum(product, 0), squares, interpolation=cv2.INTER_AREA)
    return _Match(correlation, float(agreeing.sum()) ** 2 / float(np.vdot(agreeing, agreeing)))


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
