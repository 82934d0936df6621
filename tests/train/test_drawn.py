from collections import Counter

import numpy as np

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from train.cells import read_varied_cells
from train.drawn import DRAWN_COLLECTION, DRAWN_UM_PER_PIXEL, draw, drawn_cells


def test_there_are_as_many_of_each_class_as_asked_all_for_training() -> None:
    cells = drawn_cells(3)
    assert Counter(cell.label for cell in cells) == dict.fromkeys(CLASS_NAMES, 3)
    assert len({cell.original for cell in cells}) == len(cells)
    assert {(cell.collection, cell.side) for cell in cells} == {(DRAWN_COLLECTION, "train")}


def test_a_cell_is_the_same_whenever_it_is_drawn_and_no_other_is() -> None:
    one, other = drawn_cells(2)[:2]
    assert np.array_equal(draw(one), draw(one))
    assert not np.array_equal(draw(one), draw(other))


def test_a_drawn_cell_is_found_and_cut_like_a_photographed_one() -> None:
    cells = read_varied_cells(drawn_cells(1), DRAWN_UM_PER_PIXEL, CropSize(20.0, 32), seed=1, view=draw)
    assert set(cells.labels.tolist()) == set(range(len(CLASS_NAMES)))
    assert len(cells) > 4 * 3
    # In the middle of each crop is a nucleus, darker than the glass around it.
    middle = cells.crops[:, 12:20, 12:20, 0].mean()
    assert middle < 0.7 * np.median(cells.crops[..., 0])
