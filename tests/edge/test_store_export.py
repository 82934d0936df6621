"""What leaves the store: a table, JSON, and crops that the training stage reads as they stand."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.plug import some_cell
from edge.store import NewSession, Reader, Store, open_reader, open_writer
from edge.store.export import csv_text, json_text, labelled_crops, write_crops, write_json, write_table
from edge.tracker import TrackedCell
from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize, cut_crop
from hematovision.errors import NotStoredError, StoreError
from hematovision.finder import load_finder, most_prominent
from hematovision.optics import measure_field
from train.cells import read_cells
from train.datasets import read_dataset
from train.drawn import DRAWN_UM_PER_PIXEL, draw, drawn_cells
from train.selection import select

CROP = CropSize(20.0, 128)
NEW = NewSession("=HYPERLINK(1)", "@Ada", "camera", "model", "ab" * 32, 0.1, settings={"runtime": "litert"})


def keep(folder: Path, *cells: TrackedCell, new: NewSession = NEW) -> int:
    """A session that has ended; its number."""
    with Store(folder) as store:
        session = store.start_session(new)
        for cell in cells:
            store.add_cell(session.id, cell, "ab" * 32)
        store.flush(10)
        store.end_session(session.id, "stopped")
    return session.id


def correct(folder: Path, *corrections: tuple[int, str, str]) -> None:
    with Store(folder) as store:
        for cell, label, who in corrections:
            store.correct(cell, label, who)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Three cells in session 1: a neutrophil, one corrected twice, one unclassified."""
    names = "neutrophil", "eosinophil", "unclassified"
    keep(tmp_path, *(replace(some_cell(n), class_name=name) for n, name in enumerate(names, 1)))
    keep(tmp_path, some_cell(4))
    correct(tmp_path, (2, "monocyte", "Ada"), (2, "lymphocyte", "+Bo"))
    with open_reader(tmp_path) as opened:
        yield opened


def test_a_table_says_what_was_classified_and_what_a_person_made_of_it(reader: Reader) -> None:
    rows = list(csv.DictReader("".join(csv_text(reader, 1)).splitlines()))
    assert [(row["classified_as"], row["corrected"], row["label"]) for row in rows] == [
        ("neutrophil", "", "neutrophil"),
        ("eosinophil", "lymphocyte", "lymphocyte"),
        ("unclassified", "", "unclassified"),
    ]
    when = datetime.fromisoformat(rows[1]["corrected_at"])
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert rows[0]["corrected_by"] == ""
    assert sum(float(rows[0][name]) for name in CLASS_NAMES) == pytest.approx(1)
    assert datetime.fromisoformat(rows[0]["confirmed_at"]).utcoffset() is not None


@pytest.mark.parametrize("text", [csv_text, json_text])
def test_a_session_deleted_meanwhile_leaves_no_file_that_looks_whole(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Callable[..., Iterator[str]]
) -> None:
    monkeypatch.setattr("edge.store.export._PAGE", 1)
    parts = text(reader, 1)
    next(parts), next(parts)
    with Store(tmp_path) as store:
        store.delete_session(1)
    with pytest.raises(NotStoredError):
        list(parts)


def test_no_text_of_a_table_is_a_formula(reader: Reader) -> None:
    rows = list(csv.DictReader("".join(csv_text(reader, 1)).splitlines()))
    assert (rows[0]["sample"], rows[0]["operator"]) == ("'=HYPERLINK(1)", "'@Ada")
    assert rows[1]["corrected_by"] == "'+Bo"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("slide 7; left -5", "slide 7; left -5"),
        ("a=b", "a=b"),
        (";=1+1", ";'=1+1"),
        ("x; @SUM(1)", "x;' @SUM(1)"),
        (" =1+1", "' =1+1"),
        ("＝1+1", "'＝1+1"),
    ],
)
def test_what_stands_behind_a_semicolon_is_no_formula_either(tmp_path: Path, name: str, shown: str) -> None:
    session = keep(tmp_path, some_cell(1), new=replace(NEW, sample=name))
    with open_reader(tmp_path) as reader:
        [row] = csv.DictReader("".join(csv_text(reader, session)).splitlines())
    assert row["sample"] == shown


