"""What all plots have in common: colours and marks of the variants, names, axes, where it was measured."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.report_tables import device_choice
from benchmarks.results import Estimate, Latency, Report
from hematovision.own_pictures import PLOT, mark_of

# Of text, quiet text, grid and background. In a page they give way to the page's own, dark ones included.
INK, QUIET, LINE, CARD = "#14181b", "#4d565d", "#c9d0d5", "#ffffff"
_PAGE_COLORS = {INK: "currentColor", QUIET: "var(--quiet)", LINE: "var(--line)", CARD: "var(--card)"}

# Okabe and Ito's colours; marks tell the variants apart without them.
_VARIANTS = {
    "keras": ("#999999", "s"),
    "float32": ("#0072b2", "o"),
    "float16": ("#56b4e9", "D"),
    "dynamic": ("#009e73", "^"),
    "int8": ("#d55e00", "v"),
    "int16x8": ("#cc79a7", "P"),
}
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")

# Any: Matplotlib's releases type their settings differently.
_SETTINGS: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": QUIET,
    "axes.facecolor": CARD,
    "figure.facecolor": CARD,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "hematovision",
    # Names of models and data sets come from outside; a $ in one begins no formula.
    "text.parse_math": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib draws as all plots are drawn."""
    with matplotlib.rc_context(_SETTINGS):
        yield


@dataclass(frozen=True)
class Plot:
    """A figure. ``name``: of its file, without the ending; ``alt``: what it shows, in words."""

    name: str
    alt: str
    figure: Figure

    def png(self) -> bytes:
        """As a picture on white, at 150 pixels an inch."""
        buffer = BytesIO()
        with style():
            self.figure.savefig(buffer, format="png", dpi=150, metadata={"Comment": mark_of(PLOT)})
            self._keep_layout()
        return buffer.getvalue()

    def svg(self) -> Markup:
        """As an element to be put into a page: in the page's colours of text, with ids of its own."""
        buffer = StringIO()
        with style():
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
            self._keep_layout()
        root = ET.fromstring(buffer.getvalue())  # noqa: S314 (written a line above)
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag.endswith(("}metadata", "}style")):
                    parent.remove(child)
        for element in root.iter():
            element.tag = element.tag.split("}")[-1]
            element.attrib = {
                key.split("}")[-1]: self._attribute(key.split("}")[-1], value)
                for key, value in element.attrib.items()
            }
        width = self.figure.get_figwidth()
        root.attrib = {
            "viewBox": root.attrib["viewBox"],
            "role": "img",
            "aria-label": printable(self.alt),
            # Where there is less room than text needs to be read, it is scrolled.
            "style": f"min-width: {72 * width:.0f}px; max-width: {110 * width:.0f}px",
        }
        return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 (escaped by its writer)

    def _keep_layout(self) -> None:
        """Laying a figure out takes longer than drawing it, so it is done for the first file only."""
        self.figure.set_layout_engine("none")

    def _attribute(self, key: str, value: str) -> str:
        if key == "id":
            return f"{self.name}-{value}"
        if key in ("href", "style", "clip-path"):
            value = re.sub(r"^#|(?<=url\()#", f"#{self.name}-", value)
        if key in ("style", "fill", "stroke"):
            for color, ours in _PAGE_COLORS.items():
                value = value.replace(color, ours)
        return value


