"""The Raspberry Pi's camera, on a stand-in for picamera2 that records what is asked of it."""

import math
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.cameras import open_camera
from edge.cameras.live import Limits
from edge.cameras.picamera2 import PiCamera
from edge.cameras.pixel_formats import JPEG_COLOUR, PixelLayout
from hematovision.errors import CameraError, MissingPartError, NoCameraError, SettingError
from hematovision.finder import CellRegion, load_finder
from hematovision.optics import WORKING_UM_PER_PIXEL, measure_field
from hematovision.phantom import draw_field

LIMITS = Limits(open_s=5.0, frame_s=1.0)
SYCC = SimpleNamespace(ycbcrEncoding=SimpleNamespace(name="Rec601"), range=SimpleNamespace(name="Full"))
# Of a Camera Module 3, as libcamera gives them: least, most, default.
MODULE_3: dict[str, tuple[Any, Any, Any]] = {
    "AeEnable": (False, True, None),
    "ExposureTime": (26, 112_000_000, None),
    "AnalogueGain": (1.1, 16.0, None),
    "AwbEnable": (False, True, None),
    "ColourGains": (0.0, 32.0, None),
    "AfMode": (0, 2, 0),
    "LensPosition": (0.0, 32.0, 1.0),
}
HQ = {name: limits for name, limits in MODULE_3.items() if name not in {"AfMode", "LensPosition"}}


class StandIn:
    """A picamera2 without a camera. Every request is one picture, and says so in all that it gives."""

    attached = ({"Model": "imx708"},)
    camera_controls = MODULE_3
    camera_properties: ClassVar[dict[str, Any]] = {"Model": "imx708"}
    given_format: str | None = None
    given_size: tuple[int, int] | None = None
    colour_space: Any = SYCC
    fails_in = ""
    last_request = math.inf

    def __init__(self, number: int) -> None:
        self.record: list[Any] = [("open", number)]
        self.requests: list[Request] = []
        opened.append(self)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return list(cls.attached)

    def create_preview_configuration(self, **streams: Any) -> dict[str, Any]:
        return {"lores": None, **streams}

    def configure(self, configuration: dict[str, Any]) -> None:
        if self.fails_in == "configure":
            raise RuntimeError("Configuration failed") from OSError("Invalid argument")
        main = configuration["main"]
        given = {"format": self.given_format or main["format"], "size": self.given_size or main["size"]}
        self.configuration: dict[str, Any] = {**configuration, "main": given}

    def camera_configuration(self) -> dict[str, Any]:
        return {**self.configuration, "colour_space": self.colour_space}

    def set_controls(self, controls: dict[str, Any]) -> None:
        self.record.append(controls)
        self.requests_before_controls = len(self.requests)

    def start(self) -> None:
        self.record.append("start")

    def capture_request(self, wait: bool, signal_function: Callable[[Any], None]) -> Any:
        assert wait is False
        number = len(self.requests)
        if number < self.last_request:
            self.requests.append(Request(self, number))
            signal_function(number)
        return number

    def wait(self, job: Any) -> Any:
        return self.requests[job]

    def close(self) -> None:
        self.record.append("close")


