"""How often a model is right on images it has not learnt from: per file, per original, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import DataSetError
from train.cells import CellSet

RESAMPLINGS = 2000
#: Bins of the calibration error (Guo et al., On calibration of modern neural networks, ICML 2017).
BINS = 15

#: What a manifest calls the cells of a class that the finder did not find.
NOT_FOUND = "not found"

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
    for cells that were not found. Top-1, whatever the decline threshold; not found is wrong. ``coverage``:
    share of the cells that are found and not declined; ``named_accuracy``: how often these are right.
    """

    count: int
    accuracy: Interval
    balanced_accuracy: Interval
    calibration_error: Interval
    precision: dict[str, Interval]
    recall: dict[str, Interval]
    f1: dict[str, Interval]
    coverage: Interval
    named_accuracy: Interval
    confusion: list[list[int]]


@dataclass(frozen=True)
class Evaluation:
    """What a model does on one data set.

    ``others``: cells of no class, ``others_declined``: how many of them were not given one. ``named``: for
    each true class its files, ``cells``, of how many ``originals``, and how many of them the device calls by
    each name, leaves unclassified or does not find: with the decline threshold, unlike ``confusion``.
    """

    name: str
    files: Scores
    originals: Scores
    not_found: int
    unreadable: int
    others: int
    others_declined: int
    named: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object; a figure that cannot be computed is null."""
        return without_nan(asdict(self))

    def summary(self) -> dict[str, Any]:
        """What a manifest keeps: enough for a device to say how far its model may be trusted."""
        by_original, named = self.originals.accuracy, self.files.named_accuracy.value
        return {
            "name": self.name,
            "cells": self.files.count,
            "originals": self.originals.count,
            "accuracy": round(self.files.accuracy.value, 4),
            "low": round(self.files.accuracy.low, 4),
            "high": round(self.files.accuracy.high, 4),
            "accuracy_by_original": round(by_original.value, 4),
            "coverage": round(self.files.coverage.value, 4),
            "named_accuracy": None if math.isnan(named) else round(named, 4),
            "not_found": self.not_found,
            "unreadable": self.unreadable,
            "others": self.others,
            "others_declined": self.others_declined,
            "confusion": self.files.confusion,
            "named": self.named,
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

    Raises:
        DataSetError: no cell is of the four classes, or images of one original have two labels.
    """
    known = cells.in_classes
    if not known.any():
        raise DataSetError(f"{name}: no readable cell of {', '.join(CLASS_NAMES)}; nothing to measure")
    originals, unique, owner = _originals(cells)
    draws = _draw(len(unique), seed)
    files = _Answers(cells.labels[known], sure[known], cells.found[known])
    named = cells.found & (sure.max(axis=1) >= decline_below)
    return Evaluation(
        name=name,
        files=_scores(owner, draws, files, decline_below),
        originals=_scores(np.arange(len(unique)), draws, _by_original(owner, unique, files), decline_below),
        not_found=int((~cells.found[known]).sum()),
        unreadable=len(cells.unreadable),
        others=int((~known).sum()),
        others_declined=int((~named[~known]).sum()),
        named=_named(files, named[known], originals),
    )


