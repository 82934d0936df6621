"""What every live camera does: it is bounded in every wait, checks what comes, and leaves no thread."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from threading import Event
from time import monotonic, sleep

import numpy as np
import pytest

from edge.cameras import Frame, LostFrame
from edge.cameras.live import Limits, LiveCamera, Picture
from hematovision.errors import CameraError, ImageError, NoCameraError, SettingError, StuckThreadError
from hematovision.images import RGBImage

SIZE = (64, 48)
QUICK = Limits(open_s=0.5, frame_s=0.5, unusable_s=0.1, still_s=0.1, stop_s=0.3)


class ScriptedCamera(LiveCamera):
    """Gives what its script says, then what it says last again and again; an error is raised."""

    def __init__(
        self,
        script: Sequence[object],
        limits: Limits | None = None,
        connecting: object = None,
        disconnecting: object = None,
    ) -> None:
        super().__init__("scripted", 0.1, limits)
        self._script = list(script)
        self._connecting, self._disconnecting = connecting, disconnecting
        self.events: list[str] = []

    def _connect(self) -> None:
        self.events.append("connect")
        self._act(self._connecting)

    def _grab(self) -> Picture:
        sleep(0.001)
        step: object = None
        while not isinstance(step, np.ndarray):
            step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
            self._act(step)
        return Picture(step, monotonic() - 5)

    def _disconnect(self) -> None:
        self.events.append("disconnect")
        self._act(self._disconnecting)

    def _act(self, step: object) -> None:
        if isinstance(step, Event):
            step.wait(20)
        if isinstance(step, Exception):
            raise step


def smear(seed: int, size: tuple[int, int] = SIZE) -> RGBImage:
    noise = np.random.default_rng(seed).integers(-9, 9, (size[1], size[0], 3))
    return (np.array((230, 150, 170)) + noise).astype(np.uint8)


BLACK = np.full((SIZE[1], SIZE[0], 3), 16, np.uint8)
WHITE = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
EMPTY = np.full((SIZE[1], SIZE[0], 3), 150, np.uint8)
GREY = EMPTY.copy()
GREY[20:40, 20:40] = 60  # a cell
UNPLUGGED = CameraError("scripted: unplugged")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


def look(camera: LiveCamera) -> list[Frame | LostFrame]:
    """What it gives until it stops by its script."""
    seen: list[Frame | LostFrame] = []
    with camera, pytest.raises(CameraError, match="unplugged"):
        for frame in camera.frames():
            seen.append(frame)
    return seen


def test_frames_are_numbered_and_say_when_they_were_taken() -> None:
    frames = look(ScriptedCamera([smear(0), smear(1), smear(2), UNPLUGGED]))
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    for frame in frames:
        assert isinstance(frame, Frame)
        assert frame.source == "scripted"
        assert frame.um_per_pixel == 0.1
        assert monotonic() - frame.monotonic == pytest.approx(5, abs=2)
        assert timedelta(seconds=3) < datetime.now(UTC) - frame.captured_at < timedelta(seconds=7)


def test_what_cannot_be_used_comes_as_a_lost_frame_and_the_rest_follows() -> None:
    torn = ImageError("is torn")
    script = [smear(0), BLACK, GREY, smear(1, (64, 40)), torn, smear(2), UNPLUGGED]
    first, black, grey, small, broken, last = look(ScriptedCamera(script))
    assert isinstance(first, Frame)
    for lost, complaint in (
        (black, "scripted: frame 1 is black"),
        (grey, "scripted: frame 2 has no colour"),
        (small, "scripted: frame 3 is 64x40 pixels, not 64x48"),
        (broken, "scripted: frame 4 is torn"),
    ):
        assert isinstance(lost, LostFrame)
        assert lost.error.startswith(complaint)
    assert isinstance(last, Frame)
    assert last.sequence == 5


def test_an_empty_field_in_balanced_white_is_no_picture_without_colour() -> None:
    (frame,) = look(ScriptedCamera([EMPTY, UNPLUGGED]))
    assert isinstance(frame, Frame)


def test_an_unusable_first_picture_does_not_decide_on_the_size() -> None:
    lost, frame, _ = look(ScriptedCamera([GREY[:40], smear(0), smear(1), UNPLUGGED]))
    assert isinstance(lost, LostFrame)
    assert isinstance(frame, Frame)


def test_a_picture_that_comes_again_is_dropped_and_counted() -> None:
    camera = ScriptedCamera([smear(0), smear(0), smear(1), smear(1), smear(1), smear(0), UNPLUGGED])
    assert [frame.sequence for frame in look(camera)] == [0, 2, 5]
    assert camera.repeats == 3


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ([smear(0)], r"scripted: the picture has stood still for 0\.1 s; check its cable and power"),
        ([smear(0), BLACK], r"scripted: no usable picture for 0\.1 s, the last one is black"),
        ([smear(0), WHITE], r"no usable picture for 0\.1 s, the last one is white all over"),
        ([GREY], r"no usable picture for 0\.1 s, the last one has no colour"),
        (
            [smear(0, (8, 8))],
            r"the last one cannot be used \(picture: 8x8 pixels is too small to show a cell",
        ),
        ([ImageError("is torn")], r"no usable picture for 0\.1 s, the last one is torn"),
        ([smear(0), smear(0, (64, 40))], r"no usable picture for 0\.1 s, the last one is 64x40 pixels"),
        ([smear(0), CameraError("scripted: unplugged")], "scripted: unplugged"),
        ([smear(0), NoCameraError("scripted: gone")], "scripted: gone"),
    ],
)
def test_a_camera_that_shows_nothing_new_or_stops_is_an_error(script: list, complaint: str) -> None:
    with ScriptedCamera(script, QUICK) as camera, pytest.raises(CameraError, match=complaint):
        for _ in camera.frames():
            pass


def test_time_that_the_user_of_a_frame_takes_is_not_the_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("edge.cameras.live.monotonic", lambda: now)
    camera = ScriptedCamera([smear(0), smear(0), smear(1), smear(0)])
    with camera:
        frames = camera.frames()
        next(frames)
        now = 2 * Limits().still_s
        assert next(frames).sequence == 2
        assert camera.repeats == 1


def test_a_camera_that_gives_no_picture_is_an_error_and_one_that_hangs_names_its_thread() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0), hang, smear(1)], QUICK)
    camera.open()
    frames = camera.frames()
    next(frames)
    with pytest.raises(CameraError, match=r"scripted: no picture for 0\.5 s; check its cable and power"):
        next(frames)
    with pytest.raises(StuckThreadError, match="the thread 'camera scripted' did not stop"):
        camera.close()
    hang.set()
    end_threads()


def test_a_camera_that_hangs_while_it_opens_is_an_error_that_names_its_thread() -> None:
    hang = Event()
    with pytest.raises(StuckThreadError, match="'camera scripted'") as caught:
        ScriptedCamera([smear(0)], QUICK, hang).open()
    assert "scripted: did not open within 0.5 s" in str(caught.value.__context__)
    hang.set()
    end_threads()


def test_a_camera_slow_to_open_is_an_error() -> None:
    slow = Event()
    camera = ScriptedCamera([smear(0)], Limits(open_s=0.05), slow)
    timer = threading.Timer(0.3, slow.set)
    timer.start()
    with pytest.raises(CameraError, match=r"scripted: did not open within 0\.05 s"):
        camera.open()
    timer.join()
    assert camera.events == ["connect", "disconnect"]


@pytest.mark.parametrize("error", [UNPLUGGED, SettingError("no such size"), ZeroDivisionError("a mistake")])
def test_what_goes_wrong_in_the_thread_is_raised_where_the_camera_is_used(error: Exception) -> None:
    camera = ScriptedCamera([smear(0)], connecting=error)
    with pytest.raises(type(error), match=str(error)):
        camera.open()
    assert camera.events == ["connect", "disconnect"]
    with ScriptedCamera([error]) as camera, pytest.raises(type(error), match=str(error)):
        next(camera.frames())


def test_a_device_that_cannot_be_let_go_of_is_an_error() -> None:
    camera = ScriptedCamera([smear(0), smear(1)], disconnecting=UNPLUGGED)
    camera.open()
    with pytest.raises(CameraError, match="unplugged"):
        camera.close()


def test_a_camera_that_stops_while_it_is_closed_is_no_error() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0), hang, UNPLUGGED])
    camera.open()
    timer = threading.Timer(0.2, hang.set)
    timer.start()
    camera.close()
    timer.join()
    assert camera.events == ["connect", "disconnect"]


def test_it_can_be_closed_twice_and_opened_again_and_begins_anew() -> None:
    camera = ScriptedCamera([smear(n) for n in range(99)])
    for _ in range(2):
        with camera:
            assert next(camera.frames()).sequence == 0
        camera.close()
    assert camera.events == ["connect", "disconnect"] * 2


def test_closing_ends_the_frames_of_whoever_reads_them() -> None:
    camera = ScriptedCamera([smear(0), smear(1)])
    camera.open()
    frames = camera.frames()
    next(frames)
    camera.close()
    assert [*frames][1:] == []  # at most the one that was on its way
    with pytest.raises(CameraError, match="not open"):
        next(camera.frames())


def test_it_can_be_closed_by_one_thread_while_another_waits_for_a_frame_that_never_comes() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0), hang, UNPLUGGED], Limits(frame_s=20, stop_s=5))
    camera.open()
    frames, ended = camera.frames(), Event()
    next(frames)

    def read() -> None:
        assert [*frames] == []
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    timer = threading.Timer(0.1, hang.set)
    timer.start()
    camera.close()
    assert ended.wait(5)
    reader.join()
    timer.join()


def test_who_waits_for_a_frame_of_a_camera_that_hangs_is_let_go_of_before_its_thread_is() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0), hang, smear(1)], Limits(frame_s=20, stop_s=0.1))
    camera.open()
    frames = camera.frames()
    next(frames)
    reader = threading.Thread(target=lambda: [*frames])
    reader.start()
    with pytest.raises(StuckThreadError):
        camera.close()
    reader.join(5)
    assert not reader.is_alive()
    hang.set()
    end_threads()


def test_closing_it_ends_an_open_that_waits() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0)], Limits(open_s=20), connecting=hang)

    def close() -> None:
        while not camera.events:
            sleep(0.001)
        release = threading.Timer(0.1, hang.set)
        release.start()
        camera.close()
        release.join()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(CameraError, match="scripted: was closed while it opened"):
        camera.open()
    closing.join()
    assert camera.events == ["connect", "disconnect"]


def test_two_that_close_it_at_once_both_find_it_let_go_of() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0), hang, smear(1)])
    camera.open()
    next(camera.frames())
    events: list[list[str]] = []

    def close() -> None:
        camera.close()
        events.append([*camera.events])

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    hang.set()
    for thread in threads:
        thread.join(5)
    assert events == [["connect", "disconnect"]] * 2


def test_one_that_hung_when_it_was_closed_opens_again_only_when_that_is_over() -> None:
    hang = Event()
    camera = ScriptedCamera([smear(0), hang, smear(1)], QUICK)
    camera.open()
    next(camera.frames())
    with pytest.raises(StuckThreadError):
        camera.close()
    camera.close()  # once is enough to be told
    with pytest.raises(StuckThreadError, match="scripted: still hangs since it was closed last"):
        camera.open()
    hang.set()
    end_threads()
    with camera:
        next(camera.frames())
    assert camera.events == ["connect", "disconnect"] * 2


def test_it_is_opened_once() -> None:
    with ScriptedCamera([smear(0)]) as camera, pytest.raises(CameraError, match="is open already"):
        camera.open()


def end_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("camera"):
            thread.join(5)


def test_a_still_field_of_compressed_video_may_repeat_itself_for_longer() -> None:
    class Video(ScriptedCamera):
        video = True

    limits = Limits(still_s=0, still_video_s=20)
    camera = Video([smear(0), smear(0), smear(0), smear(1), UNPLUGGED], limits)
    assert [frame.sequence for frame in look(camera)] == [0, 3]
