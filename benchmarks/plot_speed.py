"""Plots of time and memory: all contenders, peers, size, time by layer, throughput."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.plot_style import (
    INK,
    LINE,
    QUIET,
    SERIES,
    Plot,
    annotate_right,
    list_beside,
    named,
    new_figure,
    point_at,
    preferred,
    rows_axis,
    shorten,
    threads_of,
    time_axis,
    variant_rank,
    variant_style,
    whisker,
)
from benchmarks.report_tables import runtime_of
from benchmarks.results import Latency, LayerTimes, Report
from benchmarks.text_table import number

_MIB = 2**20
_POINTED_AT = 5
# What is drawn of each distribution: a single late invocation would else stretch the axis for all of them.
_LAST = 99
_DISTRIBUTION = (
    "Shape: minimum to 99th percentile (upright line); mark and figure: median, with its 95 % interval"
)


@dataclass(frozen=True)
class _Row:
    """A line of a plot of distributions: under ``name``, in the colour of ``variant``; ``why`` not timed."""

    name: str
    variant: str
    latency: Latency | None
    why: str = ""


def latency(report: Report) -> Plot | None:
    """Every contender's distribution of times, by runtime and threads."""
    if not report.latency:
        return None
    ranked = sorted(report.latency, key=lambda one: (one.model, variant_rank(one.variant)))
    rows = [
        (
            heading,
            [
                _Row(named(report, one.model, one.variant), one.variant, one)
                for one in ranked
                if _heading(one) == heading
            ],
        )
        for heading in dict.fromkeys(map(_heading, report.latency))
    ]
    lines = len(report.latency) + len(rows)
    figure, body = new_figure(
        report, "Time of one crop, by runtime and threads", 8, 1.7 + 0.19 * lines, _DISTRIBUTION
    )
    _distributions(body.subplots(), rows)
    fastest = min(report.latency, key=lambda one: one.p50_ms.value)
    alt = (
        f"Distributions of the time of one crop of {len(report.latency)} contenders, grouped by runtime and "
        f"threads. The smallest median is {number(fastest.p50_ms.value)} ms, of "
        f"{named(report, fastest.model, fastest.variant)} on {_heading(fastest)}."
    )
    return Plot("latency", alt, figure)


def _heading(latency: Latency) -> str:
    return f"{runtime_of(latency)}, {threads_of(latency.threads)}"


def peers(report: Report) -> Plot | None:
    """Other ways to run the same weights; those that answer otherwise were not timed, and say so."""
    if not report.peers:
        return None
    rows = [
        _Row(
            f"{shorten(named(report, one.model, one.name), 40)}, {threads_of(one.threads)}",
            one.ours,
            one.latency,
            f"not timed: the class that {one.ours} gives in {one.agreement:.0%} of {one.cells} cells",
        )
        for one in report.peers
    ]
    rows.sort(key=lambda row: row.latency.p50_ms.value if row.latency else math.inf)
    figure, body = new_figure(
        report, "The same weights and crops, run by others", 8, 1.7 + 0.24 * len(rows), _DISTRIBUTION
    )
    _distributions(body.subplots(), [("", rows)])
    medians = ", ".join(f"{row.name} {number(row.latency.p50_ms.value)} ms" for row in rows if row.latency)
    return Plot("peers", f"Median time of one crop: {medians or 'none was timed'}.", figure)


