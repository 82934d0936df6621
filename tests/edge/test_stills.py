"""From a frame to named cells."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.cameras import Camera, Frame, LostFrame
from edge.stills import NamedField, name_cells, name_frames
from hematovision.classifier import Classifier
from hematovision.errors import ImageError, SettingError
from hematovision.finder import Finder
from hematovision.phantom import draw_field

FIELD = draw_field(seed=5, width=640, height=480, um_per_pixel=0.125)


def frame_of(image: NDArray[np.uint8], um_per_pixel: float = FIELD.um_per_pixel) -> Frame:
    return Frame.now(image, 0, um_per_pixel, "drawn")


def empty_field() -> NDArray[np.uint8]:
    return np.clip(np.random.default_rng(1).normal((230, 220, 200), 1, (300, 400, 3)), 0, 255).astype(
        np.uint8
    )


class GivenFrames(Camera):
    places_apart = True

    def __init__(self, *given: Frame | LostFrame) -> None:
        self.given = given

    def open(self) -> None:
        pass

    def frames(self) -> Iterator[Frame | LostFrame]:
        yield from self.given

    def close(self) -> None:
        pass


def test_every_cell_of_a_field_is_found_and_named(finder: Finder, classifier: Classifier) -> None:
    named = name_cells(frame_of(FIELD.image), finder, classifier)
    assert len(named.cells) == len(FIELD.cells)
    for cell in FIELD.cells:
        assert any(math.dist(one.region.center, cell.center) < 16 for one in named.cells)
    assert all(one.found and math.isclose(sum(one.prediction.probabilities), 1) for one in named.cells)
    assert named.find_ms > 0
    assert named.classify_ms > 0


def test_single_names_only_the_most_prominent(finder: Finder, classifier: Classifier) -> None:
    everything = name_cells(frame_of(FIELD.image), finder, classifier)
    (only,) = name_cells(frame_of(FIELD.image), finder, classifier, single=True).cells
    assert only in everything.cells
    assert only.found


def test_without_a_cell_there_is_nothing_to_name(finder: Finder, classifier: Classifier) -> None:
    assert name_cells(frame_of(empty_field()), finder, classifier).cells == ()


def test_single_without_a_cell_takes_the_middle_and_says_so(finder: Finder, classifier: Classifier) -> None:
    (cell,) = name_cells(frame_of(empty_field()), finder, classifier, single=True).cells
    assert not cell.found
    assert cell.region.center == pytest.approx((199.5, 149.5))
    assert cell.region.box == pytest.approx((120, 70, 160, 160))  # 20 µm at 0.125 µm per pixel
    assert cell.region.nucleus_area_um2 == 0


def test_a_frame_of_unknown_scale_is_refused(finder: Finder, classifier: Classifier) -> None:
    with pytest.raises(SettingError, match="µm per pixel is nan"):
        name_cells(frame_of(FIELD.image, math.nan), finder, classifier)


def test_a_black_frame_is_lost_by_name_and_the_next_is_looked_at(
    finder: Finder, classifier: Classifier
) -> None:
    black = frame_of(np.zeros((300, 400, 3), np.uint8))
    with pytest.raises(ImageError):
        name_cells(black, finder, classifier)
    black = dataclasses.replace(black, source="drawn\n")
    lost, named = name_frames(GivenFrames(black, frame_of(FIELD.image)), finder, classifier)
    assert isinstance(lost, LostFrame)
    assert lost.error.startswith("drawn\\n: the field is black")  # on one line, whatever the file is called
    assert isinstance(named, NamedField)


def test_what_the_camera_lost_is_handed_on(finder: Finder, classifier: Classifier) -> None:
    lost = LostFrame(3, "a.jpg", "a.jpg: cut short")
    assert list(name_frames(GivenFrames(lost), finder, classifier)) == [lost]
