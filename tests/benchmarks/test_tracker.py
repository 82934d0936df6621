"""The trial of the tracker: a short one counts every cell once, and what is found wanting fails."""

import dataclasses
import math

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.tracker import TrackerTrial, by_hand, total, try_tracker
from edge.phantom_score import Score
from hematovision.classifier import Classifier, default_model_path
from hematovision.cli import root
from hematovision.model_file import read_model_file
from hematovision.phantom import Pose, Smear
from hematovision.phantom.stage import Scene, meander, visit

UM_PER_PIXEL = 0.2
FRAME_SIZE = 640, 480
FIELD_UM = 128.0, 96.0
SCORE = Score(300, 0, 300, 0, 0, 0, 300, 0.99, 0.99, (75, 75, 75, 75))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """With the model that comes with hematovision."""
    return Classifier(read_model_file(default_model_path()), threads=1)


def short_scene(seed: int, side_mm: float, stops: int) -> Scene:
    rng = np.random.default_rng(seed)
    smear = Smear(seed, side_mm, side_mm, UM_PER_PIXEL, leukocytes_per_mm2=500)
    places = meander(rng, (0, 0, *smear.size_um), FIELD_UM)[:stops]
    back = [(x + 5, y - 5) for x, y in places[::-2]]
    return Scene(smear, tuple(visit(rng, places + back, dwell_frames=5, pan_frames=4)))


def trial_of(**changes: object) -> TrackerTrial:
    score = dataclasses.replace(SCORE, **changes)  # type: ignore[arg-type]
    return TrackerTrial(0, score, 1000, {"moving": 500}, 1, 1.0)


def test_every_cell_shown_long_enough_is_counted_once(classifier: Classifier) -> None:
    scene = short_scene(seed=1, side_mm=0.32, stops=12)
    trial = try_tracker(classifier, Scene(scene.smear, tuple(by_hand(1, scene.poses))), FRAME_SIZE)
    score = trial.score
    assert score.shown >= 30
    assert (score.missed, score.twice, score.nothing) == (0, 0, 0)
    assert score.counted == score.shown + score.briefly
    assert total([trial]).passed
    assert trial.areas == 1
    assert {"moving", "blurred", "over-exposed"} <= set(trial.skipped)
    assert sum(trial.skipped.values()) < trial.frames == len(by_hand(1, scene.poses))


def test_a_hand_trembles_and_adds_frames_that_are_no_good() -> None:
    poses = [Pose(100.0, 50.0)] * 400
    given = by_hand(3, poses)
    assert given == by_hand(3, poses)
    assert given != by_hand(4, poses)
    good = [pose for pose in given if pose.defocus_um == 0 and pose.exposure == 1]
    assert len(good) == len(poses)
    assert 400 + 5 < len(given) < 400 + 30
    assert all(0 < math.hypot(pose.x_um - 100, pose.y_um - 50) < 0.3 for pose in given)


def test_all_slides_together() -> None:
    totals = total(
        [trial_of(), trial_of(shown=100, counted=103, briefly=2, twice=1, top1=0.79, single_top1=0.8)]
    )
    assert (totals.shown, totals.counted, totals.twice) == (400, 403, 1)
    assert totals.count_error == pytest.approx(1 / 400)
    assert totals.share_twice == pytest.approx(1 / 403)
    assert totals.top1 == pytest.approx((300 * 0.99 + 103 * 0.79) / 403)
    assert totals.single_top1 == pytest.approx((300 * 0.99 + 103 * 0.8) / 403)


def test_a_slide_without_a_counted_cell_has_no_part_in_top1() -> None:
    nothing = trial_of(counted=0, missed=300, top1=math.nan, single_top1=math.nan)
    assert total([trial_of(), nothing]).top1 == pytest.approx(0.99)
    assert not total([nothing]).passed


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"counted": 303}, True),
        ({"counted": 297, "missed": 3}, True),
        ({"counted": 310, "briefly": 10}, True),
        ({"counted": 304}, False),
        ({"counted": 296, "missed": 4}, False),
        ({"counted": 301, "twice": 1}, False),
        ({"top1": 0.984}, False),
        ({"top1": 0.986}, True),
    ],
)
def test_what_is_asked_for(changes: dict[str, object], passed: bool) -> None:
    # One of 301 is more than 1 in 500.
    assert total([trial_of(**changes)]).passed is passed


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr("hematovision.phantom.stage.trial", lambda seed: short_scene(seed, 0.2, 2))
    monkeypatch.setattr("benchmarks.tracker.FRAME_SIZE", FRAME_SIZE)
    return CliRunner().invoke(root, ["bench", "tracker", "--seeds", "2", *arguments])


def test_the_command_shows_each_slide_and_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    result = call(monkeypatch)
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1:-1] for line in result.stdout.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["0", "1", "all"]
    counted = [int(row[2]) for row in rows]
    assert counted[2] == counted[0] + counted[1] > 0
    assert "top-1 +" in result.stdout or "top-1 -" in result.stdout
    assert "place not known" in result.stdout


def test_a_count_that_is_off_ends_with_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.tracker.MAX_COUNT_ERROR", -1.0)
    assert call(monkeypatch).exit_code == 1
