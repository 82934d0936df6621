"""Plots: each filled section is drawn, from the report's own figures, whatever the names in it."""

import dataclasses
import math
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from PIL import Image

from benchmarks.plot_accuracy import accuracy_change, accuracy_latency, confusions, noise, pareto_front
from benchmarks.plot_speed import latency, latency_spread, layers, peers, size_and_memory, throughput
from benchmarks.plot_style import Plot, printable, shorten, style, whisker
from benchmarks.plots import all_plots
from benchmarks.results import Estimate, Report

from .sample_report import sample_report

NAN = math.nan
NOTHING = dataclasses.replace(
    sample_report(), variants=(), latency=(), layers=(), accuracy=(), noise=(), throughput=(), peers=()
)
HOSTILE = "$\\frac{<b>&\x1b[31m\udc80\n" + "0123456789" * 30
NAMES = [
    "accuracy-latency",
    "accuracy-change",
    "latency",
    "latency-spread",
    "size-memory",
    "time-by-layer",
    "confusion-kaggle-test",
    "confusion-pbc",
    "confusion-raabin",
    "error-by-layer",
    "throughput",
    "peers",
]


@pytest.fixture(autouse=True)
def drawn_in_style() -> Iterator[None]:
    with style():
        yield


def axes_of(plot: Plot | None) -> list[Any]:
    assert plot is not None
    return plot.figure.get_axes()


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_filled_section_is_a_picture() -> None:
    plots = all_plots(sample_report())
    assert [plot.name for plot in plots] == NAMES
    for plot in plots:
        image = Image.open(BytesIO(plot.png()))
        assert image.format == "PNG"
        assert 600 <= image.width <= 2000
        assert 400 <= image.height <= 4000
        # Ink on white, but not much of it.
        assert 0.001 < (np.asarray(image.convert("L")) < 128).mean() < 0.5


def test_a_section_that_is_empty_is_not_drawn() -> None:
    assert all_plots(NOTHING) == []
    only = dataclasses.replace(NOTHING, accuracy=sample_report().accuracy)
    assert [plot.name for plot in all_plots(only)] == [
        name for name in NAMES if name.startswith(("accuracy-change", "confusion"))
    ]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1.0, 90.0), (2.0, 95.0), (3.0, 94.0), (4.0, 96.0)], [0, 1, 3]),
        ([(2.0, 95.0), (1.0, 95.0)], [1]),
        ([(1.0, 90.0), (1.0, 91.0)], [1]),
        ([(5.0, 80.0)], [0]),
        ([], []),
    ],
)
def test_the_front_of_known_points(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12))
def test_nothing_on_the_front_is_beaten_and_everything_off_it_is(points: list[tuple[int, int]]) -> None:
    front = pareto_front([(float(ms), float(right)) for ms, right in points])

    def beaten(one: tuple[int, int]) -> bool:
        return any(ms <= one[0] and right >= one[1] and (ms, right) != one for ms, right in points)

    assert {points[index] for index in front} == {one for one in points if not beaten(one)}


def test_accuracy_against_latency_is_drawn_from_the_report() -> None:
    report = sample_report()
    panels = axes_of(accuracy_latency(report))
    assert [axes.get_title("left") for axes in panels] == ["kaggle-test", "pbc", "raabin"]
    int8 = next(row for row in report.latency if row.variant == "int8")
    for axes in panels:
        accuracy = next(
            row.evaluation.files.accuracy
            for row in report.accuracy
            if row.variant == "int8" and row.evaluation.name == axes.get_title("left")
        )
        drawn = [
            container[0].get_xydata().tolist()[0] for container in axes.containers if len(container) == 3
        ]
        assert [int8.p50_ms.value, pytest.approx(100 * accuracy.value)] in drawn
        assert len(drawn) == 6
        assert axes.get_ylim()[0] <= 100 * accuracy.low
        assert axes.get_ylim()[1] >= 100 * accuracy.high


