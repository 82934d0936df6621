"""Where the stage stands, on drawn slides whose poses are known."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import stage_motion
from edge.stage_motion import MIN_CONTRAST, Picture, Position, Stage, make_picture, measure_motion
from hematovision.optics import measure_field
from hematovision.phantom import Microscope, Pose, Slide, Smear

UM_PER_PIXEL = 0.2
WIDTH, HEIGHT = 640, 480
FIELD_UM = 128.0, 96.0
MIDDLE = 300.0, 250.0

Take = Callable[..., Picture]


def look_at(smear: Smear) -> Take:
    microscope = Microscope(Slide(smear), WIDTH, HEIGHT)

    def take(x_um: float, y_um: float, dust: np.ndarray | None = None, **how: object) -> Picture:
        image = microscope.look(Pose(x_um, y_um, **how)).image  # type: ignore[arg-type]
        if dust is not None:
            image = np.rint(image * dust).astype(np.uint8)
        return make_picture(measure_field(image, UM_PER_PIXEL))

    return take


@pytest.fixture(scope="module")
def take() -> Take:
    """Pictures of a usual smear, by where the stage stands."""
    return look_at(Smear(3, 0.6, 0.5, UM_PER_PIXEL, leukocytes_per_mm2=200))


@pytest.fixture(scope="module")
def take_sparse() -> Take:
    """Of a slide with leukocytes and nothing else, three or four in a field."""
    return look_at(Smear(3, 0.6, 0.5, UM_PER_PIXEL, 300, red_cells_per_mm2=0, platelets_per_mm2=0))


def off_by(earlier: Picture, later: Picture, way: tuple[float, float]) -> float:
    motion = measure_motion(earlier, later)
    assert motion is not None
    return math.dist((motion.x_um, motion.y_um), way)


def stands(stage: Stage, picture: Picture, in_focus: bool = True) -> Position | None:
    """Place of a picture that is kept where it is in focus, as the tracker does it."""
    stand = stage.locate(picture, in_focus)
    if stand is None:
        return None
    return stage.keep(picture, stand.position) if in_focus else stand.position


def begin(stage: Stage, picture: Picture) -> Position:
    stands(stage, picture)
    position = stands(stage, picture)
    assert position is not None
    return position


way = st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)).filter(
    lambda way: (1 - abs(way[0])) * (1 - abs(way[1])) > 0.3
)


@given(way)
@settings(max_examples=25, deadline=None)
def test_a_motion_is_measured_to_half_a_micrometre(take: Take, way: tuple[float, float]) -> None:
    x, y = way[0] * FIELD_UM[0], way[1] * FIELD_UM[1]
    assert off_by(take(*MIDDLE), take(MIDDLE[0] + x, MIDDLE[1] + y), (x, y)) < 0.5


@given(way, way)
@settings(max_examples=15, deadline=None)
def test_motions_add_up(take: Take, one: tuple[float, float], other: tuple[float, float]) -> None:
    a, b, c = (
        take(MIDDLE[0] + 50 * x, MIDDLE[1] + 40 * y)
        for x, y in ((0.0, 0.0), one, (one[0] + other[0], one[1] + other[1]))
    )
    first, second, both = measure_motion(a, b), measure_motion(b, c), measure_motion(a, c)
    assert first is not None
    assert second is not None
    assert both is not None
    assert first.x_um + second.x_um == pytest.approx(both.x_um, abs=0.7)
    assert first.y_um + second.y_um == pytest.approx(both.y_um, abs=0.7)


@pytest.mark.parametrize(
    "how", [{"exposure": 0.5}, {"exposure": 1.2}, {"defocus_um": 1.2}, {"motion_um": (3.0, 2.0)}]
)
def test_light_focus_and_a_smear_do_not_matter(take: Take, how: dict[str, object]) -> None:
    assert off_by(take(*MIDDLE), take(MIDDLE[0] + 30, MIDDLE[1] - 20, **how), (30, -20)) < 0.6


def test_a_strong_smear_displaces_little(take: Take) -> None:
    later = take(MIDDLE[0] + 30, MIDDLE[1], motion_um=(8.0, 0.0))
    assert off_by(take(*MIDDLE), later, (30, 0)) < 2.5


def test_noise_does_not_matter() -> None:
    microscope = Microscope(Slide(Smear(3, 0.3, 0.3, UM_PER_PIXEL)), WIDTH, HEIGHT, noise=8)
    one, other = (
        make_picture(measure_field(microscope.look(Pose(x, 150)).image, UM_PER_PIXEL)) for x in (130, 165)
    )
    assert off_by(one, other, (35, 0)) < 0.5


def test_dust_on_the_sensor_does_not_hold_the_stage(take: Take) -> None:
    rng = np.random.default_rng(9)
    dust = np.ones((HEIGHT, WIDTH), np.float32)
    for _ in range(15):
        spot = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        cv2.circle(dust, spot, int(rng.integers(4, 20)), float(rng.uniform(0.4, 0.9)), cv2.FILLED)
    dust = cv2.GaussianBlur(dust, (0, 0), 2)[..., None]
    one, other = take(*MIDDLE, dust=dust), take(MIDDLE[0] + 40, MIDDLE[1] + 15, dust=dust)
    assert off_by(one, other, (40, 15)) < 0.5


def test_other_places_show_nothing_in_common(take: Take) -> None:
    places = [take(x, y) for x in (70.0, 210.0, 350.0, 490.0) for y in (60.0, 170.0, 280.0, 390.0)]
    motions = [
        measure_motion(one, other, (0, 0))
        for index, one in enumerate(places)
        for other in places[index + 1 :]
    ]
    assert motions == [None] * 120


def test_pictures_of_other_frames_are_not_compared(take: Take) -> None:
    picture = take(*MIDDLE)
    larger = Picture(np.tile(picture.levels, (2, 2)), picture.um_per_pixel)
    finer = Picture(picture.levels, (0.4, 0.4))
    assert measure_motion(picture, larger) is None
    assert measure_motion(picture, finer) is None


def test_red_cells_in_rows_do_not_deceive() -> None:
    # Packed as densely as circles can be, each up to a micrometre from its place in the row.
    rng = np.random.default_rng(0)
    scene = np.full((1200, 1200), 200, np.float32)
    for row in range(60):
        for column in range(52):
            x, y = (column + row % 2 / 2) * 22.5 + rng.normal(0, 1.5), row * 19.5 + rng.normal(0, 1.5)
            cv2.circle(scene, (round(x), round(y)), 9, 130.0, cv2.FILLED)
    scene = cv2.GaussianBlur(scene, (0, 0), 1)

    def cut(x_um: float, y_um: float) -> Picture:
        left, top = round(x_um / 0.4), round(y_um / 0.4)
        small = cv2.resize(
            scene[top : top + 240, left : left + 320], (160, 120), interpolation=cv2.INTER_AREA
        )
        return Picture(np.rint(small).astype(np.uint8), (0.8, 0.8))

    for _ in range(30):
        start, step = rng.uniform(80, 250, 2), rng.uniform(-60, 60, 2)
        motion = measure_motion(cut(*start), cut(*start + step))
        assert motion is None or math.dist(motion[:2], step) < 1.5
        elsewhere = rng.uniform(10, 60), rng.uniform(340, 380)
        assert measure_motion(cut(elsewhere[0], 10), cut(330, elsewhere[1])) is None


def test_a_few_cells_that_agree_are_believed_only_where_they_were_expected(take_sparse: Take) -> None:
    one, other = take_sparse(*MIDDLE), take_sparse(MIDDLE[0] + 30, MIDDLE[1])
    assert measure_motion(one, other) is None
    motion = measure_motion(one, other, (20, 0))
    assert motion is not None
    assert motion.x_um == pytest.approx(30, abs=0.5)


def test_empty_glass_has_no_contrast_and_a_single_cell_has(take: Take, take_sparse: Take) -> None:
    assert take(-200, -200).contrast < MIN_CONTRAST / 2
    assert take_sparse(*MIDDLE).contrast > 2 * MIN_CONTRAST
    assert take(*MIDDLE).contrast > 5 * MIN_CONTRAST


def test_the_picture_of_a_large_frame_stays_small() -> None:
    image = np.full((1500, 2000, 3), 220, np.uint8)
    picture = make_picture(measure_field(image, 0.3))
    assert max(picture.levels.shape) <= 288
    assert picture.size_um == pytest.approx((600, 450))


def test_an_area_begins_once_two_pictures_agree(take: Take) -> None:
    stage = Stage()
    assert stage.locate(take(*MIDDLE), in_focus=True) is None
    stand = stage.locate(take(MIDDLE[0] + 20, MIDDLE[1]), in_focus=True)
    assert stand is not None
    assert stand.position == Position(1, 0, 0)
    assert stand.moved_um == pytest.approx(20, abs=0.5)


def test_no_area_begins_out_of_focus(take: Take) -> None:
    stage = Stage()
    blurred = take(*MIDDLE, defocus_um=2.0)
    assert [stage.locate(blurred, in_focus=False) for _ in range(3)] == [None] * 3
    assert stage.areas == 0


def test_errors_do_not_add_up_on_the_way_back(take: Take) -> None:
    stage = Stage()
    start = begin(stage, take(*MIDDLE))
    steps = [(MIDDLE[0] + 18 * math.sin(step / 3), MIDDLE[1] + 18 * (step % 9)) for step in range(45)]
    for x, y in steps:
        position = stands(stage, take(x, y))
        assert position is not None
        assert position.x_um == pytest.approx(x - MIDDLE[0], abs=1)
        assert position.y_um == pytest.approx(y - MIDDLE[1], abs=1)
    back = stands(stage, take(*MIDDLE))
    assert back is not None
    assert back.distance_um(start) < 0.2


def test_after_a_jump_a_new_area_begins_and_the_old_one_is_known_again(take: Take) -> None:
    stage = Stage()
    begin(stage, take(*MIDDLE))
    assert stands(stage, take(90, 70)) is None
    assert stands(stage, take(90, 70)) == Position(2, 0, 0)
    back = stands(stage, take(MIDDLE[0] + 25, MIDDLE[1] + 10))
    assert back is not None
    assert back.area == 1
    assert (back.x_um, back.y_um) == pytest.approx((25, 10), abs=0.5)
    assert stage.areas == 2


def test_frames_far_apart_are_followed_as_long_as_they_overlap(take: Take) -> None:
    stage = Stage()
    begin(stage, take(100, 100))
    for step in (1, 2, 3):
        position = stands(stage, take(100 + 75 * step, 100))
        assert position is not None
        assert (position.x_um, position.y_um) == pytest.approx((75 * step, 0), abs=1)


def test_areas_that_meet_become_one(take: Take) -> None:
    stage = Stage()
    begin(stage, take(100, 100))
    begin(stage, take(400, 100))
    assert stage.areas == 2
    for x in (350, 300, 250):
        position = stands(stage, take(x, 100))
        assert position is not None
        assert position.area == 2
    met = stands(stage, take(190, 100))
    assert met is not None
    assert met.area == 1
    assert (met.x_um, met.y_um) == pytest.approx((90, 0), abs=1)
    # What was seen of the second area is known as part of the first.
    for x in (250, 320, 390):
        position = stands(stage, take(x, 100))
        assert position is not None
        assert position.area == 1
        assert position.x_um == pytest.approx(x - 100, abs=1)


def test_a_place_lost_out_of_focus_is_found_again(take: Take) -> None:
    stage = Stage()
    begin(stage, take(*MIDDLE))
    for defocus in (1.0, 3.0, 8.0, 8.0):
        stands(stage, take(*MIDDLE, defocus_um=defocus), in_focus=False)
    position = stands(stage, take(MIDDLE[0] + 40, MIDDLE[1]))
    assert position is not None
    assert position.area == 1
    assert position.x_um == pytest.approx(40, abs=0.5)


def test_a_single_cell_is_followed_over_empty_glass(take_sparse: Take) -> None:
    stage = Stage()
    begin(stage, take_sparse(*MIDDLE))
    for step in range(1, 8):
        position = stands(stage, take_sparse(MIDDLE[0] + 6 * step, MIDDLE[1] + 3 * step))
        assert position is not None
        assert (position.x_um, position.y_um) == pytest.approx((6 * step, 3 * step), abs=1)


def test_frames_of_another_size_begin_a_new_area(take: Take) -> None:
    stage = Stage()
    begin(stage, take(*MIDDLE))
    picture = take(*MIDDLE)
    cropped = Picture(np.ascontiguousarray(picture.levels[:90, :120]), picture.um_per_pixel)
    assert begin(stage, cropped).area == 2
    assert stands(stage, picture) == pytest.approx(Position(1, 0, 0), abs=0.1)


def test_the_pictures_kept_are_few_and_spread_over_all_that_was_seen(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_motion, "KEYS_KEPT", 4)
    stage = Stage()
    begin(stage, take(80, 100))
    for x in range(110, 510, 30):
        assert stands(stage, take(x, 100)) is not None
    kept = sorted(position.x_um for position, _ in stage._keys.known)
    assert len(kept) == 4
    assert np.diff(kept).min() > 50
    # So the beginning is known again from anywhere.
    back = stands(stage, take(100, 110))
    assert back is not None
    assert back == pytest.approx(Position(1, 20, 10), abs=1)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), max_size=30))
def test_positions_add_up(ways: list[tuple[float, float]]) -> None:
    position = Position(1, 0.0, 0.0)
    for x, y in ways:
        position = position.moved(x, y)
    assert position.x_um == pytest.approx(sum(x for x, _ in ways), abs=1e-6)
    assert position.y_um == pytest.approx(sum(y for _, y in ways), abs=1e-6)
    there_and_back = Position(1, 0.0, 0.0).distance_um(position)
    assert there_and_back == pytest.approx(position.distance_um(Position(1, 0.0, 0.0)))
    assert position.distance_um(Position(2, position.x_um, position.y_um)) == math.inf
