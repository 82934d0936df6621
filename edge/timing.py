"""Where the time of a frame goes: each step's time by the clock and by the processor."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time

from rich.table import Table

#: The steps of a frame, in order. Capture is on a thread of its own, beside the others, and so is the check
#: of scale and lamp.
STEPS = ("capture", "optics", "judge", "track", "find", "crop", "invoke", "check")


class StepTimes:
    """Sums of each step's time. A step belongs to one thread; different threads may time different steps."""

    def __init__(self) -> None:
        self.count = dict.fromkeys(STEPS, 0)
        #: Seconds by the clock; of the capture it is mostly waiting.
        self.wall_s = dict.fromkeys(STEPS, 0.0)
        #: Seconds of the thread's processor time; what a step's own helper threads use is not in it.
        self.processor_s = dict.fromkeys(STEPS, 0.0)
        self.longest_s = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def step(self, name: str, more: bool = False) -> Iterator[None]:
        """Time what is done inside, also where it raises; ``more`` of a step that was begun before."""
        wall, processor = perf_counter(), thread_time()
        try:
            yield
        finally:
            spent = perf_counter() - wall
            self.processor_s[name] += thread_time() - processor
            self.wall_s[name] += spent
            self.longest_s[name] = max(self.longest_s[name], spent)
            self.count[name] += not more

    def mean_ms(self, name: str) -> float:
        """Mean milliseconds by the clock; NaN of a step that was never taken."""
        return 1000 * self.wall_s[name] / self.count[name] if self.count[name] else math.nan

    def table(self) -> Table:
        """A row for each step that was taken."""
        table = Table(title="Time per step", title_justify="left")
        table.add_column("Step")
        for heading in ("frames", "mean, ms", "of it processor, ms", "longest at a time, ms"):
            table.add_column(heading, justify="right")
        for name in STEPS:
            if count := self.count[name]:
                table.add_row(
                    name,
                    str(count),
                    f"{self.mean_ms(name):.2f}",
                    f"{1000 * self.processor_s[name] / count:.2f}",
                    f"{1000 * self.longest_s[name]:.1f}",
                )
        return table
