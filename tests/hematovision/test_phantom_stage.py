"""Paths of the stage: a path does what its name says, and scenes hold what they are for."""

import math
from itertools import pairwise

import numpy as np
import pytest

from hematovision.phantom import Pose
from hematovision.phantom.stage import (
    OVERLAP,
    SCENES,
    Scene,
    demo,
    dwell,
    meander,
    over_expose,
    pan,
    refocus,
    trial,
    visit,
)

FIELD_UM = (128.0, 96.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def overlap(one: Pose, other: Pose) -> float:
    """Share of a field that another shows too."""
    return math.prod(
        max(0.0, 1 - abs(a - b) / side)
        for a, b, side in zip((one.x_um, one.y_um), (other.x_um, other.y_um), FIELD_UM, strict=True)
    )


def at_rest(scene: Scene) -> list[Pose]:
    """One pose for each field at which the stage stood."""
    still = [pose for pose in scene.poses if pose.motion_um == (0.0, 0.0)]
    return list({(pose.x_um, pose.y_um): pose for pose in still}.values())


def test_dwelling_stays_and_the_focus_trembles() -> None:
    poses = list(dwell(rng(), (30.0, 40.0), 6))
    assert {(pose.x_um, pose.y_um, pose.motion_um) for pose in poses} == {(30.0, 40.0, (0.0, 0.0))}
    assert len({pose.defocus_um for pose in poses}) == 6
    assert all(0 <= pose.defocus_um < 0.3 for pose in poses)


def test_a_pan_moves_evenly_between_its_ends_and_says_how_fast() -> None:
    poses = list(pan((0.0, 50.0), (90.0, 20.0), 5))
    assert [pose.x_um for pose in poses] == pytest.approx([15.0, 30.0, 45.0, 60.0, 75.0])
    assert [pose.y_um for pose in poses] == pytest.approx([45.0, 40.0, 35.0, 30.0, 25.0])
    for pose in poses:
        x, y = pose.motion_um
        assert 0 < x < 15.0
        assert x / y == pytest.approx(15.0 / -5.0)


def test_refocusing_goes_out_and_comes_back() -> None:
    blur = [pose.defocus_um for pose in refocus((1.0, 2.0), 9, 1.2)]
    assert max(blur) == blur[4] == pytest.approx(1.2)
    assert blur == pytest.approx(blur[::-1])
    assert blur[0] < 0.5


def test_over_exposing_multiplies_the_light() -> None:
    assert [pose.exposure for pose in over_expose((1.0, 2.0), 3, 1.8)] == [1.8] * 3


def test_a_visit_dwells_at_every_place_and_pans_between() -> None:
    poses = list(visit(rng(), [(0.0, 0.0), (60.0, 0.0), (60.0, 50.0)], dwell_frames=4, pan_frames=2))
    moving = "".join("-" if pose.motion_um == (0.0, 0.0) else ">" for pose in poses)
    assert moving == "---->>---->>----"


def test_a_meander_covers_its_box_with_fields_that_overlap() -> None:
    box = 100.0, 50.0, 700.0, 450.0
    places = [Pose(*place) for place in meander(rng(), box, FIELD_UM)]
    x = np.array([place.x_um for place in places])
    y = np.array([place.y_um for place in places])
    # Within a hand's accuracy nothing is left out and nothing beyond is shown.
    assert x.min() - 64 == pytest.approx(100, abs=4)
    assert x.max() + 64 == pytest.approx(700, abs=4)
    assert y.min() - 48 == pytest.approx(50, abs=4)
    assert y.max() + 48 == pytest.approx(450, abs=4)
    assert all(overlap(one, following) > OVERLAP - 0.1 for one, following in pairwise(places))


def test_a_box_smaller_than_a_field_gets_one_field() -> None:
    ((x, y),) = meander(rng(), (0.0, 0.0, 50.0, 40.0), FIELD_UM)
    assert (x, y) == pytest.approx((25.0, 20.0), abs=3.1)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_is_the_same_for_the_same_seed(name: str) -> None:
    make = SCENES[name]
    assert make(3, FIELD_UM, 0.1) == make(3, FIELD_UM, 0.1)
    assert make(3, FIELD_UM, 0.1) != make(4, FIELD_UM, 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_the_trial_visits_half_of_its_fields_twice_and_never_jumps(seed: int) -> None:
    scene = trial(seed)
    fields = at_rest(scene)
    again = [
        any(overlap(field, earlier) > 0.75 for earlier in fields[:number])
        for number, field in enumerate(fields)
    ]
    assert sum(again) == pytest.approx(len(fields) / 3, abs=1)  # n fields, and n / 2 again
    assert all(overlap(one, following) > 0.6 for one, following in pairwise(scene.poses))
    leukocytes = scene.smear.leukocytes_per_mm2 * scene.smear.width_mm * scene.smear.height_mm
    assert leukocytes >= 310


@pytest.mark.parametrize("seed", range(3))
def test_everything_that_a_stage_does_happens_in_the_demo(seed: int) -> None:
    scene = demo(seed)
    jumps = [
        number
        for number, (one, following) in enumerate(pairwise(scene.poses), 1)
        if overlap(one, following) == 0
    ]
    assert len(jumps) == 1
    before, after = scene.poses[: jumps[0]], scene.poses[jumps[0] :]
    # Nothing that was seen before is seen after it: the truth of the whole stays simple.
    assert not any(overlap(one, other) for one in before[::3] for other in after[::3])
    assert max(pose.exposure for pose in before) >= 1.5
    assert max(pose.defocus_um for pose in before) > 1
    assert any(pose.motion_um != (0.0, 0.0) for pose in before)
    fields = at_rest(Scene(scene.smear, before))
    assert sum(any(overlap(one, early) > 0.75 for early in fields[:-6]) for one in fields[-6:]) == 6
