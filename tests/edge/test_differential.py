"""Counts, percentages and their exact limits."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import bdtr, bdtrc

from edge.differential import Differential, beyond_reference, classifier_error, share
from hematovision.cell_classes import CELL_CLASSES, CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import ModelFileError

counts = st.tuples(st.integers(0, 5000), st.integers(0, 5000)).map(lambda pair: (min(pair), max(pair)))


@pytest.mark.parametrize(
    ("percent", "total", "low", "high"),
    [
        *((1, 100, 0, 6), (1, 200, 0, 4), (1, 400, 0, 3)),
        *((5, 100, 1, 12), (5, 200, 2, 10), (5, 400, 3, 8)),
        *((10, 100, 4, 18), (10, 200, 6, 16), (10, 400, 7, 14)),
        *((50, 100, 39, 61), (50, 200, 42, 58), (50, 400, 44, 56)),
    ],
)
def test_the_limits_are_those_that_the_design_tabulates(
    percent: int, total: int, low: int, high: int
) -> None:
    limits = share(percent * total // 100, total)
    assert (math.floor(limits.low), math.ceil(limits.high)) == (low, high)


@given(counts)
def test_the_limits_hold_the_percentage_and_stay_within_0_and_100(pair: tuple[int, int]) -> None:
    count, total = pair
    one = share(count, total)
    assert 0 <= one.low <= one.high <= 100
    if total:
        assert one.percent is not None
        assert one.percent == pytest.approx(100 * count / total)
        assert one.low <= one.percent <= one.high


@given(counts)
def test_at_each_limit_what_was_seen_or_more_extreme_has_2_5_percent(pair: tuple[int, int]) -> None:
    count, total = pair
    assume(total > 0)
    one = share(count, total)
    if count > 0:  # at least so many, were the lower limit true
        assert bdtrc(count - 1, total, one.low / 100) == pytest.approx(0.025, rel=1e-6)
    else:
        assert one.low == 0
    if count < total:  # at most so many, were the upper limit true
        assert bdtr(count, total, one.high / 100) == pytest.approx(0.025, rel=1e-6)
    else:
        assert one.high == 100


@given(counts)
def test_what_is_not_counted_has_the_mirrored_limits(pair: tuple[int, int]) -> None:
    count, total = pair
    one, rest = share(count, total), share(total - count, total)
    assert (one.low, one.high) == pytest.approx((100 - rest.high, 100 - rest.low), abs=1e-6)


@given(counts, st.integers(2, 10))
def test_more_cells_of_the_same_share_narrow_the_limits(pair: tuple[int, int], times: int) -> None:
    count, total = pair
    assume(total > 0)
    few, many = share(count, total), share(times * count, times * total)
    assert many.high - many.low < few.high - few.low


def test_nothing_counted_leaves_everything_open() -> None:
    nothing = share(0, 0)
    assert (nothing.percent, nothing.low, nothing.high) == (None, 0, 100)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (0, -1)])
def test_a_count_beyond_its_total_is_an_error(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        share(count, total)


@given(st.lists(st.sampled_from((*CLASS_NAMES, UNCLASSIFIED)), max_size=60))
def test_every_cell_is_counted_once_and_the_unclassified_apart(names: list[str]) -> None:
    half = len(names) // 2
    differential = Differential().plus(names[:half]).plus(names[half:])
    assert differential.counts == tuple(names.count(name) for name in CLASS_NAMES)
    assert differential.unclassified == names.count(UNCLASSIFIED)
    assert differential.total == len(names)
    named = len(names) - names.count(UNCLASSIFIED)
    for name in CLASS_NAMES:
        assert differential.share(name) == share(names.count(name), named)
    assert differential.unclassified_share == share(names.count(UNCLASSIFIED), len(names))


def test_counting_leaves_the_differential_before_it_as_it_was() -> None:
    before = Differential()
    before.plus(["monocyte"])
    assert before == Differential()


def test_a_name_that_is_no_class_is_not_counted_as_something_else() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        Differential().plus(["basophil"])


@pytest.mark.parametrize(
    ("count", "total", "flag"),
    [
        (14, 100, "high"),  # 7.9 to 22.4 %
        (12, 100, "high"),  # 6.4 to 20.0 %
        (11, 100, None),  # 5.6 to 18.8 %: 6 % lies within
        (22, 200, "high"),  # the same share of more cells: 7.0 to 16.2 %
        (3, 100, None),
        (0, 100, None),  # up to 3.6 %
        (0, 400, "low"),  # up to 0.9 %
        (0, 0, None),
    ],
)
def test_a_class_is_high_or_low_only_where_all_of_its_interval_lies_outside(
    count: int, total: int, flag: str | None
) -> None:
    assert beyond_reference(share(count, total), (1.0, 6.0)) == flag


def test_the_reference_intervals_can_be_those_of_parts_of_a_whole() -> None:
    assert sum(one.reference_percent[0] for one in CELL_CLASSES) < 100
    assert sum(one.reference_percent[1] for one in CELL_CLASSES) > 100


def test_the_classifiers_own_error_is_said_to_come_on_top_and_how_large_it_was() -> None:
    text = classifier_error(
        {
            "sets": [
                {"name": "TEST", "cells": 2487, "originals": 71, "accuracy": 0.88, "low": 0.74, "high": 0.97}
            ]
        }
    )
    assert "sampling only" in text
    assert "comes on top" in text
    assert "TEST: 88.0 % right of 2487 images of 71 cells (74.0 to 97.0)" in text


def test_an_error_that_was_not_measured_is_said_to_be_unmeasured() -> None:
    assert "not measured" in classifier_error({})


@pytest.mark.parametrize("sets", [[{"name": "x"}], [3], 5, [{"name": "x", "accuracy": "high"}]])
def test_an_accuracy_record_of_another_form_is_refused(sets: object) -> None:
    with pytest.raises(ModelFileError, match="train evaluate"):
        classifier_error({"sets": sets})
