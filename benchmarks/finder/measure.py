"""Measure what a finder finds on boxed fields of each laboratory, and what else it takes for a cell."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.finder.finders import Find, why_refused
from benchmarks.finder.red_cells_in_view import red_cells_in_view
from hematovision.cell_classes import UNCLASSIFIED
from hematovision.classifier import Classifier
from hematovision.crops import cut_crops
from hematovision.errors import ImageError
from hematovision.finder import CellRegion
from hematovision.images import RGBImage, read_image
from hematovision.optics import measure_field
from train.evaluate import Interval, ratio_by_group
from train.finder.boxed_fields import BoxedField
from train.finder.score import match_field

#: What tables of recall call the cells of all labels together, and those of them that no border cuts.
ALL = "all"
WHOLE = "all whole"

# The box of a cell that the border cuts is seldom farther from it.
_CUT_UM = 0.25


@dataclass(frozen=True)
class FieldResult:
    """One field as one finder saw it.

    ``found``: of each boxed cell whether it was found; none where the field was ``refused``, which says why.
    ``whole``: of each, whether its box keeps off the border.
    ``false``: regions that are no leukocyte; None where not every leukocyte in view is known. ``named``: how
    many of these the classifier gives a class; 0 without a classifier. ``ms``: processor time.
    """

    boxed: BoxedField
    found: tuple[bool, ...]
    whole: tuple[bool, ...]
    false: tuple[CellRegion, ...] | None
    named: int
    red_cells: float
    refused: str | None
    ms: float


@dataclass(frozen=True)
class Recall:
    """Boxed cells of one label, and how many of them were found; the interval resamples groups."""

    cells: int
    found: int
    share: Interval


@dataclass(frozen=True)
class FinderResult:
    """A finder on one laboratory, or on several together; intervals resample slides, subjects or originals.

    ``recall``: by label, of `ALL` and of the `WHOLE` ones. ``red_cells`` are in view of the
    ``counted_fields``, where every leukocyte is known: ``boxed_red_cells`` of them have boxes, the others are
    estimated by area. Figures of these fields are NaN where there are none. ``refused``: fields, whose cells
    count as missed. ``ms``: processor time of a field, the median.
    """

    fields: int
    groups: int
    refused: int
    recall: dict[str, Recall]
    counted_fields: int
    false_regions: int
    named_regions: int
    red_cells: float
    boxed_red_cells: float
    false_per_field: Interval
    false_per_1000_red_cells: Interval
    named_per_1000_red_cells: Interval
    ms: float
    missed: tuple[str, ...]
    false: tuple[str, ...]


def measure_finders(
    fields: Sequence[BoxedField],
    finders: Mapping[str, Find],
    classifier: Classifier | None,
    judged: str,
    on_field: Callable[[int], None],
) -> dict[str, list[FieldResult]]:
    """Run finders over the same fields.

    Args:
        fields: of any laboratories.
        finders: by name.
        classifier: what names false regions of the finder ``judged``; none does where it is None.
        judged: name of the device's own finder, for which fields are refused as the device refuses them.
        on_field: called before each field with its number.

    Raises:
        ImageError: an image cannot be read.
    """
    results: dict[str, list[FieldResult]] = {name: [] for name in finders}
    for number, boxed in enumerate(fields):
        on_field(number)
        image = read_image(boxed.path)
        red_cells = red_cells_in_view(boxed, image) if boxed.all_known else 0.0
        for name, find in finders.items():
            own = name == judged
            refused = why_refused(image, boxed.um_per_pixel) if own else None
            naming = classifier if own else None
            results[name].append(look_at(find, boxed, image, red_cells, naming, refused))
    return results


def look_at(
    find: Find,
    boxed: BoxedField,
    image: RGBImage,
    red_cells: float,
    classifier: Classifier | None = None,
    refused: str | None = None,
) -> FieldResult:
    """Run a finder on a field and match what it finds with the field's cells; with none if it is refused."""
    started = time.thread_time()
    regions: Sequence[CellRegion] = ()
    try:
        regions = find(image, boxed.um_per_pixel)
    except ImageError as error:
        refused = str(error)
    ms = 1000 * (time.thread_time() - started)
    if refused is not None:
        regions = ()
    match = match_field(boxed, [region.center for region in regions], (image.shape[1], image.shape[0]))
    false = None
    if match.false is not None:
        # The middle of a large nucleus that the border cuts may lie farther in.
        false = tuple(regions[place] for place in match.false if not regions[place].touches_border)
    named = _named(classifier, boxed, image, false) if classifier and false else 0
    return FieldResult(boxed, match.found, _whole(boxed, image), false, named, red_cells, refused, ms)


