"""Every cell counted once, however often the slide shows it.

Each frame is given its place on the slide, or is skipped. The nuclei found in it are matched with the cells
known there, which pool what the classifier says of each look at them; when the looks agree, or there have
been enough of them, a cell is confirmed, once.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.cameras import Frame
from edge.frame_check import FocusMemory, is_overexposed, sharpness
from edge.rectangle import EVERYWHERE, Rectangle
from edge.stage_motion import MIN_CONTRAST, Position, Stage, make_picture
from hematovision.cell_classes import UNCLASSIFIED
from hematovision.classifier import Prediction, decide
from hematovision.finder import CellRegion
from hematovision.optics import Field

#: A frame is moving that shows the slide farther from where the frame before did. One exposed for all the
#: time between the two is smeared by as much, and so much costs next to nothing (see `edge.frame_check`).
MAX_MOTION_UM = 1.5
#: A cell is confirmed when one class leads all others by so many looks,
AGREEING_LOOKS = 3
#: or, by what the looks say together, after so many.
MAX_LOOKS = 4
#: A nucleus found no farther than this from where a known one must be is the same. Two neighbours' centres
#: are 8 µm apart or more, the place and the box of a nucleus are certain to 1 µm or so.
MATCH_UM = 4.0
#: Two cells confirmed at a smaller distance would be one: a nucleus found in two parts, or two found as one.
SAME_CELL_UM = 7.0

# A cell that is not seen in so many frames that must show it is not there.
_MISSES = 10
_BORDER_UM = 3.0
# Best crops of cells not yet confirmed: 49 kB each at 128 pixels.
_CROPS_KEPT = 32
# A nucleus without any detail is still a look; a probability of 0 would outvote all others.
_MIN_FOCUS, _MIN_PROBABILITY = 1e-6, 1e-6
# Tracks this far outside the frame are at hand; which these are is looked up again after half of it.
_MARGIN_UM = 40.0


class SkipReason(StrEnum):
    """Why a frame was not looked at."""

    BLANK = "nothing to go by"
    OVEREXPOSED = "over-exposed"
    BLURRED = "blurred"
    LOST = "place not known"
    MOVING = "moving"


@dataclass(frozen=True)
class Skipped:
    """A frame that was not looked at."""

    reason: SkipReason


@dataclass(frozen=True)
class Place:
    """Where on the slide a frame was taken: its middle, and its size, in µm within its area."""

    position: Position
    size_um: tuple[float, float]
    um_per_pixel: float
    captured_at: datetime

    @property
    def window_um(self) -> Rectangle:
        """What the frame shows."""
        (width, height), (_, x, y) = self.size_um, self.position
        return Rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def on_slide(self, point: tuple[float, float]) -> tuple[float, float]:
        """A point of the frame, (x, y) in pixels, the first's middle being (0, 0), on the slide in µm."""
        left, top, _, _ = self.window_um
        return left + (point[0] + 0.5) * self.um_per_pixel, top + (point[1] + 0.5) * self.um_per_pixel


@dataclass(frozen=True, eq=False)
class TrackedCell:
    """A cell that was counted.

    ``number`` of the cell, from 1; ``area`` and ``position_um``: the middle of the nucleus's box, from the
    middle of the frame that the area began with. ``probabilities``: of all looks together, in the order of
    `CLASS_NAMES`, by which ``class_name`` was decided. ``looks``: how many there were. ``focus`` and
    ``crop``, (side, side, 3) uint8 RGB, are of the look that counted most. Times are UTC.
    """

    number: int
    area: int
    position_um: tuple[float, float]
    class_name: str
    probabilities: tuple[float, ...]
    looks: int
    focus: float
    first_seen: datetime
    confirmed_at: datetime
    crop: NDArray[np.uint8]


class Look(NamedTuple):
    """What one look at a cell said, and how much it counts."""

    prediction: Prediction
    weight: float


class _Kept(NamedTuple):
    view: float
    focus: float
    crop: NDArray[np.uint8]


