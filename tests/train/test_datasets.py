"""Readers of data sets: every layout, and what is wrong with one said plainly."""

from collections import Counter
from pathlib import Path

import pytest

from hematovision.errors import DataSetError, SettingError
from train.datasets import read_dataset


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_class_folders_take_their_sides_from_the_split_table(tmp_path: Path) -> None:
    touch(tmp_path / "neutrophil/a.jpg", tmp_path / "monocytes/b.png", tmp_path / "monocytes/notes.txt")
    (tmp_path / "split.csv").write_text("image,label,split\nneutrophil/a.jpg,neutrophil,test\n")
    dataset = read_dataset(f"{tmp_path}@0.104")
    assert dataset.um_per_pixel == 0.104
    assert [(image.label, image.side) for image in dataset.images] == [
        ("monocyte", None),
        ("neutrophil", "test"),
    ]


def test_a_table_names_labels_originals_and_sides(tmp_path: Path) -> None:
    touch(tmp_path / "images/a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg")
    table = tmp_path / "cells.csv"
    table.write_text(
        "image,label,original,split\na.jpg,Neutrophil,x,train\nb.jpg,basophil,x,test\nc.jpg,,y,train\n"
    )
    dataset = read_dataset(str(table))
    assert dataset.um_per_pixel is None
    assert [image.label for image in dataset.images] == ["neutrophil", "basophil"]
    assert len({image.original for image in dataset.images}) == 1
    assert dataset.dropped == (("no label", 1),)


def test_kaggle_copies_know_their_originals_where_the_table_does(tmp_path: Path) -> None:
    touch(*(tmp_path / f"images/{side}/NEUTROPHIL/_0_{n}.jpeg" for side in ("TRAIN", "TEST") for n in (1, 2)))
    (tmp_path / "copies.csv").write_text("image,original\nTEST/NEUTROPHIL/_0_1.jpeg,BloodImage_00007.jpg\n")
    dataset = read_dataset(str(tmp_path / "images"))
    originals = {(image.side, image.path.name): image.original for image in dataset.images}
    assert originals["test", "_0_1.jpeg"] == "kaggle/BloodImage_00007"
    assert len(set(originals.values())) == 4  # a copy of an unknown original stands for itself
    assert dataset.unknown_originals == 3
    assert dataset.um_per_pixel == 0.166
    assert [image.side for image in read_dataset(str(tmp_path / "images/TEST")).images] == ["test", "test"]


def test_a_misspelt_side_of_the_originals_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "Original_Images/BloodImage_00003.jpg")
    (tmp_path / "labels.csv").write_text(",Image,Category\n,3,EOSINOPHIL\n")
    (tmp_path / "original_split.csv").write_text("image,label,split\nBloodImage_00003.jpg,eosinophil,TEST\n")
    with pytest.raises(DataSetError, match="split 'TEST'"):
        read_dataset(str(tmp_path))


def test_folders_of_ones_own_called_train_and_test_are_no_kaggle_copies(tmp_path: Path) -> None:
    touch(tmp_path / "TRAIN/neutrophil/a.jpg")
    dataset = read_dataset(str(tmp_path / "TRAIN"))
    assert dataset.um_per_pixel is None
    assert [image.label for image in dataset.images] == ["neutrophil"]


def test_the_collection_as_kaggle_delivers_it(tmp_path: Path) -> None:
    originals, copies = (tmp_path / f"{name}/{name}" for name in ("dataset-master", "dataset2-master"))
    touch(originals / "JPEGImages/BloodImage_00003.jpg", copies / "images/TEST/MONOCYTE/_0_9.jpeg")
    (originals / "labels.csv").write_text(",Image,Category\n,3,EOSINOPHIL\n")
    (image,) = read_dataset(str(originals)).images
    assert (image.label, image.side, image.path.name) == ("eosinophil", None, "BloodImage_00003.jpg")
    (copy,) = read_dataset(str(tmp_path)).images
    assert (copy.label, copy.side) == ("monocyte", "test")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("image,class\na.jpg,neutrophil\n", "column 'label'"),
        ("image,label\nb.jpg,neutrophil\n", "b.jpg, which is not there"),
        ("image,label,split\na.jpg,neutrophil,dev\n", "split 'dev'"),
        ("image,label\na.jpg\n", "lacks columns"),
        ("image,label\n", "no labelled images"),
    ],
)
def test_a_wrong_table_is_refused_with_the_reason(tmp_path: Path, rows: str, complaint: str) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(DataSetError, match=complaint):
        read_dataset(str(tmp_path / "t.csv"))


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(DataSetError, match="cannot be read as a table"):
        read_dataset(str(tmp_path / "t.csv"))


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no such folder"):
        read_dataset(str(tmp_path / "nowhere"))
    with pytest.raises(DataSetError, match="no labelled images"):
        read_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("scale", "complaint"), [("0", "0.02 and 2"), ("nan", "0.02 and 2"), ("x", "not a number")]
)
def test_a_scale_that_cannot_be_is_refused(tmp_path: Path, scale: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        read_dataset(f"{tmp_path}@{scale}")


def test_a_folder_with_an_at_in_its_name_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "lab@2/neutrophil/a.jpg")
    assert len(read_dataset(str(tmp_path / "lab@2")).images) == 1


