"""Every cell counted once: places from drawn slides, matching and votes from made-up regions."""

import itertools
import math
import tracemalloc
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.cameras import Frame
from edge.stage_motion import Position
from edge.tracker import (
    AGREEING_LOOKS,
    MAX_LOOKS,
    Look,
    Place,
    Skipped,
    SkipReason,
    Track,
    TrackedCell,
    Tracker,
    is_settled,
    pool,
)
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.classifier import Prediction, decide
from hematovision.finder import CellRegion
from hematovision.optics import measure_field
from hematovision.phantom import Microscope, Pose, Slide, Smear

UM_PER_PIXEL = 0.2
WIDTH, HEIGHT = 640, 480
START = datetime(2024, 5, 1, 12, tzinfo=UTC)
DECLINE_BELOW = 0.6
CROP_SIDE = 48

Point = tuple[float, float]


def prediction(*probabilities: float) -> Prediction:
    return decide(np.array(probabilities), DECLINE_BELOW)


def saying(class_name: str, probability: float = 0.97) -> Prediction:
    rest = (1 - probability) / (len(CLASS_NAMES) - 1)
    return prediction(*(probability if name == class_name else rest for name in CLASS_NAMES))


NEUTROPHIL, EOSINOPHIL = saying("neutrophil"), saying("eosinophil")
UNSURE = prediction(0.4, 0.35, 0.15, 0.1)


class Nucleus(NamedTuple):
    """A nucleus of a made-up slide: its middle and its sides, in µm."""

    x_um: float
    y_um: float
    width_um: float = 8.0
    height_um: float = 8.0


def place_at(x_um: float, y_um: float, second: float = 0.0, area: int = 1) -> Place:
    size_um = WIDTH * UM_PER_PIXEL, HEIGHT * UM_PER_PIXEL
    return Place(Position(area, x_um, y_um), size_um, UM_PER_PIXEL, START + timedelta(seconds=second))


def region_of(place: Place, nucleus: Nucleus, focus: float = 0.01) -> CellRegion | None:
    """What the finder would see of a nucleus; None where it is out of view."""
    left, top, _, _ = place.window_um
    edges = (
        (nucleus.x_um - left - nucleus.width_um / 2, nucleus.x_um - left + nucleus.width_um / 2),
        (nucleus.y_um - top - nucleus.height_um / 2, nucleus.y_um - top + nucleus.height_um / 2),
    )
    (x0, x1), (y0, y1) = (
        (max(low / UM_PER_PIXEL, 0), min(high / UM_PER_PIXEL, side))
        for (low, high), side in zip(edges, (WIDTH, HEIGHT), strict=True)
    )
    if x1 - x0 < 5 or y1 - y0 < 5:
        return None
    cut = x0 == 0 or y0 == 0 or x1 == WIDTH or y1 == HEIGHT
    center, box = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2), (x0, y0, x1 - x0, y1 - y0)
    return CellRegion(center, box, 50.0, 20.0, focus, cut)


def regions_of(place: Place, nuclei: Iterable[Nucleus]) -> list[CellRegion]:
    return [region for nucleus in nuclei if (region := region_of(place, nucleus)) is not None]


def new_tracker() -> Tracker:
    return Tracker(crop_side_um=20.0, decline_below=DECLINE_BELOW)


def look(
    tracker: Tracker,
    place: Place,
    nuclei: Iterable[Nucleus],
    say: Prediction = NEUTROPHIL,
    level: int = 0,
) -> list[TrackedCell]:
    """A frame: its nuclei are followed, and what wants a look is called what ``say`` says."""
    tracks = [track for track in tracker.follow(place, regions_of(place, nuclei)) if track.wants_look]
    return vote(tracker, tracks, [say] * len(tracks), level)


def vote(
    tracker: Tracker, tracks: Sequence[Track], says: Sequence[Prediction], level: int = 0
) -> list[TrackedCell]:
    return tracker.vote(tracks, says, np.full((len(tracks), CROP_SIDE, CROP_SIDE, 3), level, np.uint8))


CELL = Nucleus(0.0, 0.0)