def test_json_has_all_of_a_session(reader: Reader) -> None:
    content = json.loads("".join(json_text(reader, 1)))
    assert content["session"]["sample"] == "=HYPERLINK(1)"
    assert content["session"]["settings"] == {"runtime": "litert"}
    assert [cell["label"] for cell in content["cells"]] == ["neutrophil", "lymphocyte", "unclassified"]
    [first, second] = content["cells"][1]["corrections"]
    assert (first["who"], first["before"], first["after"]) == ("Ada", "eosinophil", "monocyte")
    assert (second["who"], second["before"], second["after"]) == ("+Bo", "monocyte", "lymphocyte")
    classified, corrected = (content["differential"][kind]["classes"] for kind in ("classified", "corrected"))
    assert [classified[name]["count"] for name in CLASS_NAMES] == [1, 1, 0, 0]
    assert [corrected[name]["count"] for name in CLASS_NAMES] == [1, 0, 0, 1]
    assert corrected["lymphocyte"]["percent"] == 50.0
    assert 0 < corrected["lymphocyte"]["low"] < 50 < corrected["lymphocyte"]["high"] < 100


def test_a_session_without_cells_is_exported_too(tmp_path: Path) -> None:
    session = keep(tmp_path)
    with open_reader(tmp_path) as reader:
        assert list(csv.DictReader("".join(csv_text(reader, session)).splitlines())) == []
        assert json.loads("".join(json_text(reader, session)))["cells"] == []
        with pytest.raises(StoreError, match="nothing to learn from"):
            write_crops(reader, session, tmp_path / "crops")
    assert not [path for path in tmp_path.iterdir() if "crops" in path.name]


@pytest.mark.parametrize("export", [csv_text, json_text, labelled_crops])
def test_a_session_that_is_not_there_is_not_exported(tmp_path: Path, export: object) -> None:
    keep(tmp_path)
    with open_reader(tmp_path) as reader, pytest.raises(NotStoredError):
        list(export(reader, 99))  # type: ignore[operator]


def test_a_long_session_is_exported_whole(tmp_path: Path) -> None:
    session = keep(tmp_path, *(some_cell(number, 16) for number in range(1201)))
    with open_reader(tmp_path) as reader:
        assert len(list(csv.DictReader("".join(csv_text(reader, session)).splitlines()))) == 1201


@pytest.mark.parametrize("write", [write_table, write_json])
def test_no_file_is_overwritten(reader: Reader, tmp_path: Path, write: object) -> None:
    write(reader, 1, tmp_path / "out")  # type: ignore[operator]
    before = (tmp_path / "out").read_bytes()
    with pytest.raises(StoreError, match="is there already"):
        write(reader, 2, tmp_path / "out")  # type: ignore[operator]
    assert (tmp_path / "out").read_bytes() == before


def test_no_folder_is_added_to(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="not an empty folder"):
        write_crops(reader, 1, tmp_path / "crops")
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    assert write_crops(reader, 1, tmp_path / "crops").counts == {"neutrophil": 1, "lymphocyte": 1}
    assert len(list((tmp_path / "crops").rglob("*.jpg"))) == 2


