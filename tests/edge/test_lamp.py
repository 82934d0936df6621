"""A lamp that drifts from the blank field is said once, and again when it changes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge.cameras import Camera, Frame, LostFrame
from edge.lamp import BlankWatch, LampWatch
from edge.pipeline import SeenFrame
from edge.stage_motion import Position
from edge.tracker import Place
from hematovision.blank_field import EVEN_LEVEL, BlankField
from hematovision.learned_blank import MIN_PLACES
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


class Locked(Camera):
    """A camera that says whether it is locked, and gives nothing."""

    name, places_apart, live = "a camera", False, True

    def __init__(self, locked: bool = True) -> None:
        self.locked = locked

    def open(self) -> None: ...

    def frames(self) -> Iterator[Frame | LostFrame]:
        return iter(())

    def close(self) -> None: ...

    def is_locked(self) -> bool:
        return self.locked


WIDTH_UM, HEIGHT_UM = 64.0, 48.0


def at(x_um: float, y_um: float = 0.0, area: int = 1, seen: Field = PLAIN) -> SeenFrame:
    """An empty field at a place of the slide."""
    frame = Frame.now(FRAME, 0, 0.2, "a camera")
    place = Place(Position(area, x_um, y_um), (WIDTH_UM, HEIGHT_UM), 0.2, datetime.now(UTC))
    return SeenFrame(frame, seen, None, (), (), 1.0, 1, place)


def learnt(watch: BlankWatch, frames: list[SeenFrame], camera: Camera) -> list[tuple[int, BlankField, str]]:
    told = ((number, *watch.see(frame, camera)) for number, frame in enumerate(frames, 1))
    return [(number, blank, text) for number, blank, text in told if blank is not None and text is not None]


ROW = [at(number * WIDTH_UM) for number in range(MIN_PLACES)]


def test_a_blank_field_is_learnt_from_places_a_field_apart_and_said_once() -> None:
    watch, camera = BlankWatch(), Locked()
    ((number, blank, text),) = learnt(watch, ROW * 2, camera)
    assert number == MIN_PLACES
    assert text == "A blank field was learnt from 30 places: used from the next session on."
    np.testing.assert_allclose(blank.divide_small(FRAME), EVEN_LEVEL, rtol=0.01)


def test_places_that_overlap_count_once() -> None:
    half = [at(number * WIDTH_UM / 2) for number in range(MIN_PLACES + 5)]
    assert learnt(BlankWatch(), half, Locked()) == []
    assert learnt(BlankWatch(), [at(0.0), at(10.0, 10.0)] * MIN_PLACES, Locked()) == []


def test_nothing_is_learnt_unless_the_camera_knows_that_it_is_locked() -> None:
    assert learnt(BlankWatch(), ROW * 2, Locked(False)) == []
    watch, camera = BlankWatch(), Locked()
    assert learnt(watch, ROW[:-1], camera) == []
    camera.locked = False
    assert learnt(watch, ROW[-1:], camera) == []
    camera.locked = True  # what was seen before may be of another exposure
    assert learnt(watch, ROW[:-1], camera) == []
    assert len(learnt(watch, ROW[-1:], camera)) == 1


def test_a_camera_that_was_opened_again_is_learnt_from_anew() -> None:
    watch = BlankWatch()
    assert learnt(watch, ROW[:-1], Locked()) == []
    assert learnt(watch, ROW[-1:], Locked()) == []


def test_a_recorded_blank_field_wins() -> None:
    divided = [replace(frame, field=field()) for frame in ROW]
    assert learnt(BlankWatch(), divided, Locked()) == []


def test_a_blank_field_that_is_refused_is_said_with_the_reason() -> None:
    changing = []
    for number in range(MIN_PLACES):
        image = (FRAME * (1 - 0.02 * number)).astype(np.uint8)
        changing.append(at(number * WIDTH_UM, seen=measure_field(image, 0.2)))
    watch, camera = BlankWatch(), Locked()
    told = [watch.see(frame, camera) for frame in changing]
    assert told[-1] == (None, "no blank field was learnt from 30 places: the light changed meanwhile")
    assert len(learnt(watch, ROW, camera)) == 1  # and is tried again


def test_a_few_fields_at_the_beginning_are_not_gone_by() -> None:
    watch = LampWatch()
    assert lines(watch, field(slope=0.2), times=2) == []
    assert lines(watch, field()) == []
