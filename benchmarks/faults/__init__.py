"""``hematovision bench faults``: what goes wrong, made to go wrong, and what became of the cells counted."""

import click

from hematovision.lazy_group import LazyCommand, LazyGroup

_FAULTS = {
    "broker": LazyCommand(
        "benchmarks.faults.broker", "broker", "A broker that is stopped and started under load."
    ),
    "clock": LazyCommand(
        "benchmarks.faults.clock", "clock", "A clock that is behind, ahead or jumps, and what is deleted."
    ),
    "decode": LazyCommand(
        "benchmarks.faults.decode", "decode", "Pictures that take long or much memory to decode."
    ),
    "full-disk": LazyCommand(
        "benchmarks.faults.full_disk", "full_disk", "A disk that fills up, and is cleared."
    ),
    "hour": LazyCommand("benchmarks.faults.hour", "hour", "A run over a long time: memory, frame age, disk."),
    "kill": LazyCommand("benchmarks.faults.kill", "kill", "The process killed at random moments."),
    "plug": LazyCommand("benchmarks.faults.plug", "plug", "The plug pulled, by a trace of what was synced."),
    "read-only": LazyCommand(
        "benchmarks.faults.read_only", "read_only", "A disk that becomes read-only while cells are counted."
    ),
    "stalls": LazyCommand("benchmarks.faults.stalls", "stalls", "A camera that stalls at random."),
    "store-gone": LazyCommand(
        "benchmarks.faults.store_gone", "store_gone", "The store's file removed, moved, replaced, unmounted."
    ),
    "uploads": LazyCommand("benchmarks.faults.uploads", "uploads", "Hostile uploads."),
    "viewers": LazyCommand("benchmarks.faults.viewers", "viewers", "Many viewers, some of them very slow."),
}


@click.group(cls=LazyGroup, commands_by_name=_FAULTS)
def faults() -> None:
    """Make things go wrong and count what became of the cells; status 1 where any was lost or made up."""