def test_what_cannot_be_written_leaves_nothing_behind(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(NotStoredError):
        write_json(reader, 99, tmp_path / "out.json")
    with pytest.raises(StoreError, match="No such file"):
        write_table(reader, 1, tmp_path / "none" / "out.csv")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.fixture(scope="module")
def drawn() -> list[TrackedCell]:
    """Cells of the drawn smear, 10 of each class, cut as the device cuts them."""
    cells = []
    for number, image in enumerate(drawn_cells(10), 1):
        field = measure_field(draw(image), DRAWN_UM_PER_PIXEL)
        region = most_prominent(load_finder().find(field), field)
        assert region is not None
        crop = cut_crop(field, region.center, CROP)
        cells.append(replace(some_cell(number), class_name=image.label, crop=crop))
    return cells


def test_training_reads_the_crops_as_they_stand(tmp_path: Path, drawn: list[TrackedCell]) -> None:
    session = keep(tmp_path, *drawn, replace(drawn[0], class_name="unclassified"))
    wrong = next(n for n, cell in enumerate(drawn, 1) if cell.class_name == "neutrophil")
    correct(tmp_path, (wrong, "eosinophil", "Ada"))
    with open_reader(tmp_path) as reader:
        written = write_crops(reader, session, tmp_path / "crops")
    assert written.counts == {"neutrophil": 9, "eosinophil": 11, "monocyte": 10, "lymphocyte": 10}
    assert (written.unclassified, written.um_per_pixel) == (1, 20.0 / 128)
    dataset = read_dataset(f"{tmp_path / 'crops'}@{written.um_per_pixel:.6g}")
    cells = read_cells(dataset.images, written.um_per_pixel, CROP)
    assert len(cells) == 40 and not cells.unreadable and cells.found.all()
    for image, crop, label in zip(cells.images, cells.crops, cells.labels, strict=True):
        number = int(image.path.stem.rpartition("cell")[2])
        expected = "eosinophil" if number == wrong else drawn[number - 1].class_name
        assert CLASS_NAMES[label] == image.label == expected
        # What was cut again out of a crop is the crop, but for JPEG and a pixel's shift.
        assert np.abs(crop.astype(int) - drawn[number - 1].crop).mean() < 8


def test_every_cell_is_an_original_of_its_own_and_on_one_side(
    tmp_path: Path, drawn: list[TrackedCell]
) -> None:
    session = keep(tmp_path, *drawn)
    with open_reader(tmp_path) as reader:
        written = write_crops(reader, session, tmp_path / "crops")
    dataset = replace(read_dataset(str(tmp_path / "crops")), um_per_pixel=written.um_per_pixel)
    originals = [image.original for image in dataset.images]
    assert len(set(originals)) == len(originals)
    selection = select([dataset], {}, {}, seed=1)
    training, development = selection.training(dataset), selection.development(dataset)
    assert {image.original for image in training}.isdisjoint(image.original for image in development)
    assert {image.label for image in development} == set(CLASS_NAMES)


def test_a_cell_corrected_to_unclassified_is_left_out(tmp_path: Path) -> None:
    session = keep(tmp_path, some_cell(1), some_cell(2))
    correct(tmp_path, (1, "unclassified", "Ada"))
    with open_reader(tmp_path) as reader:
        [(place, _)] = labelled_crops(reader, session)
    assert place == f"{some_cell(2).class_name}/session{session}-cell2.jpg"


def test_a_damaged_crop_is_told_from_a_full_disk(tmp_path: Path) -> None:
    session = keep(tmp_path, some_cell(1))
    with open_writer(tmp_path, 1.0) as connection:
        connection.execute("UPDATE crops SET jpeg = x'00'")
    with open_reader(tmp_path) as reader, pytest.raises(StoreError, match="no image any more; restore"):
        write_crops(reader, session, tmp_path / "crops")
    assert not (tmp_path / "crops").exists()


def test_the_scale_is_the_crops_own(tmp_path: Path) -> None:
    new = replace(NEW, crop_um=24.0)
    session = keep(tmp_path, some_cell(1, 96), new=new)
    with open_reader(tmp_path) as reader:
        written = write_crops(reader, session, tmp_path / "crops")
    [path] = (tmp_path / "crops").rglob("*.jpg")
    with Image.open(path) as image:
        assert image.size == (96, 96)
    assert written.um_per_pixel == 0.25
