"""How often a model is right on images it has not learnt from: per file, per original, with intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from train.cells import CellSet

RESAMPLINGS = 2000
#: Bins of the calibration error (Guo et al., On calibration of modern neural networks, ICML 2017).
BINS = 15

_CLASSES = len(CLASS_NAMES)
_MISSED = _CLASSES  # column of the confusion matrix for cells that the finder did not find


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval from resampling originals."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Scores:
    """One way of counting: every file once, or every original once.

    ``confusion``: (4, 5) counts, rows truth and columns answer in the order of `CLASS_NAMES`, the last column
    for cells that were not found. Top-1, whatever the decline threshold; not found is wrong.
    """

    count: int
    accuracy: Interval
    balanced_accuracy: Interval
    calibration_error: Interval
    precision: dict[str, Interval]
    recall: dict[str, Interval]
    f1: dict[str, Interval]
    confusion: list[list[int]]


@dataclass(frozen=True)
class Evaluation:
    """What a model does on one data set.

    ``coverage``: share of the cells of the four classes that are found and not declined; ``named_accuracy``:
    how often these are right. ``others``: cells of no class, ``others_declined``: how many of them were not
    given one.
    """

    name: str
    files: Scores
    originals: Scores
    not_found: int
    unreadable: int
    coverage: Interval
    named_accuracy: Interval
    others: int
    others_declined: int

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object; a figure that cannot be computed is null."""
        return _without_nan(asdict(self))

    def summary(self) -> dict[str, Any]:
        """What a manifest keeps: enough for a device to say how far its model may be trusted."""
        by_original = self.originals.accuracy
        return {
            "name": self.name,
            "cells": self.files.count,
            "originals": self.originals.count,
            "accuracy": round(self.files.accuracy.value, 4),
            "low": round(self.files.accuracy.low, 4),
            "high": round(self.files.accuracy.high, 4),
            "accuracy_by_original": round(by_original.value, 4),
            "coverage": round(self.coverage.value, 4),
            "named_accuracy": round(self.named_accuracy.value, 4),
            "others": self.others,
            "others_declined": self.others_declined,
            "confusion": self.files.confusion,
        }


def evaluate(
    name: str, cells: CellSet, sure: NDArray[np.float64], decline_below: float, seed: int = 0
) -> Evaluation:
    """Compare answers with labels.

    Args:
        name: of the data set, for reports.
        cells: labelled cells; those of no class count only in ``others``.
        sure: (n, 4) calibrated probabilities of all of them.
        decline_below: threshold of the model.
        seed: of the resampling.
    """
    known = cells.in_classes
    named = cells.found & (sure.max(axis=1) >= decline_below)
    originals = [image.original for image, use in zip(cells.images, known, strict=True) if use]
    unique, owner = np.unique(originals, return_inverse=True)
    labels, found = cells.labels[known], cells.found[known]
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), RESAMPLINGS)
    right_named = named[known] & (sure[known].argmax(axis=1) == labels)
    per_original = _by_original(owner, len(unique), labels, sure[known], found)
    return Evaluation(
        name=name,
        files=_scores(owner, draws, labels, sure[known], found),
        originals=_scores(np.arange(len(unique)), draws, *per_original),
        not_found=int((~found).sum()),
        unreadable=len(cells.unreadable),
        coverage=_ratio(owner, draws, named[known], np.ones(len(labels))),
        named_accuracy=_ratio(owner, draws, right_named, named[known]),
        others=int((~known).sum()),
        others_declined=int((~named[~known]).sum()),
    )


def _by_original(
    owner: NDArray[np.int64],
    count: int,
    labels: NDArray[np.int64],
    sure: NDArray[np.float64],
    found: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """One answer per original: the mean of the probabilities of its files in which the cell was found."""
    seen = _sums(owner, count, found.astype(float))
    mean = _sums(owner, count, sure * found[:, None]) / np.maximum(seen, 1)[:, None]
    mean[seen == 0] = 1 / _CLASSES
    first = np.unique(owner, return_index=True)[1]
    return labels[first], mean, seen > 0


def _scores(
    owner: NDArray[np.int64],
    draws: NDArray[np.int64],
    labels: NDArray[np.int64],
    sure: NDArray[np.float64],
    found: NDArray[np.bool_],
) -> Scores:
    count = draws.shape[1]
    answers = np.where(found, sure.argmax(axis=1), _MISSED)
    # Everything below is a function of sums over files, so a resampling is one product with these tables.
    cells = np.zeros((len(labels), _CLASSES * (_CLASSES + 1)))
    cells[np.arange(len(labels)), labels * (_CLASSES + 1) + answers] = 1
    table = _sums(owner, count, cells)
    confusions = _with_resamplings(table, draws).reshape(-1, _CLASSES, _CLASSES + 1)
    bins = np.minimum((sure.max(axis=1) * BINS).astype(int), BINS - 1)
    gaps = np.zeros((len(labels), BINS))
    gaps[np.arange(len(labels)), bins] = sure.max(axis=1) - (answers == labels)
    gap_sums = _with_resamplings(_sums(owner, count, gaps), draws)
    total = confusions.sum(axis=(1, 2))
    hits = np.diagonal(confusions, axis1=1, axis2=2).astype(np.float64)
    present = confusions[0].sum(axis=1) > 0
    recall = _divide(hits, confusions.sum(axis=2))
    precision = _divide(hits, confusions[:, :, :_CLASSES].sum(axis=1))
    f1 = _divide(2 * hits, confusions.sum(axis=2) + confusions[:, :, :_CLASSES].sum(axis=1))
    return Scores(
        count=len(labels),
        accuracy=_interval(hits.sum(axis=1) / total),
        balanced_accuracy=_interval(np.nanmean(recall[:, present], axis=1)),
        calibration_error=_interval(np.abs(gap_sums).sum(axis=1) / total),
        precision=_per_class(precision),
        recall=_per_class(recall),
        f1=_per_class(f1),
        confusion=confusions[0].astype(int).tolist(),
    )


def _sums(owner: NDArray[np.int64], count: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of values (files, …) over the files of each original (count, …)."""
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, owner, values)
    return sums


def _with_resamplings(table: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over originals (1 + resamplings, …): first as they are, then as often as each was drawn."""
    return np.vstack([table.sum(axis=0, keepdims=True), draws @ table])


def _ratio(
    owner: NDArray[np.int64],
    draws: NDArray[np.int64],
    part: Sequence[bool] | NDArray[Any],
    whole: Sequence[bool] | NDArray[Any],
) -> Interval:
    both = np.stack([np.asarray(part, float), np.asarray(whole, float)], axis=1)
    sums = _with_resamplings(_sums(owner, draws.shape[1], both), draws)
    return _interval(_divide(sums[:, 0], sums[:, 1]))


def _divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _interval(values: NDArray[np.float64]) -> Interval:
    """The first value, between the 2.5th and 97.5th percentile of the others."""
    resampled = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(resampled):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))


def _per_class(values: NDArray[np.float64]) -> dict[str, Interval]:
    return {name: _interval(values[:, label]) for label, name in enumerate(CLASS_NAMES)}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value
