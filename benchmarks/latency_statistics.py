"""Figures of timed invocations, with 95 % intervals that hold where neighbours in time are alike.

Invocations that follow each other share the state of the machine, so they are not independent, and turns
are resampled whole: the block bootstrap (Künsch, Annals of Statistics 17, 1989), with a turn for a block and
the percentile method. Of 20 turns of 10, the interval of the median covers it as often as it says; the p99
is close to the slowest, and its interval, which cannot reach beyond that, covers it in some 85 % of runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Estimate

RESAMPLINGS = 2000
_SHARES = np.array([0.5, 0.9, 0.99])

Turns = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Summary:
    """Of the times of all turns together."""

    minimum: float
    mean: Estimate
    p50: Estimate
    p90: Estimate
    p99: Estimate
    quantiles: tuple[float, ...]


def summarise(turns: Turns, seed: int = 0) -> Summary:
    """Figures over turns of timed invocations; intervals are NaN where there is only one turn.

    Args:
        turns: times of each turn, at least one turn, none empty.
        seed: of the resampling.
    """
    times = np.concatenate([np.asarray(turn, np.float64) for turn in turns])
    owner = np.repeat(np.arange(len(turns)), [len(turn) for turn in turns])
    order = np.argsort(times, kind="stable")
    times, owner = times[order], owner[order]
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(turns), np.full(len(turns), 1 / len(turns)), RESAMPLINGS)
    figures = np.array([_figures(times, drawn[owner]) for drawn in draws])
    values = _figures(times, np.ones_like(owner))
    mean, p50, p90, p99 = (
        _estimate(value, resampled if len(turns) > 1 else None)
        for value, resampled in zip(values, figures.T, strict=True)
    )
    return Summary(float(times[0]), mean, p50, p90, p99, tuple(np.percentile(times, np.arange(101)).tolist()))


def ratio_of_rounds(times: Turns, reference: Turns, seed: int = 0) -> Estimate:
    """Median over rounds of the ratio of a round's two medians.

    Both were timed in every round, so a machine that changes between rounds leaves the ratio as it is.

    Args:
        times: of one contender, a turn for each round.
        reference: of the other one in the same rounds.
        seed: of the resampling of rounds.
    """
    ratios = np.array(
        [np.median(own) / np.median(other) for own, other in zip(times, reference, strict=True)]
    )
    if len(ratios) < 2:
        return _estimate(float(np.median(ratios)), None)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLINGS, len(ratios)))
    return _estimate(float(np.median(ratios)), np.median(ratios[drawn], axis=1))


def _figures(times: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean, p50, p90 and p99 of sorted times, each taken so many times; percentiles as NumPy's default."""
    ends = np.cumsum(counts)
    places = (ends[-1] - 1) * _SHARES
    below = np.floor(places)
    low, high = (
        times[np.searchsorted(ends, np.minimum(place, ends[-1] - 1), side="right")]
        for place in (below, below + 1)
    )
    return np.array([times @ counts / ends[-1], *(low + (places - below) * (high - low))])


def _estimate(value: float, resampled: NDArray[np.float64] | None) -> Estimate:
    if resampled is None:
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