def test_a_cell_is_counted_after_looks_that_agree_and_never_again() -> None:
    tracker = new_tracker()
    counted = [look(tracker, place_at(3 * frame, 2 * frame, frame), [CELL]) for frame in range(20)]
    assert [len(cells) for cells in counted] == [0] * (AGREEING_LOOKS - 1) + [1] + [0] * (20 - AGREEING_LOOKS)
    (cell,) = counted[AGREEING_LOOKS - 1]
    assert (cell.number, cell.area, cell.class_name, cell.looks) == (1, 1, "neutrophil", AGREEING_LOOKS)
    assert cell.position_um == pytest.approx((0, 0), abs=0.2)
    assert cell.first_seen == START
    assert cell.confirmed_at == START + timedelta(seconds=AGREEING_LOOKS - 1)
    assert sum(cell.probabilities) == pytest.approx(1)
    assert tracker.figures == (1, 0, 0, 0)


def test_a_counted_cell_wants_no_further_look_but_is_followed() -> None:
    tracker = new_tracker()
    for frame in range(AGREEING_LOOKS):
        look(tracker, place_at(0, 0, frame), [CELL])
    (track,) = tracker.follow(place_at(20, 10), regions_of(place_at(20, 10), [CELL]))
    assert not track.wants_look
    assert track.counted
    assert vote(tracker, [track], [EOSINOPHIL]) == []


def test_tracks_come_in_the_order_of_the_regions() -> None:
    tracker, place = new_tracker(), place_at(0, 0)
    nuclei = [Nucleus(x, y) for x, y in ((-40, 0), (0, 30), (25, -20))]
    first = tracker.follow(place, regions_of(place, nuclei))
    again = tracker.follow(place, regions_of(place, reversed(nuclei)))
    assert again == first[::-1]


def test_looks_that_disagree_are_decided_together_after_the_last() -> None:
    tracker = new_tracker()
    says = [NEUTROPHIL, EOSINOPHIL, NEUTROPHIL, saying("neutrophil", 0.7)]
    counted = [look(tracker, place_at(0, 0, frame), [CELL], say) for frame, say in enumerate(says)]
    assert len(says) == MAX_LOOKS
    assert [len(cells) for cells in counted] == [0, 0, 0, 1]
    assert counted[-1][0].class_name == "neutrophil"
    assert counted[-1][0].looks == MAX_LOOKS


def test_a_cell_that_no_look_is_sure_of_stays_unclassified() -> None:
    tracker = new_tracker()
    counted = [look(tracker, place_at(0, 0, frame), [CELL], UNSURE) for frame in range(MAX_LOOKS)]
    assert [len(cells) for cells in counted] == [0] * (MAX_LOOKS - 1) + [1]
    assert counted[-1][0].class_name == UNCLASSIFIED


def test_the_crop_is_that_of_the_look_that_counted_most() -> None:
    tracker = new_tracker()
    counted: list[TrackedCell] = []
    for frame, (focus, level) in enumerate(((0.01, 1), (0.03, 2), (0.02, 3))):
        place = place_at(0, 0, frame)
        region = region_of(place, CELL, focus)
        assert region is not None
        counted += vote(tracker, tracker.follow(place, [region]), [NEUTROPHIL], level)
    (cell,) = counted
    assert cell.crop.shape == (CROP_SIDE, CROP_SIDE, 3)
    assert (cell.crop == 2).all()
    assert cell.focus == 0.03


@pytest.mark.parametrize("border", ["left", "top"])
def test_a_cut_cell_is_not_looked_at_and_is_the_same_cell_once_whole(border: str) -> None:
    tracker = new_tracker()
    # A little more of it in each frame, until it is whole.
    offsets = [64 + 4 - shown if border == "left" else 48 + 4 - shown for shown in (1.5, 3, 5, 7, 10, 14, 20)]
    numbers, counted = [], []
    for frame, offset in enumerate(offsets):
        x, y = (offset, 0) if border == "left" else (0, offset)
        place = place_at(x, y, frame)
        regions = regions_of(place, [CELL])
        (track,) = tracker.follow(place, regions)
        assert track.wants_look is not regions[0].touches_border
        numbers.append(track.number)
        if track.wants_look:
            counted += vote(tracker, [track], [NEUTROPHIL])
    assert set(numbers) == {1}
    assert len(counted) == 1