@pytest.mark.data
def test_the_real_collections_are_read_as_they_were_counted(data_dir: Path) -> None:
    originals = read_dataset(str(data_dir / "kaggle-blood-cells"))
    sides = Counter((image.side, image.label) for image in originals.images)
    assert sides["train", "neutrophil"] == 159
    assert sides["test", "monocyte"] == 4
    assert dict(originals.dropped) == {"no label": 44, "several labels": 15, "file not there": 1}
    copies = read_dataset(str(data_dir / "kaggle-blood-cells/images/TEST"))
    assert len(copies.images) == 2487
    assert len({image.original for image in copies.images}) == 71 + 3  # three are of no known original
    pbc = Counter(image.side for image in read_dataset(f"{data_dir / 'pbc'}@0.104").images)
    assert pbc == {"train": 3600, "test": 1200}
    assert len(read_dataset(str(data_dir / "tecom")).images) == 300


def test_labels_mean_the_same_in_a_table_and_as_folders(tmp_path: Path) -> None:
    written = ("Neutrophils ", "LYMPHOCYTE_", "monocyte.", "Basophils", "Immature Granulocytes")
    touch(*(tmp_path / "folders" / text / "a.jpg" for text in written))
    touch(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("image,label\n" + "".join(f"a.jpg,{text}\n" for text in written))
    for source in ("folders", "t.csv"):
        dataset = read_dataset(str(tmp_path / source))
        assert sorted(image.label for image in dataset.images) == [
            *("basophil", "immature_granulocyte", "lymphocyte", "monocyte", "neutrophil"),
        ]
        assert dataset.of_no_class == "basophil 1, immature_granulocyte 1"


def test_labels_that_are_nearly_a_class_are_refused_in_every_layout(tmp_path: Path) -> None:
    touch(tmp_path / "folders/eosinophills/a.jpg", tmp_path / "a.jpg", tmp_path / "TEST/NEUTROPHIL/b.jpg")
    touch(tmp_path / "TEST/EOSINOFIL/a.jpg", tmp_path / "kaggle/Original_Images/BloodImage_00003.jpg")
    (tmp_path / "t.csv").write_text("image,label\na.jpg,Segmented neutrophil\n")
    (tmp_path / "kaggle/labels.csv").write_text(",Image,Category\n,3,EOSINOPHILL\n")
    for source, near in (
        ("folders", r"'eosinophill' \(eosinophil\?\)"),
        ("t.csv", r"'segmented_neutrophil' \(neutrophil\?\)"),
        ("TEST", r"'eosinofil' \(eosinophil\?\)"),
        ("kaggle", r"'eosinophill' \(eosinophil\?\)"),
    ):
        with pytest.raises(DataSetError, match=f"{source}: nearly a class.*{near}.*'other "):
            read_dataset(str(tmp_path / source))


def test_a_label_that_begins_with_other_is_of_no_class_whatever_it_is_like(tmp_path: Path) -> None:
    touch(tmp_path / "Other segmented neutrophils/a.jpg", tmp_path / "monocyte/a.jpg")
    assert read_dataset(str(tmp_path)).of_no_class == "other_segmented_neutrophil 1"


def test_side_files_are_neither_labels_nor_images(tmp_path: Path) -> None:
    touch(tmp_path / "neutrophil/a.png", tmp_path / "neutrophil/.ipynb_checkpoints/a-checkpoint.png")
    touch(tmp_path / "neutrophil/._a.png", tmp_path / "neutrophil/@eaDir/a.png/THUMB.jpg")
    touch(tmp_path / ".ipynb_checkpoints/b.png", tmp_path / "__MACOSX/neutrophil/._a.png")
    dataset = read_dataset(str(tmp_path))
    assert [image.path for image in dataset.images] == [tmp_path / "neutrophil/a.png"]
    assert dataset.dropped == ()


def test_files_that_are_no_images_by_their_ending_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "neutrophil/a.jfif", tmp_path / "neutrophil/b.heic", tmp_path / "monocyte/c.heic")
    touch(tmp_path / "loose.png")
    dataset = read_dataset(str(tmp_path))
    assert [image.path.name for image in dataset.images] == ["a.jfif"]
    assert dict(dataset.dropped) == {".heic, not read": 2, "in no folder of a class": 1}
    (tmp_path / "neutrophil/a.jfif").unlink()
    with pytest.raises(DataSetError, match=r"no labelled images in it; 2 left out: \.heic, not read"):
        read_dataset(str(tmp_path))


@pytest.mark.parametrize("inner", ["neutrophil", "Lymphocytes", "EOSINOPHIL_"])
def test_sides_are_not_taken_for_cells_of_no_class(tmp_path: Path, inner: str) -> None:
    touch(tmp_path / "mine/train/sorted" / inner / "a.png", tmp_path / "mine/val" / inner / "a.png")
    with pytest.raises(DataSetError, match=f"mine/train: holds a folder '{inner}'; give the folder"):
        read_dataset(str(tmp_path / "mine"))
    (tmp_path / "mine" / "train").rename(tmp_path / "mine" / "other, blurred")
    (tmp_path / "mine" / "val").rename(tmp_path / "mine" / "basophil")
    (tmp_path / "mine" / "basophil" / inner).rename(tmp_path / "mine" / "basophil" / "slide 1")
    labels = {image.label for image in read_dataset(str(tmp_path / "mine")).images}
    assert labels == {"other_blurred", "basophil"}
