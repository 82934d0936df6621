"""What lies under the microscope, row by row: what `classify` does with it, what a run counts and says."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edge.cameras import Frame
from edge.config import MqttSettings, Settings
from edge.device import Device
from edge.differential import Differential, unfamiliar
from edge.field_watch import AGREEING_LOOKS, LOOK_STEP, WINDOW, FieldCondition, FieldWatch
from edge.health import Health, warnings
from edge.messages import Topics, differential_message, health_message
from edge.pipeline import LiveLine, SeenFrame, StillLine
from edge.store import Store
from edge.store.export import csv_text, json_text
from edge.tally import Tally
from edge.web.representations import of_status
from hematovision.classifier import Classifier
from hematovision.cli import root
from hematovision.crops import CropSize
from hematovision.errors import ImageError
from hematovision.images import RGBImage
from hematovision.model_file import Manifest
from hematovision.optics import measure_field
from hematovision.phantom import draw_field
from hematovision.picture_child import Wanted, find_in_child
from hematovision.plausibility import FieldState
from tests.hematovision.test_plausibility import flower, page, photographed, swapped, with_bar, with_dirt
from tests.hematovision.test_red_cells import draw

SCALE = 0.1
SMEAR = draw_field(1, 1280, 960, SCALE).image
OTHER = draw_field(2, 1280, 960, SCALE).image
FLOWER = photographed(flower((220, 40, 60), (40, 90, 30)))
PAGE = photographed(page((30, 25, 60), (250, 246, 235), 28))
GLASS = photographed(np.full((960, 1280, 3), (232, 228, 224), np.uint8))
GREY_GLASS = np.full((960, 1280, 3), 225, np.uint8)
UNKNOWN = Health(*[None] * 8)


def crowded() -> RGBImage:
    """Red cells in heaps, with hardly any glass left."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1, (800, 2)) * (1280, 960)
    return draw([(float(x), float(y), 75.0, 75.0) for x, y in places], (1280, 960))


def feathered() -> RGBImage:
    """Red cells far apart and flat."""
    places = [(float(x), float(y)) for x in range(80, 1220, 260) for y in range(80, 900, 250)]
    return draw([(x, y, 75.0, 75.0) for x, y in places], (1280, 960), pallor=0.0)


@dataclass(frozen=True)
class Batch:
    places_apart: bool


def frame(image: RGBImage, number: int = 0) -> Frame:
    return Frame.now(image, number, SCALE, f"{number}.png")


def conditions(watch: FieldWatch, images: Sequence[RGBImage], apart: bool) -> list[FieldState]:
    batch = Batch(apart)
    fields = {id(image): measure_field(image, SCALE) for image in images}
    return [
        watch.see(frame(image, number), fields[id(image)], batch).state for number, image in enumerate(images)
    ]


def condition(image: RGBImage) -> FieldCondition:
    return FieldWatch(SCALE).see(frame(image), measure_field(image, SCALE), Batch(True))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def save(folder: Path, **images: RGBImage) -> Path:
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


@pytest.mark.parametrize(
    ("image", "state", "counts"),
    [
        (SMEAR, FieldState.SMEAR, True),
        (FLOWER, FieldState.CHECK_MICROSCOPE, False),
        (PAGE, FieldState.CHECK_MICROSCOPE, False),
        (swapped(SMEAR), FieldState.CHECK_MICROSCOPE, False),
        (GLASS, FieldState.EMPTY, True),
        (crowded(), FieldState.NOT_MONOLAYER, False),
        (feathered(), FieldState.NOT_MONOLAYER, False),
        (with_dirt(SMEAR), FieldState.SMEAR, True),
    ],
    ids=["smear", "flower", "page", "swapped", "glass", "thick", "feathered", "dirt"],
)
def test_a_field_has_its_state(image: RGBImage, state: FieldState, counts: bool) -> None:
    found = condition(image)
    assert (found.state, found.counts) == (state, counts)
    assert bool(found.line) == (state is not FieldState.SMEAR)
    if state is FieldState.NOT_MONOLAYER:
        assert "move towards" in found.line


@pytest.mark.parametrize("colour", ["black", "blue"])
def test_an_overlay_is_a_note(colour: str) -> None:
    (note,) = condition(with_bar(SMEAR, colour)).notes
    assert "large and dark" in note
    assert condition(SMEAR).notes == ()


def test_red_cells_that_contradict_the_scale_are_a_state_until_they_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 75.0
    monkeypatch.setattr("edge.scale.measure_red_cells", lambda _: np.full(30, size, np.float32))
    watch, field = FieldWatch(SCALE), measure_field(SMEAR, SCALE)

    def state() -> FieldCondition:
        return watch.see(frame(SMEAR), field, Batch(True))

    assert state().state is FieldState.SMEAR
    size = 100.0
    wrong = [state() for _ in range(30)][-1]
    assert (wrong.state, wrong.refused) == (FieldState.CHECK_MICROSCOPE, False)
    assert "check the magnification" in wrong.line
    size = 75.0
    assert [state() for _ in range(30)][-1].state is FieldState.SMEAR