def test_a_whole_cell_that_leaves_the_frame_is_the_same_cell_to_the_end() -> None:
    tracker = new_tracker()
    for frame, x in enumerate((0.0, 30.0, 58.0, 62.0, 65.0, 66.5)):
        place = place_at(x, 0, frame)
        (track,) = tracker.follow(place, regions_of(place, [CELL]))
        assert track.number == 1


def test_a_cell_only_seen_cut_is_never_counted_and_has_its_own_figure() -> None:
    tracker = new_tracker()
    for frame in range(20):
        assert look(tracker, place_at(66, 0, frame), [CELL]) == []
    assert tracker.figures == (0, 0, 1, 0)


def test_neighbours_eight_micrometres_apart_both_count() -> None:
    tracker = new_tracker()
    nuclei = [Nucleus(0, 0, 7, 7), Nucleus(8, 0, 7, 7), Nucleus(4, 7, 6, 6)]
    counted = [
        cell for frame in range(10) for cell in look(tracker, place_at(5 * frame, -3 * frame, frame), nuclei)
    ]
    assert len(counted) == 3


def test_a_nucleus_found_in_two_parts_now_and_then_counts_once() -> None:
    tracker = new_tracker()
    whole = [Nucleus(0, 0, 12, 6)]
    parts = [Nucleus(-3.2, 0, 5.6, 6), Nucleus(3.4, 0, 5.2, 5)]
    counted = [
        cell
        for frame in range(30)
        for cell in look(tracker, place_at(frame, 0, frame), parts if frame % 3 else whole)
    ]
    assert len(counted) == 1
    assert tracker.figures.repeated <= 2


def test_two_cells_found_as_one_now_and_then_count_twice() -> None:
    tracker = new_tracker()
    apart = [Nucleus(-5, 0), Nucleus(5, 0)]
    merged = [Nucleus(0, 0, 18, 8)]
    counted = [
        cell
        for frame in range(30)
        for cell in look(tracker, place_at(frame, 0, frame), merged if frame % 4 == 3 else apart)
    ]
    assert len(counted) == 2


def test_what_shows_up_once_is_never_counted_but_shown_as_seen() -> None:
    tracker = new_tracker()
    look(tracker, place_at(0, 0), [CELL, Nucleus(20, 20)])
    counted = [cell for frame in range(30) for cell in look(tracker, place_at(0, 0, frame), [CELL])]
    assert len(counted) == 1
    assert tracker.figures.unconfirmed == 1


def test_looks_before_and_after_the_slide_was_elsewhere_add_up() -> None:
    tracker = new_tracker()
    assert look(tracker, place_at(0, 0, 0), [CELL]) == []
    for frame in range(1, 5):
        look(tracker, place_at(300 * frame, 0, frame), [])
    for frame in range(5, 4 + AGREEING_LOOKS):
        counted = look(tracker, place_at(30, 20, frame), [CELL])
    (cell,) = counted
    assert cell.looks == AGREEING_LOOKS
    assert cell.first_seen == START


def test_the_same_spot_of_another_area_is_another_cell() -> None:
    tracker = new_tracker()
    counted = [
        cell
        for area in (1, 2)
        for frame in range(5)
        for cell in look(tracker, place_at(0, 0, frame, area), [CELL])
    ]
    assert [(cell.number, cell.area) for cell in counted] == [(1, 1), (2, 2)]


positions = st.tuples(st.floats(-80, 80), st.floats(-60, 60))


@st.composite
def nuclei_apart(draw: st.DrawFn) -> list[Nucleus]:
    nuclei: list[Nucleus] = []
    for x, y in draw(st.lists(positions, min_size=1, max_size=12)):
        if all(math.hypot(x - other.x_um, y - other.y_um) >= 15 for other in nuclei):
            nuclei.append(Nucleus(x, y, draw(st.floats(5, 12)), draw(st.floats(5, 12))))
    return nuclei


