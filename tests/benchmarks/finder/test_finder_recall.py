"""What a finder found is counted by class, laboratory and red cells; at the border it counts neither way."""

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.finder import command
from benchmarks.finder.measure import ALL, WHOLE, FieldResult, look_at, measure_finders, summarise
from benchmarks.finder.red_cells_in_view import red_cells_in_view
from benchmarks.finder.tables import false_table, found_table
from hematovision.classifier import Classifier
from hematovision.errors import DataSetError, ImageError, SettingError
from hematovision.finder import CellRegion
from hematovision.images import RGBImage
from hematovision.phantom import draw_field
from train.finder.boxed_fields import BoxedCell, BoxedField

CELLS = (BoxedCell(40, 40, 30, 30, "monocyte"), BoxedCell(120, 60, 30, 30, "neutrophil"))
#: Glass of 200x160 pixels at 0.5 µm per pixel.
IMAGE = np.full((160, 200, 3), (230, 220, 225), np.uint8)


def boxed_field(**changes: object) -> BoxedField:
    field = BoxedField(
        Path("a.png"), 0.5, CELLS, complete=True, laboratory="lab", group="lab/1", aside=False, red_cells=50
    )
    return dataclasses.replace(field, **changes)  # type: ignore[arg-type]


def region(x: float, y: float, touches_border: bool = False) -> CellRegion:
    return CellRegion((x, y), (x - 9, y - 9, 18, 18), 80.0, 0.9, 0.1, touches_border)


def look(field: BoxedField, *regions: CellRegion) -> FieldResult:
    return look_at(lambda *_: regions, field, IMAGE, float(field.red_cells or 0))


def test_cells_are_found_by_class_and_the_rest_is_false() -> None:
    result = summarise([look(boxed_field(), region(55, 55), region(60, 60), region(100, 120))])
    assert {label: (one.cells, one.found) for label, one in result.recall.items()} == {
        "monocyte": (1, 1),
        "neutrophil": (1, 0),
        ALL: (2, 1),
        WHOLE: (2, 1),
    }
    assert result.false_regions == 2  # one cell found twice is one false region
    assert result.false_per_1000_red_cells.value == pytest.approx(40)
    assert result.missed == ("a.png: neutrophil at 120, 60",)


def test_at_the_border_nothing_is_false_and_boxed_cells_count() -> None:
    cut = BoxedCell(0, 0, 12, 12, "lymphocyte")
    field = boxed_field(cells=(cut,))
    seen = look(field, region(5, 5), region(195, 80), region(100, 80, touches_border=True))
    assert seen.found == (True,)
    assert seen.false == ()
    recall = summarise([seen, look(boxed_field())]).recall
    assert {label: (recall[label].cells, recall[label].found) for label in (ALL, WHOLE)} == {
        ALL: (3, 1),
        WHOLE: (2, 0),
    }


def test_in_partly_boxed_fields_nothing_is_false_unless_others_were_seen_by_eye() -> None:
    found = region(55, 55), region(100, 120), region(180, 140)
    assert look(boxed_field(complete=False), *found).false is None
    seen = look(boxed_field(complete=False, others=((104.0, 129.0),)), *found)  # 4.9 µm away
    assert [one.center for one in seen.false or ()] == [(180, 140)]


def test_a_refused_fields_cells_are_missed() -> None:
    def refuse(image: RGBImage, um_per_pixel: float) -> Sequence[CellRegion]:
        raise ImageError("no smear")

    result = summarise([look_at(refuse, boxed_field(), IMAGE, 50)])
    assert (result.refused, result.recall[ALL].found, result.false_regions) == (1, 0, 0)
    assert result.missed[0] == "a.png: monocyte at 40, 40 (no smear)"


def test_the_devices_own_finder_is_refused_what_the_device_refuses(tmp_path: Path) -> None:
    swapped = draw_field(1, 640, 480, 0.2).image[..., ::-1]
    cv2.imwrite(str(tmp_path / "a.png"), swapped[..., ::-1])
    field = boxed_field(path=tmp_path / "a.png", um_per_pixel=0.2, red_cells=None)
    finders = {name: lambda *_: [region(55, 55), region(135, 75)] for name in ("finder", "baseline")}
    measured = measure_finders([field], finders, None, "finder", lambda _: None)
    assert (measured["finder"][0].found, measured["baseline"][0].found) == ((False, False), (True, True))
    assert "swapped" in (measured["finder"][0].refused or "")
    assert measured["finder"][0].false == ()


