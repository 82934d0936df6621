"""How much two figures differ, and whether that keeps a limit."""

import math
from enum import Enum

import numpy as np

from benchmarks.results import Accuracy, Estimate
from train.evaluate import RESAMPLINGS

# So that a point lost keeps a limit of one point, whatever the rounding of the subtraction.
_ROUNDING = 1e-9

_NOTHING = Estimate(math.nan, math.nan, math.nan)


class Verdict(Enum):
    """What a limit says of a change."""

    KEPT = "kept"
    PAST = "past"
    UNDECIDED = "undecided"


def judge_time(change: Estimate, limit: float) -> Verdict:
    """Whether a change of time, in per cent with its 95 % interval, keeps a limit in per cent.

    Past it only with all of the interval, so that noise does not fail a run: one that is just at the limit
    fails in 1 of 40. Kept only by a change within the limit whose interval is all below it, or reaches no
    further than the limit to either side, so that no run passes because it was too short to tell. Else
    undecided.
    """
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return Verdict.UNDECIDED
    if change.low > limit:
        return Verdict.PAST
    precise = (change.high - change.low) / 2 <= limit
    kept = change.high <= limit or (precise and change.value <= limit)
    return Verdict.KEPT if kept else Verdict.UNDECIDED


def judge_exact(change: Estimate, limit: float) -> Verdict:
    """Whether a change for the worse keeps a limit in the same unit, its interval left aside."""
    if not math.isfinite(change.value):
        return Verdict.UNDECIDED
    return Verdict.PAST if change.value > limit + _ROUNDING else Verdict.KEPT


def relative_change(a: Estimate, b: Estimate) -> Estimate:
    """B over A less 1, in per cent, of two independent estimates of something above 0.

    The interval recovers the variances of the logarithms from the two intervals: MOVER (Zou and Donner,
    Statistics in Medicine 27, 2008). NaN where something is not known or not above 0.
    """
    if not (a.value > 0 and b.value > 0):
        return _NOTHING
    log = difference(_logarithm(a), _logarithm(b))
    return Estimate(*(100 * math.expm1(one) for one in (log.value, log.low, log.high)))


def _logarithm(of: Estimate) -> Estimate:
    return Estimate(*(math.log(one) if one > 0 else math.nan for one in (of.value, of.low, of.high)))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """B less A of two independent estimates, its interval by MOVER (see `relative_change`)."""
    value = b.value - a.value
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    return Estimate(value, value - below, value + above)


def paired_difference(a: Accuracy, b: Accuracy, seed: int = 0) -> Estimate:
    """Accuracy of B less A's on the same cells, by file, with its interval from resampling originals."""
    right_a, files = np.array(a.right_per_original, dtype=np.float64).T
    gained = np.array(b.right_per_original, dtype=np.float64)[:, 0] - right_a
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(files), np.full(len(files), 1 / len(files)), RESAMPLINGS)
    low, high = np.percentile((draws @ gained) / (draws @ files), [2.5, 97.5])
    return Estimate(float(gained.sum() / files.sum()), float(low), float(high))


def same_cells(a: Accuracy, b: Accuracy) -> bool:
    """Whether two evaluations are of the same cells, so that they can be compared in pairs."""
    files = [[count for _, count in row.right_per_original] for row in (a, b)]
    return a.cells_sha256 == b.cells_sha256 and files[0] == files[1] and min(files[0], default=0) > 0


def change_text(change: Estimate, unit: str) -> str:
    """A change with its sign and interval: ``+20.1 % (+19.0 to +21.2)``."""
    if not math.isfinite(change.value):
        return "–"
    value, low, high = (_signed(one) for one in (change.value, change.low, change.high))
    return f"{value} {unit}" + (f" ({low} to {high})" if change.low < change.high else "")


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return text.replace("-", "−") if float(text) else text[1:]
