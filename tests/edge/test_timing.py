import math
from time import sleep

import pytest
from rich.console import Console

from edge.timing import STEPS, StepTimes
from hematovision.errors import ImageError


def test_a_step_is_counted_and_its_times_added_up() -> None:
    times = StepTimes()
    for _ in range(2):
        with times.step("find"):
            sleep(0.01)
    assert times.count["find"] == 2
    assert times.wall_s["find"] >= 0.02
    assert times.wall_s["find"] / 2 <= times.longest_s["find"] <= times.wall_s["find"]
    # Sleeping takes no processor time.
    assert times.processor_s["find"] < times.wall_s["find"]
    assert times.mean_ms("find") == pytest.approx(500 * times.wall_s["find"])


def test_a_step_that_fails_has_taken_time_too() -> None:
    times = StepTimes()
    with pytest.raises(ImageError), times.step("optics"):
        raise ImageError("black")
    assert times.count["optics"] == 1


def test_the_table_has_the_steps_taken_in_their_order() -> None:
    times = StepTimes()
    for name in ("invoke", "capture"):
        with times.step(name):
            pass
    console = Console(width=100)
    with console.capture() as capture:
        console.print(times.table())
    lines = [line for line in capture.get().splitlines() if any(step in line for step in STEPS)]
    assert ["capture" in lines[0], "invoke" in lines[1], len(lines)] == [True, True, 2]
    assert math.isnan(times.mean_ms("track"))
