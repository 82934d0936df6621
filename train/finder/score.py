"""How many boxed cells a finder finds, and what else it takes for one."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hematovision.heat_map import Peak
from hematovision.images import RGBImage, read_image
from train.finder.boxed_fields import BoxedField
from train.finder.tiles import UNSURE_BORDER_UM

#: A box within which a cell's middle may be found is this much wider than the cell's, on each side.
BOX_MARGIN_UM = 0.5

#: Finds centres in an image, (height, width, 3) uint8 RGB, of a scale in µm per pixel: `Peak` in its pixels.
Find = Callable[[RGBImage, float], Sequence[Peak]]


@dataclass
class FinderScore:
    """The count of one laboratory, or of several together.

    ``cells`` and ``found``: boxed cells by label. ``false_regions`` in ``counted_fields`` fields that are
    boxed completely; regions at the border count neither way. ``red_cells`` and ``false_among_red``: red
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
        """False regions for each completely boxed field; NaN without any."""
        return self.false_regions / self.counted_fields if self.counted_fields else float("nan")

    @property
    def false_per_1000_red_cells(self) -> float:
        """False regions for each thousand red cells boxed in view; NaN without any."""
        return 1000 * self.false_among_red / self.red_cells if self.red_cells else float("nan")

    def add(self, boxed: BoxedField, centers: Sequence[tuple[float, float]], size: tuple[int, int]) -> None:
        """Count a field: what was found in it, and its width and height in pixels."""
        self.fields += 1
        margin = BOX_MARGIN_UM / boxed.um_per_pixel
        taken: set[int] = set()
        for cell in boxed.cells:
            wider = type(cell)(
                cell.x - margin,
                cell.y - margin,
                cell.width + 2 * margin,
                cell.height + 2 * margin,
                cell.label,
            )
            inside = [
                place for place, center in enumerate(centers) if place not in taken and wider.holds(*center)
            ]
            self.cells[cell.label] += 1
            if inside:
                self.found[cell.label] += 1
                # One cell found as two is one right region and one false one.
                middle = cell.center
                taken.add(min(inside, key=lambda place: _distance2(centers[place], middle)))
            else:
                self.missed.append(f"{boxed.path}: {cell.label} at {cell.x:.0f}, {cell.y:.0f}")
        if not boxed.complete:
            return
        self.counted_fields += 1
        border = UNSURE_BORDER_UM / boxed.um_per_pixel
        false = [
            f"{boxed.path}: {x:.0f}, {y:.0f}"
            for place, (x, y) in enumerate(centers)
            if place not in taken and border <= x < size[0] - border and border <= y < size[1] - border
        ]
        self.false += false
        self.false_regions += len(false)
        if boxed.red_cells:
            self.red_cells += boxed.red_cells
            self.false_among_red += len(false)


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


def _distance2(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
