"""Panning over real smears: slides show what they say, paths do what a hand does, counts are judged right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.pan import measure
from benchmarks.pan.measure import MISSED, NOTHING, TWICE, RealMicroscope, pan_over, plan_path, window_um
from benchmarks.pan.slide import EMPTY_FOR_EACH, GLASS, UM_PER_PIXEL, RealCell, RealSlide, make_slides
from edge.cameras import Frame
from edge.pipeline import SeenFrame
from edge.rectangle import Rectangle
from hematovision.classifier import Classifier, default_model_path
from hematovision.cli import root
from hematovision.errors import DataSetError
from hematovision.images import RGBImage
from hematovision.model_file import read_model_file
from hematovision.phantom import Pose
from train.finder.boxed_fields import BoxedField, read_boxed_fields

FRAME_SIZE = 640, 480
RED = 60
RADIUS_UM = 5.0
MIDDLE = 500, 350
LAMP = 238, 226, 196


def write_collection(folder: Path, fields: int, cells: Sequence[tuple[int, int]]) -> list[BoxedField]:
    """Fields of 1000x700 pixels at 0.125 µm, of one slide; nuclei in the middle lie elsewhere in each."""
    (folder / "images").mkdir(parents=True)
    rows = ["image,label,slide,x,y,width,height"]
    y, x = np.mgrid[:700, :1000]
    radius = RADIUS_UM / 0.125
    for number in range(fields):
        # Grey in the middle, with a pink rim, which no quadratic is.
        rim = (np.hypot(x - 500, y - 350)[..., None] / 610) ** 6
        image = (215, 205, 200) * (1 - rim * (0.0, 0.25, 0.1))
        image += np.random.default_rng(number).normal(0, 1, image.shape)
        for middle in cells:
            if middle == MIDDLE:
                middle = 300 + 80 * (number % 6), 250 + 60 * (number % 4)
            inside = np.hypot(x - middle[0], y - middle[1]) < radius
            image[inside] = (RED, 40 + 4 * number, 150)
            left, top = middle[0] - radius, middle[1] - radius
            rows.append(f"{number}.png,monocyte,S-1,{left},{top},{2 * radius},{2 * radius}")
        cv2.imwrite(str(folder / f"images/{number}.png"), image.round().astype(np.uint8)[..., ::-1])
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return read_boxed_fields(f"{folder}@0.125")


def nuclei(light: RGBImage) -> list[tuple[float, float, float]]:
    """Middle (x, y) in µm and area in µm² of everything dark in green."""
    _, _, stats, middles = cv2.connectedComponentsWithStats((light[..., 1] < 130).astype(np.uint8))
    return [
        ((x + 0.5) * UM_PER_PIXEL, (y + 0.5) * UM_PER_PIXEL, area * UM_PER_PIXEL**2)
        for (x, y), area in zip(middles[1:].tolist(), stats[1:, cv2.CC_STAT_AREA].tolist(), strict=True)
    ]


def test_a_slide_shows_each_leukocyte_whole_where_it_says_and_no_other(tmp_path: Path) -> None:
    # The one at the border is cut: it is in no square. The two side by side are in one of neither.
    fields = write_collection(tmp_path / "lab", 6, [MIDDLE, (20, 400), (850, 600), (960, 620)])
    [slide] = make_slides(fields, cells=4, seed=3)
    assert slide.name == "lab/S-1"
    assert len(slide.cells) == 4
    squares = len(slide.sources) * len(slide.sources[0])
    assert squares >= (EMPTY_FOR_EACH + 1) * len(slide.cells)
    found = nuclei(slide.light)
    assert len(found) == 4
    for x, y, area in found:
        assert area == pytest.approx(math.pi * RADIUS_UM**2, rel=0.05)
        [cell] = [cell for cell in slide.cells if cell.box_um.holds(Rectangle(x, y, x, y))]
        assert cell.box_um.middle == pytest.approx((x, y), abs=0.3)
        assert slide.source_at(x, y) == cell.source
        number = int(cell.source.split(".")[0])
        assert cell.source == f"{number}.png at {300 + 80 * number}, {250 + 60 * (number % 4)}"


def test_leukocytes_that_only_an_eye_saw_are_in_no_square(tmp_path: Path) -> None:
    fields = write_collection(tmp_path / "lab", 6, [MIDDLE, (900, 100)])
    # Only those in the middle are boxed, as if nobody had boxed the others.
    fields = [replace(field, cells=field.cells[:1]) for field in fields]
    [slide] = make_slides(fields, cells=6, seed=3)
    assert len(nuclei(slide.light)) > len(slide.cells) == 6
    [slide] = make_slides([replace(field, others=((900.0, 100.0),)) for field in fields], cells=6, seed=3)
    assert len(nuclei(slide.light)) == len(slide.cells) == 6


def test_the_lamp_leaves_no_seams(tmp_path: Path) -> None:
    fields = write_collection(tmp_path / "lab", 6, [MIDDLE])
    [slide] = make_slides(fields, cells=3, seed=1)
    glass = cv2.erode((slide.light[..., 1] > 180).astype(np.uint8), np.ones((41, 41))) > 0
    smooth = cv2.GaussianBlur(slide.light, (0, 0), 5).astype(int)[glass]
    assert glass.mean() > 0.8
    assert np.abs(smooth - GLASS).max() <= 8
    # They are under it, though.
    assert slide.lamp[32, 32] == pytest.approx((215, 205, 200), abs=8)
    assert slide.lamp[1, 1, 1] / slide.lamp[32, 32, 1] == pytest.approx(0.79, abs=0.07)


def test_the_seed_says_which_slide(tmp_path: Path) -> None:
    fields = write_collection(tmp_path / "lab", 4, [MIDDLE])
    one, same, other = (next(make_slides(fields, 3, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.light, same.light)
    assert one.cells == same.cells
    assert one.cells != other.cells


def test_fields_without_a_whole_leukocyte_make_no_slide(tmp_path: Path) -> None:
    fields = write_collection(tmp_path / "lab", 3, [(20, 400)])
    with pytest.raises(DataSetError, match="have no whole leukocyte"):
        next(make_slides(fields, 3, 1))


@pytest.fixture
def slide() -> RealSlide:
    """200 x 150 µm of specks, so that every place is another, and three leukocytes."""
    light = np.full((1500, 2000, 3), GLASS, np.uint8)
    rng = np.random.default_rng(5)
    for x, y in rng.integers(0, 1500, (300, 2)).tolist():
        cv2.circle(light, (x * 4 // 3, y), 20, (200, 120, 130), -1)
    boxes = [Rectangle(x, y, x + 12, y + 12) for x, y in ((40, 40), (100, 70), (150, 100))]
    cells = tuple(RealCell(box, "monocyte", f"{number}.png") for number, box in enumerate(boxes))
    lamp = np.full((64, 64, 3), LAMP, np.float32)
    lamp[:, :20, 1] = 150
    return RealSlide("drawn", light, lamp, cells, (("a.png",),))


def test_a_frame_is_the_slide_under_the_lamp(slide: RealSlide) -> None:
    seen = RealMicroscope(slide, FRAME_SIZE, 0).look(Pose(100.0, 75.0))
    there = slide.light[750 - 240 : 750 + 240, 1000 - 320 : 1000 + 320].astype(float)
    for channel, level in enumerate(LAMP):
        glass = there[..., channel] == GLASS
        middle = glass & (np.hypot(*np.mgrid[-240:240, -320:320]) < 60)
        assert seen[middle, channel].mean() == pytest.approx(level, abs=1.5)
        # Where no lamp falls off, there is nothing but noise between them.
        here = slice(190, 290), slice(270, 370), channel
        assert np.corrcoef(seen[here].ravel(), there[here].ravel())[0, 1] > 0.97
    rim = there[..., 1] == GLASS
    assert seen[:, :180, 1][rim[:, :180]].mean() == pytest.approx(150, abs=1.5)
    moved = RealMicroscope(slide, FRAME_SIZE, 0).look(Pose(103.0, 75.0))
    assert np.abs(moved[:, 250:-30, 1].astype(int) - seen[:, 280:, 1]).mean() < 4


def test_out_of_focus_and_moving_frames_are_blurred(slide: RealSlide) -> None:
    def detail(pose: Pose) -> tuple[float, float]:
        green = RealMicroscope(slide, FRAME_SIZE, 0).look(pose)[..., 1].astype(float)
        green = cv2.GaussianBlur(green, (0, 0), 2)  # the noise is the same in all
        return float(np.abs(np.diff(green, axis=1)).mean()), float(np.abs(np.diff(green, axis=0)).mean())

    sharp = detail(Pose(100.0, 75.0))
    blurred = detail(Pose(100.0, 75.0, defocus_um=2.0))
    smeared = detail(Pose(100.0, 75.0, motion_um=(6.0, 0.0)))
    assert max(blurred) < 0.85 * min(sharp)
    assert smeared[0] < 0.85 * sharp[0]
    assert smeared[1] > 0.85 * sharp[1]


def test_a_path_rests_returns_and_jumps_and_shows_all_of_the_slide(slide: RealSlide) -> None:
    poses = plan_path(slide, FRAME_SIZE, 1)
    assert poses == plan_path(slide, FRAME_SIZE, 1)
    assert poses != plan_path(slide, FRAME_SIZE, 2)
    windows = [window_um(pose, FRAME_SIZE) for pose in poses]
    assert all(Rectangle(0, 0, *slide.size_um).holds(window) for window in windows)
    steps = [math.dist((a.x_um, a.y_um), (b.x_um, b.y_um)) for a, b in pairwise(poses)]
    assert sum(step < 1 for step in steps) > len(poses) / 3  # rests
    assert sum(step > 64 for step in steps) >= 2  # jumps, farther than a frame is wide
    assert max(pose.defocus_um for pose in poses) > 1
    assert max(pose.exposure for pose in poses) > 1.5
    shown = np.zeros((150, 200), int)
    for window in windows:
        left, top, right, bottom = map(round, window)
        shown[top:bottom, left:right] += 1
    assert (shown[8:-8, 8:-8] >= 6).all()


@dataclass
class _Region:
    center: tuple[float, float]


@dataclass
class _Cell:
    number: int | None
    class_name: str = "monocyte"
    region: _Region | None = None


class _Line:
    """Counts as a test says: by place in µm, in the first frame that shows it."""

    wanted: tuple[tuple[float, float, str], ...] = ()

    def __init__(self, classifier: object) -> None:
        self.tracker = type("Tracker", (), {"areas": 1})()
        self._left = list(self.wanted)
        self.poses: list[Pose] = []

    def see(self, frame: Frame) -> SeenFrame:
        window = window_um(_PATH[frame.sequence], FRAME_SIZE)
        now = [place for place in self._left if window.holds(Rectangle(*place[:2], *place[:2]))]
        self._left = [place for place in self._left if place not in now]
        cells = []
        for number, (x, y, name) in enumerate(now, 10 * frame.sequence):
            at = (x - window.left) / UM_PER_PIXEL - 0.5, (y - window.top) / UM_PER_PIXEL - 0.5
            cells.append(_Cell(number, name, _Region(at)))
        cells.append(_Cell(None, region=_Region((0.0, 0.0))))
        whatever: Any = tuple(cells)
        return SeenFrame(frame, None, None, whatever, whatever[:-1])  # type: ignore[arg-type]


_PATH = [Pose(60.0, 50.0)] * 8 + [Pose(100.0, 75.0)] * 8 + [Pose(140.0, 100.0)] * 3


def test_counts_are_held_against_the_slide(
    slide: RealSlide, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LiveLine", _Line)
    monkeypatch.setattr(measure, "plan_path", lambda *_: _PATH)
    # The second is missed; the third is shown too briefly to be missed. The rim of a box belongs to it.
    _Line.wanted = (
        (39.5, 45, "monocyte"),
        (46, 46, "lymphocyte"),
        (80, 90, "eosinophil"),
        (90, 60, "unclassified"),
    )
    seen: list[tuple[int, int]] = []
    result = pan_over(classifier, slide, FRAME_SIZE, at=lambda done, total: seen.append((done, total)))
    assert seen == [(number, len(_PATH)) for number in range(len(_PATH))]
    assert (result.cells, result.shown, result.once) == (3, 2, 0)
    assert {(one.why, one.name) for one in result.miscounts} == {
        (MISSED, "monocyte"),
        (TWICE, "lymphocyte"),
        (NOTHING, "eosinophil"),
        (NOTHING, "unclassified"),
    }
    assert [result.number(why) for why in (MISSED, TWICE, NOTHING)] == [1, 1, 2]
    assert result.nothing_named == 1
    [missed] = (one for one in result.miscounts if one.why == MISSED)
    assert (missed.x_um, missed.y_um, missed.source) == (106, 76, "1.png")

    _Line.wanted = ((46, 46, "monocyte"), (106, 76, "monocyte"))
    result = pan_over(classifier, slide, FRAME_SIZE)
    assert (result.shown, result.once, result.miscounts) == (2, 2, ())


@pytest.mark.parametrize(("source", "slide"), [("chula@0.097", "chula/L-9"), ("kaggle-blood-cells", "")])
def test_a_run_over_real_smear_counts_each_leukocyte_once(data_dir: Path, source: str, slide: str) -> None:
    shipped = Classifier(read_model_file(default_model_path()), threads=1)
    # Fields that are learnt from: what is set aside is for reporting.
    fields = [field for field in read_boxed_fields(str(data_dir / source)) if not field.aside]
    fields = [field for field in fields if slide in field.group][:40]
    [made] = make_slides(fields, 3, 1)
    result = pan_over(shipped, made)
    assert [one for one in result.miscounts if one.why in (MISSED, TWICE)] == []
    assert result.once == result.shown == result.cells == 3


def test_the_command_shows_each_slide_and_fails_where_counts_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_collection(tmp_path / "lab", 4, [MIDDLE])
    monkeypatch.setattr(measure, "plan_path", lambda *_: _PATH)
    monkeypatch.setattr(measure, "LiveLine", _Line)
    _Line.wanted = ((40, 40, "monocyte"),)
    arguments = ["bench", "pan", f"{tmp_path / 'lab'}@0.125", "--cells", "2"]
    refused = CliRunner().invoke(root, arguments)
    assert refused.exit_code == 2
    assert "no field of it with all its leukocytes known is set aside; give --learnt" in refused.output
    result = CliRunner().invoke(root, [*arguments, "--learnt"])
    assert result.exit_code == 1, result.output
    assert "lab/S-1" in result.stdout
    assert "lab/S-1: nothing (monocyte) at " in result.stdout
    _Line.wanted = ()
    monkeypatch.setattr(measure, "plan_path", lambda *_: _PATH[:2])
    assert CliRunner().invoke(root, [*arguments, "--learnt"]).exit_code == 0