def test_a_scale_that_nothing_confirms_is_a_note_while_it_goes_on() -> None:
    watch, field = FieldWatch(SCALE), measure_field(GLASS, SCALE)
    notes = [watch.see(frame(GLASS, n), field, Batch(True)).unconfirmed for n in range(8)]
    assert notes[0] is None
    assert "could not confirm" in (notes[-1] or "")


def test_a_few_odd_frames_of_a_live_camera_change_no_state() -> None:
    seen = [SMEAR] * (3 * LOOK_STEP)
    seen[7:9] = [FLOWER, FLOWER]
    assert set(conditions(FieldWatch(SCALE), [*seen, *seen, *seen], apart=False)) == {FieldState.SMEAR}


def test_a_live_camera_turned_away_and_back_changes_its_state_twice() -> None:
    long = WINDOW * LOOK_STEP * (AGREEING_LOOKS + 1)
    states = conditions(FieldWatch(SCALE), [SMEAR] * long + [FLOWER] * long + [SMEAR] * long, apart=False)
    changes = [after for before, after in pairwise(states) if before is not after]
    assert changes == [FieldState.CHECK_MICROSCOPE, FieldState.SMEAR]


def test_images_of_other_places_are_each_judged_alone() -> None:
    states = conditions(FieldWatch(SCALE), [FLOWER, FLOWER, SMEAR, FLOWER, FLOWER, SMEAR], apart=True)
    assert [state is FieldState.SMEAR for state in states] == [False, False, True, False, False, True]


@pytest.mark.parametrize("image", [swapped(SMEAR), FLOWER], ids=["swapped", "flower"])
def test_cells_of_what_is_refused_are_shown_and_not_counted(classifier: Classifier, image: RGBImage) -> None:
    for line in (StillLine(classifier), LiveLine(classifier)):
        for number in range(6):
            seen = line.see(frame(image, number))
            assert isinstance(seen, SeenFrame)
            assert seen.counted == ()
            assert not any(cell.counted for cell in seen.cells)


def test_a_live_line_counts_once_the_slide_is_right(classifier: Classifier) -> None:
    line = LiveLine(classifier)
    before = [line.see(frame(swapped(SMEAR), n)) for n in range(4)]
    after = [line.see(frame(SMEAR, n)) for n in range(40)]
    assert not any(isinstance(seen, SeenFrame) and seen.counted for seen in before)
    assert sum(len(seen.counted) for seen in after if isinstance(seen, SeenFrame)) > 5
    assert any(note.startswith("Monolayer looked at: 0.01 mm²") for note in line.notes())


def test_a_device_tells_state_and_notes_everywhere(store: Store, classifier: Classifier) -> None:
    device = Device(Settings(), classifier.model, store, StillLine(classifier), "a camera", SCALE)
    device.start_session("sample", "", None)
    line = StillLine(classifier)
    for number, image in enumerate((OTHER, with_dirt(SMEAR), swapped(SMEAR))):
        seen = line.see(frame(image, number))
        assert isinstance(seen, SeenFrame)
        device.saw(replace(seen, slide=2))
    status = device.status()
    assert status.condition.state is FieldState.CHECK_MICROSCOPE
    (said,) = [text for text in status.said if text.startswith("check the microscope: ")]
    assert "swapped" in said
    assert any("swapped" in text for text in warnings(status, UNKNOWN))
    shown = of_status(status, device.manifest)
    assert shown["condition"]["state"] == "check the microscope"
    assert shown["condition"]["counts"] is False
    topics = Topics.of(MqttSettings(name="scope"))
    for message in (
        differential_message(topics, status, status.session, ""),
        health_message(topics, status, UNKNOWN, "1"),
    ):
        content = json.loads(message.payload)
        assert (content["field"], content["field_counts"]) == ("check the microscope", False)
        assert any("swapped" in note for note in content["field_notes"])
    session = device.stop_session()
    assert session is not None
    assert store.flush(10)
    with store.read() as reader:
        exported = json.loads("".join(json_text(reader, session.id)))
        table = "".join(csv_text(reader, session.id))
    assert [one["kind"] for one in exported["warnings"]] == ["view", "field"]
    assert "swapped" in exported["warnings"][1]["text"]
    assert "swapped" in table.splitlines()[1]


def test_nothing_is_high_or_low_while_the_microscope_is_to_be_checked() -> None:
    counted = Differential((0, 60, 20, 20))  # far more eosinophils than anybody has
    field = measure_field(SMEAR, SCALE)
    trusted, doubted = (
        SeenFrame(frame(SMEAR), field, None, (), (), condition=FieldCondition(state, "why"))
        for state in (FieldState.SMEAR, FieldState.CHECK_MICROSCOPE)
    )
    tally = Tally(Manifest(CropSize(20.0, 96), 1.0, 0.6))
    tally.differential = counted
    tally.add(trusted)
    assert "high" in cells_of(tally)
    tally.add(doubted)
    assert {"high", "low"}.isdisjoint(cells_of(tally))
    assert any("Check the microscope: why." in line for line in tally.summary())