def new_figure(
    report: Report, title: str, width: float, height: float, how: str = ""
) -> tuple[Figure, SubFigure]:
    """A figure (inches) and the part of it to draw in: what it shows is said above; below it how, on which
    machine and when that was measured."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10.5)
    machine = report.machine
    facts = [machine.board or machine.processor, f"{machine.cores} cores", report.started[:10]]
    if machine.disturbed:
        facts.append("a disturbed run")
    where = shorten(" · ".join(facts), int(14 * width))
    figure.supxlabel(f"{how}\n{where}" if how else where, x=0.01, ha="left", fontsize=8, color=QUIET)
    body = figure.subfigures(1, 1)
    assert isinstance(body, SubFigure)
    return figure, body


def variant_style(name: str) -> tuple[str, str]:
    """Colour and mark of a variant; grey crosses for what is none of ours."""
    return _VARIANTS.get(name, ("#999999", "X"))


def variant_rank(name: str) -> tuple[int, str]:
    """Sorts variants from the exact to the coarse, others behind by name."""
    return (list(_VARIANTS).index(name) if name in _VARIANTS else len(_VARIANTS), name)


def named(report: Report, model: str, variant: str) -> str:
    """The variant, and of which model where the report has several."""
    several = len({one.model for one in report.variants}) > 1
    return f"{model} {variant}" if several else variant


def threads_of(count: int) -> str:
    """Such as "1 thread"."""
    return f"{count} thread{'s' if count != 1 else ''}"


def preferred(report: Report) -> dict[tuple[str, str], Latency]:
    """Of each model and variant that was timed, the row that a device comes closest to."""
    return {(one.model, one.variant): one for one in device_choice(report)}


def printable(text: str) -> str:
    """Text with a mark in place of what no page may hold: control characters, halves of characters."""
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)


def shorten(text: str, limit: int) -> str:
    """At most so many characters on one line, of the middle left out."""
    text = printable(" ".join(text.split()))
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: limit - 1 - half]}…{text[len(text) - half :]}"


def whisker(estimate: Estimate, scale: float = 1) -> list[list[float]]:
    """What `Axes.errorbar` takes: (2, 1) distances to the limits; none where they are not known."""
    distances = (estimate.value - estimate.low, estimate.high - estimate.value)
    return [[scale * max(one, 0.0) if math.isfinite(one) else 0.0] for one in distances]


def time_axis(axes: Axes, values: Sequence[float], label: str) -> bool:
    """Milliseconds along x: by decades where they span more than a factor of eight, and then True."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    logarithmic = low > 0 and high / low > 8
    axes.set_xlabel(f"{label}, ms" + (" (logarithmic)" if logarithmic else ""))
    if logarithmic:
        axes.set_xscale("log")
        # 1, 2, 5, 10 … as long as that is not too many.
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 300 else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x")
    return logarithmic


def rows_axis(axes: Axes, groups: Sequence[tuple[str, Sequence[str]]]) -> list[float]:
    """Name rows from top to bottom, under a bold heading for each group that has one; returns the rows' y."""
    ticks: list[tuple[str, bool]] = []
    for heading, names in groups:
        if heading:
            ticks.append((shorten(heading, 46), True))
        ticks += [(shorten(name, 46), False) for name in names]
    axes.set_yticks(range(len(ticks)), [name for name, _ in ticks], fontsize=8)
    for label, (_, bold) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(ticks) - 0.4, -0.6)
    return [float(y) for y, (_, bold) in enumerate(ticks) if not bold]


def point_at(axes: Axes, x: Estimate, y: float, color: str, mark: str) -> None:
    """A mark with its interval along x."""
    axes.errorbar(
        x.value, y, xerr=whisker(x), color=INK, marker=mark, markersize=4.5, markerfacecolor=color,
        markeredgewidth=0.7, elinewidth=1,
    )  # fmt: skip


def annotate_right(axes: Axes, y: float, text: str) -> None:
    """A figure in the margin beside a row."""
    axes.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def list_beside(axes: Axes, beside: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Number points (x, y) of a plot, and say in empty axes beside it what each is: a figure, a name."""
    beside.set_axis_off()
    for number, (x, y, figure, name) in enumerate(points, start=1):
        axes.annotate(
            str(number), (x, y), xytext=(0, 3), textcoords="offset points", ha="center", fontweight="bold"
        )
        for line, size, color, below in (
            (f"{number}  {figure}", 8, INK, 0),
            (f"    {shorten(name, 46)}", 7, QUIET, 11),
        ):
            beside.annotate(
                line,
                (0, 1),
                xycoords="axes fraction",
                xytext=(0, -28 * (number - 1) - below),
                textcoords="offset points",
                va="top",
                fontsize=size,
                color=color,
            )
