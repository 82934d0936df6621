"""A drawn field: its truth is right, and the finder sees it."""

import math

import numpy as np
import pytest

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import SettingError
from hematovision.finder import load_finder
from hematovision.optics import measure_field
from hematovision.phantom import draw_field, draw_view
from hematovision.red_cells import measure_red_cells, measure_scale


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("um_per_pixel", [0.08, 0.16])
def test_the_finder_finds_all_of_its_cells_and_nothing_else(seed: int, um_per_pixel: float) -> None:
    field = draw_field(seed, round(102.4 / um_per_pixel), round(76.8 / um_per_pixel), um_per_pixel)
    regions = load_finder().find(measure_field(field.image, um_per_pixel))
    assert len(regions) == len(field.cells) > 0
    for cell in field.cells:
        nearest = min(regions, key=lambda region: math.dist(region.center, cell.center))
        assert math.dist(nearest.center, cell.center) * um_per_pixel < 1.0
        # Some of a deep blue cytoplasm counts as nucleus; the blur takes some of one among granules.
        assert 0.75 < nearest.nucleus_area_um2 / cell.nucleus_area_um2 < 1.7
        assert not nearest.touches_border


def test_the_same_seed_draws_the_same_field_and_another_seed_another() -> None:
    first, again, other = (draw_field(seed, 320, 240, 0.2) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.cells == again.cells
    assert (first.image != other.image).any()


def test_a_field_has_the_size_asked_for_and_all_four_classes() -> None:
    field = draw_field(1, 1280, 960, 0.1)
    assert field.image.shape == (960, 1280, 3)
    assert field.image.dtype == np.uint8
    assert {cell.class_name for cell in field.cells} == set(CLASS_NAMES)


def test_nuclei_have_the_sizes_of_their_classes() -> None:
    areas: dict[str, list[float]] = {name: [] for name in CLASS_NAMES}
    for seed in range(4):
        for cell in draw_field(seed, 640, 480, 0.2).cells:
            areas[cell.class_name].append(cell.nucleus_area_um2)
    mean = {name: np.mean(values) for name, values in areas.items()}
    assert mean["monocyte"] > mean["lymphocyte"] > mean["neutrophil"]
    assert 20 < mean["neutrophil"] < 60
    assert 60 < mean["monocyte"] < 110


def test_its_red_cells_measure_its_scale() -> None:
    diameters = [measure_red_cells(draw_field(seed, 1280, 960, 0.1).image) for seed in range(2)]
    assert measure_scale(diameters).um_per_pixel == pytest.approx(0.1, rel=0.05)


def test_the_lamp_is_warm_and_dims_towards_the_corners() -> None:
    image = draw_field(2, 640, 480, 0.2).image
    glass = np.percentile(image[200:280, 270:370].reshape(-1, 3), 95, axis=0)
    corner = np.percentile(image[:60, :80].reshape(-1, 3), 95, axis=0)
    assert glass[0] > glass[1] > glass[2]
    assert (corner < 0.95 * glass).all()


@pytest.mark.parametrize("um_per_pixel", [0.0, math.nan])
def test_a_scale_that_is_none_is_refused(um_per_pixel: float) -> None:
    with pytest.raises(SettingError, match="µm per pixel"):
        draw_field(1, 640, 480, um_per_pixel)


def test_a_field_too_small_for_the_margins_still_has_a_cell_in_its_middle() -> None:
    field = draw_field(1, 160, 160, 0.1)
    assert len(field.cells) == 1
    assert math.dist(field.cells[0].center, (80, 80)) * 0.1 < 4


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_view_shows_one_cell_near_its_middle_that_the_finder_finds(name: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(6):
        view = draw_view(rng, name)
        assert view.image.shape == (400, 400, 3)
        (cell,) = view.cells
        assert (cell.class_name, cell.whole) == (name, True)
        assert max(abs(at - 199.5) for at in cell.center) <= 20
        regions = [
            region
            for region in load_finder().find(measure_field(view.image, 0.1))
            if not region.touches_border
        ]
        assert len(regions) == 1
        assert math.dist(regions[0].center, cell.center) < 10


def test_views_are_decided_by_the_generator_and_are_all_different() -> None:
    one, again = (draw_view(np.random.default_rng((2, 3)), "monocyte", 0.2, 30.0) for _ in range(2))
    np.testing.assert_array_equal(one.image, again.image)
    rng = np.random.default_rng(4)
    views = [draw_view(rng, "neutrophil", 0.4) for _ in range(12)]
    glass = np.array([np.percentile(view.image, 90, axis=(0, 1)) for view in views])
    assert (glass.std(axis=0) > 5).all()
    assert np.std([view.cells[0].nucleus_area_um2 for view in views]) > 1
    assert np.std([view.pose.defocus_um for view in views]) > 0.05


def test_a_view_of_no_class_is_refused() -> None:
    with pytest.raises(SettingError, match="'basophil'"):
        draw_view(np.random.default_rng(1), "basophil")
