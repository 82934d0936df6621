"""Figures of timed invocations, against NumPy's and SciPy's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap

from benchmarks.latency_statistics import ratio_of_rounds, summarise


def turns_of(seed: int = 0, turns: int = 20, each: int = 10, spread: float = 0.2) -> NDArray[np.float64]:
    """(turns, each): every turn has a level of its own, as turns on a real machine do."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(0, spread, (turns, 1)) + rng.gamma(2, 0.05, (turns, each)))


def test_figures_are_numpys() -> None:
    turns = turns_of()
    summary = summarise(turns.tolist())
    assert summary.minimum == turns.min()
    assert summary.mean.value == pytest.approx(turns.mean())
    for estimate, share in ((summary.p50, 50), (summary.p90, 90), (summary.p99, 99)):
        assert estimate.value == pytest.approx(np.percentile(turns, share))
    np.testing.assert_allclose(summary.quantiles, np.percentile(turns, np.arange(101)))


@pytest.mark.parametrize("figure", ["mean", "p50", "p90", "p99"])
def test_intervals_are_those_of_scipys_bootstrap_of_whole_turns(figure: str) -> None:
    turns = turns_of()
    statistics: dict[str, Callable[..., Any]] = {
        "mean": np.mean,
        "p50": np.median,
        "p90": lambda times: np.percentile(times, 90),
        "p99": lambda times: np.percentile(times, 99),
    }
    statistic = statistics[figure]
    scipys = bootstrap(
        (np.arange(len(turns)),),
        lambda drawn: statistic(turns[drawn]),
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        random_state=1,
    ).confidence_interval
    ours = getattr(summarise(turns.tolist()), figure)
    # Two draws of some thousand resamplings differ a little at the ends.
    slack = 0.1 * (scipys.high - scipys.low)
    assert ours.low == pytest.approx(scipys.low, abs=slack)
    assert ours.high == pytest.approx(scipys.high, abs=slack)


def test_percentiles_of_a_resampling_are_those_of_the_times_it_drew() -> None:
    """With two turns there are three resamplings that differ: either turn twice, or both."""
    short, long = [1.0, 2.0, 4.0], [10.0, 20.0]
    summary = summarise([short, long])
    assert summary.p50.low == pytest.approx(np.median(short + short))
    assert summary.p50.high == pytest.approx(np.median(long + long))
    assert summary.p90.low == pytest.approx(np.percentile(short + short, 90))
    assert summary.mean.low == pytest.approx(np.mean(short))
    assert summary.mean.high == pytest.approx(np.mean(long))


def test_times_alike_within_turns_have_wider_intervals_than_if_they_were_independent() -> None:
    turns = turns_of(spread=0.5)
    as_measured = summarise(turns.tolist()).mean
    one_by_one = summarise(turns.reshape(-1, 1).tolist()).mean
    assert as_measured.high - as_measured.low > 2 * (one_by_one.high - one_by_one.low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The percentile method is known to be a little narrow with 20 blocks; 95 % come to about 92 %."""
    rng = np.random.default_rng(3)
    runs, truth = 100, 0.0
    covered = 0
    for run in range(runs):
        turns = rng.normal(truth, 1, (20, 1)) + rng.normal(0, 1, (20, 10))
        estimate = summarise(turns.tolist(), seed=run).mean
        covered += estimate.low <= truth <= estimate.high
    assert 0.87 <= covered / runs <= 0.98


def test_one_turn_has_no_interval() -> None:
    estimate = summarise([[1.0, 3.0]]).mean
    assert estimate.value == 2
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_one_invocation_is_every_figure() -> None:
    summary = summarise([[5.0]])
    assert summary.minimum == summary.p99.value == summary.quantiles[0] == summary.quantiles[100] == 5


def test_the_same_times_give_the_same_intervals() -> None:
    turns = turns_of().tolist()
    assert summarise(turns) == summarise(turns)


def test_a_machine_that_slows_down_twofold_halfway_leaves_the_ratio_unharmed() -> None:
    own, reference = 3 * turns_of(1, spread=0.02), turns_of(2, spread=0.02)
    steady = ratio_of_rounds(own.tolist(), reference.tolist())
    slow = np.where(np.arange(20) < 10, 1, 2)[:, None]
    slowed = ratio_of_rounds((own * slow).tolist(), (reference * slow).tolist())
    assert slowed == steady
    assert steady.low <= 3 <= steady.high
    assert steady.high - steady.low < 0.2
    # The times themselves say so: their interval spans both halves.
    p50 = summarise((own * slow).tolist()).p50
    assert p50.high > 1.7 * p50.low


def test_a_ratio_and_its_interval_are_those_of_scipys_bootstrap_of_rounds() -> None:
    own, reference = turns_of(1), turns_of(2)
    ratios = np.median(own, axis=1) / np.median(reference, axis=1)
    ours = ratio_of_rounds(own.tolist(), reference.tolist())
    scipys = bootstrap(
        (ratios,), np.median, method="percentile", n_resamples=4000, random_state=1
    ).confidence_interval
    assert ours.value == pytest.approx(np.median(ratios))
    slack = 0.1 * (scipys.high - scipys.low)
    assert ours.low == pytest.approx(scipys.low, abs=slack)
    assert ours.high == pytest.approx(scipys.high, abs=slack)


def test_a_ratio_to_itself_is_one() -> None:
    turns = turns_of().tolist()
    estimate = ratio_of_rounds(turns, turns)
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


def test_one_round_gives_a_ratio_without_an_interval() -> None:
    estimate = ratio_of_rounds([[2.0, 2.0]], [[1.0]])
    assert estimate.value == 2
    assert math.isnan(estimate.low)