@given(nuclei_apart(), st.lists(positions, min_size=1, max_size=25), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_on_any_path_each_cell_counts_once_if_it_was_whole_often_enough(
    nuclei: list[Nucleus], path: list[Point], seed: int
) -> None:
    """Places that are off by half a µm, boxes that are, and frames in which a cell is not found."""
    rng = np.random.default_rng(seed)
    tracker = new_tracker()
    whole = [0] * len(nuclei)
    counts = [0] * len(nuclei)
    for frame, (x, y) in enumerate(path):
        place = place_at(x, y, frame)
        off = rng.uniform(-0.5, 0.5, 2)
        believed = place_at(x + off[0], y + off[1], frame)
        regions, shown = [], []
        for index, nucleus in enumerate(nuclei):
            box = Nucleus(*(value + rng.uniform(-0.4, 0.4) for value in nucleus))
            region = region_of(place, box)
            if region is not None and rng.random() > 0.05:
                regions.append(region)
                shown.append(index)
                whole[index] += not region.touches_border
        tracks = tracker.follow(believed, regions)
        assert len({track.number for track in tracks}) == len(tracks)
        before = [track.counted for track in tracks]
        wanted = [track for track in tracks if track.wants_look]
        vote(tracker, wanted, [NEUTROPHIL] * len(wanted))
        for index, track, counted_before in zip(shown, tracks, before, strict=True):
            counts[index] += track.counted and not counted_before
    assert counts == [int(looks >= AGREEING_LOOKS) for looks in whole]
    figures = tracker.figures
    assert figures.confirmed == sum(counts)
    assert figures.unconfirmed == sum(0 < looks < AGREEING_LOOKS for looks in whole)


probabilities = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda values: sum(values) > 0.01)
some_looks = st.lists(
    st.tuples(probabilities, st.floats(1e-6, 10)).map(
        lambda made: Look(prediction(*(value / sum(made[0]) for value in made[0])), made[1])
    ),
    min_size=1,
    max_size=MAX_LOOKS,
)


@given(some_looks)
def test_the_order_of_looks_does_not_matter(looks: list[Look]) -> None:
    expected, settled = pool(looks), is_settled(looks)
    for order in itertools.permutations(looks):
        assert pool(order) == pytest.approx(expected)
        assert is_settled(order) == settled


@given(some_looks)
def test_looks_together_are_probabilities(looks: list[Look]) -> None:
    pooled = pool(looks)
    assert pooled.sum() == pytest.approx(1)
    assert (pooled > 0).all()


@given(some_looks, st.floats(0.01, 100))
def test_only_the_proportion_of_weights_matters(looks: list[Look], factor: float) -> None:
    scaled = [Look(one.prediction, one.weight * factor) for one in looks]
    assert pool(scaled) == pytest.approx(pool(looks))


@given(some_looks)
def test_looks_that_say_the_same_say_it_together(looks: list[Look]) -> None:
    same = [Look(looks[0].prediction, one.weight) for one in looks]
    assert pool(same) == pytest.approx(np.array(looks[0].prediction.probabilities), abs=1e-4)


def test_a_sharper_look_counts_more() -> None:
    looks = [Look(saying("neutrophil", 0.9), 3.0), Look(saying("eosinophil", 0.9), 1.0)]
    assert pool(looks).argmax() == CLASS_NAMES.index("neutrophil")


def test_a_look_at_a_cell_with_a_part_beyond_the_border_counts_less() -> None:
    tracker, place = new_tracker(), place_at(0, 0)
    # Both nuclei are whole; half of the square around the second lies beyond the frame, but for its nucleus.
    regions = regions_of(place, [CELL, Nucleus(64 - 4.5, 0)])
    middle, border = tracker.follow(place, regions)
    assert border.wants_look
    assert border.view == pytest.approx(middle.view * 14.5 / 20, rel=0.02)


def test_crops_are_kept_for_a_few_cells_only() -> None:
    tracker = new_tracker()
    for stop in range(100):
        look(tracker, place_at(200 * stop, 0, stop), [Nucleus(200 * stop, 0)])
    assert len(tracker._crops) <= 32
    # A cell whose crop was let go is counted with that of a later look.
    counted = [
        cell for frame in range(3) for cell in look(tracker, place_at(0, 0, 200 + frame), [CELL], level=9)
    ]
    assert len(counted) == 1
    assert (counted[0].crop == 9).all()