def test_a_variant_without_times_or_an_accuracy_is_in_no_panel() -> None:
    report = sample_report()
    assert accuracy_latency(dataclasses.replace(report, latency=())) is None
    assert accuracy_latency(dataclasses.replace(report, accuracy=())) is None


def test_change_of_accuracy_says_figure_interval_and_p() -> None:
    report = sample_report()
    [axes] = axes_of(accuracy_change(report))
    row = next(row for row in report.accuracy if row.variant == "int8")
    assert row.comparison is not None
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "v"]
    assert marks[0] == pytest.approx(100 * row.comparison.accuracy_difference.value)
    assert "; p 0.22" in texts(axes)[3]
    low, high = axes.get_xlim()
    assert low == -high


def test_every_contender_has_its_median_in_the_panel_of_its_threads() -> None:
    report = sample_report()
    panels = axes_of(latency(report))
    assert [axes.get_title("left") for axes in panels] == ["1 thread", "2 threads"]
    for count, axes in zip((1, 2), panels, strict=True):
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() not in ("|", "None", "")]
        assert sorted(marks) == sorted(row.p50_ms.value for row in report.latency if row.threads == count)
    assert panels[0].get_xlim() == panels[1].get_xlim()
    assert panels[0].get_xscale() == "log"


def test_times_that_are_close_are_drawn_on_a_plain_axis() -> None:
    report = sample_report()
    close = dataclasses.replace(report, latency=report.latency[1:3])
    assert axes_of(latency(close))[0].get_xscale() == "linear"


def test_spread_is_of_each_variant_where_a_device_would_run_it() -> None:
    [axes] = axes_of(latency_spread(sample_report()))
    assert len(axes.lines) == 6
    for line in axes.lines:
        assert line.get_xdata()[50] == 1.0
        assert line.get_ydata()[-1] == 99


def test_bars_begin_at_nothing() -> None:
    report = sample_report()
    files, memory = axes_of(size_and_memory(report))
    assert files.get_xlim()[0] == memory.get_xlim()[0] == 0
    assert [bar.get_width() for bar in files.patches] == [
        pytest.approx(one.file_bytes / 2**20) for one in report.variants
    ]
    for axes in axes_of(layers(report))[::2]:
        assert axes.get_ylim()[0] <= 0


def test_the_slowest_layers_and_the_noisiest_are_named() -> None:
    report = sample_report()
    for one, beside in zip(report.layers, axes_of(layers(report))[1::2], strict=True):
        slowest = max(one.layers, key=lambda layer: layer.share)
        assert texts(beside)[0] == f"1  {100 * slowest.share:.1f} % {slowest.operator}"
        assert texts(beside)[1].strip() == slowest.output
    beside = axes_of(noise(report))[1]
    assert [text.strip() for text in texts(beside)[1::2]] == list(report.noise[0].worst)


def test_tensors_without_noise_leave_a_gap_and_no_error() -> None:
    report = sample_report()
    unknown = Estimate(NAN, NAN, NAN)
    [one] = report.noise
    tensors = tuple(
        dataclasses.replace(tensor, sqnr_db=unknown) if tensor.index % 2 else tensor for tensor in one.tensors
    )
    axes = axes_of(noise(dataclasses.replace(report, noise=(dataclasses.replace(one, tensors=tensors),))))[0]
    assert len(axes.lines[0].get_xdata()) == math.ceil(len(tensors) / 2)


def test_confusion_is_float_beside_int8_for_each_data_set() -> None:
    report = sample_report()
    for plot in confusions(report):
        of_float, of_int8 = axes_of(plot)
        assert of_float.get_title("left").startswith("float32, ")
        assert of_int8.get_title("left").startswith("int8, ")
        name = plot.name.removeprefix("confusion-")
        counts = next(
            row.evaluation.files.confusion
            for row in report.accuracy
            if row.variant == "int8" and row.evaluation.name == name
        )
        assert texts(of_int8) == [str(count) for row in counts for count in row]