def summarise(results: Sequence[FieldResult]) -> FinderResult:
    """Sum up what a finder did on several fields."""
    counted = [one for one in results if one.false is not None]
    groups = [one.boxed.group for one in counted]
    red_cells = np.array([one.red_cells for one in counted])
    false = np.array([len(one.false or ()) for one in counted])
    named = np.array([one.named for one in counted])
    labels = sorted({cell.label for one in results for cell in one.boxed.cells})
    return FinderResult(
        fields=len(results),
        groups=len({one.boxed.group for one in results}),
        refused=sum(one.refused is not None for one in results),
        recall={label: _recall(results, label) for label in (*labels, ALL, WHOLE)},
        counted_fields=len(counted),
        false_regions=int(false.sum()),
        named_regions=int(named.sum()),
        red_cells=float(red_cells.sum()),
        boxed_red_cells=sum((float(one.boxed.red_cells or 0) for one in counted), 0.0),
        false_per_field=ratio(groups, false, np.ones(len(counted))),
        false_per_1000_red_cells=ratio(groups, 1000 * false, red_cells),
        named_per_1000_red_cells=ratio(groups, 1000 * named, red_cells),
        ms=float(np.median([one.ms for one in results])) if results else float("nan"),
        missed=tuple(_missed(results)),
        false=tuple(
            f"{one.boxed.path}: {region.center[0]:.0f}, {region.center[1]:.0f}"
            for one in counted
            for region in one.false or ()
        ),
    )


def _named(classifier: Classifier, boxed: BoxedField, image: RGBImage, regions: Sequence[CellRegion]) -> int:
    field = measure_field(image, boxed.um_per_pixel)
    crops = cut_crops(field, [region.center for region in regions], classifier.model.manifest.crop)
    return sum(one.class_name != UNCLASSIFIED for one in classifier.predict(crops))


def _whole(boxed: BoxedField, image: RGBImage) -> tuple[bool, ...]:
    height, width = image.shape[:2]
    least = _CUT_UM / boxed.um_per_pixel
    return tuple(
        min(cell.x, cell.y, width - cell.x - cell.width, height - cell.y - cell.height) >= least
        for cell in boxed.cells
    )


def _recall(results: Sequence[FieldResult], label: str) -> Recall:
    cells, found = np.zeros(len(results)), np.zeros(len(results))
    for place, one in enumerate(results):
        for cell, is_found, is_whole in zip(one.boxed.cells, one.found, one.whole, strict=True):
            if label in (ALL, cell.label) or (label == WHOLE and is_whole):
                cells[place] += 1
                found[place] += is_found
    groups = [one.boxed.group for one in results]
    return Recall(int(cells.sum()), int(found.sum()), ratio(groups, found, cells))


def ratio(groups: Sequence[str], part: NDArray[Any], whole: NDArray[Any]) -> Interval:
    """Return a share of sums with its interval from resampling groups; NaN of nothing."""
    if not groups or not whole.sum():
        return Interval(float("nan"), float("nan"), float("nan"))
    return ratio_by_group(groups, part, whole)


def _missed(results: Sequence[FieldResult]) -> Iterator[str]:
    for one in results:
        for cell, found in zip(one.boxed.cells, one.found, strict=True):
            if not found:
                why = f" ({one.refused})" if one.refused else ""
                yield f"{one.boxed.path}: {cell.label} at {cell.x:.0f}, {cell.y:.0f}{why}"
