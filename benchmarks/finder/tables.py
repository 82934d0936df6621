"""Tables and JSON of what finders found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.finder.finders import BASELINE, FINDER
from benchmarks.finder.measure import ALL, WHOLE, FinderResult
from benchmarks.finder.robustness import Robustness
from benchmarks.finder.timing import FinderTiming
from benchmarks.text_table import NONE, TextTable, estimate, number, percent
from train.evaluate import without_nan

#: Of the JSON; a change that its readers must know of raises it.
FORMAT_VERSION = 1
#: What tables call all laboratories together.
TOGETHER = "together"

#: By laboratory and by finder.
Results = Mapping[str, Mapping[str, FinderResult]]
#: By laboratory, finder and kind of overlay.
OverlaidResults = Mapping[str, Mapping[str, Mapping[str, Robustness]]]


def found_table(results: Results) -> TextTable:
    """Make the table of recall by laboratory, the finder's above the baseline's."""
    rows = []
    for laboratory, by_finder in results.items():
        for name, result in by_finder.items():
            every, whole = result.recall[ALL], result.recall[WHOLE]
            rows.append(
                (
                    *(laboratory, name, str(result.fields), str(result.groups), str(result.refused)),
                    *(f"{every.found} of {every.cells}", percent(every.share)),
                    *(f"{whole.found} of {whole.cells}", percent(whole.share), number(result.ms)),
                )
            )
    return TextTable(
        "boxed cells found",
        (
            *("laboratory", "finder", "fields", "groups", "refused", "found", "recall %"),
            *("whole found", "whole recall %", "ms"),
        ),
        tuple(rows),
        names=2,
        caption="95 % intervals resample groups: slides, subjects or originals; where all are alike there is "
        "none. Whole: without the cells whose box reaches the border. Cells of refused fields are missed. "
        "ms: processor time of optics and finder, the median of its fields.",
    )


def false_table(results: Results) -> TextTable:
    """Make the table of false regions by laboratory, the finder's above the baseline's."""
    rows = []
    for laboratory, by_finder in results.items():
        for name, result in by_finder.items():
            if result.counted_fields:
                # Only the finder's false regions are shown to the classifier.
                named = name == FINDER
                rows.append(
                    (
                        *(laboratory, name, str(result.counted_fields), str(result.false_regions)),
                        *(estimate(result.false_per_field, places=2), _red_cells(result)),
                        estimate(result.false_per_1000_red_cells, places=2),
                        str(result.named_regions) if named else NONE,
                        estimate(result.named_per_1000_red_cells, places=3) if named else NONE,
                    )
                )
    return TextTable(
        "what else is taken for a cell",
        (
            *("laboratory", "finder", "fields", "false", "a field", "red cells", "false per 1000"),
            *("named", "named per 1000"),
        ),
        tuple(rows),
        names=2,
        caption="In fields where every leukocyte is known; regions at the border count neither way. Per 1000 "
        "red cells in view, which have boxes or are estimated (est.) by the area that they cover. Named: "
        "given a class by the classifier that comes with hematovision.",
    )


def recall_table(results: Results) -> TextTable:
    """Make the table of recall by class, the finder's beside the baseline's."""
    rows = []
    for laboratory, by_finder in results.items():
        finder, baseline = by_finder[FINDER], by_finder[BASELINE]
        for label, recall in finder.recall.items():
            beside = baseline.recall[label]
            rows.append(
                (
                    *(laboratory, label, str(recall.cells), str(recall.found), percent(recall.share)),
                    *(str(beside.found), percent(beside.share)),
                )
            )
    headings = ("laboratory", "class", "cells", "found", "recall %", "baseline found", "baseline recall %")
    return TextTable("recall by class", headings, tuple(rows), names=2)


def overlays_table(results: OverlaidResults) -> TextTable:
    """Make the table of what each kind of overlay costs, the finder beside the baseline."""
    rows = []
    for laboratory, by_finder in results.items():
        for kind, finder in by_finder[FINDER].items():
            baseline = by_finder[BASELINE][kind]
            rows.append(
                (laboratory, kind, str(finder.refused), str(finder.cells), *_cost(finder), *_cost(baseline))
            )
    return TextTable(
        "what overlays cost",
        (
            *("laboratory", "overlay", "refused", "cells", "recall lost, points", "false added a field"),
            *("baseline lost", "baseline added"),
        ),
        tuple(rows),
        names=2,
        caption="The same fields with and without. Cells of which an overlay takes more than a quarter count "
        "neither way. Negative: more were found, or less was false, under the overlay.",
    )


def to_json(
    results: Results,
    overlaid: OverlaidResults,
    timing: Mapping[str, FinderTiming],
    memory_mib: Mapping[str, float],
) -> dict[str, Any]:
    """Return all figures as ``report.schema.json`` has them; one that cannot be computed is null."""
    return without_nan(
        {
            "laboratories": {
                laboratory: {name: dataclasses.asdict(result) for name, result in by_finder.items()}
                for laboratory, by_finder in results.items()
            },
            "overlays": {
                laboratory: {
                    name: {kind: dataclasses.asdict(one) for kind, one in by_kind.items()}
                    for name, by_kind in by_finder.items()
                }
                for laboratory, by_finder in overlaid.items()
            },
            "timing": {name: dataclasses.asdict(one) for name, one in timing.items()},
            "memory_mib": dict(memory_mib),
        }
    )


def _cost(of: Robustness) -> tuple[str, str]:
    return estimate(of.recall_lost, 100, 1), estimate(of.added_per_field, places=2)


def _red_cells(result: FinderResult) -> str:
    if not result.counted_fields:
        return NONE
    estimated = result.red_cells - result.boxed_red_cells
    if not result.boxed_red_cells:
        return f"{estimated:.0f} est."
    return f"{result.red_cells:.0f}" + (f" ({estimated:.0f} est.)" if estimated else "")
