"""A lamp that drifts from the blank field is said once, and again when it changes."""

from dataclasses import replace

import numpy as np
import pytest

from edge.lamp import LampWatch
from hematovision.blank_field import EVEN_LEVEL, BlankField
from hematovision.light import Light
from hematovision.optics import Field, measure_field

FRAME = np.full((240, 320, 3), (220, 200, 180), np.uint8)
BLANK = BlankField(np.full((240, 320, 3), 50000, np.uint16), "blank.png")
PLAIN = measure_field(FRAME, 0.2)


def field(color: tuple[float, float, float] = (1, 1, 1), slope: float = 0.0) -> Field:
    across = np.exp(slope * np.linspace(-1, 1, 33))[None, :, None]
    levels = (EVEN_LEVEL * np.array(color) * across * np.ones((25, 1, 1))).astype(np.float32)
    return replace(PLAIN, light=Light(levels), blank=BLANK)


def lines(watch: LampWatch, seen: Field, times: int = 60) -> list[str]:
    return [line for line in (watch.see(seen) for _ in range(times)) if line is not None]


def test_a_lamp_as_it_was_is_not_remarked_on() -> None:
    assert lines(LampWatch(), field((0.97, 0.96, 0.94), slope=0.02)) == []


def test_without_a_blank_field_there_is_nothing_to_drift_from() -> None:
    assert lines(LampWatch(), PLAIN) == []


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (field((0.8, 0.8, 0.8)), "all of it 20% darker;"),
        (field((1.2, 1.2, 1.2)), "all of it 20% brighter;"),
        (field((1.0, 1.0, 1.3)), "blue beside the others 19% brighter;"),
        (field(slope=0.08), "uneven by 7%;"),
    ],
)
def test_drift_is_said_once_with_what_and_how_far_and_what_to_do(seen: Field, what: str) -> None:
    (line,) = lines(LampWatch(), seen)
    assert "from blank.png" in line
    assert what in line
    assert "calibrate --blank" in line


def test_a_change_in_the_middle_of_a_run_is_noticed_and_so_is_the_next() -> None:
    watch = LampWatch()
    assert lines(watch, field()) == []
    assert len(lines(watch, field((0.8, 0.8, 0.8)))) == 1
    assert lines(watch, field((0.82, 0.82, 0.82))) == []
    assert len(lines(watch, field((0.6, 0.6, 0.6)))) == 1
    assert lines(watch, field()) == []
    assert len(lines(watch, field((0.8, 0.8, 0.8)))) == 1


def test_light_just_at_a_limit_is_not_told_of_again_and_again() -> None:
    watch = LampWatch()
    assert len(lines(watch, field((0.895, 0.895, 0.895)))) == 1
    for level in (0.905, 0.895, 0.905, 0.895):
        assert lines(watch, field((level, level, level))) == []


def test_one_odd_field_is_no_drift() -> None:
    watch = LampWatch()
    assert lines(watch, field()) == []
    assert watch.see(field((0.5, 0.5, 0.5))) is None
