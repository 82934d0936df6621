"""Boxed fields: each layout gives the same records; what is not known is not taken for background."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from hematovision.errors import DataSetError, SettingError
from train.finder.boxed_fields import LEUKOCYTE, read_boxed_fields
from train.finder.fit import choose_training_fields


def write_table(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_image(path: Path, width: int = 100, height: int = 80) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), (200, 190, 210), np.uint8))


def test_a_table_of_all_boxes_gives_cells_slides_and_red_cells(laboratories: list[str]) -> None:
    fields = read_boxed_fields(laboratories[0])
    assert [field.group for field in fields] == ["north/S-0", "north/S-0", "north/S-1", "north/S-2"]
    for field in fields:
        assert field.complete and not field.aside and field.um_per_pixel == 0.5
        assert [cell.label for cell in field.cells] == ["neutrophil"] * 3
        assert field.red_cells == 1


def test_labels_by_eye_name_boxes_and_say_which_hold_no_cell(tmp_path: Path) -> None:
    write_image(tmp_path / "lab" / "images" / "a.png")
    boxes = ("a.png,WBC,1,2,20,20", "a.png,WBC,30,2,20,20", "a.png,WBC,60,2,20,20", "a.png,RBC,5,50,9,9")
    write_table(tmp_path / "lab" / "boxes.csv", "image,label,x,y,width,height", *boxes)
    eye = ("a.png,notwbc,1,2,20,20", "a.png,Lymphocyte,30,2,20,20", "a.png,unsure,60,2,20,20")
    write_table(tmp_path / "lab" / "labels_by_eye.csv", "image,label,x,y,w,h", *eye)
    [field] = read_boxed_fields(f"{tmp_path / 'lab'}@0.1")
    assert [(cell.x, cell.label) for cell in field.cells] == [(30, "lymphocyte"), (60, LEUKOCYTE)]
    assert [cell.x for cell in field.decoys] == [1]


def test_class_folders_name_the_only_cell_of_an_image(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_image(tmp_path / "lab" / "monocyte" / f"{name}.png")
    rows = (
        "monocyte/one.png,WBC,1,2,20,20",
        "monocyte/two.png,WBC,1,2,20,20",
        "monocyte/two.png,WBC,50,2,20,20",
    )
    write_table(tmp_path / "lab" / "boxes.csv", "image,label,x,y,width,height", *rows)
    one, two = read_boxed_fields(f"{tmp_path / 'lab'}@0.1")
    assert [cell.label for cell in one.cells] == ["monocyte"]
    assert [cell.label for cell in two.cells] == [LEUKOCYTE, LEUKOCYTE]


def test_where_one_cell_an_image_is_boxed_the_rest_is_unknown(tmp_path: Path) -> None:
    write_image(tmp_path / "bcisc" / "monocyte" / "a.jpg")
    rows = ("monocyte/a.jpg,monocyte,6,3,4,30,20", "monocyte/b.jpg,monocyte,1,,,,")
    write_table(tmp_path / "bcisc" / "labels.csv", "image,label,subject,x,y,width,height", *rows)
    [field] = read_boxed_fields(f"{tmp_path / 'bcisc'}@0.134")
    assert not field.complete
    assert field.group == "bcisc/6"
    assert field.aside  # subject 6 of this collection is for reporting
    assert field.cells[0].center == pytest.approx((18, 14))


def test_images_of_one_cell_have_it_in_the_middle_and_platelets_are_decoys(tmp_path: Path) -> None:
    for label in ("neutrophil", "platelet"):
        write_image(tmp_path / "lab" / label / "a.jpg", 200, 100)
    neutrophil, platelet = read_boxed_fields(f"{tmp_path / 'lab'}@0.1")
    assert neutrophil.cells[0].center == pytest.approx((100, 50))
    assert neutrophil.cells[0].label == "neutrophil"
    assert not neutrophil.complete
    assert platelet.decoys[0].center == pytest.approx((100, 50))
    assert len(platelet.cells) == 0


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (["image,label,x,y,width", "a.png,WBC,1,1,1"], "no column 'height'"),
        (["image,label,x,y,width,height", "none.png,WBC,1,1,9,9"], "names none.png, which is not there"),
        (["image,label,x,y,width,height", "a.png,WBC,1,one,9,9"], "has 'one' as y, which is no number"),
        (["image,label,x,y,width,height", "a.png,WBC,1,nan,9,9"], "has 'nan' as y, which is no number"),
        (["image,label,x,y,width,height", "a.png,WBC,1,1,0,9"], "has a box of 0x9"),
        (["image,label,x,y,width,height", "a.png,WBC"], "lacks columns"),
    ],
)
def test_a_damaged_table_is_refused_with_what_is_wrong(
    tmp_path: Path, rows: list[str], complaint: str
) -> None:
    write_image(tmp_path / "lab" / "a.png")
    write_table(tmp_path / "lab" / "boxes.csv", *rows)
    with pytest.raises(DataSetError, match=complaint):
        read_boxed_fields(f"{tmp_path / 'lab'}@0.1")


def test_a_scale_is_asked_for_where_the_layout_does_not_tell_it(laboratories: list[str]) -> None:
    with pytest.raises(SettingError, match="after an @"):
        read_boxed_fields(laboratories[0].removesuffix("@0.5"))
    with pytest.raises(DataSetError, match="no such folder"):
        read_boxed_fields("nowhere@0.1")


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "fields", "cells", "aside"),
    [
        ("kaggle-blood-cells", 364, 372, 71),
        ("chula@0.097", 210, 222, 22),
        ("bcisc@0.134", 128, 114, 50),
        ("raabin@0.06", 457, 472, 0),
        ("aslan@0.136", 100, 100, 0),
        ("pbc@0.104", 4800, 4600, 1200),
    ],
)
def test_the_real_collections_are_read_whole(
    data_dir: Path, source: str, fields: int, cells: int, aside: int
) -> None:
    read = read_boxed_fields(str(data_dir / source))
    assert len(read) == fields
    assert sum(len(field.cells) for field in read) == cells
    assert sum(field.aside for field in read) == aside


@pytest.mark.data
def test_the_boxes_of_chula_are_those_of_its_table(data_dir: Path) -> None:
    with (data_dir / "chula" / "boxes.csv").open(newline="", encoding="utf-8") as file:
        stated = {(row["image"], float(row["x"]), row["label"]) for row in csv.DictReader(file)}
    read = read_boxed_fields(str(data_dir / "chula@0.097"))
    assert {(field.path.name, cell.x, cell.label) for field in read for cell in field.cells} == stated


def write_masked(folder: Path) -> None:
    """Write an image of one cell and its mask: grey cytoplasm from 20 to 60, a nucleus in its corner."""
    write_image(folder / "images" / "1.bmp")
    mask = np.zeros((80, 100), np.uint8)
    mask[20:60, 20:60] = 128
    mask[20:30, 20:30] = 255
    (folder / "masks").mkdir()
    cv2.imwrite(str(folder / "masks" / "1.png"), mask)
    write_table(folder / "labels.csv", "image,label", "1.bmp,Monocyte")


def test_a_masked_cell_is_nucleus_and_cytoplasm_and_for_looking_only(tmp_path: Path) -> None:
    write_masked(tmp_path / "lab")
    [field] = read_boxed_fields(f"{tmp_path / 'lab'}@0.2")
    [cell] = field.cells
    assert (cell.x, cell.y, cell.width, cell.height, cell.label) == (20, 20, 40, 40, "monocyte")
    assert cell.holds(22, 22) and cell.holds(55, 55) and not cell.holds(61, 55, margin=5)
    assert not cell.holds(-1, 40) and not cell.holds(40, 200)
    assert field.aside and field.looking_only and not field.all_known
    with pytest.raises(DataSetError, match="lab: for looking only"):
        choose_training_fields([field], 1)


def test_a_mask_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    write_masked(tmp_path / "lab")
    cv2.imwrite(str(tmp_path / "lab" / "masks" / "1.png"), np.zeros((80, 100), np.uint8))
    with pytest.raises(DataSetError, match=r"1\.png: shows no cell"):
        read_boxed_fields(f"{tmp_path / 'lab'}@0.2")
    (tmp_path / "lab" / "masks" / "1.png").unlink()
    with pytest.raises(DataSetError, match=r"names 1\.png, which is not there"):
        read_boxed_fields(f"{tmp_path / 'lab'}@0.2")


def test_others_seen_by_eye_are_read_for_the_images_that_were_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.finder.boxed_fields.files", lambda package: tmp_path)
    write_table(tmp_path / "others_by_eye_eyed.csv", "image,x,y", "a.jpg,5,6", "a.jpg,50,60", "b.jpg,,")
    for name in "abc":
        write_image(tmp_path / "eyed" / f"{name}.jpg")
    rows = [f"{name}.jpg,monocyte,3,4,30,20" for name in "ac"]
    rows += ["b.jpg,monocyte,,,,", "d.jpg,monocyte,,,,"]  # without a box; nobody looked at the last
    write_table(tmp_path / "eyed" / "labels.csv", "image,label,x,y,width,height", *rows)
    fields = read_boxed_fields(f"{tmp_path / 'eyed'}@0.1")
    assert [field.others for field in fields] == [((5, 6), (50, 60)), None, ()]
    assert [field.all_known for field in fields] == [True, False, True]
    assert [len(field.cells) for field in fields] == [1, 1, 0]
    assert not any(field.complete for field in fields)  # what is learnt from knows the boxed cell only
