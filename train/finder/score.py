"""How many boxed cells a finder finds, and what else it takes for one."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hematovision.heat_map import Peak
from hematovision.images import RGBImage, read_image
from train.finder.boxed_fields import BoxedField
from train.finder.tiles import UNSURE_BORDER_UM

#: A box within which a cell's middle may be found is this much wider than the cell's, on each side.
BOX_MARGIN_UM = 0.5
#: A region so near to where a leukocyte was seen by eye is of that leukocyte.
BY_EYE_UM = 6.0

#: Finds centres in an image, (height, width, 3) uint8 RGB, of a scale in µm per pixel: `Peak` in its pixels.
Find = Callable[[RGBImage, float], Sequence[Peak]]


@dataclass(frozen=True)
class Match:
    """What was found of one field's boxed cells.

    ``found``: of each cell, whether it was. ``false``: which of the regions are of no leukocyte, those at the
    border left out; None where not every leukocyte in view is known.
    """

    found: tuple[bool, ...]
    false: tuple[int, ...] | None


def match_field(boxed: BoxedField, centers: Sequence[tuple[float, float]], size: tuple[int, int]) -> Match:
    """Match what was found in a field, centres in its pixels, with its cells.

    Args:
        boxed: the field.
        centers: of the regions found; each is of one cell at most, so that a cell found as two is one right
            region and one false one.
        size: width and height of the field in pixels.
    """
    margin = BOX_MARGIN_UM / boxed.um_per_pixel
    taken: set[int] = set()
    found = []
    for cell in boxed.cells:
        inside = [
            place
            for place, center in enumerate(centers)
            if place not in taken and cell.holds(*center, margin=margin)
        ]
        found.append(bool(inside))
        if inside:
            middle = cell.center
            taken.add(min(inside, key=lambda place: math.dist(centers[place], middle)))
    if not boxed.all_known:
        return Match(tuple(found), None)
    border, near = UNSURE_BORDER_UM / boxed.um_per_pixel, BY_EYE_UM / boxed.um_per_pixel
    false = tuple(
        place
        for place, (x, y) in enumerate(centers)
        if place not in taken
        and border <= x < size[0] - border
        and border <= y < size[1] - border
        and not any(math.dist((x, y), other) <= near for other in boxed.others or ())
    )
    return Match(tuple(found), false)


@dataclass
class FinderScore:
    """The count of one laboratory, or of several together.

    ``cells`` and ``found``: boxed cells by label. ``false_regions`` in ``counted_fields`` fields where every
    leukocyte is known; regions at the border count neither way. ``red_cells`` and ``false_among_red``: red
    cells boxed in view, and false regions in the fields that have them boxed.
    """

    cells: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    fields: int = 0
    counted_fields: int = 0
    false_regions: int = 0
    red_cells: int = 0
    false_among_red: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Share of all boxed cells that were found; NaN without any."""
        total = sum(self.cells.values())
        return sum(self.found.values()) / total if total else float("nan")

    @property
    def false_per_field(self) -> float:
        """False regions for each field where every leukocyte is known; NaN without any."""
        return self.false_regions / self.counted_fields if self.counted_fields else float("nan")

    @property
    def false_per_1000_red_cells(self) -> float:
        """False regions for each thousand red cells boxed in view; NaN without any."""
        return 1000 * self.false_among_red / self.red_cells if self.red_cells else float("nan")

    def add(self, boxed: BoxedField, centers: Sequence[tuple[float, float]], size: tuple[int, int]) -> None:
        """Count a field: what was found in it, and its width and height in pixels."""
        self.fields += 1
        match = match_field(boxed, centers, size)
        for cell, found in zip(boxed.cells, match.found, strict=True):
            self.cells[cell.label] += 1
            self.found[cell.label] += found
            if not found:
                self.missed.append(f"{boxed.path}: {cell.label} at {cell.x:.0f}, {cell.y:.0f}")
        if match.false is None:
            return
        self.counted_fields += 1
        self.false += [
            f"{boxed.path}: {centers[place][0]:.0f}, {centers[place][1]:.0f}" for place in match.false
        ]
        self.false_regions += len(match.false)
        if boxed.red_cells:
            self.red_cells += boxed.red_cells
            self.false_among_red += len(match.false)


def score_finder(
    find: Find, fields: Iterable[BoxedField], thresholds: Sequence[float]
) -> dict[float, FinderScore]:
    """Run a finder over boxed fields once, and count what is hotter than each threshold.

    Raises:
        ImageError: an image cannot be read.
    """
    scores = {threshold: FinderScore() for threshold in thresholds}
    for boxed in fields:
        image = read_image(boxed.path)
        peaks = find(image, boxed.um_per_pixel)
        for threshold, score in scores.items():
            centers = [(peak.x, peak.y) for peak in peaks if peak.heat > threshold]
            score.add(boxed, centers, (image.shape[1], image.shape[0]))
    return scores
