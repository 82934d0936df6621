"""Evaluation: figures as scikit-learn computes them, intervals by original, what is missed is wrong."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from edge.misclassification import Misclassification
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import probabilities
from hematovision.errors import DataSetError
from train.cells import OTHER, CellSet
from train.confidence import choose_decline_threshold, fit_temperature
from train.datasets import LabelledImage
from train.evaluate import evaluate


def cell_set(labels: np.ndarray, originals: np.ndarray, found: np.ndarray | None = None) -> CellSet:
    names = [CLASS_NAMES[label] if label != OTHER else "basophil" for label in labels]
    images = tuple(
        LabelledImage(Path(f"{n}.jpg"), name, f"lab/{original}", "test")
        for n, (name, original) in enumerate(zip(names, originals, strict=True))
    )
    crops = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return CellSet(images, crops, labels, np.ones(len(labels), bool) if found is None else found)


def answers(labels: np.ndarray, right: float, seed: int = 0) -> np.ndarray:
    """Probabilities (n, 4) whose largest is the label's with a chance of ``right``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (len(labels), 4))
    top = np.where(rng.random(len(labels)) < right, labels, (labels + rng.integers(1, 4, len(labels))) % 4)
    logits[np.arange(len(labels)), top] = logits.max(axis=1) + rng.uniform(0.1, 3, len(labels))
    return probabilities(logits.astype(np.float32), 1.0)


def test_figures_agree_with_scikit_learn() -> None:
    labels = np.random.default_rng(1).choice(4, 400, p=[0.6, 0.2, 0.1, 0.1])
    sure = answers(labels, 0.85)
    scores = evaluate("lab", cell_set(labels, np.arange(400)), sure, 0.5).files
    top = sure.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, top, labels=range(4))
    assert scores.accuracy.value == pytest.approx((top == labels).mean())
    assert scores.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(labels, top))
    for number, name in enumerate(CLASS_NAMES):
        assert scores.precision[name].value == pytest.approx(precision[number])
        assert scores.recall[name].value == pytest.approx(recall[number])
        assert scores.f1[name].value == pytest.approx(f1[number])
    assert np.sum(scores.confusion) == 400


def test_the_interval_of_independent_cells_is_the_binomial_one() -> None:
    labels = np.zeros(200, np.int64)
    scores = evaluate("lab", cell_set(labels, np.arange(200)), answers(labels, 0.8), 0.0).files
    low, high = binom.interval(0.95, 200, scores.accuracy.value)
    assert scores.accuracy.low == pytest.approx(low / 200, abs=0.015)
    assert scores.accuracy.high == pytest.approx(high / 200, abs=0.015)


def test_copies_of_one_original_do_not_narrow_the_interval() -> None:
    labels = np.zeros(50, np.int64)
    sure = answers(labels, 0.8)
    alone = evaluate("lab", cell_set(labels, np.arange(50)), sure, 0.0).files.accuracy
    copied = evaluate(
        "lab", cell_set(np.repeat(labels, 20), np.repeat(np.arange(50), 20)), np.repeat(sure, 20, axis=0), 0.0
    )
    assert copied.files.accuracy.value == pytest.approx(alone.value)
    assert copied.files.accuracy.low == pytest.approx(alone.low, abs=0.03)
    assert copied.originals.count == 50
    assert copied.originals.accuracy.value == pytest.approx(alone.value)


def test_one_original_has_one_answer_from_all_its_files() -> None:
    sure = np.array([[0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0], [0.2, 0.8, 0, 0]])
    result = evaluate("lab", cell_set(np.zeros(3, np.int64), np.zeros(3)), sure, 0.0)
    assert result.files.accuracy.value == pytest.approx(1 / 3)
    assert result.originals.accuracy.value == 0  # mean 0.43 to 0.57


def test_an_original_with_two_labels_is_refused() -> None:
    with pytest.raises(DataSetError, match="two labels"):
        evaluate("lab", cell_set(np.array([0, 1]), np.zeros(2)), np.full((2, 4), 0.25), 0.0)


def test_declining_is_counted_per_original_too() -> None:
    sure = np.array([[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0], [0.9, 0.1, 0, 0]])
    result = evaluate("lab", cell_set(np.zeros(3, np.int64), np.array([0, 0, 1])), sure, 0.7)
    assert result.files.coverage.value == 1.0
    assert result.originals.coverage.value == 0.5  # the first is 0.5 to 0.5
    assert result.originals.named_accuracy.value == 1.0