def right_by_file(cells: CellSet, sure: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of each cell of the four classes, (m,), whether `evaluate` counts it as right; arguments as there."""
    known = cells.in_classes
    right: NDArray[np.bool_] = cells.found[known] & (sure[known].argmax(axis=1) == cells.labels[known])
    return right


def right_by_original(cells: CellSet, sure: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of each original, in the order of their names, whether `evaluate` counts it as right.

    Raises:
        DataSetError: images of one original have two labels.
    """
    known = cells.in_classes
    _, unique, owner = _originals(cells)
    files = _Answers(cells.labels[known], sure[known], cells.found[known])
    answers = _by_original(owner, unique, files)
    right: NDArray[np.bool_] = answers.found & (answers.sure.argmax(axis=1) == answers.labels)
    return right


def share_by_original(cells: CellSet, part: NDArray[Any], whole: NDArray[Any], seed: int = 0) -> Interval:
    """The sum of ``part`` over that of ``whole``, each (m,), with its interval from resampling originals.

    Both are of the cells of the four classes. The same seed draws the same originals as in `evaluate`, so
    what differs cell by cell is compared in pairs.
    """
    _, unique, owner = _originals(cells)
    return _ratio(owner, _draw(len(unique), seed), part, whole)


def ratio_by_group(groups: Sequence[str], part: NDArray[Any], whole: NDArray[Any], seed: int = 0) -> Interval:
    """Divide the sum of ``part`` by that of ``whole``, each (n,); the interval resamples groups."""
    unique, owner = np.unique(groups, return_inverse=True)
    return _ratio(owner, _draw(len(unique), seed), part, whole)


def _originals(cells: CellSet) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.int64]]:
    """Of the cells of the four classes: their originals, each original once, and which of these it is."""
    names = [image.original for image, use in zip(cells.images, cells.in_classes, strict=True) if use]
    unique, owner = np.unique(names, return_inverse=True)
    return np.array(names), unique, owner


def _draw(originals: int, seed: int) -> NDArray[np.int64]:
    """How often each original is drawn, (resamplings, originals)."""
    rng = np.random.default_rng(seed)
    draws: NDArray[np.int64] = rng.multinomial(originals, np.full(originals, 1 / originals), RESAMPLINGS)
    return draws


def _named(
    files: "_Answers", named: NDArray[np.bool_], originals: NDArray[np.str_]
) -> dict[str, dict[str, int]]:
    answers = np.where(named, files.sure.argmax(axis=1), _CLASSES)
    answers[~files.found] = _CLASSES + 1
    columns = (*CLASS_NAMES, UNCLASSIFIED, NOT_FOUND)
    rows = {}
    for label, truth in enumerate(CLASS_NAMES):
        of_class = files.labels == label
        counts = np.bincount(answers[of_class], minlength=len(columns)).tolist()
        rows[truth] = {
            "cells": int(of_class.sum()),
            "originals": len(np.unique(originals[of_class])),
            **dict(zip(columns, counts, strict=True)),
        }
    return rows


@dataclass(frozen=True)
class _Answers:
    """Labels (n,), calibrated probabilities (n, 4), whether found (n,): of files, or of originals."""

    labels: NDArray[np.int64]
    sure: NDArray[np.float64]
    found: NDArray[np.bool_]


def _by_original(owner: NDArray[np.int64], names: NDArray[np.str_], files: _Answers) -> _Answers:
    """One answer per original: the mean of the probabilities of its files in which the cell was found."""
    first = np.unique(owner, return_index=True)[1]
    labels = files.labels[first]
    torn = np.flatnonzero(labels[owner] != files.labels)
    if len(torn):
        raise DataSetError(
            f"{names[owner[torn[0]]]}: images of this one original have two labels; correct them"
        )
    seen = _sums(owner, len(names), files.found.astype(float))
    mean = _sums(owner, len(names), files.sure * files.found[:, None]) / np.maximum(seen, 1)[:, None]
    mean[seen == 0] = 1 / _CLASSES
    return _Answers(labels, mean, seen > 0)


def _scores(
    owner: NDArray[np.int64], draws: NDArray[np.int64], given: _Answers, decline_below: float
) -> Scores:
    labels, sure, count = given.labels, given.sure, draws.shape[1]
    answers = np.where(given.found, sure.argmax(axis=1), _MISSED)
    named = given.found & (sure.max(axis=1) >= decline_below)
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
        coverage=_ratio(owner, draws, named, np.ones(len(labels))),
        named_accuracy=_ratio(owner, draws, named & (answers == labels), named),
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
    part: NDArray[Any],
    whole: NDArray[Any],
) -> Interval:
    both = np.stack([part, whole], axis=1).astype(np.float64)
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


def without_nan(value: Any) -> Any:
    """Return what is to be JSON with null for what is not a number."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value
