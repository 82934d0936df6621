"""Two figures compared: intervals that hold what they say, verdicts that noise does not turn."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.change import (
    Verdict,
    change_text,
    difference,
    judge_exact,
    judge_time,
    paired_difference,
    relative_change,
    same_cells,
)
from benchmarks.results import Estimate

from .sample_report import around, sample_report

ROW = sample_report().accuracy[0]


def test_a_change_is_in_per_cent_of_the_first() -> None:
    assert relative_change(around(5.0, 0), around(6.0, 0)).value == pytest.approx(20)
    assert relative_change(around(5.0, 0), around(4.0, 0)).value == pytest.approx(-20)


def test_the_interval_of_a_difference_is_the_normal_one_where_the_two_are_normal() -> None:
    a, b = Estimate(10, 10 - 1.96 * 0.3, 10 + 1.96 * 0.3), Estimate(12, 12 - 1.96 * 0.4, 12 + 1.96 * 0.4)
    low, high = stats.norm.interval(0.95, 2, math.hypot(0.3, 0.4))
    assert difference(a, b).low == pytest.approx(low, abs=1e-3)
    assert difference(a, b).high == pytest.approx(high, abs=1e-3)


def test_the_interval_of_a_change_holds_the_truth_in_95_of_100() -> None:
    rng = np.random.default_rng(3)
    held, trials, wide = 0, 2000, stats.norm.ppf(0.975)
    for _ in range(trials):
        a, b = (
            Estimate(math.exp(drawn), math.exp(drawn - wide * spread), math.exp(drawn + wide * spread))
            for drawn, spread in ((rng.normal(math.log(5), 0.05), 0.05), (rng.normal(math.log(6), 0.1), 0.1))
        )
        change = relative_change(a, b)
        held += change.low <= 20 <= change.high
    assert stats.binom.cdf(held, trials, 0.95) > 1e-4
    assert stats.binom.sf(held, trials, 0.95) > 1e-4


def test_figures_that_are_not_known_have_no_change() -> None:
    nothing = Estimate(math.nan, math.nan, math.nan)
    for a, b in ((nothing, around(5)), (around(5), nothing), (around(0), around(5)), (around(5), around(0))):
        assert math.isnan(relative_change(a, b).value)
    half = relative_change(around(5), Estimate(6, math.nan, math.nan))
    assert half.value == pytest.approx(20)
    assert math.isnan(half.low)


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (-1, 0, 1, Verdict.KEPT),
        (11, 12, 13, Verdict.PAST),
        (9, 12, 15, Verdict.UNDECIDED),  # noise may have done this, or not
        (9.5, 19, 28.5, Verdict.UNDECIDED),  # much slower, but for a chance in 30
        (2, 9, 16, Verdict.KEPT),
        (-15, 2, 19, Verdict.UNDECIDED),  # may be slower by nearly twice the limit
        (-60, -40, -20, Verdict.KEPT),  # faster, by however much
        (10.1, 40, 70, Verdict.PAST),  # slower, by however much
        (math.nan, 0, math.nan, Verdict.UNDECIDED),
        (math.nan, math.nan, math.nan, Verdict.UNDECIDED),
    ],
)
def test_a_limit_of_ten_per_cent_on_time(low: float, value: float, high: float, verdict: Verdict) -> None:
    assert judge_time(Estimate(value, low, high), 10) is verdict


def test_noise_does_not_fail_a_run_that_is_as_fast_and_passes_none_that_is_slower_by_twice_the_limit() -> (
    None
):
    rng = np.random.default_rng(5)
    limit, spread = 10.0, 4.0  # per cent; standard error of the change

    def verdicts(truth: float) -> list[Verdict]:
        half = stats.norm.ppf(0.975) * spread
        drawn = rng.normal(truth, spread, 2000)
        return [judge_time(Estimate(value, value - half, value + half), limit) for value in drawn.tolist()]

    assert verdicts(0).count(Verdict.PAST) == 0
    assert verdicts(limit).count(Verdict.PAST) == pytest.approx(0.025 * 2000, abs=25)
    assert verdicts(0).count(Verdict.KEPT) > 0.95 * 2000
    assert verdicts(2 * limit).count(Verdict.KEPT) < 0.02 * 2000


def test_what_is_exact_is_held_exactly() -> None:
    assert judge_exact(around(1.0, 0), 1.0) is Verdict.KEPT
    assert judge_exact(around(0.1 + 0.2, 0), 0.3) is Verdict.KEPT  # 0.30000000000000004
    assert judge_exact(around(1.001, 0), 1.0) is Verdict.PAST
    assert judge_exact(Estimate(math.nan, 0, 0), 1.0) is Verdict.UNDECIDED


def test_accuracy_is_compared_original_by_original() -> None:
    a = replace(ROW, right_per_original=((3, 3), (0, 2), (1, 1), (4, 4)))
    b = replace(a, right_per_original=((3, 3), (2, 2), (0, 1), (4, 4)))
    change = paired_difference(a, b)
    assert change.value == pytest.approx(1 / 10)
    assert change.low < 0 < change.high


def test_the_interval_of_paired_accuracy_is_that_of_the_paired_differences() -> None:
    rng = np.random.default_rng(2)
    right_a = rng.random(800) < 0.9
    right_b = np.where(rng.random(800) < 0.05, ~right_a, right_a)
    gained: np.ndarray = right_b.astype(float) - right_a.astype(float)
    a = replace(ROW, right_per_original=tuple((int(one), 1) for one in right_a))
    b = replace(ROW, right_per_original=tuple((int(one), 1) for one in right_b))
    low, high = stats.norm.interval(0.95, gained.mean(), gained.std() / math.sqrt(800))
    change = paired_difference(a, b)
    assert change.low == pytest.approx(low, abs=0.002)
    assert change.high == pytest.approx(high, abs=0.002)


def test_the_same_answers_differ_by_nothing() -> None:
    assert paired_difference(ROW, ROW) == Estimate(0, 0, 0)


def test_cells_are_the_same_only_with_the_same_names_and_numbers() -> None:
    assert same_cells(ROW, ROW)
    assert not same_cells(ROW, replace(ROW, cells_sha256="f" * 64))
    assert not same_cells(ROW, replace(ROW, right_per_original=ROW.right_per_original[1:]))
    assert not same_cells(*(replace(ROW, right_per_original=()),) * 2)
    assert not same_cells(*(replace(ROW, right_per_original=((0, 0), (1, 1))),) * 2)


def test_a_change_is_written_with_its_sign() -> None:
    assert change_text(Estimate(20.06, 19, 21), "%") == "+20.1 % (+19.0 to +21.0)"
    assert change_text(Estimate(-1.4, -1.4, -1.4), "points") == "−1.4 points"
    assert change_text(Estimate(-0.01, -0.01, -0.01), "%") == "0.0 %"
    assert change_text(Estimate(math.nan, math.nan, math.nan), "%") == "–"
