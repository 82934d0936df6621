"""The baseline is what the finder was, and is held to what that gave."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.finder.threshold_rule import find_by_threshold
from hematovision.errors import ImageError
from hematovision.images import read_image
from hematovision.phantom import draw_field
from train.finder.boxed_fields import BoxedField, read_boxed_fields


def some_fields(data_dir: Path, source: str) -> list[BoxedField]:
    return [field for field in read_boxed_fields(str(data_dir / source)) if not field.aside][::20][:5]


@pytest.mark.parametrize(("um_per_pixel", "regions", "area_um2"), [(0.08, 4, 279.2), (0.16, 4, 281.0)])
def test_on_drawn_fields_it_gives_what_the_finder_gave(
    um_per_pixel: float, regions: int, area_um2: float
) -> None:
    image = draw_field(3, round(102.4 / um_per_pixel), round(76.8 / um_per_pixel), um_per_pixel).image
    found = find_by_threshold(image, um_per_pixel)
    assert len(found) == regions
    assert sum(region.nucleus_area_um2 for region in found) == pytest.approx(area_um2, abs=0.5)


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "regions", "area_um2"),
    [
        ("kaggle-blood-cells", [1, 1, 1, 1, 1], 274.2),
        ("chula@0.097", [4, 4, 9, 30, 28], 3605.9),
        ("bcisc@0.134", [2, 16, 32, 2], 1957.3),
        ("aslan@0.136", [1, 1, 1, 1, 1], 282.7),
        ("raabin@0.06", [3, 8, 11, 3, 8], 1244.5),
    ],
)
def test_on_real_fields_it_gives_what_the_finder_gave(
    data_dir: Path, source: str, regions: list[int], area_um2: float
) -> None:
    fields = some_fields(data_dir, source)
    found = [find_by_threshold(read_image(field.path), field.um_per_pixel) for field in fields]
    assert [len(of_field) for of_field in found] == regions
    areas = sum(region.nucleus_area_um2 for of_field in found for region in of_field)
    assert areas == pytest.approx(area_um2, rel=0.002)


def test_a_black_frame_is_refused() -> None:
    with pytest.raises(ImageError, match="black"):
        find_by_threshold(np.zeros((200, 200, 3), np.uint8), 0.1)
