"""The finder: drawn and real cells are found once, where they are; what its file says is held."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from hematovision.errors import ModelFileError
from hematovision.finder import Finder, default_finder_path, find_single, load_finder, most_prominent
from hematovision.model_file import (
    FinderManifest,
    read_finder_file,
    read_model_file,
    write_model_file,
)
from hematovision.optics import measure_field
from hematovision.phantom import PhantomFrame, draw_field
from tests.conftest import ModelMaker

UM_PER_PIXEL = 0.1


@pytest.fixture(scope="module")
def drawn() -> list[PhantomFrame]:
    return [draw_field(seed) for seed in range(4)]


def test_drawn_cells_are_found_once_where_they_are(finder: Finder, drawn: list[PhantomFrame]) -> None:
    for frame in drawn:
        regions = finder.find(measure_field(frame.image, UM_PER_PIXEL))
        assert len(regions) == len(frame.cells)
        for cell in frame.cells:
            near = [
                region
                for region in regions
                if np.hypot(*np.subtract(region.center, cell.center)) * UM_PER_PIXEL < 2
            ]
            assert len(near) == 1
            assert not near[0].touches_border
        assert [region.score for region in regions] == sorted((r.score for r in regions), reverse=True)


def test_a_field_larger_than_the_networks_input_is_looked_at_piece_by_piece(
    finder: Finder, drawn: list[PhantomFrame]
) -> None:
    single = drawn[0].image
    whole = np.vstack([np.hstack([single, single]), np.hstack([single, single])])
    alone = finder.find(measure_field(single, UM_PER_PIXEL))
    regions = finder.find(measure_field(whole, UM_PER_PIXEL))
    assert len(regions) == 4 * len(alone)
    for region in alone:
        for x, y in ((0, 0), (1280, 0), (0, 960), (1280, 960)):
            place = np.add(region.center, (x, y))
            assert min(np.hypot(*np.subtract(other.center, place)) for other in regions) * UM_PER_PIXEL < 1


@pytest.mark.parametrize(("width", "height"), [(9, 9), (40, 300), (257, 193), (448, 320), (700, 500)])
def test_every_place_of_a_field_has_heat(finder: Finder, width: int, height: int) -> None:
    heat = finder.heat(np.full((height, width, 3), 200, np.uint8))
    assert heat.shape[0] * 4 >= height
    assert heat.shape[1] * 4 >= width
    assert ((heat >= 0) & (heat <= 1)).all()


def test_black_fill_is_no_cell(finder: Finder, drawn: list[PhantomFrame]) -> None:
    matrix = cv2.getRotationMatrix2D((640, 480), 30, 1.0)
    turned = cv2.warpAffine(drawn[1].image, matrix, (1280, 960))
    regions = finder.find(measure_field(turned, UM_PER_PIXEL))
    assert 0 < len(regions) <= len(drawn[1].cells)


def test_a_sharp_cell_has_a_higher_focus_than_a_blurred_one(
    finder: Finder, drawn: list[PhantomFrame]
) -> None:
    image = drawn[0].image
    sharp = finder.find(measure_field(image, UM_PER_PIXEL))
    blurred = finder.find(measure_field(cv2.GaussianBlur(image, (0, 0), 6), UM_PER_PIXEL))
    assert blurred
    assert np.median([region.focus for region in sharp]) > 2 * np.median([region.focus for region in blurred])


def test_empty_glass_has_no_cell(finder: Finder) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (600, 800, 3))
    glass = np.clip(np.array([235, 232, 228]) + noise, 0, 255).astype(np.uint8)
    field = measure_field(glass, UM_PER_PIXEL)
    assert finder.find(field) == []
    region, found = find_single(finder, field, 20.0)
    assert not found
    assert region.center == (399.5, 299.5)


def test_of_a_picture_of_one_cell_the_surest_in_the_middle_is_meant(
    finder: Finder, drawn: list[PhantomFrame]
) -> None:
    frame = drawn[2]
    cell = min(frame.cells, key=lambda cell: np.hypot(*np.subtract(cell.center, (640, 480))))
    x, y = (round(place) for place in cell.center)
    picture = frame.image[y - 180 : y + 180, x - 180 : x + 180]
    field = measure_field(np.ascontiguousarray(picture), UM_PER_PIXEL)
    region = most_prominent(finder.find(field), field)
    assert region is not None
    assert np.hypot(*np.subtract(region.center, (180, 180))) * UM_PER_PIXEL < 2
    assert most_prominent([], field) is None


# --- its file ---


def rewritten(path: Path, **changes: object) -> Path:
    """The finder's file with something else in its manifest."""
    model = read_finder_file(default_finder_path())
    manifest = dataclasses.replace(model.manifest, **changes)  # type: ignore[arg-type]
    write_model_file(path, model.flatbuffer, manifest)
    return path


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"um_per_pixel": 0.25}, "at fields of 0.25 µm per pixel, this program at 0.5"),
        ({"threshold": 1.5}, "threshold cannot be 1.5"),
        ({"width_px": 250}, "width_px is 250, no multiple of 16"),
        ({"width_px": 320}, r"its input is \(1, 192, 256, 3\) int8, not \(1, 192, 320, 3\)"),
    ],
)
def test_a_finder_of_another_scale_or_size_is_refused(
    changes: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        load_finder(rewritten(tmp_path / "finder.tflite", **changes))


def test_a_finder_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere\.tflite: cannot be read"):
        load_finder(tmp_path / "nowhere.tflite")
    data = bytearray(default_finder_path().read_bytes())
    data[2000] ^= 1
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged or edited"):
        load_finder(damaged)


def test_a_finder_is_no_classifier_and_a_classifier_no_finder(model_path: Path) -> None:
    with pytest.raises(ModelFileError, match="the model of a classifier, not of a finder"):
        load_finder(model_path)
    with pytest.raises(ModelFileError, match="the model of a finder, not of a classifier"):
        read_model_file(default_finder_path())


def test_a_file_of_the_first_format_is_a_classifiers(make_model: ModelMaker, int8_flatbuffer: bytes) -> None:
    model = read_model_file(make_model(int8_flatbuffer))
    text = model.manifest.to_json().replace(
        '"format_version": 2,\n  "kind": "classifier",', '"format_version": 1,'
    )
    assert type(model.manifest).from_json(text, "old") == model.manifest
    with pytest.raises(ModelFileError, match="the model of a classifier"):
        FinderManifest.from_json(text, "old")


def test_a_kind_that_nobody_knows_is_refused() -> None:
    text = read_finder_file(default_finder_path()).manifest.to_json()
    with pytest.raises(ModelFileError, match="of the kind 'tracker', which this program does not know"):
        FinderManifest.from_json(text.replace('"kind": "finder"', '"kind": "tracker"'), "a file")


def test_another_network_in_a_finders_file_is_refused(int8_flatbuffer: bytes, tmp_path: Path) -> None:
    manifest = FinderManifest(0.5, 256, 192, 0.5)
    write_model_file(tmp_path / "finder.tflite", int8_flatbuffer, manifest)
    with pytest.raises(ModelFileError, match=r"its input is \(1, 32, 32, 3\) int8"):
        load_finder(tmp_path / "finder.tflite")


# --- real fields ---


@pytest.mark.data
def test_annotated_leukocytes_of_real_fields_are_found(data_dir: Path) -> None:
    from benchmarks.finder.finders import open_finder
    from benchmarks.finder.measure import WHOLE, measure_finders, summarise
    from train.finder.boxed_fields import read_boxed_fields

    fields = read_boxed_fields(str(data_dir / "kaggle-blood-cells"))
    measured = measure_finders(fields, {"finder": open_finder()}, None, "finder", lambda _: None)["finder"]
    assert len(measured) == 364
    for aside in (False, True):
        result = summarise([one for one in measured if one.boxed.aside == aside])
        assert result.recall[WHOLE].share.value >= 0.98
        assert result.false_per_field.value <= 0.15
