"""The live picture: encoded once for all, only while somebody watches, never an old one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import cv2
import numpy as np
import pytest
from werkzeug.exceptions import ServiceUnavailable

from edge.web.drawing import WIDTH_PX, draw
from edge.web.live import RATE, LivePicture
from hematovision.images import decode_image
from tests.edge.fed_device import FedDevice, fed_device


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FedDevice]:
    with fed_device(tmp_path_factory.mktemp("state")) as fed:
        fed.feed(1)
        yield fed


@contextmanager
def showing(fed: FedDevice, viewers: int = 3) -> Iterator[LivePicture]:
    live = LivePicture(fed.device, viewers)
    try:
        yield live
    finally:
        live.close()


def test_nothing_is_encoded_while_nobody_watches(fed: FedDevice) -> None:
    with showing(fed) as live, fed.feeding(0.01):
        frames = fed.device.status().frames
        while fed.device.status().frames < frames + 10:
            sleep(0.01)
        assert live.encoded == 0
        live.join()
        assert live.next(-1, 5) is not None
        live.leave()


def test_all_who_watch_get_the_same_picture_encoded_once(fed: FedDevice) -> None:
    with showing(fed) as live:
        for _ in range(3):
            live.join()
        pictures = {id(live.next(-1, 5)) for _ in range(3)}
        assert len(pictures) == 1
        assert live.encoded == 1


def test_whoever_was_away_gets_the_newest_picture_and_no_backlog(fed: FedDevice) -> None:
    with showing(fed) as live, fed.feeding(0.01):
        live.join()
        first = live.next(-1, 5)
        assert first is not None
        while live.encoded < 4:
            sleep(0.01)
        second = live.next(first.number, 5)
        assert second is not None
        assert second.number >= first.number + 3


def test_not_more_than_ten_pictures_a_second_are_made(fed: FedDevice) -> None:
    with showing(fed) as live, fed.feeding(0.005):
        live.join()
        number, started, count = -1, monotonic(), 8
        for _ in range(count):
            picture = live.next(number, 5)
            assert picture is not None
            number = picture.number
        # Each but the first waits its turn, however slow the machine.
        assert monotonic() - started >= (count - 1) / RATE * 0.95


def test_who_comes_after_a_pause_does_not_get_the_old_picture(fed: FedDevice) -> None:
    with showing(fed) as live:
        live.join()
        old = live.next(-1, 5)
        live.leave()
        fed.feed(1)
        live.join()
        new = live.next(-1, 5)
        assert old is not None
        assert new is not None
        assert new.number > old.number


def test_one_viewer_too_many_is_told_and_gets_a_place_that_is_left(fed: FedDevice) -> None:
    with showing(fed, viewers=2) as live:
        live.join()
        live.join()
        with pytest.raises(ServiceUnavailable, match="2 are watching already"):
            live.join()
        live.leave()
        live.join()
        assert live.viewers == 2


def test_a_failed_encoder_is_told_to_whoever_watches(fed: FedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("no encoder")

    monkeypatch.setattr("edge.web.live.draw", fail)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    with showing(fed) as live:
        live.join()
        with pytest.raises(ServiceUnavailable, match="failed"):
            live.next(-1, 5)
        with pytest.raises(ServiceUnavailable, match="failed"):
            live.join()
        assert isinstance(live.error, ValueError)


def test_nobody_waits_for_a_page_that_is_closed(fed: FedDevice) -> None:
    with showing(fed) as live:
        live.join()
        live.close()
        with pytest.raises(ServiceUnavailable, match="stopping"):
            live.next(10**9, 60)


@pytest.mark.parametrize("size", [(200, 100), (960, 720), (1280, 960), (4056, 3040)])
def test_a_picture_is_no_wider_than_it_is_shown_and_keeps_its_shape(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), (230, 190, 200), np.uint8)
    shown = decode_image(draw(image, []), "shown")
    assert shown.shape[1] == min(size[0], WIDTH_PX)
    assert shown.shape[1] / shown.shape[0] == pytest.approx(size[0] / size[1], rel=0.01)
    assert np.abs(shown.astype(int) - (230, 190, 200)).max() <= 4


def test_boxes_are_drawn_around_the_cells_and_the_frame_stays_as_it_is(fed: FedDevice) -> None:
    found = fed.device.wait_frame(-1, 5)
    assert found is not None
    frame = found[1]
    large = cv2.resize(frame.frame.image, None, fx=2, fy=2)
    cells = []
    for cell in frame.cells:
        x, y, width, height = cell.region.box
        box = 2 * x, 2 * y, 2 * width, 2 * height
        cells.append(replace(cell, region=replace(cell.region, box=box)))
    before = large.copy()
    shown, plain = decode_image(draw(large, cells), "shown"), decode_image(draw(large, []), "plain")
    assert (large == before).all()
    assert frame.cells
    changed = np.abs(shown.astype(int) - plain).max(axis=2) > 60
    for cell in frame.cells:
        left, top, wide, high = (round(side) for side in cell.region.box)
        assert changed[max(top - 30, 0) : top + high + 30, max(left - 30, 0) : left + wide + 30].any()
        assert not changed[top + high // 2, left + wide // 2]


def test_before_the_first_frame_nobody_is_kept_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.web.live._FIRST_PICTURE_S", 0.05)
    with fed_device(tmp_path) as fed:
        app = fed.app()
        live = app.extensions["hematovision"].live
        for path in ("/live.mjpg", "/live.jpg"):
            answer = app.test_client().get(path)
            assert (answer.status_code, live.viewers) == (503, 0)
            assert "no picture yet" in answer.get_json()["error"]
        live.close()
