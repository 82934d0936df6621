"""A run over a piece of real smear, moved under the microscope as by hand, and held against the truth."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pan.slide import GLASS, UM_PER_PIXEL, RealCell, RealSlide
from benchmarks.tracker import by_hand
from edge.cameras import Frame
from edge.phantom_score import LONG_ENOUGH
from edge.pipeline import LiveLine, SeenFrame
from edge.rectangle import Rectangle
from hematovision.cell_classes import UNCLASSIFIED
from hematovision.classifier import Classifier
from hematovision.images import RGBImage
from hematovision.phantom import Pose
from hematovision.phantom.stage import dwell, meander, over_expose, pan, refocus, visit

#: Frames, width and height in pixels.
FRAME_SIZE = 1280, 960

MISSED, TWICE, NOTHING = "missed", "twice", "nothing"

_NOISE, _NOISE_SHIFT_PX = 1.3, 64
# Frames at a field, and on the way to the next.
_DWELL, _PAN = 6, 6
# Every so many fields the stage jumps to one seen before and back again, or the focus is turned.
_JUMP_EVERY, _FOCUS_EVERY = 4, 7
# The share of the fields that is panned over once more, backwards.
_BACK = 0.4
# A good frame is in focus, not over-exposed, and shows the slide where the frame before showed it.
_IN_FOCUS_UM, _USUAL_EXPOSURE, _STANDING_UM = 0.3, 1.2, 1.0
# So far outside a leukocyte's box the middle of its nucleus may be found, and so far inside a frame is whole.
_BOX_UM = 1.0


@dataclass(frozen=True)
class Miscount:
    """A miscounted cell or place.

    ``why``: `MISSED` (shown long enough and not counted), `TWICE` (counted before) or `NOTHING` (counted
    where no leukocyte is). ``x_um`` and ``y_um`` on the slide. ``name``: the class that it was given, of what
    was missed its label. ``source``: image and place that it is of.
    """

    why: str
    x_um: float
    y_um: float
    name: str
    source: str


@dataclass(frozen=True)
class PanResult:
    """The counts of a run on a slide.

    ``cells``: all that the slide has, of which ``once`` were counted once; ``shown``: those of them shown
    long enough to be counted. ``areas``: one more for each time that the place was lost.
    """

    name: str
    frames: int
    areas: int
    cells: int
    shown: int
    once: int
    miscounts: tuple[Miscount, ...]

    def number(self, why: str) -> int:
        """Return how many were miscounted so."""
        return sum(miscount.why == why for miscount in self.miscounts)

    @property
    def nothing_named(self) -> int:
        """Return how often a class was given to what is no leukocyte."""
        return sum(one.why == NOTHING and one.name != UNCLASSIFIED for one in self.miscounts)


class RealMicroscope:
    """Looks at a slide with the lamp that it was seen with and a sensor's noise; the same looks are alike."""

    def __init__(self, slide: RealSlide, frame_size: tuple[int, int], seed: int) -> None:
        self._slide, self._size = slide, frame_size
        self._lamp = cv2.resize(slide.lamp, frame_size) / np.float32(GLASS)
        # Taken from another place for each frame, it is noise enough, and quick.
        self._rng = np.random.default_rng((seed, 1))
        height, width = frame_size[1] + _NOISE_SHIFT_PX, frame_size[0] + _NOISE_SHIFT_PX
        self._noise = self._rng.standard_normal((height, width, 3), np.float32) * np.float32(_NOISE)

    def look(self, pose: Pose) -> RGBImage:
        """Take a frame, (height, width, 3) uint8 RGB. Beyond the slide its border goes on."""
        width, height = self._size
        window = window_um(pose, self._size)
        middle = (
            window.left / UM_PER_PIXEL + (width - 1) / 2,
            window.top / UM_PER_PIXEL + (height - 1) / 2,
        )
        light = cv2.getRectSubPix(self._slide.light, self._size, middle)
        if any(pose.motion_um):
            light = cv2.filter2D(light, -1, _smear(*pose.motion_um))
        if pose.defocus_um > UM_PER_PIXEL / 2:
            light = cv2.GaussianBlur(light, (0, 0), pose.defocus_um / UM_PER_PIXEL)
        seen = cv2.multiply(light, self._lamp, scale=pose.exposure, dtype=cv2.CV_32F)
        y, x = self._rng.integers(_NOISE_SHIFT_PX, size=2).tolist()
        # It saturates, as a sensor does.
        return cv2.add(seen, self._noise[y : y + height, x : x + width], dtype=cv2.CV_8U)


def window_um(pose: Pose, frame_size: tuple[int, int]) -> Rectangle:
    """Return what a frame of so many pixels shows of the slide."""
    width, height = (side * UM_PER_PIXEL for side in frame_size)
    return Rectangle(0, 0, width, height).moved(pose.x_um - width / 2, pose.y_um - height / 2)