class Figures(NamedTuple):
    """What became of all that was followed.

    ``confirmed``: counted. ``unconfirmed``: seen whole, but not often enough, or no longer there when the
    place was shown again. ``cut``: seen at the border of frames only. ``repeated``: taken for a further cell
    until it proved to be one that was counted.
    """

    confirmed: int
    unconfirmed: int
    cut: int
    repeated: int


class Track:
    """A nucleus followed over frames. It belongs to the tracker."""

    __slots__ = (
        "box_um",
        "counted",
        "first_seen",
        "focus",
        "last_seen",
        "looks",
        "misses",
        "number",
        "settled",
        "view",
        "whole",
        "window_um",
    )

    def __init__(self, number: int, first_seen: datetime) -> None:
        self.number = number
        self.first_seen = self.last_seen = first_seen
        #: The nucleus's box on the slide; and where it is known: of a cut one, in the frame that cut it.
        self.box_um = self.window_um = Rectangle(0.0, 0.0, 0.0, 0.0)
        #: Whether it was ever seen whole.
        self.whole = False
        #: In the latest frame: how much a look at it counts, and its focus. A cut nucleus's counts nothing.
        self.view = self.focus = 0.0
        self.looks: tuple[Look, ...] = ()
        #: Whether nothing more is asked of it, and whether it was counted.
        self.settled = self.counted = False
        self.misses = 0

    @property
    def position_um(self) -> tuple[float, float]:
        """Middle of the nucleus's box on the slide."""
        return self.box_um.middle

    @property
    def wants_look(self) -> bool:
        """Whether the classifier shall look at it in the latest frame."""
        return self.view > 0 and not self.settled


