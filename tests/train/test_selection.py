"""Selection: by original, repeatable, and nothing learnt from a cell that is tested on."""

import dataclasses
from collections import defaultdict
from pathlib import Path

import pytest

from hematovision.crops import CropSize
from hematovision.errors import DataSetError
from hematovision.model_file import Manifest
from train.datasets import DataSet, LabelledImage
from train.duplicates import DuplicatePair
from train.selection import select, select_again, shared_cells
from train.splits import choose_development

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def images(
    count: int, copies: int = 3, label: str = "neutrophil", side: str = "train"
) -> list[LabelledImage]:
    return [
        LabelledImage(Path(f"{side}{label}{n}_{copy}.jpg"), label, f"lab/{side}{label}{n}", side)
        for n in range(count)
        for copy in range(copies)
    ]


def pair(first: LabelledImage, second: LabelledImage) -> DuplicatePair:
    return DuplicatePair(first, second, "near", 0.9, 0.5, IDENTITY)


def test_copies_of_an_original_are_never_divided() -> None:
    sides = defaultdict(set)
    everything = images(100)
    development = choose_development(everything, {}, seed=1)
    for image in everything:
        sides[image.original].add(image.original in development)
    assert all(len(side) == 1 for side in sides.values())
    assert len(development) == 15


def test_every_class_is_on_both_sides() -> None:
    everything = images(200) + images(10, label="monocyte")
    development = choose_development(everything, {}, seed=1)
    assert sum("monocyte" in original for original in development) == 2


def test_kin_stay_together() -> None:
    everything = images(40)
    kin = {f"lab/trainneutrophil{n}": "lab/trainneutrophil0" for n in range(1, 20)}
    for seed in range(10):
        development = choose_development(everything, kin, seed)
        family = {f"lab/trainneutrophil{n}" in development for n in range(20)}
        assert len(family) == 1


def test_the_choice_depends_on_the_seed_and_on_nothing_else() -> None:
    everything = images(100)
    assert choose_development(everything, {}, 1) == choose_development(everything[::-1], {}, 1)
    assert choose_development(everything, {}, 1) != choose_development(everything, {}, 2)


def same_cell(pair: DuplicatePair) -> bool:
    return True


def test_a_training_original_that_a_test_image_shows_is_left_out() -> None:
    training, test = images(4), images(2, side="test")
    left_out, kin = shared_cells([pair(test[0], training[0])], training, test, same_cell)
    assert left_out == {training[0].original: f"overlaps {test[0].original}, kept for testing"}
    assert kin == {}


def test_overlap_with_a_test_image_is_followed_through_others() -> None:
    training, test = images(4, copies=1), images(1, copies=1, side="test")
    chain = [pair(test[0], training[0]), pair(training[1], training[0]), pair(training[1], training[2])]
    left_out, kin = shared_cells(chain, training, test, same_cell)
    assert set(left_out) == {image.original for image in training[:3]}
    assert kin == {}


def test_an_original_with_images_on_both_sides_is_left_out() -> None:
    training = images(3)
    test = [dataclasses.replace(training[0], path=Path("other.jpg"), side="test")]
    left_out, _ = shared_cells([], training, test, same_cell)
    assert set(left_out) == {training[0].original}


def test_one_cell_under_two_labels_is_left_out_and_under_one_is_kin() -> None:
    neutrophils, monocytes = images(3, copies=1), images(1, copies=1, label="monocyte")
    pairs = [pair(neutrophils[0], monocytes[0]), pair(neutrophils[2], neutrophils[1])]
    left_out, kin = shared_cells(pairs, neutrophils + monocytes, [], same_cell)
    assert set(left_out) == {neutrophils[0].original, monocytes[0].original}
    assert kin == {neutrophils[2].original: neutrophils[1].original}


def test_fields_that_overlap_but_show_different_cells_are_only_kin() -> None:
    neutrophil, monocyte = images(1, copies=1), images(1, copies=1, label="monocyte")
    found = [pair(neutrophil[0], monocyte[0])]
    left_out, kin = shared_cells(found, neutrophil + monocyte, [], lambda _: False)
    assert left_out == {}
    assert kin == {neutrophil[0].original: monocyte[0].original}


def test_an_original_whose_copies_have_two_labels_is_left_out() -> None:
    copies = images(1, copies=2)
    copies[1] = dataclasses.replace(copies[1], label="monocyte")
    left_out, _ = shared_cells([], copies, [], same_cell)
    assert left_out == {copies[0].original: "labelled neutrophil and monocyte"}


def test_two_data_sets_of_one_name_are_refused() -> None:
    one = DataSet("lab", Path("x/lab"), tuple(images(20)), 0.1)
    with pytest.raises(DataSetError, match="2 of the data sets are called lab"):
        select([one, dataclasses.replace(one, path=Path("y/lab"))], {}, {}, seed=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("neutrophil", "monocyte"):
        for number in range(20):
            path = tmp_path / "lab" / label / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "lab"


def manifest_for(folder: Path) -> Manifest:
    from train.datasets import read_dataset

    dataset = dataclasses.replace(read_dataset(str(folder)), um_per_pixel=0.1)
    selection = select([dataset], {"lab/monocyte/3.jpg": "a reason"}, {}, seed=5)
    return Manifest(CropSize(20.0, 128), 1.0, 0.5, training=selection.record())


def test_a_selection_is_made_again_from_the_manifest(folder: Path) -> None:
    manifest = Manifest.from_json(manifest_for(folder).to_json(), "test")
    selection = select_again([str(folder)], manifest)
    assert selection.record() == manifest.training
    (dataset,) = selection.datasets
    training, development = selection.training(dataset), selection.development(dataset)
    assert len(training) + len(development) == 39  # one is left out
    assert not {image.original for image in training} & {image.original for image in development}


def test_other_data_than_the_manifest_names_are_refused(folder: Path) -> None:
    manifest = manifest_for(folder)
    (folder / "monocyte" / "99.jpg").touch()
    with pytest.raises(DataSetError, match="not the images"):
        select_again([str(folder)], manifest)
    other = folder.rename(folder.parent / "elsewhere")
    with pytest.raises(DataSetError, match="trained on lab, not on elsewhere"):
        select_again([str(other)], manifest)


def test_a_data_set_with_only_a_test_side_trains_nothing() -> None:
    dataset = DataSet("t", Path("t"), tuple(images(3, side="test")), 0.1)
    with pytest.raises(DataSetError, match="no training images"):
        select([dataset], {}, {}, seed=1)