def test_a_cell_that_was_not_found_is_wrong_and_not_named() -> None:
    sure = np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    found = np.array([True, False])
    result = evaluate("lab", cell_set(np.zeros(2, np.int64), np.arange(2), found), sure, 0.5)
    assert result.files.accuracy.value == 0.5
    assert result.files.confusion[0] == [1, 0, 0, 0, 1]
    assert result.not_found == 1
    assert result.files.coverage.value == 0.5
    assert result.files.named_accuracy.value == 1.0


def test_declining_counts_apart_and_leaves_top_1_alone() -> None:
    sure = np.array([[0.9, 0.1, 0, 0], [0.4, 0.6, 0, 0]])
    result = evaluate("lab", cell_set(np.zeros(2, np.int64), np.arange(2)), sure, 0.7)
    assert result.files.accuracy.value == 0.5
    assert result.files.coverage.value == 0.5
    assert result.files.named_accuracy.value == 1.0


def test_what_the_device_calls_the_cells_of_each_class_is_recorded() -> None:
    sure = np.array([[0.9, 0.1, 0, 0], [0.4, 0.6, 0, 0], [0.1, 0.9, 0, 0], [0.9, 0.1, 0, 0], [0, 0, 0, 1]])
    cells = cell_set(
        np.array([0, 0, 0, 0, OTHER]), np.array([0, 0, 1, 2, 3]), np.array([True, True, True, False, True])
    )
    summary = evaluate("lab", cells, sure, 0.7).summary()
    assert summary["named"]["neutrophil"] == {
        "cells": 4,
        "originals": 3,
        "neutrophil": 1,
        "eosinophil": 1,
        "monocyte": 0,
        "lymphocyte": 0,
        "unclassified": 1,
        "not found": 1,
    }
    assert summary["named"]["lymphocyte"]["cells"] == 0
    # What the device reads is what is written here.
    assert Misclassification.of({"sets": [summary]}).too_small == ("lab",)


def test_cells_of_no_class_count_only_as_declined_or_not() -> None:
    labels = np.array([0, OTHER, OTHER])
    sure = np.array([[0.9, 0.1, 0, 0], [0.9, 0.1, 0, 0], [0.4, 0.3, 0.3, 0]])
    result = evaluate("lab", cell_set(labels, np.arange(3)), sure, 0.7)
    assert result.files.count == 1
    assert (result.others, result.others_declined) == (2, 1)


def test_a_class_that_is_absent_has_no_figures_and_json_has_nulls() -> None:
    labels = np.array([0, 0, 1])
    result = evaluate("lab", cell_set(labels, np.arange(3)), answers(labels, 1.0), 0.0)
    content = result.to_json()
    assert content["files"]["recall"]["monocyte"] == {"value": None, "low": None, "high": None}
    assert content["files"]["balanced_accuracy"]["value"] == 1.0


def test_calibration_error_is_the_gap_between_sure_and_right() -> None:
    labels = np.zeros(1000, np.int64)
    sure = np.tile([0.9, 0.1, 0.0, 0.0], (1000, 1))
    sure[:300] = [0.1, 0.9, 0.0, 0.0]
    scores = evaluate("lab", cell_set(labels, np.arange(1000)), sure, 0.0).files
    assert scores.calibration_error.value == pytest.approx(0.9 - 0.7)


def test_the_fitted_temperature_is_the_one_that_the_labels_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (20000, 4)).astype(np.float32)
    chances = probabilities(logits, 2.5)
    labels = (chances.cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    assert fit_temperature(logits, labels, np.full(20000, 1 / 20000)) == pytest.approx(2.5, rel=0.05)


def test_the_decline_threshold_keeps_the_share_asked_for() -> None:
    sure = answers(np.zeros(1000, np.int64), 0.9)
    threshold = choose_decline_threshold(sure, np.full(1000, 1 / 1000), 0.95)
    assert (sure.max(axis=1) >= threshold).mean() == pytest.approx(0.95, abs=0.002)


def test_a_small_collection_weighs_as_much_as_a_large_one() -> None:
    cells = cell_set(np.zeros(1010, np.int64), np.arange(1010))
    images = tuple(
        dataclasses.replace(image, original=f"{'small' if number < 10 else 'large'}/{number}")
        for number, image in enumerate(cells.images)
    )
    weights = dataclasses.replace(cells, images=images).collection_weights
    assert weights[:10].sum() == pytest.approx(0.5)
    assert weights[10:].sum() == pytest.approx(0.5)
    # Half of the small collection lies below every cell of the large one: a quarter of the weight.
    sure = np.zeros((1010, 4))
    sure[:, 0] = 0.9
    sure[:5, 0] = 0.5
    assert choose_decline_threshold(sure, weights, kept_share=0.8) == 0.5
    assert choose_decline_threshold(sure, weights, kept_share=0.7) == 0.9