class Tracker:
    """Keeps the cells of a slide. For each frame, in turn: `locate`, `follow`, `vote`.

    Args:
        crop_side_um: side of the square that the classifier sees.
        decline_below: probability below which a cell stays unclassified.
    """

    def __init__(self, crop_side_um: float, decline_below: float) -> None:
        #: Frames not looked at, by reason.
        self.skipped: Counter[SkipReason] = Counter()
        #: Sharpness of the latest frame as a share of the best so far; None where it was not measured.
        self.focus: float | None = None
        self._crop_side_um = crop_side_um
        self._decline_below = decline_below
        self._stage = Stage()
        self._sharpest = FocusMemory()
        self._tracks: dict[int, dict[int, Track]] = {}  # by area, then number
        self._at_hand: list[Track] = []
        self._around: Position | None = None
        self._crops: OrderedDict[int, _Kept] = OrderedDict()
        self._begun = self._confirmed = self._repeated = 0
        # Not settled: seen whole, there or no longer; and only seen cut.
        self._unconfirmed = self._cut = 0

    @property
    def areas(self) -> int:
        """Areas begun: one more for each time that the place was lost and not found again."""
        return self._stage.areas

    @property
    def areas_note(self) -> str | None:
        """What is to be said beside the count, where a cell may have been counted more than once."""
        lost = self.areas - 1
        if lost < 1:
            return None
        times = "once" if lost == 1 else f"{lost} times"
        return f"The place on the slide was lost {times}: cells seen before may be counted again."

    @property
    def figures(self) -> Figures:
        """What became of all that was followed so far."""
        return Figures(self._confirmed, self._unconfirmed, self._cut, self._repeated)

    def locate(self, frame: Frame, field: Field) -> Place | Skipped:
        """Where a frame was taken, or why it is not looked at; to be called for every frame in order."""
        picture = make_picture(field)
        self.focus = None
        if picture.contrast < MIN_CONTRAST:
            return self._skip(SkipReason.BLANK)
        overexposed = is_overexposed(field.image)
        blurred = False
        if not overexposed:
            sharp = sharpness(field)
            blurred = self._sharpest.is_blurred(sharp)
            self.focus = self._sharpest.share_of_best(sharp)
        # Also one that is not looked at shows where the stage is going.
        stand = self._stage.locate(picture, in_focus=not overexposed and not blurred)
        if overexposed:
            return self._skip(SkipReason.OVEREXPOSED)
        if blurred:
            return self._skip(SkipReason.BLURRED)
        if stand is None:
            return self._skip(SkipReason.LOST)
        if stand.moved_um > MAX_MOTION_UM:
            return self._skip(SkipReason.MOVING)
        position = self._stage.keep(picture, stand.position)
        if position.area != stand.position.area:
            self._join(stand.position, position)
        return Place(position, picture.size_um, field.um_per_pixel, frame.captured_at)

    def follow(self, place: Place, regions: Sequence[CellRegion]) -> list[Track]:
        """The track of each region of a frame, in the same order: the nearest known one, or a new one.

        No track gets two regions of a frame.
        """
        self._look_up(place)
        window = place.window_um
        boxes = [_box_on_slide(place, region) for region in regions]
        pairs = sorted(
            (distance, index, track.number, track)
            for index, box in enumerate(boxes)
            for track in self._at_hand
            if (distance := _distance_um(box, window, track)) <= MATCH_UM
        )
        found: dict[int, Track] = {}
        taken: set[int] = set()
        for _, index, number, track in pairs:
            if index not in found and number not in taken:
                found[index] = track
                taken.add(number)
        self._miss(place, taken)
        for index in range(len(regions)):
            if index not in found:
                found[index] = self._begin(place)
        for index, region in enumerate(regions):
            self._see(found[index], place, region, boxes[index])
        return [found[index] for index in range(len(regions))]

    def vote(
        self, tracks: Sequence[Track], predictions: Sequence[Prediction], crops: NDArray[np.uint8]
    ) -> list[TrackedCell]:
        """Give tracks that want a look what the classifier says of it.

        Args:
            tracks: of the latest `follow`'s, those that want a look; of another it is not taken.
            predictions: one for each.
            crops: (n, side, side, 3) uint8 RGB, what was looked at.

        Returns:
            The cells that this confirms. None is ever returned twice.
        """
        confirmed = []
        for track, prediction, crop in zip(tracks, predictions, crops, strict=True):
            if not track.wants_look:
                continue
            track.looks += (Look(prediction, track.view),)
            self._keep_crop(track, crop)
            if is_settled(track.looks):
                cell = self._settle(track)
                if cell is not None:
                    confirmed.append(cell)
        return confirmed

    def _skip(self, reason: SkipReason) -> Skipped:
        self.skipped[reason] += 1
        return Skipped(reason)

    def _join(self, position: Position, same: Position) -> None:
        """Make the cells of an area part of another, by a position in each that are the same place."""
        moved = same.x_um - position.x_um, same.y_um - position.y_um
        for track in self._tracks.pop(position.area, {}).values():
            track.box_um, track.window_um = track.box_um.moved(*moved), track.window_um.moved(*moved)
            self._tracks.setdefault(same.area, {})[track.number] = track
        self._around = None

    def _look_up(self, place: Place) -> None:
        if self._around is not None and place.position.distance_um(self._around) <= _MARGIN_UM / 2:
            return
        wide = place.window_um.wider(_MARGIN_UM)
        tracks = self._tracks.setdefault(place.position.area, {}).values()
        self._at_hand = [track for track in tracks if wide.holds(track.box_um)]
        self._around = place.position

    def _begin(self, place: Place) -> Track:
        self._begun += 1
        self._cut += 1
        track = Track(self._begun, place.captured_at)
        self._tracks[place.position.area][track.number] = track
        self._at_hand.append(track)
        return track

    def _see(self, track: Track, place: Place, region: CellRegion, box: Rectangle) -> None:
        track.last_seen, track.misses = place.captured_at, 0
        track.focus, track.view = region.focus, 0.0
        whole = not region.touches_border
        if whole:
            track.view = max(region.focus, _MIN_FOCUS) * self._share_in_view(place, region.center)
        if whole or (not track.whole and box.area >= track.box_um.area):
            track.box_um, track.window_um = box, EVERYWHERE if whole else place.window_um
        if whole and not track.whole:
            track.whole = True
            self._cut -= 1
            self._unconfirmed += 1

    def _share_in_view(self, place: Place, center: tuple[float, float]) -> float:
        x, y = place.on_slide(center)
        square = Rectangle(x, y, x, y).wider(self._crop_side_um / 2)
        return square.common(place.window_um).area / square.area

    def _miss(self, place: Place, seen: set[int]) -> None:
        inner = place.window_um.wider(-_BORDER_UM)
        for track in list(self._at_hand):
            if track.settled or track.number in seen or not inner.holds(track.box_um):
                continue
            track.misses += 1
            if track.misses == _MISSES:
                self._cut -= not track.whole
                self._at_hand.remove(track)
                del self._tracks[place.position.area][track.number]
                self._crops.pop(track.number, None)

    def _keep_crop(self, track: Track, crop: NDArray[np.uint8]) -> None:
        kept = self._crops.get(track.number)
        if kept is None or track.view > kept.view:
            self._crops[track.number] = _Kept(track.view, track.focus, crop.copy())
        self._crops.move_to_end(track.number)
        if len(self._crops) > _CROPS_KEPT:
            self._crops.popitem(last=False)

    def _settle(self, track: Track) -> TrackedCell | None:
        """End the vote on a track; a cell, unless it is one that was counted."""
        pooled, looks = pool(track.looks), len(track.looks)
        kept = self._crops.pop(track.number)
        track.settled, track.looks = True, ()
        self._unconfirmed -= 1
        if any(
            other.counted and math.dist(other.position_um, track.position_um) < SAME_CELL_UM
            for other in self._at_hand
        ):
            self._repeated += 1
            return None
        track.counted = True
        self._confirmed += 1
        decision = decide(pooled, self._decline_below)
        assert self._around is not None  # a track was followed to get here
        return TrackedCell(
            self._confirmed,
            self._around.area,
            track.position_um,
            decision.class_name,
            decision.probabilities,
            looks,
            kept.focus,
            track.first_seen,
            track.last_seen,
            kept.crop,
        )


