"""Calibration sees training cells only, all classes alike, over the whole range of a pixel."""

import dataclasses

import numpy as np
import pytest

from convert.calibration import CELLS_PER_CLASS, draw_calibration
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import DataSetError
from train.cells import OTHER, CellSet


def test_every_class_is_drawn_alike(training: CellSet) -> None:
    calibration = draw_calibration(training)
    assert calibration.crops.shape == (4 * CELLS_PER_CLASS, *training.crops.shape[1:])
    assert calibration.crops.dtype == np.uint8
    assert calibration.record["per_class"] == dict.fromkeys(CLASS_NAMES, CELLS_PER_CLASS)


def test_a_rare_class_gives_all_its_cells(training: CellSet) -> None:
    few = training.select((training.labels != 1) | (np.arange(len(training)) % 10 == 0))
    assert draw_calibration(few).record["per_class"]["eosinophil"] == 6


def test_pixels_reach_from_0_to_255_though_no_cell_does(training: CellSet) -> None:
    assert training.crops.min() > 0
    assert training.crops.max() < 255
    crops = draw_calibration(training).crops
    assert (crops.min(), crops.max()) == (0, 255)
    assert np.count_nonzero(crops == 0) == np.count_nonzero(crops == 255) == 1


def test_the_training_cells_themselves_are_left_as_they_are(training: CellSet) -> None:
    before = training.crops.copy()
    draw_calibration(training)
    np.testing.assert_array_equal(training.crops, before)


def test_a_seed_draws_the_same_cells_again_and_another_seed_others(training: CellSet) -> None:
    once, again, other = (draw_calibration(training, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once.crops, again.crops)
    assert once.record == again.record
    assert once.record["originals_sha256"] != other.record["originals_sha256"]


def test_cells_of_no_class_and_cells_that_the_finder_missed_are_not_drawn(training: CellSet) -> None:
    labels, found, crops = training.labels.copy(), training.found.copy(), training.crops.copy()
    labels[::3], found[1::3] = OTHER, False
    crops[0::3], crops[1::3] = 1, 254
    crops = draw_calibration(dataclasses.replace(training, labels=labels, found=found, crops=crops)).crops
    assert not ((crops == 1) | (crops == 254)).any()


def test_a_cell_of_a_test_side_is_refused(training: CellSet) -> None:
    images = (dataclasses.replace(training.images[0], side="test"), *training.images[1:])
    with pytest.raises(DataSetError, match="test side"):
        draw_calibration(dataclasses.replace(training, images=images))


def test_a_class_without_cells_is_refused(training: CellSet) -> None:
    with pytest.raises(DataSetError, match="no monocyte"):
        draw_calibration(training.select(training.labels != 2))
