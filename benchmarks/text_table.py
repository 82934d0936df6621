"""Tables of figures as text: the same table for a terminal and for Markdown."""

import math
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from benchmarks.results import Estimate
from train.evaluate import Interval

#: What stands where there is no figure.
NONE = "–"
#: Columns for tables that are piped into a file or another program, which have no width of their own.
PIPED_WIDTH = 100

_LONG_NAME = 14
_UNBOUNDED = 10_000


@dataclass(frozen=True)
class TextTable:
    """A table with what is to be said under it; the first ``names`` columns are words, the others figures."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    caption: str = ""

    def print(self, console: Console) -> None:
        """Print it; where the console is too narrow, figures stand above their intervals."""
        drawn = self._drawn(tight=False)
        if Measurement.get(console, console.options.update(width=_UNBOUNDED), drawn).maximum > console.width:
            drawn = self._drawn(tight=True)
        console.print(f"[bold]{escape(self.title)}[/]", highlight=False)
        console.print(drawn)
        if self.caption:
            console.print(escape(self.caption), highlight=False)

    def _drawn(self, tight: bool) -> Table:
        """The table; a tight one has figures above their intervals, and breaks headings and names."""
        drawn = Table(
            box=box.SIMPLE_HEAD, padding=(0, 0 if tight else 1, 0, 0), pad_edge=False, show_edge=False
        )
        columns = list(zip(self.headings, *self.rows, strict=True))
        for number, (heading, *cells) in enumerate(columns):
            is_name = number < self.names
            if tight:
                heading = heading.replace(" ", "\n").replace("-", "-\n")
                cells = [one.replace("-", "-\n") if is_name else one.replace(" (", "\n(") for one in cells]
                columns[number] = (heading, *cells)
            widest = max(len(line) for text in (heading, *cells) for line in text.split("\n"))
            drawn.add_column(
                escape(heading),
                justify="left" if is_name else "right",
                overflow="fold",
                # Long names are broken where they must be, figures never.
                width=None if is_name and widest > _LONG_NAME else widest,
            )
        for row in zip(*(cells for _, *cells in columns), strict=True):
            drawn.add_row(*map(escape, row))
        return drawn

    def markdown(self) -> list[str]:
        """Lines of a section with the table."""
        aligned = ["---" if column < self.names else "---:" for column in range(len(self.headings))]
        lines = [f"## {plain(self.title)}", "", _row(self.headings), f"| {' | '.join(aligned)} |"]
        lines += map(_row, self.rows)
        return [*lines, "", plain(self.caption)] if self.caption else lines


def widen_if_piped(console: Console) -> None:
    """Give a console that is no terminal room for tables; rich would give it 80 columns."""
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(text.split())
    for mark in "\\`*<[|":
        text = text.replace(mark, f"\\{mark}")
    return text


def number(value: float, digits: int = 3) -> str:
    """A figure to so many significant digits, without an exponent."""
    if not math.isfinite(value):
        return NONE
    return _fixed(value, _places(value, digits))


def estimate(value: Estimate | Interval | None, scale: float = 1, places: int | None = None) -> str:
    """A figure with its interval: ``5.01 (4.97–5.05)``."""
    if value is None or not math.isfinite(value.value):
        return NONE
    figure, low, high = (scale * one for one in (value.value, value.low, value.high))
    if places is None:
        places = _places(figure, 3)
    if not low < high:
        return _fixed(figure, places)
    between = " to " if low < 0 else "–"
    return f"{_fixed(figure, places)} ({_fixed(low, places)}{between}{_fixed(high, places)})"


def _places(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def _fixed(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if not float(text) else text.replace("-", "−")


def percent(value: Estimate | Interval | None) -> str:
    """A share with its interval, in per cent."""
    return estimate(value, 100, 1)
