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
from benchmarks.report_tables import device_choice, runtime_of
from benchmarks.results import Latency, LayerTimes, Report
from benchmarks.text_table import number

_MIB = 2**20
_POINTED_AT = 5
# Smallest range of the axis of memory over time: a smaller one would make noise look like a leak.
_MIN_SPAN_MIB = 40.0
# What is drawn of each distribution: a single late invocation would else stretch the axis for all of them.
_LAST = 99
_DISTRIBUTION = (
    "Shape: minimum to 99th percentile (upright line); mark and figure: median in ms, with its 95 % interval"
)


@dataclass(frozen=True)
class _Row:
    """A line of a plot of distributions: one of each panel, None where there is none, in the colour of
    ``variant``; ``why`` there is none."""

    name: str
    variant: str
    latencies: Sequence[Latency | None]
    why: str = ""


def latency(report: Report) -> Plot | None:
    """Every contender's distribution of times: a row for each variant on each runtime, a panel for each
    number of threads."""
    if not report.latency:
        return None
    threads = sorted({one.threads for one in report.latency})
    found = {(runtime_of(one), one.model, one.variant, one.threads): one for one in report.latency}
    groups = []
    for runtime in dict.fromkeys(map(runtime_of, report.latency)):
        variants = {(one.model, one.variant) for one in report.latency if runtime_of(one) == runtime}
        rows = [
            _Row(
                named(report, model, variant),
                variant,
                [found.get((runtime, model, variant, count)) for count in threads],
            )
            for model, variant in sorted(variants, key=lambda one: (one[0], variant_rank(one[1])))
        ]
        groups.append((runtime, rows))
    lines = sum(1 + len(rows) for _, rows in groups)
    figure, body = new_figure(
        report,
        "Time of one crop, by runtime and threads",
        min(4.5 + 2 * len(threads), 11),
        1.8 + 0.19 * lines,
        _DISTRIBUTION,
    )
    panels = body.subplots(1, len(threads), sharex=True, sharey=True, squeeze=False)[0]
    _distributions(panels, groups)
    for axes, count in zip(panels, threads, strict=True):
        axes.set_title(threads_of(count))
    fastest = min(report.latency, key=lambda one: one.p50_ms.value)
    alt = (
        f"Distributions of the time of one crop of {len(report.latency)} contenders, by runtime and threads. "
        f"The smallest median is {number(fastest.p50_ms.value)} ms, of "
        f"{named(report, fastest.model, fastest.variant)} on {runtime_of(fastest)}, "
        f"{threads_of(fastest.threads)}."
    )
    return Plot("latency", alt, figure)


def latency_spread(report: Report) -> Plot | None:
    """Cumulated shares of invocations by time over the median, so that what spans decades can be compared."""
    rows = device_choice(report)
    if not rows:
        return None
    rows.sort(key=lambda one: (one.model, variant_rank(one.variant)))
    figure, body = new_figure(
        report,
        "How much the time of one crop varies",
        8,
        4.2,
        "Of each variant on the runtime that a device would take; up to its 99th percentile",
    )
    axes = body.subplots()
    for one in rows:
        color, mark = variant_style(one.variant)
        median = one.quantiles_ms[50]
        axes.plot(
            [ms / median for ms in one.quantiles_ms[: _LAST + 1]],
            range(_LAST + 1),
            color=color,
            marker=mark,
            markevery=[10, 25, 50, 75, 90, _LAST],
            markeredgecolor=INK,
            markeredgewidth=0.5,
            markersize=5,
            linewidth=1.4,
            label=f"{shorten(named(report, one.model, one.variant), 30)}: median {number(median)} ms on "
            f"{runtime_of(one)}, {threads_of(one.threads)}",
        )
    axes.set(xlabel="time over its own median", ylabel="share of invocations, %", ylim=(0, 102))
    axes.grid()
    axes.legend(fontsize=8, loc="lower right")
    p99s = (
        f"{named(report, one.model, one.variant)} {one.quantiles_ms[99] / one.quantiles_ms[50]:.2f}"
        for one in rows
    )
    return Plot("latency-spread", f"99th percentile over the median: {', '.join(p99s)}.", figure)