def cells_of(tally: Tally) -> set[str]:
    return {str(cell) for cell in tally.table().columns[-1].cells}


@pytest.mark.parametrize(
    ("unclassified", "total", "coverage", "warned"),
    [
        (19, 19, 0.97, False),  # fewer than 20
        (8, 20, 0.97, True),  # the lower limit is 19 %
        (8, 20, 0.90, False),  # not above 20 %
        (3, 20, 0.97, False),
        (9, 20, None, True),  # never measured: twice the 5 % that the threshold leaves
        (40, 400, 0.97, True),
    ],
)
def test_many_unclassified_cells_are_warned_of(
    unclassified: int, total: int, coverage: float | None, warned: bool
) -> None:
    counted = Differential((total - unclassified, 0, 0, 0), unclassified)
    accuracy = {} if coverage is None else {"sets": [{"name": "a", "coverage": 0.99}, {"coverage": coverage}]}
    line = unfamiliar(counted, accuracy)
    assert (line is not None) == warned
    if line is not None:
        assert line.startswith(
            "many cells of no class that the model knows, or a stain unlike those it learnt"
        )


def test_classify_refuses_what_is_no_smear_and_goes_on(tmp_path: Path, model_path: Path) -> None:
    folder = save(tmp_path, a_flower=FLOWER, b_page=PAGE, c_swapped=swapped(SMEAR), d_smear=SMEAR)
    result = call("classify", folder, "--model", model_path, "--um-per-pixel", SCALE, "--format", "jsonl")
    assert result.exit_code == 1
    flower_, page_, swapped_, smear = (json.loads(line) for line in result.stdout.splitlines())
    assert "no stained blood smear" in flower_["error"]
    assert "no stained blood smear" in page_["error"]
    assert "red and blue seem to be swapped" in swapped_["error"]
    assert len(smear["cells"]) > 3
    for name in ("a_flower", "b_page", "c_swapped"):
        assert sum(name in line for line in result.stderr.splitlines()) == 1


def test_classify_warns_of_what_may_be_a_smear(tmp_path: Path, model_path: Path) -> None:
    folder = save(tmp_path, dirt=with_dirt(SMEAR), heap=crowded(), thin=feathered())
    result = call("classify", folder, "--model", model_path, "--um-per-pixel", SCALE)
    assert result.exit_code == 0, result.output
    for name, words in {"dirt": "large and dark", "heap": "too thick", "thin": "feathered edge"}.items():
        (line,) = [line for line in result.stderr.splitlines() if words in line]
        assert f"{name}.png" in line


def test_classify_says_once_that_glass_is_empty(tmp_path: Path, model_path: Path) -> None:
    folder = save(tmp_path, a=GREY_GLASS, b=GLASS, c=GLASS)
    cv2.imwrite(str(folder / "d.jpg"), swapped(GLASS))
    cv2.imwrite(str(folder / "e.jpg"), GREY_GLASS)
    result = call("classify", folder, "--model", model_path, "--um-per-pixel", SCALE, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["cells"] for line in result.stdout.splitlines()] == [[]] * 5
    assert sum("empty glass" in line for line in result.stderr.splitlines()) == 1


def test_a_video_that_is_no_smear_is_refused_in_one_line(tmp_path: Path, model_path: Path) -> None:
    path = tmp_path / "flower.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (900, 700))
    for _ in range(12):
        writer.write(swapped(FLOWER))
    writer.release()
    result = call("classify", path, "--model", model_path, "--um-per-pixel", SCALE)
    assert result.exit_code == 1
    assert sum("no stained blood smear" in line for line in result.stderr.splitlines()) == 1


def test_run_counts_nothing_that_is_swapped(tmp_path: Path, model_path: Path) -> None:
    folder = save(tmp_path, a=swapped(SMEAR), b=swapped(OTHER))
    result = call("run", "--camera", f"folder:{folder}", "--model", model_path, "--um-per-pixel", SCALE)
    assert result.exit_code == 0, result.output
    assert "2 images, 0 cells, 0 given a class" in result.output
    assert "check the microscope: red and blue seem to be swapped" in result.output


@pytest.mark.parametrize(
    ("image", "words"),
    [(FLOWER, "no stained blood smear"), (swapped(SMEAR), "red and blue seem to be swapped")],
    ids=["flower", "swapped"],
)
def test_a_picture_sent_to_the_page_is_refused(image: RGBImage, words: str) -> None:
    wanted = Wanted(False, SCALE, 20.0, 96, 2_000_000, 300)
    with pytest.raises(ImageError, match=words), find_in_child(encoded(image), wanted):
        pass


def test_a_picture_sent_to_the_page_comes_with_its_warnings() -> None:
    wanted = Wanted(False, SCALE, 20.0, 96, 2_000_000, 300)
    with find_in_child(encoded(with_dirt(SMEAR)), wanted) as found:
        assert "large and dark" in (found.warning or "")
    with find_in_child(encoded(SMEAR), wanted) as found:
        assert found.warning is None


def encoded(image: RGBImage) -> bytes:
    _, data = cv2.imencode(".png", swapped(image))
    return data.tobytes()
