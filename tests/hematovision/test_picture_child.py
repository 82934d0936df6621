"""The cells of a stranger's picture: as they are found here, or a reason; and never the parent's trouble."""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hematovision.child_process import Limits
from hematovision.crops import CropSize, cut_crops
from hematovision.errors import CalibrationError, ChildEnding, ChildError, ImageError, SettingError
from hematovision.finder import find_single, load_finder
from hematovision.images import shrink
from hematovision.optics import measure_field
from hematovision.own_pictures import DRAWN_OVER, marked
from hematovision.phantom import Microscope, Pose, Slide, Smear
from hematovision.picture_child import LIMITS, Wanted, find_in_child

ALL = Wanted(single=False, um_per_pixel=0.1, crop_um=20.0, crop_px=96, max_pixels=2_000_000, shown_px=300)


@pytest.fixture(scope="module")
def field() -> NDArray[np.uint8]:
    slide = Slide(Smear(1, 0.2, 0.2, 0.1), [("monocyte", (90.0, 90.0)), ("neutrophil", (110.0, 105.0))])
    return Microscope(slide, 800, 600).look(Pose(100, 100)).image


def saved(pixels: NDArray[np.uint8], form: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


@pytest.mark.parametrize("single", [False, True])
def test_what_the_child_finds_is_what_is_found_here(field: NDArray[np.uint8], single: bool) -> None:
    measured = measure_field(field, 0.1)
    finder = load_finder()
    regions = [find_single(finder, measured, 20.0)[0]] if single else finder.find(measured)
    with find_in_child(saved(field), replace(ALL, single=single)) as found:
        assert (found.width, found.height, found.um_per_pixel, found.found) == (800, 600, 0.1, True)
        assert found.regions == tuple(regions)
        assert len(regions) == (1 if single else 2)
        crops = cut_crops(measured, [region.center for region in regions], CropSize(20.0, 96))
        np.testing.assert_array_equal(np.stack([*found.crops]), crops)
        np.testing.assert_array_equal(found.shown, shrink(field, 300))


def test_the_scale_is_measured_where_none_is_given(field: NDArray[np.uint8]) -> None:
    with find_in_child(saved(field), replace(ALL, um_per_pixel=None)) as found:
        assert found.um_per_pixel == pytest.approx(0.1, rel=0.1)
        assert found.warning is None
    with find_in_child(saved(field), replace(ALL, um_per_pixel=0.15)) as found:
        assert "red cells" in str(found.warning)


def test_a_single_cell_without_a_nucleus_is_the_middle() -> None:
    glass = np.full((200, 300, 3), (235, 225, 228), np.uint8)
    with find_in_child(saved(glass), replace(ALL, single=True)) as found:
        assert not found.found
        assert found.regions[0].center == (149.5, 99.5)


@pytest.mark.parametrize(
    ("data", "wanted", "kind", "why"),
    [
        (b"none", ALL, ImageError, "not an image in a known format"),
        (marked(saved(np.eye(64, dtype=np.uint8)), DRAWN_OVER), ALL, ImageError, "which hematovision wrote"),
        (saved(np.zeros((64, 64, 3), np.uint8)), ALL, ImageError, "grey image"),
        (
            saved(np.full((64, 64, 3), (200, 100, 50), np.uint8)),
            replace(ALL, max_pixels=1000),
            ImageError,
            "64x64",
        ),
        (
            saved(np.full((64, 64, 3), (200, 100, 50), np.uint8)),
            replace(ALL, um_per_pixel=None),
            CalibrationError,
            r"too few for a scale[^;]*; fill in µm per pixel",
        ),
        (
            saved(np.full((64, 64, 3), (200, 100, 50), np.uint8)),
            replace(ALL, um_per_pixel=9.0),
            SettingError,
            "9",
        ),
    ],
)
def test_a_refusal_comes_over_with_its_kind(data: bytes, wanted: Wanted, kind: type, why: str) -> None:
    with pytest.raises(kind, match=why), find_in_child(data, wanted):
        pass


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (replace(LIMITS, wall_s=0.01), "takes too long"),
        (replace(LIMITS, output_bytes=1000), "too many cells"),
    ],
)
def test_a_picture_beyond_the_limits_is_refused(field: NDArray[np.uint8], limits: Limits, why: str) -> None:
    with (
        pytest.raises(ImageError, match=f"^the picture .*{why}"),
        find_in_child(saved(field), ALL, limits=limits) as found,
    ):
        for _ in found.crops:
            pass


def test_a_picture_that_takes_too_much_memory_is_refused() -> None:
    large = np.full((1200, 1600, 3), (200, 100, 50), np.uint8)
    limits = replace(LIMITS, memory_bytes=10_000_000)
    with pytest.raises(ImageError, match="memory"), find_in_child(saved(large), ALL, limits=limits):
        pass


def test_noise_of_which_every_grain_is_a_nucleus_takes_no_more_memory_than_there_is() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1500, 2000, 3), np.uint8)
    with (
        pytest.raises(ImageError, match=r"too much memory|no stained blood smear"),
        find_in_child(saved(noise), replace(ALL, um_per_pixel=0.4, max_pixels=3_000_000)),
    ):
        pass


def test_when_nobody_wants_it_any_more_it_ends(field: NDArray[np.uint8]) -> None:
    with pytest.raises(ChildError) as caught, find_in_child(saved(field), ALL, lambda: False):
        pass
    assert caught.value.ending == ChildEnding.UNWANTED