def test_data_sets_with_names_alike_have_files_of_their_own() -> None:
    report = sample_report()
    first, *_ = report.accuracy
    names = ("A/B", "a b", "///", "…")
    rows = tuple(
        dataclasses.replace(first, evaluation=dataclasses.replace(first.evaluation, name=name))
        for name in names
    )
    found = [plot.name for plot in confusions(dataclasses.replace(report, accuracy=rows))]
    assert found == ["confusion-a-b", "confusion-a-b-2", "confusion", "confusion-2"]


def test_throughput_is_drawn_by_source() -> None:
    report = sample_report()
    rate, memory, steps = axes_of(throughput(report))
    assert rate.lines[0].get_ydata().tolist() == [
        pytest.approx(one.frames_per_s) for one in report.throughput if one.source == "drawn"
    ]
    assert len(memory.lines) == len(report.throughput)
    assert sum(bar.get_width() for bar in steps.patches) == pytest.approx(
        sum(sum(one.step_ms.values()) for one in report.throughput)
    )


def test_a_peer_that_answers_otherwise_says_so_instead_of_a_time() -> None:
    [axes] = axes_of(peers(sample_report()))
    assert "not timed: agrees with int8 on 41 % of 200 cells" in texts(axes)
    plot = peers(dataclasses.replace(sample_report(), peers=sample_report().peers[-1:]))
    assert plot is not None
    assert "none was timed" in plot.alt


def test_an_interval_that_is_not_known_has_no_whiskers() -> None:
    assert whisker(Estimate(5.0, NAN, NAN)) == [[0.0], [0.0]]
    assert whisker(Estimate(5.0, 4.0, 7.0)) == [[1.0], [2.0]]


def test_names_from_outside_are_shown_as_they_are_but_for_what_cannot_be_shown() -> None:
    assert shorten("abcdefghij", 5) == "ab" + "…" + "ij"
    assert shorten("a\n b", 5) == "a b"
    assert printable("a\x1b\udc80é") == "a\ufffd\ufffdé"


def hostile(report: Report) -> Report:
    """The same figures under names that no one should choose."""
    unknown = Estimate(NAN, NAN, NAN)
    return dataclasses.replace(
        report,
        variants=tuple(
            dataclasses.replace(one, model=model) for one in report.variants for model in (HOSTILE, "other")
        ),
        machine=dataclasses.replace(report.machine, processor=HOSTILE),
        latency=tuple(
            dataclasses.replace(one, model=HOSTILE, p99_ms=unknown, ratio=None) for one in report.latency
        ),
        accuracy=tuple(
            dataclasses.replace(
                one,
                model=HOSTILE,
                evaluation=dataclasses.replace(one.evaluation, name=one.evaluation.name + HOSTILE),
            )
            for one in report.accuracy
        ),
        layers=tuple(
            dataclasses.replace(
                one,
                model=HOSTILE,
                layers=tuple(dataclasses.replace(layer, output=HOSTILE) for layer in one.layers),
            )
            for one in report.layers
        ),
        noise=tuple(dataclasses.replace(one, model=HOSTILE) for one in report.noise),
        throughput=tuple(dataclasses.replace(one, source=HOSTILE) for one in report.throughput),
        peers=tuple(dataclasses.replace(one, model=HOSTILE, name=HOSTILE) for one in report.peers),
    )


def test_no_name_spoils_a_picture() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns where a drawing does not fit or lacks a letter
        plots = all_plots(hostile(sample_report()))
        assert all(plot.png() for plot in plots)
    assert len(plots) == len(NAMES)
    assert all(len(plot.name) < 100 for plot in plots)


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    with matplotlib.rc_context({"text.parse_math": True, "svg.fonttype": "path"}):
        before = matplotlib.rcParams.copy()
        [plot.png() for plot in all_plots(dataclasses.replace(NOTHING, peers=sample_report().peers))]
        assert matplotlib.rcParams == before
