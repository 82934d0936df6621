"""What the classifier's measured errors alone would make of a differential."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.misclassification import Misclassification, true_shares
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import ModelFileError

PERFECT = np.eye(4)
# Rows truth, columns name; what a row lacks to 1 is left unclassified.
LAB = np.array(
    [[0.85, 0.05, 0.0, 0.01], [0.03, 0.85, 0.0, 0.02], [0.06, 0.04, 0.60, 0.15], [0.0, 0.02, 0.0, 0.70]]
)
shares = st.lists(st.integers(1, 100), min_size=4, max_size=4).map(lambda parts: np.array(parts) / sum(parts))


def record(name: str, rates: np.ndarray, cells: int = 100, originals: int | None = None) -> dict[str, Any]:
    """What ``train evaluate --write`` keeps of a data set with so many cells of each class."""
    rows = {}
    for truth, row in zip(CLASS_NAMES, rates, strict=True):
        counts = [round(cells * rate) for rate in row]
        rest = {"unclassified": cells - sum(counts), "not found": 0}
        size = {"cells": cells, "originals": cells if originals is None else originals}
        rows[truth] = {**size, **dict(zip(CLASS_NAMES, counts, strict=True)), **rest}
    return {"name": name, "named": rows}


@given(shares)
def test_a_model_without_error_leaves_the_shares_as_they_are(seen: np.ndarray) -> None:
    np.testing.assert_allclose(true_shares((1e6 * seen).tolist(), PERFECT), seen, atol=1e-6)


@given(shares)
def test_it_finds_the_shares_whose_cells_were_misnamed(truth: np.ndarray) -> None:
    expected = LAB.T @ truth
    np.testing.assert_allclose(true_shares((1e6 * expected).tolist(), LAB), truth, atol=1e-6)


@given(st.floats(0.6, 1), st.floats(0.6, 1), st.floats(0.2, 0.8))
def test_of_two_classes_it_is_the_formula_of_rogan_and_gladen(
    sensitivity: float, specificity: float, positive: float
) -> None:
    # Of two more classes there are no cells, and none are named so.
    rates = np.eye(4)
    rates[:2, :2] = [[sensitivity, 1 - sensitivity], [1 - specificity, specificity]]
    prevalence = np.clip((positive + specificity - 1) / (sensitivity + specificity - 1), 0, 1)
    found = true_shares([positive, 1 - positive, 0, 0], rates)  # type: ignore[list-item]
    np.testing.assert_allclose(found, [prevalence, 1 - prevalence, 0, 0], atol=1e-9)


def test_a_class_that_is_declined_more_often_is_more_frequent_than_it_seems() -> None:
    declining = np.diag([1.0, 1.0, 0.5, 1.0])
    np.testing.assert_allclose(true_shares([60, 5, 5, 30], declining), np.array([60, 5, 10, 30]) / 105)


def test_a_class_that_misclassification_alone_explains_is_0_and_not_negative() -> None:
    found = true_shares([90, 1, 4, 5], LAB)  # 5 % of the neutrophils would make 5 eosinophils
    assert found[1] == 0
    assert found.sum() == pytest.approx(1)


def test_over_several_laboratories_it_is_the_lowest_and_the_highest() -> None:
    measured = Misclassification.of({"sets": [record("good", PERFECT), record("poor", LAB)]})
    assert [name for name, _ in measured.rates] == ["good", "poor"]
    counts = (60, 6, 6, 28)
    behind = measured.behind(counts)
    assert behind is not None
    each = [100 * true_shares(counts, rates) for rates in (PERFECT, LAB)]
    np.testing.assert_allclose([low for low, _ in behind], np.min(each, axis=0), atol=1e-9)
    np.testing.assert_allclose([high for _, high in behind], np.max(each, axis=0), atol=1e-9)
    assert behind[0][0] < 60 <= behind[0][1] + 1e-9


def test_a_data_set_with_few_originals_of_a_class_is_left_out_and_named() -> None:
    few, copies = record("few", LAB, cells=9), record("copies", LAB, cells=600, originals=4)
    measured = Misclassification.of({"sets": [few, record("enough", LAB), copies]})
    assert [name for name, _ in measured.rates] == ["enough"]
    assert measured.too_small == ("few", "copies")


def test_a_data_set_of_which_a_class_was_never_named_right_explains_no_count_of_that_name() -> None:
    measured = Misclassification.of({"sets": [record("declines", np.diag([0.9, 0.8, 0.9, 0.0]))]})
    assert measured.too_small == ("declines",)
    assert measured.behind((0, 0, 0, 5)) is None


@pytest.mark.parametrize("accuracy", [{}, {"sets": []}, {"sets": [{"name": "older", "accuracy": 0.9}]}])
def test_what_was_not_measured_says_nothing(accuracy: dict[str, Any]) -> None:
    assert Misclassification.of(accuracy) == Misclassification(())
    assert Misclassification.of(accuracy).behind((1, 2, 3, 4)) is None


def test_before_the_first_cell_there_is_nothing_to_move() -> None:
    assert Misclassification.of({"sets": [record("lab", LAB)]}).behind((0, 0, 0, 0)) is None


@pytest.mark.parametrize("named", [{}, 3, {"neutrophil": {}}, {"neutrophil": {"originals": "x"}}])
def test_a_record_of_another_form_is_refused(named: object) -> None:
    with pytest.raises(ModelFileError, match="train evaluate"):
        Misclassification.of({"sets": [{"name": "lab", "named": named}]})