def is_settled(looks: Sequence[Look]) -> bool:
    """Whether looks agree, or are as many as there will be. One that names no class agrees with none."""
    names = Counter(look.prediction.class_name for look in looks)
    most = max((count for name, count in names.items() if name != UNCLASSIFIED), default=0)
    return 2 * most - len(looks) >= AGREEING_LOOKS or len(looks) >= MAX_LOOKS


def pool(looks: Sequence[Look]) -> NDArray[np.float64]:
    """What looks at one cell say together: (classes,) probabilities, whatever the order of the looks.

    The weighted mean of the logarithms of the probabilities: of looks that are nearly the same picture it is
    what each of them says.
    """
    logs = np.log(np.maximum([look.prediction.probabilities for look in looks], _MIN_PROBABILITY))
    mean = np.average(logs, axis=0, weights=[look.weight for look in looks])
    powers = np.exp(mean - mean.max())
    return powers / powers.sum()


def _box_on_slide(place: Place, region: CellRegion) -> Rectangle:
    left, top, _, _ = place.window_um
    x, y, width, height = (side * place.um_per_pixel for side in region.box)
    return Rectangle(left + x, top + y, left + x + width, top + y + height)


def _distance_um(box: Rectangle, window: Rectangle, track: Track) -> float:
    """How far a box found in a frame is from a track's, by what both frames show of the two."""
    if not box.common(track.box_um.wider(MATCH_UM)).area:
        return math.inf  # as of nearly all, and quickly told
    both = window.common(track.window_um)
    one, other = box.common(both), track.box_um.common(both)
    if not (one.area and other.area):
        return math.inf
    return math.dist(one.middle, other.middle)
