"""A report as text: readable in 80 columns, nothing cut off, what matters first and failures last."""

import dataclasses
import io
import math
import re

import pytest
from rich.console import Console

from benchmarks.notes import notes
from benchmarks.report_tables import device_choice, reference_of, tables
from benchmarks.report_text import print_report, to_markdown
from benchmarks.results import Estimate, Report, Unmeasured
from benchmarks.text_table import TextTable, estimate, number, percent, plain

from .sample_report import sample_report

PC, PI = sample_report(), sample_report(on_pi=True)
ONLY_THROUGHPUT = dataclasses.replace(
    PC, variants=(), latency=(), layers=(), accuracy=(), noise=(), peers=(), unmeasured=()
)


def printed(report: Report, width: int = 100, terminal: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("report", [PC, PI], ids=["pc", "pi"])
def test_a_report_fits_the_terminal_with_every_figure_whole(report: Report, width: int) -> None:
    text = printed(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    there = set(text.split())
    for table in tables(report):
        for row in table.rows:
            for cell in row[table.names :]:
                assert set(cell.split()) <= there, f"{table.title}: {cell}"


def test_what_is_piped_has_room_and_no_colours() -> None:
    text = printed(PC, 80, terminal=False)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if "│" in line or "──" in line) > 80
    assert notes(PC)[0] in text.replace("! ", ""), "a note stays one line, to be searched for"


def test_what_must_be_known_comes_before_the_figures_and_failures_come_last() -> None:
    lines = printed(PC).splitlines()

    def place(text: str) -> int:
        return next(number for number, line in enumerate(lines) if text in line)

    order = ["Do not carry", "Summary", "Latency of one crop", "Accuracy on", "Where float32 spends"]
    order += ["Where int8 strays", "Frames to counted", "The same weights", "Left out (1)", "Failed (1)"]
    assert [place(one) for one in order] == sorted(place(one) for one in order)
    assert "kisbleed" in " ".join(lines[place("Failed (1)") :])


def test_the_summary_has_a_row_for_each_variant_as_a_device_would_run_it() -> None:
    summary = tables(PC)[0]
    assert [row[:2] for row in summary.rows] == [
        ("keras", "keras"),
        *((name, "litert") for name in ("float32", "float16", "dynamic", "int8", "int16x8")),
    ]
    assert "kaggle-test, %" in summary.headings
    int8 = dict(zip(summary.headings, summary.rows[4], strict=True))
    row = next(row for row in PC.latency if row.variant == "int8")
    assert int8["p50, ms"] == estimate(row.p50_ms)
    assert int8["file, MiB"] == "2.5"


def test_a_variant_that_was_not_timed_or_not_classified_keeps_its_row() -> None:
    report = dataclasses.replace(
        PC,
        latency=tuple(row for row in PC.latency if row.variant != "int8"),
        accuracy=tuple(row for row in PC.accuracy if row.variant != "dynamic"),
    )
    rows = {row[0]: row for row in tables(report)[0].rows}
    assert rows["int8"][1:4] == ("–", "–", "–")
    assert rows["dynamic"][4:7] == ("–", "–", "–")


def test_a_row_without_its_variant_is_printed_too() -> None:
    summary = tables(dataclasses.replace(PC, variants=PC.variants[:2]))[0]
    assert [row[0] for row in summary.rows][:2] == ["keras", "float32"]
    assert {row[0]: row[-2] for row in summary.rows}["int16x8"] == "–"
    assert len(summary.rows) == len(tables(PC)[0].rows)


def test_the_reference_of_the_ratios_is_named() -> None:
    reference = reference_of(PC.latency)
    assert reference is not None
    assert (reference.variant, reference.runtime, reference.threads) == ("float32", "litert", 1)
    assert "Ratio: to float32 on litert." in printed(PC)
    without = tuple(dataclasses.replace(row, ratio=None) for row in PC.latency)
    assert reference_of(without) is None
    assert "Ratio: to" not in printed(dataclasses.replace(PC, latency=without, peers=()))


def test_a_device_takes_litert_with_xnnpack_and_the_fewest_threads() -> None:
    chosen = device_choice(PC)
    assert {(row.xnnpack is not False, row.threads) for row in chosen} == {(True, 1)}
    assert {row.variant: row.runtime for row in chosen}["int8"] == "litert"


def test_sections_that_are_empty_are_left_out() -> None:
    text = printed(ONLY_THROUGHPUT)
    assert "Frames to counted cells" in text
    assert "Summary" not in text
    assert "Latency" not in text
    assert "Failed" not in text


def test_several_models_are_named() -> None:
    report = dataclasses.replace(
        PC, variants=(*PC.variants, dataclasses.replace(PC.variants[0], model="small"))
    )
    assert "hematovision float32" in printed(report, 160)


def test_markup_and_marks_in_names_are_shown_as_they_are() -> None:
    failed = Unmeasured("latency", "[red]int8[/] | *x* `y`", "C:\\new <b>\nbold", failed=True)
    report = dataclasses.replace(PC, unmeasured=(failed,))
    assert "[red]int8[/] | *x* `y`" in printed(report, 160)
    assert r"\[red]int8\[/] \| \*x\* \`y\`: C:\\new \<b> bold" in to_markdown(report)


def test_every_table_of_the_markdown_is_one() -> None:
    text = to_markdown(PC, ["plots/latency.png"])
    assert "![latency](plots/latency.png)" in text
    blocks = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(blocks) == len(tables(PC))
    for block, table in zip(blocks, tables(PC), strict=True):
        columns = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
        assert set(columns) == {len(table.headings) + 1}
        assert len(columns) == len(table.rows) + 2
    assert text.index("> Do not carry") < text.index("## Summary")
    assert text.index("## Left out") < text.index("## Failed")


def test_a_peer_that_answers_wrongly_is_called_wrong() -> None:
    table = next(table for table in tables(PC) if table.title.startswith("The same weights"))
    wrong = [row for row in table.rows if row[0] == "OpenCV dnn int8"]
    assert wrong[0][5] == "wrong"


@pytest.mark.parametrize(
    ("value", "text"),
    [(5.0149, "5.01"), (120.4, "120"), (2100, "2100"), (0.0123456, "0.0123"), (0, "0"), (-3.21, "−3.21")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_what_is_not_known_is_a_dash() -> None:
    for value in (math.nan, math.inf):
        assert number(value) == "–"
        assert estimate(Estimate(value, 1, 2)) == "–"
    assert estimate(None) == "–"


def test_an_interval_stands_behind_its_figure() -> None:
    assert estimate(Estimate(5.0149, 4.967, 5.053)) == "5.01 (4.97–5.05)"
    assert estimate(Estimate(-0.4, -1, 0.2), places=1) == "−0.4 (−1.0 to 0.2)"
    assert estimate(Estimate(5, math.nan, math.nan)) == "5.00"
    assert estimate(Estimate(1, 1, 1)) == "1.00"
    assert percent(Estimate(0.919, 0.851, 0.973)) == "91.9 (85.1–97.3)"
    assert estimate(Estimate(-0.0001, -0.0004, 0.0001), places=1) == "0.0 (0.0 to 0.0)"


def test_a_table_that_fits_is_on_single_lines() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    TextTable("times", ("variant", "p50, ms"), (("int8", "5.01 (4.97–5.05)"),)).print(console)
    assert isinstance(console.file, io.StringIO)
    assert "int8     5.01 (4.97–5.05)" in console.file.getvalue()


def test_plain_text_is_on_one_line() -> None:
    assert plain("a\n b") == "a b"
