"""The benchmark of the line: that it measures what it says; how fast this machine is, is not tested."""

from benchmarks.throughput import measure_throughput
from edge.timing import STEPS


def test_about_one_cell_a_frame_is_named_and_every_step_is_shown() -> None:
    frames = 300
    result = measure_throughput(frames)
    assert result.frames == frames
    # The first frame of each field is one in which the slide moves.
    assert frames / 2 < result.looked_at < frames
    assert 0.7 <= result.named / frames <= 1.4
    assert 0 < result.counted < result.named
    # Scale and lamp are checked by the command that shows the count, not by the line.
    assert tuple(result.step_ms) == tuple(step for step in STEPS if step != "check")
    assert (
        result.outside_ms
        >= sum(result.step_ms.values()) - result.step_ms["capture"] - result.step_ms["invoke"]
    )
    assert result.memory_mib > abs(result.growth_mib)
    assert result.first_s > 0
