"""Finder: nuclei are found, red cells, platelets and black fill are not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from hematovision.finder import CellRegion, load_finder, most_prominent
from hematovision.optics import measure_field

GLASS = np.array([235, 232, 228], np.float64)
NUCLEUS = (0.35, 0.25, 0.6)
RED_CELL = (0.86, 0.62, 0.64)
UM_PER_PIXEL = 0.1


def draw(discs: list[tuple[float, float, float, tuple[float, float, float]]], size: int = 600) -> np.ndarray:
    """A picture of discs (x µm, y µm, diameter µm, transmittance), with edges one pixel soft."""
    field = np.ones((size, size, 3))
    y, x = np.mgrid[:size, :size] * UM_PER_PIXEL
    for center_x, center_y, diameter, transmittance in discs:
        distance = np.hypot(x - center_x, y - center_y) - diameter / 2
        inside = np.clip(0.5 - distance / UM_PER_PIXEL, 0, 1)[..., None]
        field = field * (1 - inside * (1 - np.array(transmittance)))
    noise = np.random.default_rng(0).normal(0, 1.5, field.shape)
    return np.clip(np.rint(field * GLASS + noise), 0, 255).astype(np.uint8)


def find(picture: np.ndarray, um_per_pixel: float = UM_PER_PIXEL) -> list[CellRegion]:
    return load_finder().find(measure_field(picture, um_per_pixel))


RED_CELLS = [(x, y, 7.5, RED_CELL) for x in range(5, 60, 11) for y in range(5, 60, 11)]


def test_a_nucleus_among_red_cells_is_found_where_it_is() -> None:
    regions = find(draw([*RED_CELLS, (31.0, 27.0, 8.0, NUCLEUS)]))
    assert len(regions) == 1
    assert np.hypot(regions[0].center[0] - 310, regions[0].center[1] - 270) < 3
    assert regions[0].nucleus_area_um2 == pytest.approx(np.pi * 16, rel=0.12)
    x, y, width, height = regions[0].box
    assert (x, y, width, height) == pytest.approx((270, 230, 80, 80), abs=8)
    assert not regions[0].touches_border


def test_red_cells_alone_are_nothing_even_stacked() -> None:
    stacked = [(30 + dx, 30.0, 7.5, RED_CELL) for dx in (0.0, 1.0, 2.0)]
    assert find(draw([*RED_CELLS, *stacked])) == []


def test_a_platelet_is_dropped_by_its_area() -> None:
    assert find(draw([*RED_CELLS, (31.0, 27.0, 2.8, NUCLEUS)])) == []


def test_three_lobes_are_one_cell() -> None:
    lobes = [(28.0, 27.0, 4.0, NUCLEUS), (32.5, 25.0, 4.0, NUCLEUS), (33.5, 30.5, 4.0, NUCLEUS)]
    regions = find(draw([*RED_CELLS, *lobes]))
    assert len(regions) == 1
    assert regions[0].nucleus_area_um2 == pytest.approx(3 * np.pi * 4, rel=0.2)


def test_two_cells_stay_two() -> None:
    regions = find(draw([*RED_CELLS, (20.0, 27.0, 8.0, NUCLEUS), (33.0, 27.0, 8.0, NUCLEUS)]))
    assert len(regions) == 2


def test_two_touching_cells_are_not_joined_wider_than_a_nucleus() -> None:
    regions = find(draw([(20.0, 27.0, 9.0, NUCLEUS), (30.0, 27.0, 9.0, NUCLEUS)]))
    assert len(regions) == 2


def test_a_nucleus_cut_by_the_border_says_so() -> None:
    regions = find(draw([*RED_CELLS, (0.0, 27.0, 8.0, NUCLEUS)]))
    assert [region.touches_border for region in regions] == [True]


def test_black_fill_is_no_nucleus_and_cuts_one() -> None:
    picture = draw([*RED_CELLS, (31.0, 27.0, 8.0, NUCLEUS)])
    matrix = cv2.getRotationMatrix2D((300, 300), 30, 1.0)
    turned = cv2.warpAffine(picture, matrix, (600, 600))
    assert len(find(turned)) == 1
    picture[:, :300] = 0  # through the nucleus, whose left edge is at 270
    regions = find(picture)
    assert [region.touches_border for region in regions] == [True]
    assert regions[0].center[0] > 300


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5])
def test_position_and_area_do_not_depend_on_the_pixels(factor: float) -> None:
    picture = draw([*RED_CELLS, (31.0, 27.0, 8.0, NUCLEUS)])
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=method)
    (region,) = find(resized, UM_PER_PIXEL / factor)
    (reference,) = find(picture)
    assert region.nucleus_area_um2 == pytest.approx(reference.nucleus_area_um2, rel=0.06)
    np.testing.assert_allclose(
        (np.array(region.center) + 0.5) / factor, np.array(reference.center) + 0.5, atol=2.5
    )


def test_a_sharp_nucleus_has_a_higher_focus_than_a_blurred_one() -> None:
    picture = draw([*RED_CELLS, (31.0, 27.0, 8.0, NUCLEUS)])
    (sharp,) = find(picture)
    (blurred,) = find(cv2.GaussianBlur(picture, (0, 0), 6))
    assert sharp.focus > 2 * blurred.focus


def test_an_empty_field_has_no_cell() -> None:
    assert find(draw([])) == []


def test_of_two_like_cells_the_one_in_the_middle_is_meant() -> None:
    picture = draw([(8.0, 8.0, 8.4, NUCLEUS), (30.0, 31.0, 8.0, NUCLEUS)])
    field = measure_field(picture, UM_PER_PIXEL)
    region = most_prominent(load_finder().find(field), field)
    assert region is not None
    assert region.center[0] == pytest.approx(300, abs=5)
    assert most_prominent([], field) is None


@pytest.mark.data
def test_annotated_leukocytes_of_real_fields_are_found(data_dir: Path) -> None:
    from benchmarks.finder import measure_finder

    results = {result.side: result for result in measure_finder(data_dir / "kaggle-blood-cells")}
    assert sum(result.boxes for result in results.values()) == 372
    for side in ("test", "train"):
        result = results[side]
        assert result.found / result.boxes >= 0.98
        assert result.false_regions / result.fields <= 0.15
