"""The finder's benchmark: counts as it says it counts, and complains of what it cannot use."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.finder import measure_finder, time_finder
from hematovision.errors import DataSetError
from hematovision.finder import CellRegion, find_cells
from hematovision.optics import Field

ANNOTATION = "<annotation>{}</annotation>"
BOX = (
    "<object><name>{}</name>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Two fields with two nuclei each, of which one is annotated; in the second also a box of none."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "Original_Images").mkdir()
    y, x = np.mgrid[:480, :640]
    field = np.full((480, 640, 3), (225, 230, 230), np.uint8)
    for center in ((200, 200), (450, 300)):
        field[np.hypot(x - center[0], y - center[1]) < 45] = (170, 80, 100)
    for number in (0, 1):
        cv2.imwrite(str(tmp_path / f"Original_Images/BloodImage_{number:05d}.jpg"), field)
    (tmp_path / "labels.csv").write_text(",Image,Category\n,0,NEUTROPHIL\n,1,NEUTROPHIL\n")
    (tmp_path / "original_split.csv").write_text(
        "image,label,split\nBloodImage_00000.jpg,neutrophil,train\nBloodImage_00001.jpg,neutrophil,test\n"
    )
    boxes = BOX.format("WBC", 150, 150, 250, 250) + BOX.format("RBC", 400, 250, 500, 350)
    (tmp_path / "annotations/BloodImage_00000.xml").write_text(ANNOTATION.format(boxes))
    boxes = BOX.format("WBC", 150, 150, 250, 250) + BOX.format("WBC", 10, 10, 60, 60)
    (tmp_path / "annotations/BloodImage_00001.xml").write_text(ANNOTATION.format(boxes))
    return tmp_path


def test_sides_are_counted_apart(collection: Path) -> None:
    results = {result.side: result for result in measure_finder(collection)}
    assert (results["train"].boxes, results["train"].found, results["train"].false_regions) == (1, 1, 1)
    assert (results["test"].boxes, results["test"].found, results["test"].false_regions) == (2, 1, 1)
    assert results["test"].missed == ("BloodImage_00001.jpg at (10, 10, 60, 60)",)
    assert results["no single label"].fields == 0


def test_a_damaged_annotation_is_named(collection: Path) -> None:
    (collection / "annotations/BloodImage_00001.xml").write_text("<annotation><object>")
    with pytest.raises(DataSetError, match=r"BloodImage_00001\.xml"):
        measure_finder(collection)


def test_a_collection_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no folder annotations"):
        measure_finder(tmp_path)


def test_the_fields_timed_are_mosaics_at_their_own_scale(
    collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[tuple[int, ...], int]] = []

    def find(field: Field) -> list[CellRegion]:
        regions = find_cells(field)
        seen.append((field.image.shape, len(regions)))
        return regions

    monkeypatch.setattr("benchmarks.finder.find_cells", find)
    timing = time_finder([collection / "Original_Images/BloodImage_00000.jpg"], 3)
    assert timing.repetitions == 3
    # 53 by 40 µm and two cells a field; 128 by 96 µm hold five such wholly and some in part.
    assert {shape for shape, _ in seen} == {(960, 1280, 3)}
    assert all(10 <= count <= 18 for _, count in seen)