def test_intervals_resample_groups_and_not_cells() -> None:
    hit, miss = (region(55, 55), region(135, 75)), ()
    together = [look(boxed_field(group="1"), *hit)] * 5 + [look(boxed_field(group="2"), *miss)] * 5
    apart = [look(boxed_field(group=str(number)), *(hit if number < 5 else miss)) for number in range(10)]
    wide, narrow = (summarise(one).recall[ALL].share for one in (together, apart))
    assert wide.value == narrow.value == 0.5
    assert (wide.low, wide.high) == (0, 1)
    assert 0.1 < narrow.low < 0.5 < narrow.high < 0.9


def test_what_cannot_be_counted_is_not_a_number_and_shown_as_none() -> None:
    result = summarise([look(boxed_field(complete=False))])
    assert math.isnan(result.false_per_1000_red_cells.value)
    results = {"lab": {"finder": result}}
    assert false_table(results).rows == ()
    assert found_table(results).rows[0][5] == "0 of 2"


def test_red_cells_without_boxes_are_estimated_by_area() -> None:
    image = np.full((400, 600, 3), (225, 220, 230), np.uint8)
    image[:, :, 1] -= np.linspace(0, 60, 600).astype(np.uint8)[None]  # a lamp that fades
    for number in range(12):
        place = 60 + 80 * (number % 6), 80 + 200 * (number // 6)
        level = int(image[place[1], place[0], 1] * 0.7)
        cv2.circle(image, place, 19, (200, level, 190), -1)  # 7.6 µm
    field = boxed_field(um_per_pixel=0.2, cells=())
    assert red_cells_in_view(dataclasses.replace(field, red_cells=None), image) == pytest.approx(12, rel=0.1)
    assert red_cells_in_view(field, image) == 50


def test_only_the_named_finders_false_regions_are_shown_to_the_classifier(
    tmp_path: Path, classifier: Classifier
) -> None:
    smear = draw_field(1, 400, 320, 0.2).image
    cv2.imwrite(str(tmp_path / "a.png"), smear[..., ::-1])
    field = boxed_field(path=tmp_path / "a.png", um_per_pixel=0.2)
    finders = {name: lambda *_: [region(100, 120), region(180, 30)] for name in ("finder", "baseline")}
    always = dataclasses.replace(classifier.model.manifest, decline_below=0.0)
    sure = Classifier(dataclasses.replace(classifier.model, manifest=always))
    measured = measure_finders([field], finders, sure, "finder", lambda _: None)
    assert [measured[name][0].named for name in ("finder", "baseline")] == [2, 0]
    never = dataclasses.replace(always, decline_below=1.0)
    unsure = Classifier(dataclasses.replace(classifier.model, manifest=never))
    measured = measure_finders([field], finders, unsure, "finder", lambda _: None)
    assert measured["finder"][0].named == 0


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command.finder, [*arguments, "--repetitions", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_prints_every_laboratory_and_writes_it(laboratories: list[str], tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    output = run(*laboratories, "--json", str(file))
    for shown in ("north", "south", "together", "neutrophil", "baseline", "ms, baseline", "MiB of memory"):
        assert shown in output
    read = json.loads(file.read_text())
    assert set(read["laboratories"]) == {"north", "south", "together"}
    north = read["laboratories"]["north"]["baseline"]
    assert north["recall"]["neutrophil"]["cells"] == 12
    assert north["fields"] == 4 and north["groups"] == 3
    assert read["laboratories"]["together"]["finder"]["recall"]["all"]["cells"] == 24
    assert set(read["timing"]) == set(read["memory_mib"]) == {"finder", "baseline"}
    assert read["memory_mib"]["baseline"] > 1  # a field's transmittance alone takes so much
    assert read["overlays"] == {}


def test_what_is_set_aside_is_measured_when_asked_for_only(laboratories: list[str], tmp_path: Path) -> None:
    folder, _ = laboratories[0].split("@")
    chula = tmp_path / "chula"
    shutil.copytree(folder, chula)
    table = chula / "boxes.csv"
    table.write_text(table.read_text().replace("S-0", "B-57"))
    counts = {}
    for option in ("", "--aside", "--all"):
        file = tmp_path / "out.json"
        run(f"{chula}@0.5", *filter(None, [option]), "--json", str(file))
        counts[option] = json.loads(file.read_text())["laboratories"]["chula"]["finder"]["fields"]
    assert counts == {"": 2, "--aside": 2, "--all": 4}
    with pytest.raises(DataSetError, match="nothing is set aside"):
        run(laboratories[0], "--aside")
    with pytest.raises(SettingError, match="exclude each other"):
        run(laboratories[0], "--aside", "--all")


def test_without_data_the_command_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEMATOVISION_DATA", raising=False)
    with pytest.raises(SettingError, match="HEMATOVISION_DATA"):
        run()
