"""What a line counted on a phantom slide, held against what the slide showed.

Judged by the slide alone: a cell should be counted where it was shown long enough, wherever the tracker took
it to be, and the drawn cell that a count means is the one that the frame shows at that spot.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from edge.cameras.phantom import DrawnFrame
from edge.pipeline import SeenFrame
from edge.tracker import MAX_LOOKS, TrackedCell
from hematovision.cell_classes import CLASS_NAMES
from hematovision.phantom import CellInView, Pose

#: A cell is shown long enough that is whole in so many good frames: as many as may be looked at.
LONG_ENOUGH = MAX_LOOKS
#: Whole is a nucleus this far from the border: the finder works at 0.4 µm per pixel, and takes for cut what
#: touches the outermost of these.
WHOLE_MARGIN_UM = 1.0

# A good frame is in focus, not over-exposed, and shows the slide where the frame before showed it.
_IN_FOCUS_UM = 0.3
_USUAL_EXPOSURE = 1.2
_STANDING_UM = 1.0
# Drawn leukocytes are farther apart than twice this.
_SAME_CELL_UM = 5.0


@dataclass(frozen=True)
class Score:
    """How well the cells of a slide were counted.

    ``shown``: cells shown long enough, of which ``missed`` were not counted. ``counted``: all counts, of
    which ``briefly`` are of cells shown, but not long enough, ``twice`` of cells counted before, and
    ``nothing`` of what is no cell. ``right``: counts under the class that the cell was drawn as.
    ``top1``: share of the counts of cells whose likeliest class is that; ``single_top1``: the same of single
    looks at these cells; NaN of none.
    ``shown_of_class``: the cells shown long enough by class, in the order of `CLASS_NAMES`.
    """

    shown: int
    missed: int
    counted: int
    briefly: int
    twice: int
    nothing: int
    right: int
    top1: float
    single_top1: float
    shown_of_class: tuple[int, ...]


class PhantomScore:
    """Follows a run on the phantom, result by result."""

    def __init__(self) -> None:
        self._before: Pose | None = None
        self._cells: dict[int, str] = {}
        self._good_frames: Counter[int] = Counter()
        self._counts: list[tuple[int | None, str, str]] = []  # drawn cell, name, likeliest class
        self._looks: defaultdict[int, list[bool]] = defaultdict(list)

    def see(self, result: SeenFrame) -> None:
        """Take the next frame's result into account; the frame is one of `PhantomCamera`."""
        frame = result.frame
        assert isinstance(frame, DrawnFrame), "only the phantom tells what it shows"
        if self._is_good(frame.pose):
            whole = (cell for cell in frame.cells if cell.border_um >= WHOLE_MARGIN_UM)
            self._good_frames.update(cell.cell.number for cell in whole)
        self._before = frame.pose
        for cell in frame.cells:
            self._cells[cell.cell.number] = cell.class_name
        now: dict[int | None, TrackedCell] = {cell.number: cell for cell in result.counted}
        for seen in result.cells:
            drawn = _drawn_at(frame, seen.region.center)
            if (counted := now.get(seen.number)) is not None:
                number = None if drawn is None else drawn.cell.number
                self._counts.append((number, counted.class_name, _likeliest(counted.probabilities)))
            elif seen.number is None and seen.prediction is not None and drawn is not None:
                likeliest = _likeliest(seen.prediction.probabilities)
                self._looks[drawn.cell.number].append(likeliest == drawn.class_name)

    def score(self) -> Score:
        """How well the cells were counted so far."""
        shown = {number for number, frames in self._good_frames.items() if frames >= LONG_ENOUGH}
        numbers = [number for number, _, _ in self._counts if number is not None]
        cells = set(numbers)
        of_cells = [(self._cells[number], *names) for number, *names in self._counts if number is not None]
        single = [sum(looks) / len(looks) for number in cells if (looks := self._looks[number])]
        of_class = Counter(self._cells[number] for number in shown)
        return Score(
            shown=len(shown),
            missed=len(shown - cells),
            counted=len(self._counts),
            briefly=len(cells - shown),
            twice=len(numbers) - len(cells),
            nothing=len(self._counts) - len(numbers),
            right=sum(name == drawn for drawn, name, _ in of_cells),
            top1=_mean([likeliest == drawn for drawn, _, likeliest in of_cells]),
            single_top1=_mean(single),
            shown_of_class=tuple(of_class[name] for name in CLASS_NAMES),
        )

    def _is_good(self, pose: Pose) -> bool:
        before = self._before
        return (
            before is not None
            and math.hypot(pose.x_um - before.x_um, pose.y_um - before.y_um) < _STANDING_UM
            and pose.defocus_um <= _IN_FOCUS_UM
            and pose.exposure < _USUAL_EXPOSURE
        )


def _drawn_at(frame: DrawnFrame, point: tuple[float, float]) -> CellInView | None:
    """The drawn cell at a point of a frame, (x, y) in pixels, if there is one."""
    nearest = min(frame.cells, key=lambda cell: math.dist(cell.center, point), default=None)
    if nearest is None or math.dist(nearest.center, point) * frame.um_per_pixel > _SAME_CELL_UM:
        return None
    return nearest


def _likeliest(probabilities: tuple[float, ...]) -> str:
    return CLASS_NAMES[max(range(len(CLASS_NAMES)), key=probabilities.__getitem__)]


def _mean(values: list[float] | list[bool]) -> float:
    return sum(values) / len(values) if values else math.nan
