"""The time of finders: mosaics of fields at one scale, each finder in turns on the same one."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.finder.timing import make_mosaics, time_finders
from hematovision.finder import CellRegion
from hematovision.images import RGBImage
from train.finder.boxed_fields import BoxedField


def boxed(path: Path, width: int, height: int, grey: int, um_per_pixel: float = 0.2) -> BoxedField:
    cv2.imwrite(str(path), np.full((height, width, 3), (grey, grey, grey + 20), np.uint8))
    return BoxedField(path, um_per_pixel, (), complete=True, laboratory="lab", group=path.stem, aside=False)


def test_mosaics_fill_the_field_and_begin_with_each_image_once(tmp_path: Path) -> None:
    fields = [boxed(tmp_path / f"{grey}.png", 200, 150, grey) for grey in (100, 150, 200)]
    fields.append(boxed(tmp_path / "other.png", 100, 100, 50))
    mosaics = make_mosaics(fields)
    assert [mosaic.shape for mosaic in mosaics] == [(960, 1280, 3)] * 3  # one of another size has no room
    assert [int(mosaic[0, 0, 1]) for mosaic in mosaics] == [100, 150, 200]
    # At half the pixel an image is twice as wide: the next one begins at 400.
    assert [int(mosaics[0][0, column, 1]) for column in (399, 400, 800)] == [100, 150, 200]


def test_finders_take_turns_on_each_field_at_its_scale() -> None:
    mosaics = [np.full((8, 8, 3), number, np.uint8) for number in range(2)]
    seen: list[tuple[str, int, float]] = []

    def finder(name: str) -> object:
        def find(image: RGBImage, um_per_pixel: float) -> Sequence[CellRegion]:
            seen.append((name, int(image[0, 0, 0]), um_per_pixel))
            return []

        return find

    timing = time_finders({"one": finder("one"), "other": finder("other")}, mosaics, 3)  # type: ignore[dict-item]
    assert {name: one.repetitions for name, one in timing.items()} == {"one": 3, "other": 3}
    assert all(one.ms >= 0 for one in timing.values())
    assert seen[:4] == [("one", 0, 0.1), ("other", 0, 0.1), ("one", 1, 0.1), ("other", 1, 0.1)]
