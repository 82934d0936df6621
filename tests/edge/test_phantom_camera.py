"""The phantom as a camera: a scene frame by frame, with its truth, as its options say."""

import math
from threading import Thread

import numpy as np
import pytest

from edge.cameras import open_camera
from edge.cameras.phantom import DrawnFrame, PhantomCamera
from hematovision.errors import CameraError, SettingError
from hematovision.phantom.stage import SCENES, demo

COARSE = "um_per_pixel=0.4,width=320,height=240"


def frames_of(options: str) -> list[DrawnFrame]:
    with PhantomCamera(options, math.nan) as camera:
        return [frame for frame in camera.frames() if isinstance(frame, DrawnFrame)]


def test_it_is_what_open_camera_calls_phantom() -> None:
    camera = open_camera("phantom:frames=1," + COARSE, math.nan)
    assert isinstance(camera, PhantomCamera)
    assert camera.name == "phantom:frames=1," + COARSE
    assert open_camera("phantom", math.nan).name == "phantom"
    assert (camera.live, camera.places_apart, camera.um_per_pixel) == (False, False, 0.4)


def test_every_frame_of_the_path_comes_with_its_truth() -> None:
    frames = frames_of("seed=3," + COARSE)
    scene = demo(3, (128.0, 96.0), 0.4)
    assert [frame.sequence for frame in frames] == list(range(len(scene.poses)))
    assert [frame.pose for frame in frames] == list(scene.poses)
    assert all(frame.image.shape == (240, 320, 3) and frame.um_per_pixel == 0.4 for frame in frames)
    shown = {cell.cell.number for frame in frames for cell in frame.cells if cell.whole}
    assert len(shown) >= 80


def test_frames_ends_it_and_begins_the_path_again_when_that_is_longer() -> None:
    length = len(demo(0, (128.0, 96.0), 0.4).poses)
    frames = frames_of(f"frames={length + 2}," + COARSE)
    assert len(frames) == length + 2
    assert [frame.pose for frame in frames[-2:]] == [frame.pose for frame in frames[:2]]


def test_the_same_options_give_the_same_frames_also_when_it_is_opened_again() -> None:
    camera = PhantomCamera("frames=3," + COARSE, math.nan)
    with camera:
        first = [frame.image for frame in camera.frames() if isinstance(frame, DrawnFrame)]
    with camera:
        again = [frame.image for frame in camera.frames() if isinstance(frame, DrawnFrame)]
    np.testing.assert_array_equal(first, again)
    other = frames_of("frames=3,seed=1," + COARSE)
    assert (other[0].image != first[0]).any()


def test_without_options_it_shows_large_fields_at_a_tenth_of_a_micrometre() -> None:
    (frame,) = frames_of("frames=1")
    assert (frame.image.shape, frame.um_per_pixel) == ((960, 1280, 3), 0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("speed=3", "known are path=, seed=, frames=, rate=, width=, height=, um_per_pixel="),
        ("path=home", f"'home'; known are {', '.join(SCENES)}"),
        ("seed=-1", "seed is -1; give 0 or more"),
        ("frames=0", "frames is 0; give 1 or more"),
        ("width=10", "too small"),
        ("width=100000,height=100000", "megapixels"),
        ("rate=0", "rate is 0; give 1 to 100"),
        ("rate=1000", "rate is 1000; give 1 to 100"),
        ("um_per_pixel=0.04", "um_per_pixel is 0.04; cells so large take too much memory, give 0.05 or more"),
        ("um_per_pixel=0", "µm per pixel is 0; it must lie between"),
    ],
)
def test_an_option_that_cannot_be_is_one_line_that_says_what_can(options: str, said: str) -> None:
    with pytest.raises(SettingError) as error:
        PhantomCamera(options, math.nan)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scale_that_is_not_its_own_is_refused_and_a_measured_one_is_not() -> None:
    with pytest.raises(SettingError, match=r"drawn at 0\.4 µm per pixel, not 0\.1"):
        PhantomCamera(COARSE, 0.1)
    with PhantomCamera("frames=1," + COARSE, 0.41) as camera:
        (frame,) = camera.frames()
    assert isinstance(frame, DrawnFrame)
    assert frame.um_per_pixel == 0.4


def test_a_closed_one_gives_no_frames() -> None:
    camera = PhantomCamera(COARSE, math.nan)
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        next(iter(camera.frames()))


class Clock:
    """Stands in for the monotonic clock, and for the event that is waited for by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("edge.cameras.phantom.monotonic", lambda: self.now)
        monkeypatch.setattr("edge.cameras.phantom.Event", lambda: self)

    def wait(self, limit_s: float) -> bool:
        self.now += limit_s
        return False

    def is_set(self) -> bool:
        return False

    def set(self) -> None: ...


LIVE = "rate=20,path=selftest," + COARSE


def test_with_a_rate_it_is_live_and_a_frame_comes_at_each_of_its_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)
    camera = PhantomCamera("frames=30," + LIVE, math.nan)
    assert camera.live
    with camera:
        frames = [frame for frame in camera.frames() if isinstance(frame, DrawnFrame)]
    assert [frame.sequence for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.monotonic for frame in frames], np.arange(30) / 20)


def test_what_could_not_be_shown_in_its_time_is_left_out_and_does_not_come_in_a_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    poses = SCENES["selftest"](0, (128.0, 96.0), 0.4).poses
    with PhantomCamera(LIVE, math.nan) as camera:
        frames = camera.frames()
        next(frames)
        next(frames)
        clock.now += 1.02
        late, then = next(frames), next(frames)
    assert isinstance(late, DrawnFrame)
    assert isinstance(then, DrawnFrame)
    assert late.pose == poses[21]
    assert then.pose == poses[22]
    assert then.monotonic == pytest.approx(22 / 20)
    assert (late.sequence, then.sequence) == (2, 3)


def test_with_a_rate_it_goes_on_with_the_next_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    slides = [SCENES["selftest"](seed, (128.0, 96.0), 0.4).poses for seed in (5, 6, 7)]
    length = sum(map(len, slides))
    frames = frames_of(f"seed=5,frames={length}," + LIVE)
    assert [frame.pose for frame in frames] == [pose for poses in slides for pose in poses]


def test_closing_it_ends_the_frames_of_whoever_waits_for_one() -> None:
    camera = PhantomCamera("rate=1," + COARSE, math.nan)
    camera.open()
    frames = camera.frames()
    next(frames)
    reader = Thread(target=list, args=(frames,))
    reader.start()
    camera.close()
    reader.join(10)
    assert not reader.is_alive()
