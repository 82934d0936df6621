"""What overlays cost a finder, cell by cell; what they hide counts neither way."""

import json
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from benchmarks.finder import command
from benchmarks.finder.measure import look_at
from benchmarks.finder.overlays import DIRT_SHARE, KINDS, Overlay, draw_overlay
from benchmarks.finder.robustness import compare, measure_overlays, summarise_overlays
from hematovision.finder import CellRegion
from hematovision.images import RGBImage
from train.finder.boxed_fields import BoxedCell, BoxedField

IMAGE = np.full((480, 640, 3), (230, 220, 225), np.uint8)
CELLS = (BoxedCell(100, 100, 60, 60, "monocyte"), BoxedCell(400, 300, 60, 60, "neutrophil"))


def boxed(path: Path = Path("a.png"), complete: bool = True) -> BoxedField:
    return BoxedField(path, 0.2, CELLS, complete=complete, laboratory="lab", group="lab/1", aside=False)


def region(x: float, y: float) -> CellRegion:
    return CellRegion((x, y), (x - 9, y - 9, 18, 18), 80.0, 0.9, 0.1, touches_border=False)


def overlay(*hidden: tuple[int, int, int, int]) -> Overlay:
    opacity = np.zeros(IMAGE.shape[:2], np.float32)
    for left, top, right, bottom in hidden:
        opacity[top:bottom, left:right] = 1
    return Overlay(np.zeros(IMAGE.shape, np.float32), opacity)


def compared(plain: list[CellRegion], seen: list[CellRegion], over: Overlay, complete: bool = True) -> object:
    field = boxed(complete=complete)
    before, after = (look_at(lambda *_, found=found: found, field, IMAGE, 0.0) for found in (plain, seen))
    one = compare(before, after, over)
    return one.cells, one.found_plain, one.found, one.added


@pytest.mark.parametrize("kind", KINDS)
def test_an_overlay_changes_the_field_where_it_lies_and_is_the_same_each_time(kind: str) -> None:
    for seed in range(20):
        first, again = (draw_overlay(kind, IMAGE, 0.1, np.random.default_rng(seed)) for _ in range(2))
        covered = first.over(IMAGE)
        np.testing.assert_array_equal(covered, again.over(IMAGE))
        assert covered.shape == IMAGE.shape and covered.dtype == np.uint8
        assert first.opacity.min() >= 0 and first.opacity.max() <= 1
        changed = (covered != IMAGE).any(axis=2)
        assert changed.any() and not changed.all()
        assert not changed[first.opacity == 0].any()
        assert first.opacity.mean() < 0.5  # most of the field stays in view


def test_dirt_covers_about_one_per_cent() -> None:
    shares = [
        float((draw_overlay("dirt", IMAGE, 0.1, np.random.default_rng(seed)).opacity > 0.3).mean())
        for seed in range(10)
    ]
    assert 0.5 * DIRT_SHARE < np.mean(shares) < 2 * DIRT_SHARE


def test_a_lost_cell_and_a_new_region_are_counted() -> None:
    found = [region(130, 130), region(430, 330)]
    assert compared(found, found, overlay()) == (2, 2, 2, 0)
    assert compared(found, [found[0], region(300, 200)], overlay()) == (2, 2, 1, 1)
    assert compared(found, [found[0], region(300, 200)], overlay(), complete=False) == (2, 2, 1, None)


def test_what_an_overlay_hides_or_cuts_off_counts_neither_way() -> None:
    found = [region(130, 130), region(430, 330)]
    half = overlay((100, 100, 130, 160))
    assert compared(found, [found[1]], half) == (1, 1, 1, 0)
    assert compared(found, [*found, region(145, 150)], half) == (1, 1, 1, 0)
    sliver = overlay((100, 100, 112, 160))
    assert compared(found, [found[1]], sliver) == (2, 2, 1, 0)
    # A false region that it covers is not made up for by another.
    assert compared(
        [*found, region(300, 200)], [*found, region(200, 400)], overlay((290, 190, 310, 210))
    ) == (*(2, 2, 2, 1),)


def test_every_kind_is_laid_over_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        cv2.imwrite(str(path), IMAGE[..., ::-1])
    seen: list[RGBImage] = []

    def find(image: RGBImage, um_per_pixel: float) -> list[CellRegion]:
        seen.append(image)
        return [region(130, 130)] if (image == IMAGE).all() else []

    results = measure_overlays([boxed(path) for path in paths], {"finder": find}, "", lambda _: None)[
        "finder"
    ]
    assert {kind: len(of_kind) for kind, of_kind in results.items()} == dict.fromkeys(KINDS, 3)
    assert len({image.tobytes() for image in seen}) == 1 + 3 * len(KINDS)  # each field has its own
    assert not any(one.refused for of_kind in results.values() for one in of_kind)
    monkeypatch.setattr("benchmarks.finder.robustness.why_refused", lambda *_: "no smear")
    judged = measure_overlays([boxed(paths[0])], {"finder": find}, "finder", lambda _: None)["finder"]
    assert summarise_overlays(judged["bar"]).refused == 1
    lost = summarise_overlays(results["border"])
    assert (lost.found_plain, lost.found) == (3, 0)
    assert lost.recall_lost.value == pytest.approx(3 / lost.cells)


def test_the_command_shows_what_overlays_cost_and_writes_what_the_schema_says(
    laboratories: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    arguments = [laboratories[0], "--overlays", "--repetitions", "1", "--json", str(file)]
    result = CliRunner().invoke(command.finder, arguments, catch_exceptions=False)
    assert "what overlays cost" in result.output
    content = json.loads(file.read_text())
    schema = json.loads(files("benchmarks.finder").joinpath("report.schema.json").read_text())
    Draft202012Validator(schema).validate(content)
    overlays = content["overlays"]["north"]
    assert set(overlays) == {"finder", "baseline"}
    assert set(overlays["finder"]) == set(KINDS)
    assert all(one["fields"] == 4 and one["cells"] <= 12 for one in overlays["baseline"].values())
