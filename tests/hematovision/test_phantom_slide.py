"""The smear on its slide: laid out by its seed, the same in whatever order it is looked at."""

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from hematovision.errors import SettingError
from hematovision.phantom import ADULT_PERCENT, Slide, Smear
from hematovision.phantom import slide as slide_module
from hematovision.phantom.layout import LEUKOCYTES_APART_UM, scatter
from hematovision.phantom.slide import GLASS
from hematovision.red_cells import measure_red_cells

COARSE = 0.4  # µm per pixel: quickly drawn


def small_slide(seed: int = 1, stain: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Slide:
    return Slide(Smear(seed, 0.3, 0.25, COARSE, leukocytes_per_mm2=200, stain=stain))


def test_a_smear_has_the_leukocytes_that_were_asked_for() -> None:
    slide = Slide(Smear(3, 1.0, 2.0, COARSE, leukocytes_per_mm2=100))
    assert Counter(cell.class_name for cell in slide.cells) == {
        name: round(2 * percent) for name, percent in ADULT_PERCENT.items()
    }
    assert [cell.number for cell in slide.cells] == list(range(200))


def test_a_class_that_is_left_out_does_not_occur() -> None:
    smear = Smear(3, 1.0, 1.0, COARSE, leukocytes_per_mm2=40, class_percent={"monocyte": 1, "eosinophil": 3})
    counts = Counter(cell.class_name for cell in Slide(smear).cells)
    assert counts == {"monocyte": 10, "eosinophil": 30}


def test_leukocytes_are_on_the_slide_and_apart_even_when_crowded() -> None:
    slide = Slide(Smear(5, 0.5, 0.4, COARSE, leukocytes_per_mm2=1200, red_cells_per_mm2=0))
    assert len(slide.cells) == 240
    centers = np.array([cell.center_um for cell in slide.cells])
    assert (centers >= 0).all()
    assert (centers <= (500, 400)).all()
    distances = np.hypot(*(centers[:, None] - centers[None]).T)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() >= LEUKOCYTES_APART_UM


def test_more_cells_than_have_room_are_as_many_as_have() -> None:
    slide = Slide(Smear(5, 0.2, 0.2, COARSE, leukocytes_per_mm2=1e6, red_cells_per_mm2=0))
    # Discs dropped at random fill 0.547 of a plane before no more have room (Feder 1980).
    densest = 0.547 / (math.pi * (LEUKOCYTES_APART_UM / 2) ** 2) * 200 * 200
    assert 0.85 * densest < len(slide.cells) < 1.15 * densest


@pytest.mark.parametrize("size_um", [(0.5, 0.5), (10, 300), (40, 30)])
def test_places_scatter_over_the_whole_of_a_small_area_too(size_um: tuple[float, float]) -> None:
    places = np.vstack([scatter(np.random.default_rng(seed), size_um, 10.0) for seed in range(100)])
    assert len(places) >= 100
    assert places.min() >= 0
    assert (places <= size_um).all()
    assert places.mean(axis=0) == pytest.approx(np.array(size_um) / 2, rel=0.1)


def test_the_same_smear_looks_the_same_and_another_seed_does_not() -> None:
    one, same, other = (small_slide(seed).light(100, 100, 300, 200) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_slide_looks_the_same_in_whatever_order_it_is_looked_at() -> None:
    forward, backward = small_slide(), small_slide()
    corners = [(x, y) for x in (-40, 130, 310, 500) for y in (-30, 200, 410)]
    there = [forward.light(*corner, 330, 250) for corner in corners]
    back = [backward.light(*corner, 330, 250) for corner in reversed(corners)]
    for one, other in zip(there, reversed(back), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_dropped_from_memory_is_drawn_again_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_module, "_TILES_KEPT", 2)
    monkeypatch.setattr(slide_module, "_LEUKOCYTES_KEPT", 1)
    forgetful, other = small_slide(), small_slide()
    first = forgetful.light(0, 0, 700, 600)
    np.testing.assert_array_equal(first, forgetful.light(0, 0, 700, 600))
    monkeypatch.undo()
    np.testing.assert_array_equal(first, other.light(0, 0, 700, 600))


def test_a_long_way_over_a_slide_takes_no_more_memory_than_a_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slide_module, "_TILES_KEPT", 6)
    monkeypatch.setattr(slide_module, "_LEUKOCYTES_KEPT", 6)
    slide = Slide(Smear(1, 4.0, 0.1, COARSE))
    tracemalloc.start()
    try:
        levels = []
        for left in range(0, 10_000, 250):
            slide.light(left, 0, 250, 250)
            levels.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert levels[-1] - levels[9] < 300_000  # not two tiles


def test_a_rectangle_is_the_same_whether_it_is_cut_from_a_larger_one_or_not() -> None:
    slide = small_slide()
    whole = slide.light(-50, -60, 700, 600)
    np.testing.assert_array_equal(whole[70:300, 40:490], slide.light(-10, 10, 450, 230))


def test_far_beyond_the_slide_is_empty_glass() -> None:
    assert (small_slide().light(-500, 2000, 50, 40) == GLASS).all()


def test_a_slide_without_cells_is_empty_glass() -> None:
    smear = Smear(1, 0.2, 0.2, COARSE, 0, 0, 0)
    assert (Slide(smear).light(0, 0, 500, 500) == GLASS).all()
    assert Slide(smear).cells == ()


def test_leukocytes_can_be_placed_by_hand() -> None:
    slide = Slide(Smear(1, 0.1, 0.1, COARSE), [("eosinophil", (30.0, 40.0)), ("monocyte", (70.0, 60.0))])
    assert [(cell.class_name, cell.center_um) for cell in slide.cells] == [
        ("eosinophil", (30.0, 40.0)),
        ("monocyte", (70.0, 60.0)),
    ]


def test_red_cells_cover_as_much_as_their_number_says() -> None:
    covered = []
    for density in (3000.0, 9000.0):
        smear = Smear(2, 0.5, 0.5, COARSE, 0, density, 0)
        green = Slide(smear).light(0, 0, 1250, 1250)[..., 1]
        covered.append(np.mean(green < 0.9 * GLASS))
    area_mm2 = math.pi * 0.00375**2
    # Some of it lies on other red cells.
    assert 0.85 < covered[0] / (3000 * area_mm2) < 1.05
    assert 0.8 < covered[1] / (9000 * area_mm2) < 1.05


def test_most_red_cells_lie_single_and_some_on_each_other() -> None:
    smear = Smear(4, 0.25, 0.25, 0.2, 0, 9000, 0)
    light = Slide(smear).light(0, 0, 1250, 1250)
    single = len(measure_red_cells(light))
    assert 0.4 < single / (9000 * 0.25**2) < 0.95
    green = -np.log10(light[..., 1] / GLASS)
    body = np.median(green[green > 0.08])
    assert 0.002 < np.mean(green > 1.6 * body) < 0.08


def test_red_cells_lie_around_leukocytes_and_not_on_them() -> None:
    slide = Slide(Smear(6, 0.5, 0.5, COARSE, 150, red_cells_per_mm2=9000, platelets_per_mm2=0))
    bare = Slide(
        Smear(6, 0.5, 0.5, COARSE, 150, red_cells_per_mm2=0, platelets_per_mm2=0),
        [(cell.class_name, cell.center_um) for cell in slide.cells],
    )
    added = bare.light(0, 0, 1250, 1250)[..., 1] > slide.light(0, 0, 1250, 1250)[..., 1] + 0.05 * GLASS
    y, x = np.mgrid[:1250, :1250] * COARSE
    middle, around = np.zeros((2, 1250, 1250), bool)
    for cell in slide.cells:
        distance = np.hypot(x - cell.center_um[0], y - cell.center_um[1])
        middle |= distance < 4
        around |= (distance > 7) & (distance < 13)
    assert added[middle].mean() < 0.02
    assert added[around].mean() > 0.1


def test_a_nucleus_has_its_box_around_its_centre() -> None:
    slide = small_slide()
    for cell in slide.cells:
        area_um2, (left, top, right, bottom) = slide.nucleus(cell)
        assert left < cell.center_um[0] < right
        assert top < cell.center_um[1] < bottom
        assert area_um2 < (right - left) * (bottom - top)


def test_stain_multiplies_optical_density() -> None:
    pale = small_slide().light(0, 0, 400, 400).astype(float)
    deep = small_slide(stain=(1.0, 2.0, 1.0)).light(0, 0, 400, 400)
    expected = pale / GLASS
    expected[..., 1] **= 2
    np.testing.assert_allclose(deep, expected * GLASS, atol=1.6)


def test_a_leukocyte_of_no_class_is_refused() -> None:
    with pytest.raises(SettingError, match="'basophil'; known are neutrophil"):
        Slide(Smear(1, 0.1, 0.1, COARSE), [("basophil", (30.0, 40.0))])


@pytest.mark.parametrize("side", [0.0, -1.0, math.nan])
def test_a_slide_without_area_is_refused(side: float) -> None:
    with pytest.raises(SettingError, match="area"):
        Smear(1, side, 1.0)


@pytest.mark.parametrize(
    "percents", [{"basophil": 1.0}, {"neutrophil": 0.0}, {"monocyte": -1.0, "eosinophil": 3}]
)
def test_classes_that_are_none_are_refused(percents: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="neutrophil, eosinophil"):
        Smear(1, class_percent=percents)
