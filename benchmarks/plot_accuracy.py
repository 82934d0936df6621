"""Plots of what quantisation costs: accuracy against latency, its change, confusion, noise by layer."""

import math
import re
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.plot_style import (
    INK,
    QUIET,
    Plot,
    annotate_right,
    list_beside,
    named,
    new_figure,
    point_at,
    preferred,
    rows_axis,
    shorten,
    time_axis,
    variant_rank,
    variant_style,
    whisker,
)
from benchmarks.results import Accuracy, Estimate, Report
from benchmarks.text_table import estimate, number
from train.report import draw_confusion_matrix

# Smallest range of an axis of accuracy, points: a smaller one would make noise look like a difference.
_MIN_SPAN = 5.0
_POINTED_AT = 5
# What stands for the float network beside which quantised one, the first that was measured of each.
_FLOAT, _QUANTISED = ("float32", "keras", "float16"), ("int8", "dynamic", "int16x8")


def data_sets(report: Report) -> dict[str, list[Accuracy]]:
    """What was measured on each data set, from the exact variant to the coarse."""
    groups: dict[str, list[Accuracy]] = {}
    for one in sorted(report.accuracy, key=lambda one: (one.model, variant_rank(one.variant))):
        groups.setdefault(one.evaluation.name, []).append(one)
    return {one.evaluation.name: groups[one.evaluation.name] for one in report.accuracy}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (latency, accuracy) than which none is faster and as good, or as fast and better.

    Fastest first; of equal points one.
    """
    front: list[int] = []
    best = -math.inf
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def accuracy_latency(report: Report) -> Plot | None:
    """Accuracy against median latency, a panel for each data set, with the Pareto front."""
    timed = preferred(report)
    panels = {
        name: [
            (one, timed[one.model, one.variant])
            for one in rows
            if (one.model, one.variant) in timed and math.isfinite(one.evaluation.files.accuracy.value)
        ]
        for name, rows in data_sets(report).items()
    }
    panels = {name: points for name, points in panels.items() if points}
    if not panels:
        return None
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure, body = new_figure(
        report,
        "Accuracy against latency",
        1 + 4 * columns,
        1.8 + 2.7 * lines,
        "Bars: 95 % intervals; on the same cells, differences are surer than these.\n"
        "Faint: the same variant on other runtimes or threads; accuracy measured once.",
    )
    grid = list(body.subplots(lines, columns, squeeze=False).flat)
    seen = {}
    words = []
    for axes, (name, points) in zip(grid, panels.items(), strict=False):
        ends = [latency.p50_ms.value for latency in report.latency]
        time_axis(axes, ends, "median time of one crop")
        pairs = [(latency.p50_ms.value, 100 * one.evaluation.files.accuracy.value) for one, latency in points]
        front = [pairs[index] for index in pareto_front(pairs)]
        axes.plot(*zip(*front, strict=True), drawstyle="steps-post", color=QUIET, linewidth=1, zorder=1)
        limits = []
        for one, latency in points:
            color, mark = variant_style(one.variant)
            # Smaller ones lie on larger ones where two variants are as good and as fast.
            size = variant_rank(one.variant)[0]
            accuracy = one.evaluation.files.accuracy
            percent = Estimate(100 * accuracy.value, 100 * accuracy.low, 100 * accuracy.high)
            for other in report.latency:
                if (other.model, other.variant) == (one.model, one.variant) and other is not latency:
                    axes.plot(
                        other.p50_ms.value,
                        percent.value,
                        mark,
                        color=color,
                        alpha=0.3,
                        markersize=4,
                        zorder=0,
                    )
            axes.errorbar(
                latency.p50_ms.value,
                percent.value,
                whisker(percent),
                whisker(latency.p50_ms),
                color=color,
                marker=mark,
                markersize=10 - size,
                markeredgecolor=INK,
                markeredgewidth=0.7,
                elinewidth=1.2,
                capsize=2,
            )
            limits += [limit for limit in (percent.low, percent.high, percent.value) if math.isfinite(limit)]
            seen[shorten(named(report, one.model, one.variant), 28)] = (color, mark)
        middle, span = (max(limits) + min(limits)) / 2, max(1.15 * (max(limits) - min(limits)), _MIN_SPAN)
        axes.set_ylim(max(middle - span / 2, -0.5), min(middle + span / 2, 100.5))
        axes.set(ylabel="right (top-1), % of cells")
        axes.set_title(shorten(name, 44))
        axes.grid()
        words.append(
            f"{name}: "
            + ", ".join(
                f"{one.variant} {pair[1]:.1f} % at {pair[0]:.3g} ms"
                for (one, _), pair in zip(points, pairs, strict=True)
            )
        )
    for axes in grid[len(panels) :]:
        axes.remove()
    marks = [
        Line2D([], [], color=color, marker=mark, markeredgecolor=INK, markeredgewidth=0.7, linestyle="")
        for color, mark in seen.values()
    ]
    marks.append(Line2D([], [], color=QUIET, drawstyle="steps-post"))
    body.legend(marks, [*seen, "Pareto front"], loc="outside upper left", ncols=4, fontsize=8.5)
    return Plot("accuracy-latency", ". ".join(words) + ".", figure)


def accuracy_change(report: Report) -> Plot | None:
    """What each variant loses or gains against its reference on the same cells, with intervals."""
    groups = {
        name: compared
        for name, rows in data_sets(report).items()
        if (compared := [(one, one.comparison) for one in rows if one.comparison])
    }
    if not groups:
        return None
    rows = [row for compared in groups.values() for row in compared]
    references = " or ".join(sorted({comparison.reference for _, comparison in rows}))
    figure, body = new_figure(
        report,
        f"Change of accuracy against {references}, on the same cells",
        8,
        1.5 + 0.2 * (len(rows) + len(groups)),
        "With 95 % intervals from resampling originals; p: McNemar's exact test, by original",
    )
    axes = body.subplots()
    places = rows_axis(
        axes,
        [
            (shorten(name, 40), [named(report, one.model, one.variant) for one, _ in compared])
            for name, compared in groups.items()
        ],
    )
    axes.axvline(0, color=INK, linewidth=0.8)
    reach = 1.0
    for y, (one, comparison) in zip(places, rows, strict=True):
        given = comparison.accuracy_difference
        points = Estimate(100 * given.value, 100 * given.low, 100 * given.high)
        reach = max([reach, *(abs(limit) for limit in (points.low, points.high) if math.isfinite(limit))])
        point_at(axes, points, y, *variant_style(one.variant))
        annotate_right(axes, y, f"{estimate(given, 100, 1)}; p {number(comparison.mcnemar_p, 2)}")
    axes.set(
        xlabel=f"accuracy less that of {references}, percentage points", xlim=(-1.1 * reach, 1.1 * reach)
    )
    axes.grid(axis="x")
    alt = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{one.variant} {100 * comparison.accuracy_difference.value:+.1f} points"
            for one, comparison in compared
        )
        for name, compared in groups.items()
    )
    return Plot("accuracy-change", f"Change of accuracy against {references}. {alt}.", figure)


def confusions(report: Report) -> Iterator[Plot]:
    """For each data set and model, float beside quantised."""
    taken: set[str] = set()
    for name, rows in data_sets(report).items():
        for model in dict.fromkeys(one.model for one in rows):
            of_model = {one.variant: one for one in rows if one.model == model}
            pair = [
                next((of_model[variant] for variant in side if variant in of_model), None)
                for side in (_FLOAT, _QUANTISED)
            ]
            shown = [one for one in pair if one] or [next(iter(of_model.values()))]
            figure, body = new_figure(
                report,
                f"Confusion on {shorten(name, 60)}",
                1 + 3.6 * len(shown),
                3.9,
                "Counts of files, whatever the decline threshold; shade: share of the row",
            )
            panels = body.subplots(1, len(shown), squeeze=False)[0]
            for axes, one in zip(panels, shown, strict=True):
                name_of = shorten(named(report, model, one.variant), 26)
                title = f"{name_of}, {one.evaluation.files.count} cells"
                draw_confusion_matrix(axes, one.evaluation.files.confusion, title)
            alt = f"Confusion matrices on {name}: " + " and ".join(
                f"{one.variant}, {100 * one.evaluation.files.accuracy.value:.1f} % right" for one in shown
            )
            yield Plot(_unused(f"confusion-{name}", taken), alt + ".", figure)


def _unused(name: str, taken: set[str]) -> str:
    """Letters, digits and hyphens of the name, and a number where that is taken."""
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    unused = base
    number = 1
    while unused in taken:
        number += 1
        unused = f"{base}-{number}"
    taken.add(unused)
    return unused


def noise(report: Report) -> Plot | None:
    """Signal-to-quantisation-noise ratio of each tensor in order of execution; the worst are pointed at."""
    runs = [one for one in report.noise if one.tensors]
    if not runs:
        return None
    figure, body = new_figure(
        report,
        "Error by layer: signal to quantisation noise",
        9,
        1.5 + 2.8 * len(runs),
        "Higher is better. Of its own: the operator alone, given the reference's inputs. Bars: 95 %",
    )
    panels = body.subplots(len(runs), 2, squeeze=False, width_ratios=(3, 2))
    for (axes, beside), one in zip(panels, runs, strict=True):
        color, mark = variant_style(one.variant)
        _decibels(axes, [(t.index, t.sqnr_db) for t in one.tensors], color, mark, "in all")
        _decibels(axes, [(t.index, t.step_db) for t in one.tensors], QUIET, "_", "of its own", linestyle="")
        by_output = {tensor.output: tensor for tensor in one.tensors}
        list_beside(
            axes,
            beside,
            [
                (t.index, t.step_db.high, f"{t.step_db.value:.1f} dB of its own: {t.operator}", t.output)
                for t in map(by_output.__getitem__, one.worst[:_POINTED_AT])
            ],
        )
        axes.set_title(
            f"{shorten(named(report, one.model, one.variant), 40)} against {one.reference}, {one.crops} crops"
        )
        axes.set(xlabel="operator, number", ylabel="signal to noise, dB")
        axes.grid()
    body.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)
    alt = "Signal to quantisation noise by layer. " + " ".join(
        f"Worst in {one.variant}: {', '.join(one.worst[:_POINTED_AT])}." for one in runs
    )
    return Plot("error-by-layer", alt, figure)


def _decibels(
    axes: Axes,
    points: Sequence[tuple[int, Estimate]],
    color: str,
    mark: str,
    label: str,
    linestyle: str = "-",
) -> None:
    """Ratios by operator, with their intervals as bars; those without noise or signal have none."""
    known = [(index, db) for index, db in points if math.isfinite(db.value)]
    indices = [index for index, _ in known]
    axes.plot(
        indices,
        [db.value for _, db in known],
        color=color, marker=mark, markersize=4, linewidth=1, linestyle=linestyle, label=label,
    )  # fmt: skip
    for index, db in known:
        axes.vlines(index, db.low, db.high, color=color, alpha=0.35, linewidth=3)
