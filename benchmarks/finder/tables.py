"""Tables and JSON of what finders found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.finder.finders import BASELINE, FINDER
from benchmarks.finder.measure import ALL, FinderResult
from benchmarks.finder.timing import FinderTiming
from benchmarks.text_table import NONE, TextTable, estimate, number, percent
from train.evaluate import without_nan

#: Of the JSON; a change that its readers must know of raises it.
FORMAT_VERSION = 1
#: What tables call all laboratories together.
TOGETHER = "together"

#: By laboratory and by finder.
Results = Mapping[str, Mapping[str, FinderResult]]


def found_table(results: Results) -> TextTable:
    """Make the table of recall and false regions by laboratory, the finder's above the baseline's."""
    rows = []
    for laboratory, by_finder in results.items():
        for name, result in by_finder.items():
            recall = result.recall[ALL]
            counted = bool(result.counted_fields)
            rows.append(
                (
                    laboratory,
                    name,
                    f"{result.fields} ({result.groups})",
                    str(result.refused),
                    f"{recall.found} of {recall.cells}",
                    percent(recall.share),
                    str(result.false_regions) if counted else NONE,
                    estimate(result.false_per_field, places=2),
                    _red_cells(result),
                    estimate(result.false_per_1000_red_cells, places=2),
                    # Only the finder's false regions are shown to the classifier.
                    estimate(result.named_per_1000_red_cells, places=3) if name == FINDER else NONE,
                    number(result.ms),
                )
            )
    return TextTable(
        "leukocytes found, and what else is taken for one",
        (
            *("laboratory", "finder", "fields (groups)", "refused", "found", "recall %", "false"),
            *("a field", "red cells", "false per 1000", "named per 1000", "ms"),
        ),
        tuple(rows),
        names=2,
        caption="95 % intervals resample slides, subjects or originals; where every group is alike there is "
        "none. Cells of refused fields are missed. False: regions that are no leukocyte, those at the border "
        "left out, in fields where every leukocyte is known; per 1000 red cells in view, boxed or (est.) by "
        "the area that they cover; named: given a class by the classifier. ms: processor time a field.",
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


def to_json(results: Results, timing: Mapping[str, FinderTiming]) -> dict[str, Any]:
    """Return all figures as JSON; one that cannot be computed is null."""
    return without_nan(
        {
            "format_version": FORMAT_VERSION,
            "laboratories": {
                laboratory: {name: dataclasses.asdict(result) for name, result in by_finder.items()}
                for laboratory, by_finder in results.items()
            },
            "timing": {name: dataclasses.asdict(one) for name, one in timing.items()},
        }
    )


def _red_cells(result: FinderResult) -> str:
    if not result.counted_fields:
        return NONE
    estimated = result.red_cells - result.boxed_red_cells
    if not result.boxed_red_cells:
        return f"{estimated:.0f} est."
    return f"{result.red_cells:.0f}" + (f" ({estimated:.0f} est.)" if estimated else "")