def peers(report: Report) -> Plot | None:
    """Other ways to run the same weights; those that answer otherwise were not timed, and say so."""
    if not report.peers:
        return None
    rows = [
        (
            one.latency.p50_ms.value if one.latency else math.inf,
            _Row(
                f"{shorten(named(report, one.model, one.name), 34)}, {threads_of(one.threads)}",
                one.ours,
                [one.latency],
                f"not timed: agrees with {one.ours} on {100 * one.agreement:.0f} % of {one.cells} cells",
            ),
        )
        for one in report.peers
    ]
    rows.sort(key=lambda row: row[0])
    figure, body = new_figure(
        report, "The same weights and crops, run by others", 8, 1.7 + 0.24 * len(rows), _DISTRIBUTION
    )
    _distributions([body.subplots()], [("", [row for _, row in rows])])
    medians = ", ".join(f"{row.name} {number(ms)} ms" for ms, row in rows if math.isfinite(ms))
    return Plot("peers", f"Median time of one crop: {medians or 'none was timed'}.", figure)


def _distributions(panels: Sequence[Axes], groups: Sequence[tuple[str, Sequence[_Row]]]) -> None:
    rows = [row for _, of_group in groups for row in of_group]
    timed = [one for row in rows for one in row.latencies if one]
    ends = [ms for one in timed for ms in (one.quantiles_ms[0], one.quantiles_ms[_LAST])]
    places = rows_axis(panels[0], [(heading, [row.name for row in group]) for heading, group in groups])
    for panel, axes in enumerate(panels):
        logarithmic = time_axis(axes, ends, "time of one crop")
        axes.tick_params(axis="y", length=0)
        for y, row in zip(places, rows, strict=True):
            one = row.latencies[panel]
            if one is None:
                axes.text(0.01, y, row.why, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
                continue
            color, mark = variant_style(row.variant)
            _violin(axes, y, one.quantiles_ms[: _LAST + 1], color, logarithmic)
            axes.plot(one.quantiles_ms[_LAST], y, "|", color=INK, markersize=6)
            point_at(axes, one.p50_ms, y, color, mark)
            annotate_right(axes, y, number(one.p50_ms.value))


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
    if not report.latency:
        return None
    variants = sorted(report.variants, key=lambda one: (one.model, variant_rank(one.name)))
    figure, body = new_figure(
        report,
        "Size of the file, and memory of a fresh process",
        8,
        1.6 + 0.26 * len(variants),
        "Memory: its peak; grey: of it, what the runtime took before the model was loaded",
    )
    files, memory = body.subplots(1, 2, sharey=True)
    timed = preferred(report)
    names = [named(report, one.model, one.name) for one in variants]
    for y, one in zip(rows_axis(files, [("", names)]), variants, strict=True):
        color = variant_style(one.name)[0]
        files.barh(y, one.file_bytes / _MIB, height=0.7, color=color)
        annotate_right(files, y, number(one.file_bytes / _MIB))
        row = timed.get((one.model, one.name))
        if row:
            memory.barh(y, row.runtime_mib, height=0.7, color=LINE, edgecolor=QUIET, linewidth=0.5)
            memory.barh(y, row.peak_mib - row.runtime_mib, left=row.runtime_mib, height=0.7, color=color)
        annotate_right(memory, y, f"{number(row.peak_mib)} ({row.runtime})" if row else "not timed")
    files.set(xlabel="file, MiB", xlim=(0, None))
    memory.set(xlabel="peak memory, MiB", xlim=(0, None))
    for axes in (files, memory):
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    sizes = (f"{name} {number(one.file_bytes / _MIB)} MiB" for name, one in zip(names, variants, strict=True))
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
                (layer.index, layer.ms.high, f"{100 * layer.share:.1f} % {layer.operator}", layer.output)
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
    shades = matplotlib.colormaps["viridis"](np.linspace(0.3, 0.9, len(counts)))
    dashes = ("-", "--", ":", "-.")
    for place, source in enumerate(sources):
        ours = sorted((one for one in runs if one.source == source), key=lambda one: one.cells_per_frame)
        rate.plot(
            [one.cells_per_frame for one in ours],
            [one.frames_per_s for one in ours],
            linestyle=dashes[place % len(dashes)],
            marker="osD^"[place % 4],
            color=SERIES[place % len(SERIES)],
            label=shorten(source, 30),
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
    memory.set(xlabel="frame, number", ylabel="resident memory, MiB")
    low, high = memory.get_ylim()
    wider = max(_MIN_SPAN_MIB - (high - low), 0) / 2
    memory.set_ylim(low - wider, high + wider)
    memory.legend(
        [Line2D([], [], color=shade) for shade in shades],
        [f"{_cells(count)} a frame" for count in counts],
        fontsize=8,
        loc="lower right",
    )
    for axes in (rate, memory):
        axes.grid()
    names = list(dict.fromkeys(step for one in runs for step in one.step_ms))
    places = rows_axis(
        steps, [("", [f"{shorten(one.source, 30)}, {_cells(one.cells_per_frame)}" for one in runs])]
    )
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
