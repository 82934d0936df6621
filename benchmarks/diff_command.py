"""``hematovision bench diff``."""

from pathlib import Path

import click
from rich.markup import escape

from benchmarks.change import change_text
from benchmarks.diff import Difference, Limits, Measure, compare
from benchmarks.report import read_report
from benchmarks.report_text import machine_lines, title
from benchmarks.text_table import TextTable, estimate, widen_if_piped
from hematovision.errors import SettingError
from train.console import stdout

_A_REPORT = click.Path(path_type=Path)


@click.command()
@click.argument("a", metavar="A.json", type=_A_REPORT)
@click.argument("b", metavar="B.json", type=_A_REPORT)
@click.option(
    "--max-slower",
    "slower",
    type=float,
    metavar="PERCENT",
    help="Median time of a crop. A change is past the limit with its whole 95 % interval, and within it "
    "where the interval is narrow enough to tell; else it is undecided. Intervals are each of one run: see "
    "from two runs of the same thing what this machine varies by.",
)
@click.option(
    "--max-accuracy-lost",
    "accuracy_lost",
    type=float,
    metavar="POINTS",
    help="Accuracy on any data set, by file, on the same cells.",
)
@click.option("--max-memory", "memory", type=float, metavar="PERCENT", help="Peak memory of a process.")
@click.option("--max-size", "size", type=float, metavar="PERCENT", help="Size of a model file.")
def diff(
    a: Path,
    b: Path,
    slower: float | None,
    accuracy_lost: float | None,
    memory: float | None,
    size: float | None,
) -> None:
    """What changed from report A to report B: two runs, or two machines.

    Without limits it only shows. Where the machines differ, times are shown and the limit on them holds on
    the ratio to the reference of each run; where one run was disturbed, it cannot be held. Exit status 1
    where B is past a limit, or something failed in it that did not in A; 2 where a limit cannot be held
    against these reports, or none is past but one is undecided.
    """
    limits = Limits(slower, accuracy_lost, memory, size)
    reports = read_report(a), read_report(b)
    widen_if_piped(stdout)
    for letter, path, report in zip("AB", (a, b), reports, strict=True):
        _say(f"{letter}: {path}: {title(report)}", "bold")
        _say(f"   {machine_lines(report)[0]}")
    found = compare(*reports, limits)
    for sentence in found.said:
        _say(f"! {sentence}", "yellow")
    for measure in found.measures:
        stdout.print()
        _table(measure).print(stdout)
    if found.only:
        stdout.print()
    for line in found.only:
        _say(line)
    _conclude(found, limits)


def _say(text: str, style: str = "") -> None:
    stdout.print(escape(text), style=style, highlight=False, soft_wrap=not stdout.is_terminal)


def _table(measure: Measure) -> TextTable:
    held = any(change.verdict is not None for change in measure.changes)
    places = 1 if measure.unit == "points" else None
    return TextTable(
        measure.title,
        ("", "A", "B", "change", *(("limit",) if held else ())),
        tuple(
            (
                change.row,
                estimate(change.a, places=places),
                estimate(change.b, places=places),
                change_text(change.change, measure.unit),
                *((change.verdict.value if change.verdict else "",) if held else ()),
            )
            for change in measure.changes
        ),
    )


def _conclude(found: Difference, limits: Limits) -> None:
    """Say what is past a limit, and end with the status for it."""
    for line in found.past:
        _say(f"past the limit: {line}", "bold red")
    for line in found.undecided:
        _say(f"undecided: {line}", "red")
    if found.past:
        raise SystemExit(1)
    if found.undecided:
        raise SettingError(
            f"{len(found.undecided)} times a limit cannot be held against these reports; see above for why"
        )
    if limits != Limits():
        _say("All within the limits.")
