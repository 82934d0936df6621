"""Drawn cells have the sizes, nuclei and colours of an atlas, and the finder takes them for what they are."""

import itertools
import math
from collections import Counter
from functools import cache

import cv2
import numpy as np
import pytest

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import SettingError
from hematovision.finder import load_finder
from hematovision.optics import measure_field
from hematovision.phantom.morphology import Drawing, draw_leukocyte, draw_platelet, draw_red_cell
from hematovision.red_cells import RED_CELL_UM, measure_red_cells

UM_PER_PIXEL = 0.1
FAINTEST = 0.04  # green optical density that a cell has everywhere and glass nowhere
LIGHT = np.array((238.0, 226.0, 196.0))


@cache
def leukocytes(class_name: str, count: int = 40) -> tuple[Drawing, ...]:
    return tuple(
        draw_leukocyte(np.random.default_rng(seed), class_name, UM_PER_PIXEL) for seed in range(count)
    )


def cell_mask(drawing: Drawing) -> np.ndarray:
    """The cell, its vacuoles filled."""
    stained = (drawing.density[..., 1] > FAINTEST).astype(np.uint8)
    outlines, _ = cv2.findContours(stained, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(stained)
    cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled.astype(bool)


def diameter_um(mask: np.ndarray) -> float:
    return 2 * math.sqrt(mask.sum() / math.pi) * UM_PER_PIXEL


def lobes(drawing: Drawing) -> int:
    """The most parts that a nucleus falls into as it is eroded."""
    depth_um = cv2.distanceTransform(drawing.nucleus.astype(np.uint8), cv2.DIST_L2, 5) * UM_PER_PIXEL
    return max(
        int((cv2.connectedComponentsWithStats((depth_um > eroded).astype(np.uint8))[2][1:, 4] > 15).sum())
        for eroded in np.arange(0.3, 1.4, 0.2)
    )


def photograph(density: np.ndarray) -> np.ndarray:
    light = cv2.GaussianBlur(10**-density, (0, 0), 1.2) * LIGHT
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def put(density: np.ndarray, drawing: Drawing, x: int, y: int) -> None:
    reach = len(drawing.density) // 2
    density[y - reach : y + reach + 1, x - reach : x + reach + 1] += drawing.density


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_same_state_of_the_generator_draws_the_same_cell_and_the_next_another(class_name: str) -> None:
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    first, same = (draw_leukocyte(one, class_name, 0.1) for one in (rng, again))
    np.testing.assert_array_equal(first.density, same.density)
    np.testing.assert_array_equal(first.nucleus, same.nucleus)
    following = draw_leukocyte(rng, class_name, 0.1)
    assert following.density.shape != first.density.shape or (following.density != first.density).any()


@pytest.mark.parametrize("class_name", CLASS_NAMES)
@pytest.mark.parametrize("um_per_pixel", [0.05, 0.083, 0.166, 0.4])
def test_a_cell_is_the_same_at_any_scale(class_name: str, um_per_pixel: float) -> None:
    reference = draw_leukocyte(np.random.default_rng(5), class_name, 0.1)
    drawing = draw_leukocyte(np.random.default_rng(5), class_name, um_per_pixel)
    height, width, channels = drawing.density.shape
    assert channels == 3
    assert height == width == len(drawing.nucleus)
    assert height % 2 == 1  # a pixel is the middle
    assert drawing.density.dtype == np.float32
    area = um_per_pixel**2
    assert drawing.nucleus.sum() * area == pytest.approx(reference.nucleus.sum() * 0.01, rel=0.02)
    np.testing.assert_allclose(
        drawing.density.sum(axis=(0, 1)) * area, reference.density.sum(axis=(0, 1)) * 0.01, rtol=0.01
    )


@pytest.mark.parametrize(
    ("class_name", "smallest", "median", "largest"),
    [
        ("neutrophil", 12.0, 13.3, 14.5),
        ("eosinophil", 12.0, 13.8, 15.5),
        ("monocyte", 14.0, 16.3, 18.5),
        ("lymphocyte", 8.0, 10.0, 13.5),
    ],
)
def test_leukocytes_have_the_diameters_of_an_atlas(
    class_name: str, smallest: float, median: float, largest: float
) -> None:
    diameters = [diameter_um(cell_mask(drawing)) for drawing in leukocytes(class_name)]
    assert smallest < min(diameters)
    assert max(diameters) < largest
    assert np.median(diameters) == pytest.approx(median, abs=0.7)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_nucleus_is_one_and_lies_inside_its_cell_and_the_cell_inside_the_array(class_name: str) -> None:
    for drawing in leukocytes(class_name):
        count, *_ = cv2.connectedComponents(drawing.nucleus.astype(np.uint8))
        assert count - 1 == 1  # lobes hang together by threads
        assert not (drawing.nucleus & ~cell_mask(drawing)).any()
        border = np.concatenate([drawing.density[[0, -1]].ravel(), drawing.density[:, [0, -1]].ravel()])
        assert border.max() < 0.01
        assert drawing.density.min() >= 0


def test_a_lymphocyte_is_mostly_nucleus_and_a_monocyte_is_not() -> None:
    share = {
        name: np.median([one.nucleus.sum() / cell_mask(one).sum() for one in leukocytes(name)])
        for name in CLASS_NAMES
    }
    assert share["lymphocyte"] > 0.6
    assert share["monocyte"] < 0.5
    assert share["neutrophil"] < 0.45


def test_granulocytes_have_the_lobes_of_their_class_and_the_others_none() -> None:
    counts = {name: Counter(lobes(drawing) for drawing in leukocytes(name)) for name in CLASS_NAMES}
    assert set(counts["neutrophil"]) <= {1, 2, 3, 4, 5}  # lobes that lie on each other count as one
    assert sum(counts["neutrophil"][lobes] for lobes in (3, 4, 5)) >= 20
    assert counts["eosinophil"][2] >= 25
    assert max(counts["eosinophil"]) == 3
    assert counts["lymphocyte"] == counts["monocyte"] == {1: 40}


def test_cytoplasm_has_the_colour_of_its_class() -> None:
    red, green, blue = {}, {}, {}
    for name in CLASS_NAMES:
        stains = []
        for drawing in leukocytes(name):
            bare = cv2.erode(cell_mask(drawing).astype(np.uint8), np.ones((7, 7))).astype(bool)
            bare &= ~cv2.dilate(drawing.nucleus.astype(np.uint8), np.ones((9, 9))).astype(bool)
            if bare.sum() > 100:
                stains.append(np.median(drawing.density[bare], axis=0))
        red[name], green[name], blue[name] = np.median(stains, axis=0)
    # Orange-red granules absorb green and blue and let red through.
    assert green["eosinophil"] > 2 * red["eosinophil"]
    assert blue["eosinophil"] > 1.5 * red["eosinophil"]
    assert green["eosinophil"] > 2 * green["neutrophil"]
    # Sky blue: red is absorbed most, blue hardly.
    assert red["lymphocyte"] > green["lymphocyte"] > 3 * blue["lymphocyte"]
    # Grey blue: red and green alike, and some blue.
    assert red["monocyte"] == pytest.approx(green["monocyte"], rel=0.3)
    assert blue["monocyte"] > 2 * blue["lymphocyte"]
    # Pale pink.
    assert red["neutrophil"] < green["neutrophil"] < 0.15


def test_granules_of_an_eosinophil_are_seen_where_those_of_a_neutrophil_are_too_fine() -> None:
    def contrast(name: str) -> float:
        """Deviation of the cytoplasm's green density, seen a little out of focus."""
        deviations = []
        for drawing in leukocytes(name)[:20]:
            bare = cv2.erode(cell_mask(drawing).astype(np.uint8), np.ones((11, 11))).astype(bool)
            bare &= ~cv2.dilate(drawing.nucleus.astype(np.uint8), np.ones((15, 15))).astype(bool)
            deviations.append(cv2.GaussianBlur(drawing.density[..., 1], (0, 0), 2.5)[bare].std())
        return float(np.median(deviations))

    assert contrast("eosinophil") > 1.5 * contrast("neutrophil")


def test_monocytes_have_vacuoles() -> None:
    holes = 0
    for drawing in leukocytes("monocyte"):
        inside = cv2.erode(cell_mask(drawing).astype(np.uint8), np.ones((9, 9))).astype(bool)
        holes += (inside & (drawing.density[..., 1] < 0.06)).sum() * UM_PER_PIXEL**2 > 0.3
    assert holes >= 30


def test_red_cells_are_7_5_um_wide_by_the_project_s_own_measure_and_paler_in_their_middle() -> None:
    diameters = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        density = np.zeros((900, 900, 3), np.float32)
        for row, column in itertools.product(range(8), range(8)):
            drawing = draw_red_cell(rng, UM_PER_PIXEL)
            put(density, drawing, 65 + 110 * column, 65 + 110 * row)
            assert not drawing.nucleus.any()
            middle = len(drawing.density) // 2
            assert drawing.density[middle, middle, 1] < 0.95 * drawing.density[..., 1].max()
        image = photograph(density)
        diameters.append(measure_red_cells(image) * UM_PER_PIXEL)
        assert load_finder().find(measure_field(image, UM_PER_PIXEL)) == []
    pooled = np.concatenate(diameters)
    assert len(pooled) > 240
    assert np.median(pooled) == pytest.approx(RED_CELL_UM, rel=0.02)
    assert 0.02 < pooled.std() / RED_CELL_UM < 0.08


def test_platelets_are_2_to_3_um_some_clumped_and_never_found_as_leukocytes() -> None:
    rng = np.random.default_rng(1)
    widths, density = [], np.zeros((900, 900, 3), np.float32)
    for row, column in itertools.product(range(8), range(8)):
        drawing = draw_platelet(rng, UM_PER_PIXEL)
        put(density, drawing, 65 + 110 * column, 65 + 110 * row)
        widths.append(diameter_um(drawing.density[..., 1] > FAINTEST))
        assert not drawing.nucleus.any()
    assert 2 < np.median(widths) < 3
    assert 2 <= sum(width > 3.3 for width in widths) <= 16
    assert load_finder().find(measure_field(photograph(density), UM_PER_PIXEL)) == []


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_finder_finds_one_cell_where_the_nucleus_is(class_name: str) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        density = np.zeros((480, 480, 3), np.float32)
        cell = draw_leukocyte(rng, class_name, UM_PER_PIXEL)
        put(density, cell, 240, 240)
        for turn in np.arange(5) * 2 * math.pi / 5:
            x, y = 240 + 135 * np.array((math.cos(turn), math.sin(turn)))
            put(density, draw_red_cell(rng, UM_PER_PIXEL), round(x), round(y))
        (region,) = load_finder().find(measure_field(photograph(density), UM_PER_PIXEL))
        rows, columns = np.nonzero(cell.nucleus)
        offset = 240 - len(cell.nucleus) // 2
        center = columns.mean() + offset, rows.mean() + offset
        assert math.dist(region.center, center) * UM_PER_PIXEL < 1.0
        # Granules as dense as a nucleus blur its outline at the finder's scale.
        within = 0.55 if class_name == "eosinophil" else 0.3
        assert region.nucleus_area_um2 == pytest.approx(len(rows) * UM_PER_PIXEL**2, rel=within)


def test_a_class_that_is_none_of_the_four_is_refused() -> None:
    with pytest.raises(SettingError, match=r"'basophil'.*neutrophil, eosinophil"):
        draw_leukocyte(np.random.default_rng(0), "basophil", 0.1)


@pytest.mark.parametrize("um_per_pixel", [0.0, math.nan])
def test_a_scale_that_is_none_is_refused(um_per_pixel: float) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SettingError, match="µm per pixel"):
        draw_leukocyte(rng, "neutrophil", um_per_pixel)
    with pytest.raises(SettingError, match="µm per pixel"):
        draw_red_cell(rng, um_per_pixel)
    with pytest.raises(SettingError, match="µm per pixel"):
        draw_platelet(rng, um_per_pixel)
