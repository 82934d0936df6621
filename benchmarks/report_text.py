"""A report as text, for a terminal and as Markdown: the summary first, failures last."""

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from benchmarks.findings import findings
from benchmarks.notes import notes
from benchmarks.report_tables import tables
from benchmarks.results import MachineState, Report
from benchmarks.text_table import plain, widen_if_piped


def print_report(report: Report, console: Console) -> None:
    """Print a report: what it was measured on, what must be known, the summary, the sections, failures."""

    widen_if_piped(console)

    def say(text: str, style: str = "") -> None:
        console.print(escape(text), style=style, highlight=False, soft_wrap=not console.is_terminal)

    say(title(report), "bold")
    if report.arguments:
        say(f"arguments: {shlex.join(report.arguments)}")
    for line in machine_lines(report):
        say(line)
    for note in notes(report):
        say(f"! {note}", "yellow")
    if found := findings(report):
        say("\nIn short", "bold")
        for finding in found:
            say(f"- {finding}")
    for table in tables(report):
        console.print()
        table.print(console)
    for heading, lines, failed in missing(report):
        say(f"\n{heading}", "bold red" if failed else "bold")
        for line in lines:
            say(f"- {line}", "red" if failed else "")


def to_markdown(report: Report, pictures: Sequence[str] = ()) -> str:
    """A report as Markdown; ``pictures``: paths of its plots, relative to the file."""
    lines = [f"# {plain(title(report))}", ""]
    lines += [f"- arguments: {plain(shlex.join(report.arguments))}"] if report.arguments else []
    lines += [f"- {plain(line)}" for line in machine_lines(report)]
    for note in notes(report):
        lines += ["", f"> {plain(note)}"]
    if found := findings(report):
        lines += ["", "## In short", "", *(f"- {plain(finding)}" for finding in found)]
    for picture in pictures:
        lines += ["", f"![{picture.rpartition('/')[2].partition('.')[0]}]({picture})"]
    for table in tables(report):
        lines += ["", *table.markdown()]
    for heading, reasons, _ in missing(report):
        lines += ["", f"## {plain(heading)}", "", *(f"- {plain(reason)}" for reason in reasons)]
    return "\n".join(lines) + "\n"


def title(report: Report) -> str:
    """What was run, when, with what."""
    return (
        f"hematovision bench {report.command}, {report.started[:16].replace('T', ' ')} UTC, "
        f"{_duration(report.seconds)}, hematovision {report.hematovision}"
    )


def machine_lines(report: Report) -> list[str]:
    """What the figures were measured on, and in which state it was before and after."""
    machine = report.machine
    where = [machine.board, machine.processor, f"{machine.cores} cores ({machine.architecture})"]
    where += [", ".join(machine.features), f"{machine.memory_mib / 1024:.1f} GiB", machine.system]
    where += ["virtual machine"] if machine.virtual else []
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return [
        "; ".join(part for part in where if part),
        versions,
        f"before: {_state(machine.before)}",
        f"after: {_state(machine.after)}",
    ]


def missing(report: Report) -> list[tuple[str, list[str], bool]]:
    """What has no figures: a heading, lines, whether it failed; what failed comes last."""
    found = []
    for heading, failed in (("Left out", False), ("Failed", True)):
        lines = [f"{one.section}: {one.what}: {one.why}" for one in report.unmeasured if one.failed == failed]
        if lines:
            found.append((f"{heading} ({len(lines)})", lines, failed))
    return found


def _state(state: MachineState) -> str:
    parts = ["load " + ", ".join(f"{load:.2f}" for load in state.load_average)]
    parts += [" and ".join(sorted(set(state.governors)))] if state.governors else []
    if state.clock_mhz:
        low, high = min(state.clock_mhz), max(state.clock_mhz)
        parts.append(f"{low:.0f} MHz" if round(low) == round(high) else f"{low:.0f} to {high:.0f} MHz")
    parts += [f"{state.temperature_c:.0f} °C"] if state.temperature_c is not None else []
    if state.throttled is not None:
        parts.append(f"throttled: {', '.join(state.throttled)}" if state.throttled else "not throttled")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