def _distributions(axes: Axes, groups: Sequence[tuple[str, Sequence[_Row]]]) -> None:
    timed = [row.latency for _, rows in groups for row in rows if row.latency]
    ends = [ms for one in timed for ms in (one.quantiles_ms[0], one.quantiles_ms[_LAST])]
    logarithmic = time_axis(axes, ends, "time of one crop")
    places = rows_axis(axes, [(heading, [row.name for row in rows]) for heading, rows in groups])
    for y, row in zip(places, (row for _, rows in groups for row in rows), strict=True):
        if row.latency is None:
            axes.text(0.01, y, row.why, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
            continue
        color, mark = variant_style(row.variant)
        _violin(axes, y, row.latency.quantiles_ms[: _LAST + 1], color, logarithmic)
        axes.plot(row.latency.quantiles_ms[_LAST], y, "|", color=INK, markersize=6)
        point_at(axes, row.latency.p50_ms, y, color, mark)
        annotate_right(axes, y, f"{number(row.latency.p50_ms.value)} ms")


def _violin(axes: Axes, y: float, quantiles: Sequence[float], color: str, logarithmic: bool) -> None:
    """The density of quantiles (Gaussian kernel, Silverman's bandwidth), on the axis' own scale."""
    values = np.log(quantiles) if logarithmic else np.array(quantiles)
    quarter, three_quarters = np.percentile(values, [25, 75])
    width = min(values.std(), (three_quarters - quarter) / 1.34)
    if width <= 0:
        return
    bandwidth = 0.9 * width * len(values) ** -0.2
    grid = np.linspace(values[0], values[-1], 120)
    density = np.exp(-0.5 * ((grid[:, None] - values) / bandwidth) ** 2).sum(axis=1)
    half = 0.44 * density / density.max()
    axes.fill_between(
        np.exp(grid) if logarithmic else grid, y - half, y + half, color=color, alpha=0.55, linewidth=0
    )


def size_and_memory(report: Report) -> Plot | None:
    """Size of each file; peak memory of a fresh process, and what of it the runtime takes alone."""
    if not report.variants:
        return None
    variants = sorted(report.variants, key=lambda one: (one.model, variant_rank(one.name)))
    figure, body = new_figure(
        report,
        "Size of the file, and memory of a fresh process",
        8,
        1.6 + 0.26 * len(variants),
        "Memory: its peak; grey: of it, what the runtime took before the model was loaded",
    )
    files, memory = body.subplots(1, 2)
    timed = preferred(report)
    rows = [(one, timed.get((one.model, one.name))) for one in variants]
    names = [named(report, one.model, one.name) for one in variants]
    for y, (one, _) in zip(rows_axis(files, [("", names)]), rows, strict=True):
        files.barh(y, one.file_bytes / _MIB, height=0.7, color=variant_style(one.name)[0])
        annotate_right(files, y, f"{one.file_bytes / _MIB:.2f}")
    files.set(xlabel="file, MiB", xlim=(0, None))
    runs = [one.runtime if one else "not timed" for _, one in rows]
    for y, (one, row) in zip(rows_axis(memory, [("", runs)]), rows, strict=True):
        if row:
            color = variant_style(one.name)[0]
            memory.barh(y, row.runtime_mib, height=0.7, color=LINE, edgecolor=QUIET, linewidth=0.5)
            memory.barh(y, row.peak_mib - row.runtime_mib, left=row.runtime_mib, height=0.7, color=color)
            annotate_right(memory, y, f"{row.peak_mib:.0f}")
    memory.set(xlabel="peak memory, MiB", xlim=(0, None))
    for axes in (files, memory):
        axes.grid(axis="x")
    sizes = (f"{name} {one.file_bytes / _MIB:.2f} MiB" for name, one in zip(names, variants, strict=True))
    return Plot("size-memory", "Size of the files: " + ", ".join(sizes) + ".", figure)


def layers(report: Report) -> Plot | None:
    """Time of each operator in order of execution; the slowest are pointed at."""
    runs = [one for one in report.layers if one.layers]
    if not runs:
        return None
    figure, body = new_figure(
        report, "Where the time goes: operators in order of execution", 9, 1.4 + 2.4 * len(runs)
    )
    panels = body.subplots(len(runs), 2, squeeze=False, width_ratios=(3, 2), sharey="col")
    kinds = _kinds(runs)
    for (axes, beside), one in zip(panels, runs, strict=True):
        for layer in one.layers:
            color = kinds.get(layer.operator, SERIES[-1])
            axes.bar(layer.index, layer.ms.value, width=0.9, color=color)
            axes.errorbar(
                layer.index, layer.ms.value, yerr=whisker(layer.ms), color=QUIET, elinewidth=0.7, linestyle=""
            )
        slowest = sorted(one.layers, key=lambda layer: -layer.ms.value)[:_POINTED_AT]
        list_beside(
            axes,
            beside,
            [
                (layer.index, layer.ms.high, f"{layer.share:.1%} {layer.operator}", layer.output)
                for layer in slowest
            ],
        )
        axes.set_title(
            f"{shorten(named(report, one.model, one.variant), 40)} on {one.runtime}, "
            f"{threads_of(one.threads)}: {number(one.whole_ms)} ms in all"
        )
        axes.set(ylabel="time, ms (95 % interval)", xlabel="operator, number")
        axes.grid(axis="y")
    marks = [Line2D([], [], marker="s", linestyle="", color=color) for color in kinds.values()]
    body.legend(marks, list(kinds), loc="outside upper left", ncols=4, fontsize=8)
    alt = "Time of each operator. " + " ".join(
        f"Slowest in {one.variant}: {max(one.layers, key=lambda layer: layer.ms.value).output}."
        for one in runs
    )
    return Plot("time-by-layer", alt, figure)


def _kinds(runs: Sequence[LayerTimes]) -> dict[str, str]:
    """Colours of the kinds of operator that take most time; the rest share the last one, as "others"."""
    shares: dict[str, float] = {}
    for one in runs:
        for layer in one.layers:
            shares[layer.operator] = shares.get(layer.operator, 0.0) + layer.share
    ranked = sorted(shares, key=lambda kind: -shares[kind])
    colors = dict(zip(ranked[: len(SERIES) - 1], SERIES, strict=False))
    return colors | ({"others": SERIES[-1]} if len(ranked) > len(colors) else {})


def throughput(report: Report) -> Plot | None:
    """Frames a second, memory over a run, processor time of each step: by cells a frame and source."""
    runs = report.throughput
    if not runs:
        return None
    figure, body = new_figure(report, "Frames to counted cells, by cells a frame", 8, 4.6 + 0.24 * len(runs))
    grid = body.add_gridspec(2, 2, height_ratios=(3, 0.6 + 0.24 * len(runs)))
    rate, memory, steps = (body.add_subplot(cell) for cell in (grid[0, 0], grid[0, 1], grid[1, :]))
    sources = list(dict.fromkeys(one.source for one in runs))
    counts = sorted({one.cells_per_frame for one in runs})
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(counts)))
    dashes = ("-", "--", ":", "-.")
    for place, source in enumerate(sources):
        ours = sorted((one for one in runs if one.source == source), key=lambda one: one.cells_per_frame)
        rate.plot(
            [one.cells_per_frame for one in ours],
            [one.frames_per_s for one in ours],
            linestyle=dashes[place % len(dashes)],
            marker="osD^"[place % 4],
            color=SERIES[place % len(SERIES)],
            label=source,
        )
        for one in ours:
            if one.memory_mib:
                frames, mib = zip(*one.memory_mib, strict=True)
                shade = shades[counts.index(one.cells_per_frame)]
                memory.plot(frames, mib, linestyle=dashes[place % len(dashes)], color=shade)
    rate.set(
        xlabel="cells a frame", ylabel="frames a second, as fast as it goes", ylim=(0, None), xticks=counts
    )
    rate.legend(fontsize=8)
    memory.set(xlabel="frame, number", ylabel="resident memory, MiB", ylim=(0, None))
    memory.legend(
        [Line2D([], [], color=shade) for shade in shades],
        [f"{_cells(count)} a frame" for count in counts],
        fontsize=8,
        loc="lower right",
    )
    for axes in (rate, memory):
        axes.grid()
    names = list(dict.fromkeys(step for one in runs for step in one.step_ms))
    places = rows_axis(steps, [("", [f"{one.source}, {_cells(one.cells_per_frame)}" for one in runs])])
    for y, one in zip(places, runs, strict=True):
        left = 0.0
        for step, color in zip(names, SERIES * (1 + len(names) // len(SERIES)), strict=False):
            took = one.step_ms.get(step, 0.0)
            steps.barh(y, took, left=left, height=0.7, color=color, label=step if y == places[0] else None)
            left += took
        annotate_right(steps, y, f"{left:.3g} ms")
    steps.set(xlabel="processor time a frame, ms", xlim=(0, None))
    steps.grid(axis="x")
    steps.legend(fontsize=8, ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1))
    alt = "Frames a second: " + ", ".join(
        f"{one.frames_per_s:.3g} at {_cells(one.cells_per_frame)} a frame ({one.source})" for one in runs
    )
    return Plot("throughput", alt + ".", figure)


def _cells(count: int) -> str:
    return f"{count} cell{'s' if count != 1 else ''}"
