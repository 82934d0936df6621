"""A report as one HTML page: no script, nothing fetched, every figure in a table and most in a plot."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.findings import findings
from benchmarks.notes import notes
from benchmarks.plot_style import Plot, printable
from benchmarks.report_tables import sections
from benchmarks.report_text import machine_lines, missing, title
from benchmarks.results import Report
from benchmarks.text_table import TextTable
from hematovision.cell_classes import CLASS_NAMES

# Longer tables are folded away.
_MOST_ROWS = 12

# Sections in the order of the page: of the report, heading, plots (by the beginning of their names).
_SECTIONS = (
    ("latency", "Latency", ("latency", "size-memory")),
    ("layers", "Time by layer", ("time-by-layer",)),
    ("accuracy", "Accuracy", ("accuracy-change", "confusion-")),
    ("noise", "Quantisation noise", ("error-by-layer",)),
    ("throughput", "Throughput", ("throughput",)),
    ("peers", "Peers", ("peers",)),
)


@dataclass(frozen=True)
class _Section:
    """A part of the page. ``folded``: tables that are opened when wanted."""

    id: str
    heading: str
    plots: Sequence[Plot]
    tables: Sequence[TextTable]
    folded: Sequence[TextTable]


def to_html(report: Report, plots: Sequence[Plot]) -> str:
    """A report as one self-contained HTML page, with `benchmarks.plots.all_plots` of it."""
    environment = Environment(
        loader=PackageLoader("benchmarks", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    left_out = missing(report)
    return environment.get_template("report.html.j2").render(
        title=title(report),
        arguments=" ".join(report.arguments),
        machine=machine_lines(report),
        notes=notes(report),
        findings=findings(report),
        failures=[(heading, lines) for heading, lines, failed in left_out if failed],
        left_out=[(heading, lines) for heading, lines, failed in left_out if not failed],
        summary=sections(report, whole=True).get("summary", []),
        front=[plot for plot in plots if plot.name == "accuracy-latency"],
        sections=_filled(report, plots),
    )


def _finalize(value: object) -> object:
    """Text from outside without characters that no page may have; `Markup` is our own."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _filled(report: Report, plots: Iterable[Plot]) -> list[_Section]:
    short, whole = sections(report), sections(report, whole=True)
    filled = []
    for name, heading, beginnings in _SECTIONS:
        if name not in short:
            continue
        tables = [table for table in short[name] if len(table.rows) <= _MOST_ROWS]
        folded = [table for table in whole[name] if table not in tables]
        if name == "accuracy":
            folded += _confusions(report)
        shown = [plot for plot in plots if plot.name.startswith(beginnings)]
        filled.append(_Section(name, heading, shown, tables, folded))
    return filled


def _confusions(report: Report) -> list[TextTable]:
    """Counts of every variant, a table for each data set."""
    tables = []
    for name in dict.fromkeys(row.evaluation.name for row in report.accuracy):
        rows = [
            (f"{row.model} {row.variant}", truth, *map(str, counts))
            for row in report.accuracy
            if row.evaluation.name == name
            for truth, counts in zip(CLASS_NAMES, row.evaluation.files.confusion, strict=True)
        ]
        tables.append(
            TextTable(
                f"Confusion on {name}: what cells of each class were called",
                ("variant", "truth", *CLASS_NAMES, "not found"),
                tuple(rows),
                names=2,
            )
        )
    return tables