class Request:
    """Number ``n``: all pixels (230, 150, n), exposed for 1000 + n µs, n seconds after the clock began."""

    def __init__(self, device: StandIn, number: int) -> None:
        self.device, self.number, self.released = device, number, 0

    def make_array(self, name: str) -> NDArray[np.uint8]:
        assert not self.released
        if self.device.fails_in == "make_array":
            raise RuntimeError("failed to find buffer")
        stream = self.device.configuration[name]
        width, height = stream["size"]
        if name == "lores":
            return np.full((height * 3 // 2, width), 128, np.uint8)
        pixel = (230, 150, self.number, 0) if "BGR" in stream["format"] else (self.number, 150, 230, 0)
        channels = 4 if "X" in stream["format"] else 3
        return np.full((height, width, channels), pixel[:channels], np.uint8)

    def get_metadata(self) -> dict[str, Any]:
        assert not self.released
        return {
            "SensorTimestamp": self.number * 1_000_000_000,
            "ExposureTime": 1000 + self.number,
            "AnalogueGain": 2.0,
            "ColourGains": (1.5, 2.5),
            "LensPosition": 4.0,
            "Lux": 400.0,
        }

    def release(self) -> None:
        self.released += 1


opened: list[StandIn] = []


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    opened.clear()
    before = set(threading.enumerate())
    yield
    assert all(device.record[-1] == "close" and device.record.count("close") == 1 for device in opened)
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("camera")]


def pi_camera(argument: str = "", um_per_pixel: float = 0.1, **properties: Any) -> PiCamera:
    return PiCamera(argument, um_per_pixel, LIMITS, type("Device", (StandIn,), properties))


def look(camera: PiCamera, count: int) -> list[Any]:
    with camera:
        return list(islice(camera.frames(), count))


def controls_of(camera: PiCamera) -> list[dict[str, Any]]:
    look(camera, 1)
    return [entry for entry in opened[-1].record if isinstance(entry, dict)]


def test_picture_and_time_of_a_frame_are_of_one_request_and_every_request_is_given_back() -> None:
    frames = look(pi_camera(), 3)
    assert [frame.image[0, 0].tolist() for frame in frames] == [[230, 150, number] for number in range(3)]
    assert [frame.monotonic for frame in frames] == [0, 1, 2]
    assert {request.released for request in opened[0].requests} == {1}


def test_a_request_is_given_back_also_when_its_picture_cannot_be_read() -> None:
    with pytest.raises(CameraError, match=r"picamera2:0: gives no picture \(failed to find buffer\)"):
        look(pi_camera(fails_in="make_array"), 1)
    assert [request.released for request in opened[0].requests] == [1]


@pytest.mark.parametrize("given_format", ["BGR888", "RGB888", "XBGR8888", "XRGB8888"])
def test_the_order_of_colours_is_that_of_the_format_the_camera_gives(given_format: str) -> None:
    (frame,) = look(pi_camera(given_format=given_format), 1)
    assert opened[0].record[0] == ("open", 0)
    assert frame.image[0, 0].tolist() == [230, 150, 0]


def test_a_format_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(CameraError, match=r"picamera2:0: pixel format 'MJPEG' is not read; known are BGR888"):
        look(pi_camera(given_format="MJPEG"), 1)
    with pytest.raises(CameraError, match=r"'NV12' comes with colour encoding 'none'"):
        look(pi_camera(given_format="NV12", colour_space=None), 1)


def test_the_size_is_read_back_and_one_that_was_asked_for_must_come() -> None:
    (frame,) = look(pi_camera(given_size=(1280, 720)), 1)
    assert frame.image.shape == (720, 1280, 3)
    assert look(pi_camera("width=640,height=480"), 1)[0].image.shape == (480, 640, 3)
    with pytest.raises(SettingError, match="gives 1280x720 pixels, not the 1280x960 asked for"):
        look(pi_camera("width=1280,height=960", given_size=(1280, 720)), 1)


def test_the_small_picture_comes_at_the_scale_of_the_finder_where_it_is_worth_it() -> None:
    assert look(pi_camera(um_per_pixel=0.1), 1)[0].small.shape == (192, 256, 3)
    assert look(pi_camera(um_per_pixel=0.083), 1)[0].small.shape == (159, 212, 3)
    assert look(pi_camera(um_per_pixel=0.249), 1)[0].small.shape == (478, 637, 3)
    assert look(pi_camera(um_per_pixel=0.25), 1)[0].small is None
    assert look(pi_camera(um_per_pixel=math.nan), 1)[0].small is None


def test_a_small_picture_of_another_shape_than_the_frame_is_left_alone() -> None:
    assert look(pi_camera(given_size=(1280, 720)), 1)[0].small is None


def test_only_what_is_named_is_fixed_before_the_camera_starts() -> None:
    assert controls_of(pi_camera()) == [{}]
    assert controls_of(pi_camera("0,exposure_us=8000,gain=1.5")) == [
        {"ExposureTime": 8000, "AnalogueGain": 1.5}
    ]
    assert controls_of(pi_camera("focus=2.5")) == [{"LensPosition": 2.5, "AfMode": 0}]
    assert opened[-1].record.index("start") > 1


def test_locking_lets_everything_settle_and_then_holds_what_was_read_back() -> None:
    settling, locked = controls_of(pi_camera("lock_after=0.1"))
    assert settling == {"AfMode": 2}
    assert opened[0].requests_before_controls > 1
    assert locked.pop("ExposureTime") == 1000 + opened[0].requests_before_controls - 1
    assert locked == {
        "AeEnable": False,
        "AnalogueGain": 2.0,
        "AwbEnable": False,
        "ColourGains": (1.5, 2.5),
        "AfMode": 0,
        "LensPosition": 4.0,
    }
    assert {request.released for request in opened[0].requests} == {1}


def test_a_camera_without_focus_is_locked_in_what_it_has() -> None:
    settling, locked = controls_of(pi_camera("lock_after=0.05", camera_controls=HQ))
    assert settling == {}
    assert set(locked) == {"AeEnable", "ExposureTime", "AnalogueGain", "AwbEnable", "ColourGains"}


def test_the_time_until_it_is_locked_does_not_count_as_time_to_open() -> None:
    camera = PiCamera("lock_after=0.5", 0.1, Limits(open_s=0.3), StandIn)
    assert len(look(camera, 1)) == 1


@pytest.mark.parametrize(
    ("argument", "controls", "message"),
    [
        ("focus=2", HQ, "focus is set, but this camera has no LensPosition; leave focus out"),
        ("exposure_us=8000", {}, "exposure_us is set, but this camera has no ExposureTime"),
        ("gain=17", HQ, r"gain=17 is outside what this camera has, 1\.1 to 16"),
        ("lock_after=1", {"FrameDurationLimits": (1, 2, 1)}, "this camera has nothing to lock"),
    ],
)
def test_a_control_that_the_camera_lacks_is_refused(
    argument: str, controls: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=f"picamera2:0: {message}"):
        look(pi_camera(argument, camera_controls=controls), 1)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("front", "'front' is no number of a camera"),
        ("-1", "'-1' is no number of a camera"),
        ("0,1", "'1' is unknown; known are exposure_us="),
        ("iso=100", "'iso=100' is unknown; known are exposure_us=, gain=, focus=, lock_after="),
        ("width=640", "width and height go together"),
        ("width=641,height=480", "width=641: must be even"),
        ("width=2,height=2", "width=2: must be even, 32 or more"),
        ("exposure_us=0", "exposure_us=0: must be above 0, up to 83000"),
        ("exposure_us=100000", "exposure_us=100000: must be above 0, up to 83000"),
        ("lock_after=-1", "lock_after=-1: must be above 0, up to 60"),
    ],
)
def test_options_that_no_camera_takes_are_refused_before_anything_is_opened(
    argument: str, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        pi_camera(argument)
    assert not opened


def test_a_camera_that_is_not_there_is_told_from_those_that_are() -> None:
    with pytest.raises(NoCameraError, match=r"picamera2:1: no such camera; attached are: 0 \(imx708\)"):
        look(pi_camera("1"), 1)
    with pytest.raises(
        NoCameraError, match=r"picamera2:0: no such camera; attached are: none; check its ribbon"
    ):
        look(pi_camera(attached=()), 1)


def test_what_the_library_raises_is_one_line_that_says_what_failed_and_why() -> None:
    with pytest.raises(CameraError, match=r"picamera2:0: does not take its settings \(Invalid argument\)"):
        look(pi_camera(fails_in="configure"), 1)


def test_a_camera_that_stops_is_an_error_within_its_limit() -> None:
    camera, frames = pi_camera(last_request=2), 0
    with (
        pytest.raises(CameraError, match=r"picamera2:0: (the camera stopped: nothing|no picture) for"),
        camera,
    ):
        for _ in camera.frames():
            frames += 1
    assert frames == 2


def test_it_is_closed_while_a_request_is_waited_for() -> None:
    waiting = threading.Event()

    class Silent(StandIn):
        def capture_request(self, wait: bool, signal_function: Callable[[Any], None]) -> Any:
            job = super().capture_request(wait, signal_function)
            if job == 1:
                waiting.set()
            return job

    camera = PiCamera("", 0.1, Limits(frame_s=60, stop_s=10), type("Device", (Silent,), {"last_request": 1}))
    camera.open()
    frames = camera.frames()
    next(frames)
    assert waiting.wait(5)
    camera.close()
    assert [*frames] == []


def test_it_is_closed_while_it_is_being_locked() -> None:
    locking = threading.Event()

    class Locking(StandIn):
        def capture_request(self, wait: bool, signal_function: Callable[[Any], None]) -> Any:
            locking.set()
            return super().capture_request(wait, signal_function)

    device = type("Device", (Locking,), {"last_request": 3})
    camera = PiCamera("lock_after=30", 0.1, Limits(frame_s=60, stop_s=10), device)

    def close() -> None:
        locking.wait(20)
        camera.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(CameraError, match="was closed while it opened"):
        camera.open()
    closing.join()


def test_a_missing_picamera2_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(MissingPartError, match=r"sudo apt install python3-picamera2"):
        open_camera("picamera2", 0.1)


def test_cells_found_by_the_small_picture_are_those_found_without_it() -> None:
    for seed in range(3):
        image = draw_field(seed).image
        small = half_of_yuv(cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA))
        assert small.shape == (240, 320, 3)
        expected = by_place(load_finder().find(measure_field(image, 0.1)))
        found = by_place(load_finder().find(measure_field(image, 0.1, small=small)))
        assert len(found) == len(expected) > 3
        for one, other in zip(expected, found, strict=True):
            assert math.dist(one.center, other.center) < WORKING_UM_PER_PIXEL / 0.1
            assert other.nucleus_area_um2 == pytest.approx(one.nucleus_area_um2, rel=0.05)
            assert other.touches_border == one.touches_border


def half_of_yuv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As a camera's low-resolution stream would bring it: YUV420, full range."""
    y, v, u = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    height, width = y.shape
    chroma = [cv2.resize(c, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for c in (u, v)]
    array = np.concatenate([y.ravel(), *(plane.ravel() for plane in chroma)]).reshape(height * 3 // 2, width)
    return PixelLayout("YUV420", width, height, JPEG_COLOUR).to_half_rgb(array)


def by_place(regions: list[CellRegion]) -> list[CellRegion]:
    return sorted(regions, key=lambda region: region.center)
