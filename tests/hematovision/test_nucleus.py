"""Nuclei: outlined where they are, their lobes joined, neighbours and what lies around left out."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from hematovision.nucleus import Nucleus, measure_nucleus
from hematovision.optics import WORKING_UM_PER_PIXEL, measure_field

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


def outline(
    picture: np.ndarray,
    x_um: float,
    y_um: float,
    others: Sequence[tuple[float, float]] = (),
    scale: float = UM_PER_PIXEL,
) -> Nucleus | None:
    """The nucleus at a place of the slide; ``others`` are places too."""
    field = measure_field(picture, scale)
    px = [
        (x / WORKING_UM_PER_PIXEL - 0.5, y / WORKING_UM_PER_PIXEL - 0.5) for x, y in ((x_um, y_um), *others)
    ]
    return measure_nucleus(field, px[0], px[1:])


def place_um(nucleus: Nucleus) -> np.ndarray:
    return (np.array(nucleus.center) + 0.5) * WORKING_UM_PER_PIXEL


# None of them where nuclei are drawn.
RED_CELLS = [
    (x, y, 7.5, RED_CELL) for x in range(5, 60, 11) for y in range(5, 60, 11) if np.hypot(x - 31, y - 27) > 8
]
# Chromatin of other stains: blue, magenta, grey, and pale.
STAINS = [NUCLEUS, (0.3, 0.35, 0.75), (0.7, 0.2, 0.5), (0.4, 0.35, 0.42), (0.72, 0.6, 0.8)]


@pytest.mark.parametrize("stain", STAINS)
def test_a_nucleus_among_red_cells_is_outlined_whatever_its_colour(stain: tuple[float, float, float]) -> None:
    nucleus = outline(draw([*RED_CELLS, (31.0, 27.0, 8.0, stain)]), 31.5, 26.5)
    assert nucleus is not None
    np.testing.assert_allclose(place_um(nucleus), (31, 27), atol=0.35)
    assert nucleus.area_um2 == pytest.approx(np.pi * 16, rel=0.2)
    np.testing.assert_allclose(np.array(nucleus.box) * WORKING_UM_PER_PIXEL, (27, 23, 35, 31), atol=1.0)
    assert not nucleus.cut


def test_where_nothing_stands_out_there_is_no_nucleus() -> None:
    flat = np.full((600, 600, 3), 220, np.uint8)
    assert outline(flat, 30, 30) is None


def test_three_lobes_are_one_nucleus() -> None:
    lobes = [(28.0, 27.0, 4.0, NUCLEUS), (32.5, 25.0, 4.0, NUCLEUS), (33.5, 30.5, 4.0, NUCLEUS)]
    nucleus = outline(draw([*RED_CELLS, *lobes]), 31.0, 27.5)
    assert nucleus is not None
    assert nucleus.area_um2 == pytest.approx(3 * np.pi * 4, rel=0.25)


def test_a_neighbour_is_left_out_even_where_it_touches() -> None:
    picture = draw([(20.0, 27.0, 9.0, NUCLEUS), (28.6, 27.0, 9.0, NUCLEUS)])
    for own, other in ((20.0, 28.6), (28.6, 20.0)):
        nucleus = outline(picture, own, 27.0, [(other, 27.0)])
        assert nucleus is not None
        assert nucleus.area_um2 == pytest.approx(np.pi * 4.5**2, rel=0.15)
        np.testing.assert_allclose(place_um(nucleus), (own, 27.0), atol=0.5)


def test_granules_are_no_nucleus() -> None:
    granules = (0.88, 0.5, 0.45)  # of an eosinophil: they let red through
    picture = draw(
        [*RED_CELLS, (31.0, 27.0, 13.0, granules), (29.0, 27.0, 5.0, NUCLEUS), (34.0, 27.0, 5.0, NUCLEUS)]
    )
    nucleus = outline(picture, 31.0, 27.0)
    assert nucleus is not None
    assert nucleus.area_um2 == pytest.approx(2 * np.pi * 2.5**2, rel=0.3)


def test_a_nucleus_cut_by_the_border_says_so() -> None:
    nucleus = outline(draw([*RED_CELLS, (0.0, 27.0, 8.0, NUCLEUS)]), 1.5, 27.0)
    assert nucleus is not None
    assert nucleus.cut


def test_black_fill_is_no_nucleus_and_cuts_one() -> None:
    picture = draw([*RED_CELLS, (31.0, 27.0, 8.0, NUCLEUS)])
    picture[:, :300] = 0  # through the nucleus, whose left edge is at 27 µm
    nucleus = outline(picture, 32.5, 27.0)
    assert nucleus is not None
    assert nucleus.cut
    assert place_um(nucleus)[0] > 30


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5])
def test_place_and_area_do_not_depend_on_the_pixels(factor: float) -> None:
    picture = draw([*RED_CELLS, (31.0, 27.0, 8.0, NUCLEUS)])
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=method)
    nucleus = outline(resized, 31.0, 27.0, scale=UM_PER_PIXEL / factor)
    reference = outline(picture, 31.0, 27.0)
    assert nucleus is not None
    assert reference is not None
    assert nucleus.area_um2 == pytest.approx(reference.area_um2, rel=0.1)
    np.testing.assert_allclose(place_um(nucleus), place_um(reference), atol=0.3)
