"""Cells of labelled images: the device's own eyes, and an account of what was lost."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from hematovision.crops import EMPTY, CropSize
from train.cells import MIN_VISIBLE, OTHER, read_cells, read_varied_cells
from train.datasets import LabelledImage

SIZE = CropSize(20.0, 64)
UM_PER_PIXEL = 0.1


def picture(path: Path, center: tuple[int, int] | None = (200, 180)) -> LabelledImage:
    field = np.full((400, 400, 3), (225, 230, 230), np.uint8)
    if center:
        y, x = np.mgrid[:400, :400]
        field[np.hypot(x - center[0], y - center[1]) < 42] = (170, 80, 100)
    cv2.imwrite(str(path), field)
    return LabelledImage(path, "monocyte", f"lab/{path.name}", "train")


@pytest.fixture
def images(tmp_path: Path) -> list[LabelledImage]:
    broken = LabelledImage(tmp_path / "broken.png", "monocyte", "lab/broken", "train")
    broken.path.write_bytes(b"no image")
    other = picture(tmp_path / "other.png")
    other = LabelledImage(other.path, "platelet", other.original, other.side)
    return [picture(tmp_path / "cell.png"), broken, picture(tmp_path / "empty.png", None), other]


def test_every_image_is_a_cell_a_miss_or_named_as_unreadable(images: list[LabelledImage]) -> None:
    steps: list[tuple[int, int]] = []
    cells = read_cells(images, UM_PER_PIXEL, SIZE, lambda done, total: steps.append((done, total)))
    assert [image.path.name for image in cells.images] == ["cell.png", "empty.png", "other.png"]
    assert cells.labels.tolist() == [2, 2, OTHER]
    assert cells.in_classes.tolist() == [True, True, False]
    assert cells.found.tolist() == [True, False, True]
    assert [(image.path.name, "broken.png" in reason) for image, reason in cells.unreadable] == [
        ("broken.png", True)
    ]
    assert steps[-1] == (4, 4)
    assert cells.crops.shape == (3, 64, 64, 3)
    assert cells.crops[0, 32, 32, 0] < 150  # the nucleus is in the middle
    assert cells.crops[1].min() > 245  # the middle of an empty image


def test_a_selection_of_cells_keeps_its_columns_together(images: list[LabelledImage]) -> None:
    cells = read_cells(images, UM_PER_PIXEL, SIZE)
    part = cells.select(cells.found)
    assert [image.path.name for image in part.images] == ["cell.png", "other.png"]
    assert len(part) == len(part.crops) == len(part.labels) == 2
    assert part.unreadable == cells.unreadable


def test_variations_show_enough_of_the_same_cell(images: list[LabelledImage]) -> None:
    cells = read_varied_cells(images, UM_PER_PIXEL, SIZE, seed=1)
    shown = [image.path.name for image in cells.images]
    assert 5 <= shown.count("cell.png") <= 13
    assert "empty.png" not in shown
    nucleus = (cells.crops[0][..., 0] < 150).sum()
    for crop in cells.crops:
        assert (crop[..., 0] < 150).sum() > 0.6 * MIN_VISIBLE * nucleus
    assert any((crop == EMPTY).all(axis=2).mean() > 0.2 for crop in cells.crops)  # some are cut


def test_variations_depend_on_the_seed_alone(images: list[LabelledImage]) -> None:
    first, again, other = (read_varied_cells(images, UM_PER_PIXEL, SIZE, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.crops, again.crops)
    assert first.crops.shape != other.crops.shape or (first.crops != other.crops).any()
