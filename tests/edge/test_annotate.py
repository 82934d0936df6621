"""Copies of pictures with their cells boxed and named."""

from pathlib import Path

import numpy as np
import pytest

from edge.annotate import annotate, prepare_folder, write_new
from edge.stills import NamedCell
from hematovision.cell_classes import CELL_CLASSES
from hematovision.classifier import Prediction
from hematovision.errors import ImageError, SettingError
from hematovision.finder import CellRegion
from hematovision.images import read_image

PINK = np.full((120, 160, 3), (230, 190, 200), np.uint8)


def cell_at(box: tuple[float, float, float, float], name: str = "eosinophil", cut: bool = False) -> NamedCell:
    region = CellRegion((box[0] + box[2] / 2, box[1] + box[3] / 2), box, 40.0, 5.0, 0.1, cut)
    return NamedCell(region, Prediction((0.1, 0.7, 0.1, 0.1), name))


def test_a_box_in_the_color_of_its_class_is_drawn_around_the_cell_and_not_on_it() -> None:
    drawn = annotate(PINK, [cell_at((60, 50, 30, 30))])
    color = next(one.color for one in CELL_CLASSES if one.name == "eosinophil")
    rows, columns = np.nonzero((drawn == color).all(axis=2))
    assert columns.min() < 60
    assert columns.max() > 90
    assert rows.max() > 80
    assert (drawn[50:80, 60:90] == PINK[50:80, 60:90]).all()


def test_the_picture_itself_is_left_as_it_is() -> None:
    before = PINK.copy()
    drawn = annotate(PINK, [cell_at((60, 50, 30, 30))])
    assert (before == PINK).all()
    assert drawn.shape == PINK.shape


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (140, 100, 20, 20), (-5, 60, 30, 30), (0, 0, 160, 120)])
def test_a_cell_at_the_border_is_labelled_within_the_picture(box: tuple[float, float, float, float]) -> None:
    drawn = annotate(PINK, [cell_at(box, "unclassified")])
    letters = (drawn.astype(int) > (200, 200, 200)).all(axis=2)
    assert letters.sum() > 20


def test_a_cell_cut_by_the_border_is_labelled_as_cut() -> None:
    wide = np.full((120, 400, 3), (230, 190, 200), np.uint8)
    whole, cut = (annotate(wide, [cell_at((0, 60, 30, 30), cut=cut)]) for cut in (False, True))
    color = next(one.color for one in CELL_CLASSES if one.name == "eosinophil")
    ends = [np.nonzero((drawn == color).all(axis=2))[1].max() for drawn in (whole, cut)]
    assert ends[1] > ends[0] + 15  # the label goes on


def test_without_cells_it_is_a_plain_copy() -> None:
    assert (annotate(PINK, []) == PINK).all()


def test_no_file_is_ever_overwritten(tmp_path: Path) -> None:
    paths = [write_new(PINK, tmp_path / "new", "smear_cells") for _ in range(3)]
    assert [path.name for path in paths] == ["smear_cells.jpg", "smear_cells-2.jpg", "smear_cells-3.jpg"]
    assert read_image(paths[2]).shape == PINK.shape


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingError, match="file: cannot be written to"):
        prepare_folder(tmp_path / "file")


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []


def test_a_copy_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.jpg: the copy cannot be written \(File name too long\)"):
        write_new(PINK, tmp_path, "a" * 300)
