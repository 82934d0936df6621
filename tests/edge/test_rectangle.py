"""Arithmetic of rectangles."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rectangle import EVERYWHERE, Rectangle

rectangles = st.tuples(*[st.integers(-50, 50)] * 2, *[st.integers(0, 40)] * 2).map(
    lambda of: Rectangle(of[0], of[1], of[0] + of[2], of[1] + of[3])
)


@given(rectangles, rectangles)
def test_what_two_share_lies_in_both_whichever_comes_first(one: Rectangle, other: Rectangle) -> None:
    shared = one.common(other)
    assert shared.area == other.common(one).area <= min(one.area, other.area)
    if shared.area:
        assert one.holds(shared)
        assert other.holds(shared)


@given(rectangles)
def test_everything_lies_everywhere(one: Rectangle) -> None:
    assert EVERYWHERE.holds(one)
    assert one.common(EVERYWHERE) == one
    assert EVERYWHERE.moved(3, 4) == EVERYWHERE


@given(rectangles, st.integers(-30, 30), st.integers(-30, 30))
def test_moving_keeps_size_and_moves_the_middle(one: Rectangle, x: int, y: int) -> None:
    moved = one.moved(x, y)
    assert moved.area == one.area
    assert math.dist(moved.middle, one.middle) == pytest.approx(math.hypot(x, y))
    assert moved.moved(-x, -y) == one


@given(rectangles, st.integers(0, 20))
def test_a_wider_one_holds_it_around_the_same_middle(one: Rectangle, by: int) -> None:
    wider = one.wider(by)
    assert wider.holds(one)
    assert wider.middle == one.middle
    assert wider.wider(-by) == one


def test_apart_nothing_is_shared() -> None:
    one = Rectangle(0, 0, 10, 10)
    assert one.common(Rectangle(20, 0, 30, 10)).area == 0
    assert one.common(Rectangle(10, 10, 30, 30)).area == 0
    assert one.common(Rectangle(5, 5, 30, 30)) == Rectangle(5, 5, 10, 10)