def test_memory_stays_level_over_many_cells_and_much_debris() -> None:
    tracker = new_tracker()
    rng = np.random.default_rng(0)
    before = 0
    tracemalloc.start()
    try:
        for frame in range(5000):
            stop = frame // 5
            place = place_at(90 * (stop % 100), 70 * (stop // 100), frame)
            x, y = place.position.x_um, place.position.y_um
            nuclei = [Nucleus(x, y)]
            if frame % 10 == 0:
                nuclei.append(Nucleus(x + rng.uniform(20, 40), y + rng.uniform(-30, 30), 4, 4))
            look(tracker, place, nuclei)
            if frame == 500:
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert tracker.figures.confirmed == 1000
    assert grown < 1e6


# From here on with pictures of a drawn slide.


class Scope:
    """A tracker behind a microscope."""

    def __init__(self, slide: Slide, noise: float = 1.3) -> None:
        self.tracker = new_tracker()
        self._microscope = Microscope(slide, WIDTH, HEIGHT, noise=noise)

    def locate(self, x_um: float, y_um: float, **how: object) -> Place | Skipped:
        image = self._microscope.look(Pose(x_um, y_um, **how)).image  # type: ignore[arg-type]
        return self.show(image)

    def show(self, image: np.ndarray) -> Place | Skipped:
        frame = Frame.now(image, 0, UM_PER_PIXEL, "phantom")
        return self.tracker.locate(frame, measure_field(image, UM_PER_PIXEL))

    def reason(self, x_um: float, y_um: float, **how: object) -> SkipReason | None:
        result = self.locate(x_um, y_um, **how)
        return result.reason if isinstance(result, Skipped) else None


@pytest.fixture(scope="module")
def slide() -> Slide:
    return Slide(Smear(3, 0.6, 0.4, UM_PER_PIXEL, leukocytes_per_mm2=200))


@pytest.fixture
def scope(slide: Slide) -> Scope:
    """A tracker that has found its place at (200, 200)."""
    scope = Scope(slide)
    assert scope.reason(200, 200) is SkipReason.LOST
    for _ in range(3):
        assert scope.reason(200, 200) is None
    return scope


def test_a_place_is_in_micrometres_from_where_the_area_began(scope: Scope) -> None:
    scope.locate(240, 220)
    place = scope.locate(240, 220)
    assert isinstance(place, Place)
    assert place.position == pytest.approx((1, 40, 20), abs=0.5)
    left, top, right, bottom = place.window_um
    assert (right - left, bottom - top) == pytest.approx((128, 96))
    middle = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    assert place.on_slide(middle) == pytest.approx((place.position.x_um, place.position.y_um))
    assert place.on_slide((-0.5, -0.5)) == pytest.approx((left, top))


def test_a_moving_frame_is_skipped_and_a_trembling_one_is_not(scope: Scope) -> None:
    assert scope.reason(200.4, 199.8) is None
    assert scope.reason(210, 200) is SkipReason.MOVING
    assert scope.reason(225, 200) is SkipReason.MOVING
    assert scope.reason(225, 200) is None
    assert scope.tracker.skipped[SkipReason.MOVING] == 2


def test_frames_out_of_focus_are_skipped_and_the_place_is_kept(scope: Scope) -> None:
    for defocus in (0.8, 1.5, 0.8):
        assert scope.reason(200, 200, defocus_um=defocus) is SkipReason.BLURRED
    assert scope.reason(200, 200) is None
    assert scope.tracker.areas == 1


def test_an_overexposed_frame_is_skipped_and_the_place_is_kept(scope: Scope) -> None:
    assert scope.reason(200, 200, exposure=2.0) is SkipReason.OVEREXPOSED
    assert scope.reason(200, 200) is None


@pytest.mark.parametrize("exposure", [0.4, 0.7, 1.15])
def test_a_change_of_light_is_no_reason_to_skip(scope: Scope, exposure: float) -> None:
    assert scope.reason(200, 200, exposure=exposure) is None


def test_empty_glass_is_skipped_and_the_place_found_again_beside_it(scope: Scope) -> None:
    for x in (230, 260, 290):
        scope.locate(200, x)
    for y in (-300, -300, -300):
        assert scope.reason(200, y) is SkipReason.BLANK
    scope.locate(200, 200)
    place = scope.locate(200, 200)
    assert isinstance(place, Place)
    assert place.position == pytest.approx((1, 0, 0), abs=0.5)


def test_a_field_of_red_cells_only_has_a_place() -> None:
    scope = Scope(Slide(Smear(3, 0.4, 0.3, UM_PER_PIXEL, leukocytes_per_mm2=0, platelets_per_mm2=0)))
    assert scope.reason(150, 150) is SkipReason.LOST
    assert [scope.reason(150, 150) for _ in range(3)] == [None] * 3


def test_a_noisy_and_soft_camera_is_not_skipped(slide: Slide) -> None:
    scope = Scope(slide, noise=6)
    reasons = [scope.reason(200, 200, defocus_um=0.4) for _ in range(30)]
    assert reasons == [SkipReason.LOST] + [None] * 29


def test_after_a_jump_the_display_says_that_cells_may_be_counted_again(scope: Scope) -> None:
    assert scope.tracker.areas_note is None
    assert scope.reason(450, 90) is SkipReason.LOST
    place = scope.locate(450, 90)
    assert isinstance(place, Place)
    assert place.position == Position(2, 0, 0)
    assert scope.tracker.areas == 2
    assert "may be counted again" in str(scope.tracker.areas_note)


def test_after_a_jump_back_the_first_area_goes_on(scope: Scope) -> None:
    for _ in range(3):
        scope.locate(450, 90)
    scope.locate(215, 205)
    place = scope.locate(215, 205)
    assert isinstance(place, Place)
    assert place.position == pytest.approx((1, 15, 5), abs=0.5)


def test_a_camera_that_pauses_goes_on_where_it_was(scope: Scope) -> None:
    # However long it took: only pictures tell.
    assert scope.reason(270, 200) is SkipReason.MOVING
    place = scope.locate(270, 200)
    assert isinstance(place, Place)
    assert place.position == pytest.approx((1, 70, 0), abs=0.5)


def test_frames_of_another_size_begin_a_new_area(scope: Scope, slide: Slide) -> None:
    small = Microscope(slide, 480, 360).look(Pose(200, 200)).image
    assert scope.show(small) == Skipped(SkipReason.LOST)
    place = scope.show(small)
    assert isinstance(place, Place)
    assert place.position.area == 2


def test_a_new_tracker_knows_nothing_of_another(scope: Scope, slide: Slide) -> None:
    again = Scope(slide)
    assert again.reason(260, 200) is SkipReason.LOST
    place = again.locate(260, 200)
    assert isinstance(place, Place)
    assert place.position == Position(1, 0, 0)


def test_cells_of_areas_that_meet_are_known_in_both(slide: Slide) -> None:
    scope = Scope(slide)
    tracker = scope.tracker
    cell = Nucleus(300, 0)  # as the first area has it

    def stand(x_um: float) -> tuple[Place, list[TrackedCell]]:
        places: list[Place] = []
        counted: list[TrackedCell] = []
        for _ in range(AGREEING_LOOKS + 2):
            place = scope.locate(x_um, 100)
            if isinstance(place, Place):
                # Where the cell is in this frame does not depend on what the tracker takes the place to be.
                offset = x_um - 100 - place.position.x_um
                counted += look(tracker, place, [Nucleus(cell.x_um - offset, place.position.y_um)])
                places.append(place)
        return places[-1], counted

    stand(100)
    far, counted = stand(400)
    assert far.position.area == 2
    assert len(counted) == 1
    for x in (340, 280, 220, 160):
        place, counted = stand(x)
        assert counted == []
    assert place.position.area == 1
    # Known as part of the first area, the cell is not counted again on the way back.
    for x in (220, 280, 340, 400):
        place, counted = stand(x)
        assert place.position.area == 1
        assert counted == []
    assert tracker.figures.confirmed == 1
