"""Pictures that are sent: one at a time, with a classifier of their own, and forgotten by and by."""

from collections.abc import Iterator
from threading import Thread

import cv2
import numpy as np
import pytest
from werkzeug.exceptions import ServiceUnavailable

from edge.cameras import open_camera
from edge.config import Settings
from edge.web import uploads
from edge.web.uploads import Uploads
from hematovision.classifier import default_model_path
from hematovision.errors import CalibrationError, ImageError, SettingError
from hematovision.model_file import read_model_file


@pytest.fixture(scope="module")
def field() -> bytes:
    with open_camera("phantom:width=960,height=720", 0.1) as camera:
        frame = next(iter(camera.frames()))
    _, data = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))  # type: ignore[union-attr]
    return data.tobytes()


@pytest.fixture
def sent() -> Iterator[Uploads]:
    yield Uploads(read_model_file(default_model_path()), Settings())


def test_a_single_cell_is_the_most_prominent_of_a_picture(sent: Uploads, field: bytes) -> None:
    whole, single = sent.classify(field, False, 0.1), sent.classify(field, True, 0.1)
    assert len(whole.cells) > 1
    (cell,) = single.cells
    assert cell in whole.cells
    assert (whole.single, single.single) == (False, True)


def test_a_scale_that_the_red_cells_contradict_is_warned_of(sent: Uploads, field: bytes) -> None:
    assert sent.classify(field, False, 0.1).warning is None
    assert "red cells" in str(sent.classify(field, False, 0.15).warning)


def test_the_last_pictures_are_kept_and_earlier_ones_forgotten(sent: Uploads, field: bytes) -> None:
    names = [sent.classify(field, False, 0.1).picture for _ in range(5)]
    assert sent.picture(names[0]) is None
    assert all(sent.picture(name) for name in names[1:])
    assert len(set(names)) == 5
    assert sent.classified == 5


def test_what_cannot_be_is_told_before_a_model_is_loaded(
    sent: Uploads, field: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError):
        sent.classify(field, False, 5.0)
    monkeypatch.setattr(uploads, "Classifier", None)
    with pytest.raises(SettingError):
        sent.classify(field, False, float("nan"))


def test_more_pixels_than_are_looked_at_are_refused_before_they_are_decoded(
    sent: Uploads, field: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD_PIXELS", 960 * 720 - 1)
    with pytest.raises(ImageError, match="960x720 is"):
        sent.classify(field, False, 0.1)


def test_a_picture_that_fails_does_not_keep_the_next_from_its_turn(sent: Uploads, field: bytes) -> None:
    with pytest.raises(ImageError):
        sent.classify(b"none", False, 0.1)
    with pytest.raises(CalibrationError, match=r"^[^;]*too few for a scale[^;]*; fill in µm per pixel"):
        sent.classify(_grain(), False, None)
    assert sent.classify(field, False, 0.1).cells


def test_who_waits_too_long_for_another_picture_is_told(
    sent: Uploads, field: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "WAIT_S", 0.01)
    with sent._turn, pytest.raises(ServiceUnavailable, match="another picture"):
        sent.classify(field, False, 0.1)


def test_pictures_sent_at_the_same_time_take_turns(
    sent: Uploads, field: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "WAIT_S", 300)
    found: list[int] = []
    threads = [
        Thread(target=lambda: found.append(len(sent.classify(field, False, 0.1).cells))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def _grain() -> bytes:
    pixels = np.random.default_rng(1).integers(180, 220, (64, 64, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()
