"""``hematovision bench``: measurements. What a command needs is loaded when it is called."""

import click

from hematovision.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "accuracy": LazyCommand(
        "benchmarks.accuracy_command", "accuracy", "Float against quantised on the same held-out cells."
    ),
    "compare": LazyCommand(
        "benchmarks.compare_command", "compare", "All of it in one report: may this model be deployed?"
    ),
    "diff": LazyCommand(
        "benchmarks.diff_command", "diff", "What changed between two reports, within given limits."
    ),
    "faults": LazyCommand("benchmarks.faults", "faults", "What goes wrong, made to go wrong; cells lost."),
    "finder": LazyCommand(
        "benchmarks.finder.command", "finder", "Leukocytes found on boxed fields, what else, and time."
    ),
    "latency": LazyCommand(
        "benchmarks.latency_command", "latency", "Time of one crop, by variant, runtime and threads."
    ),
    "pan": LazyCommand(
        "benchmarks.pan.command", "pan_command", "Whether every cell of real smears is counted once."
    ),
    "peers": LazyCommand(
        "benchmarks.peers_command", "peers", "The same weights as others run them, side by side."
    ),
    "throughput": LazyCommand(
        "benchmarks.throughput_command", "throughput", "Frames to counted cells, by cells a frame."
    ),
    "tracker": LazyCommand(
        "benchmarks.tracker_command", "tracker", "Whether every cell of drawn slides is counted once."
    ),
}


@click.group(cls=LazyGroup, commands_by_name=_COMMANDS)
def bench() -> None:
    """Measure the parts and the whole line."""