def plan_path(slide: RealSlide, frame_size: tuple[int, int], seed: int) -> list[Pose]:
    """Return poses as a person gives them: all of the slide, field by field, and a part of it again.

    The stage rests at each field and is panned to the next. Now and then it jumps to a field seen before and
    back, or the focus is turned and the lamp too bright for a moment. At the end the last fields are panned
    over again, backwards. A hand trembles, and some frames are blurred or too bright.
    """
    rng = np.random.default_rng((seed, 2))
    width, height = (side * UM_PER_PIXEL for side in frame_size)
    # The hand is not quite where it was meant to be: nothing beyond the slide shall come into view.
    box = Rectangle(0, 0, *slide.size_um).wider(-4.0)
    places = meander(rng, box, (width, height))
    poses = list(dwell(rng, places[0], _DWELL))
    for number, (start, end) in enumerate(pairwise(places), 1):
        poses += [*pan(start, end, _PAN), *dwell(rng, end, _DWELL)]
        if number % _JUMP_EVERY == 0:
            before = places[int(rng.integers(number - 1))]
            poses += [*dwell(rng, before, _DWELL), *dwell(rng, end, _DWELL)]
        if number % _FOCUS_EVERY == 0:
            poses += [*refocus(end, 8), *over_expose(end, 2), *dwell(rng, end, _DWELL)]
    back = places[-2 : -2 - round(_BACK * len(places)) : -1]
    poses += visit(rng, [places[-1], *back], _DWELL, _PAN)
    return by_hand(seed, poses)


def pan_over(
    classifier: Classifier,
    slide: RealSlide,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: int = 0,
    at: Callable[[int, int], object] | None = None,
) -> PanResult:
    """Move a slide as `plan_path` says, count as a run does, and hold the counts against the slide's cells.

    ``at`` is called before each frame with its number, from 0, and how many there are.

    Raises:
        ModelFileError: the classifier or the finder fails.
    """
    microscope, line = RealMicroscope(slide, frame_size, seed), LiveLine(classifier)
    score = _Score(slide, frame_size)
    poses = plan_path(slide, frame_size, seed)
    for sequence, pose in enumerate(poses):
        if at is not None:
            at(sequence, len(poses))
        result = line.see(Frame.now(microscope.look(pose), sequence, UM_PER_PIXEL, slide.name))
        assert isinstance(result, SeenFrame)  # none is black
        score.see(result, pose)
    return score.result(len(poses), line.tracker.areas)


class _Score:
    """Follows a run frame by frame; judged by the slide alone, not by where the tracker takes it to be."""

    def __init__(self, slide: RealSlide, frame_size: tuple[int, int]) -> None:
        self._slide, self._frame_size = slide, frame_size
        self._before: Pose | None = None
        self._good_frames: Counter[RealCell] = Counter()
        self._counted: Counter[RealCell] = Counter()
        self._miscounts: list[Miscount] = []

    def see(self, result: SeenFrame, pose: Pose) -> None:
        window = window_um(pose, self._frame_size)
        if self._is_good(pose):
            inner = window.wider(-_BOX_UM)
            self._good_frames.update(cell for cell in self._slide.cells if inner.holds(cell.box_um))
        self._before = pose
        names = {cell.number: cell.class_name for cell in result.counted}
        for seen in result.cells:
            if seen.number is not None and seen.number in names:
                x, y = ((pixel + 0.5) * UM_PER_PIXEL for pixel in seen.region.center)
                self._count(window.left + x, window.top + y, names[seen.number])

    def result(self, frames: int, areas: int) -> PanResult:
        shown = [cell for cell, number in self._good_frames.items() if number >= LONG_ENOUGH]
        missed = [
            Miscount(MISSED, *cell.box_um.middle, cell.label, cell.source)
            for cell in shown
            if not self._counted[cell]
        ]
        once = sum(number == 1 for number in self._counted.values())
        slide = self._slide
        return PanResult(
            slide.name, frames, areas, len(slide.cells), len(shown), once, (*missed, *self._miscounts)
        )

    def _count(self, x: float, y: float, name: str) -> None:
        point = Rectangle(x, y, x, y)
        cell = next((cell for cell in self._slide.cells if cell.box_um.wider(_BOX_UM).holds(point)), None)
        if cell is None:
            self._miscounts.append(Miscount(NOTHING, x, y, name, self._slide.source_at(x, y)))
            return
        if self._counted[cell]:
            self._miscounts.append(Miscount(TWICE, x, y, name, cell.source))
        self._counted[cell] += 1

    def _is_good(self, pose: Pose) -> bool:
        before = self._before
        return (
            before is not None
            and math.hypot(pose.x_um - before.x_um, pose.y_um - before.y_um) < _STANDING_UM
            and pose.defocus_um <= _IN_FOCUS_UM
            and pose.exposure < _USUAL_EXPOSURE
        )


def _smear(x_um: float, y_um: float) -> NDArray[np.float32]:
    """Return the kernel that smears a picture along a way."""
    x, y = round(x_um / UM_PER_PIXEL / 2), round(y_um / UM_PER_PIXEL / 2)
    reach = max(abs(x), abs(y))
    line = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    cv2.line(line, (reach - x, reach - y), (reach + x, reach + y), 1.0)
    return line / line.sum()
