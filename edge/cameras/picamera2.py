"""A Raspberry Pi's camera, through the picamera2 that comes with its system.

``picamera2``, ``picamera2:1`` for the second camera, and options behind it::

    picamera2:0,exposure_us=8000,gain=1,focus=2.5,lock_after=2,width=1280,height=960

``exposure_us``, ``gain`` (analogue) and ``focus`` (dioptres) fix what they name; the rest stays automatic.
``lock_after``: seconds in which exposure, white balance and focus settle before the first frame; then they
are frozen as they are. Without it they go on: a camera locked before its lamp was switched on would be blind
from then on.

The main stream is for crops. Beside it the camera's own scaler makes a low-resolution one for finding, twice
as large as the scale at which nuclei are found: its brightness is averaged to half, and its colour, of which
YUV has half, taken as it is. For a 1280x960 frame that takes 0.1 to 0.3 ms on one core of a Xeon server;
shrinking the main stream takes 0.4 ms at 0.1 µm per pixel, and over 3 ms at 0.083 and 0.12, where it does not
shrink to a whole fraction. The same cells are found (a test shows it). From 0.2 µm per pixel on it would be
no smaller than the main stream and is left out.
"""

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from time import monotonic
from typing import Any

from edge.cameras.live import Limits, LiveCamera, Picture
from edge.cameras.options import parse_options
from edge.cameras.pixel_formats import JPEG_COLOUR, YUV_FORMATS, PixelLayout, YuvColour
from hematovision.errors import (
    CameraError,
    HematoVisionError,
    MissingPartError,
    NoCameraError,
    SettingError,
    reason_of,
)
from hematovision.images import MIN_SIDE_PX
from hematovision.optics import WORKING_UM_PER_PIXEL

#: picamera2's preview goes down to 12 frames a second; a stage moved by hand smears within less.
MAX_EXPOSURE_US = 83_000
MAX_LOCK_AFTER_S = 60.0

_DEFAULT_SIZE = (1280, 960)
_KNOWN_OPTIONS = {
    "exposure_us": int,
    "gain": float,
    "focus": float,
    "lock_after": float,
    "width": int,
    "height": int,
}
_CONTROL_OF_OPTION = {"exposure_us": "ExposureTime", "gain": "AnalogueGain", "focus": "LensPosition"}
# libcamera's AfModeEnum.
_AF_MANUAL, _AF_CONTINUOUS = 0, 2
# What switches each automatism off, and what then holds where it had arrived.
_AUTOMATISMS_OFF = {"AeEnable": False, "AwbEnable": False, "AfMode": _AF_MANUAL}
_HELD = ("ExposureTime", "AnalogueGain", "ColourGains", "LensPosition")
# The wait for a request ends before that for a picture: so the error says who did not answer.
_SHARE_OF_LIMIT = 0.8
# How often a wait looks up whether the camera is to be closed: longer than any picture takes.
_LOOK_UP_S = 0.2

# What is wrong is said once, by an error; libcamera's own lines would come beside it.
os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")


class PiCamera(LiveCamera):
    """Camera ``number`` of those that libcamera knows, opened once and left running.

    Args:
        argument: what follows ``picamera2:``, as this module says; empty for the first camera as it is.
        um_per_pixel: scale of the main stream; not a number where it is still to be measured.
        limits: how long it is waited for, the time until it is locked apart.
        device_class: what is opened in place of ``picamera2.Picamera2``: a subclass of it.

    Raises:
        SettingError: an option is unknown or has a value that no camera takes.
        MissingPartError: picamera2 is not installed, or does not load.
    """

    advice = "check its ribbon cable (rpicam-hello --list-cameras says whether the system sees it)"

    def __init__(
        self,
        argument: str,
        um_per_pixel: float,
        limits: Limits | None = None,
        device_class: Any = None,
    ) -> None:
        self._number, options = _parse(argument)
        self._lock_after: float | None = options.get("lock_after")
        self._asked_size = (options["width"], options["height"]) if "width" in options else None
        self._fixed = {option: options[option] for option in _CONTROL_OF_OPTION if option in options}
        limits = limits or Limits()
        limits = replace(limits, open_s=limits.open_s + (self._lock_after or 0))
        super().__init__(f"picamera2:{self._number}", um_per_pixel, limits)
        self._device_class = device_class or _picamera2_class()
        self._device: Any = None
        self._locked = False

    def is_locked(self) -> bool:
        """Return whether it was told to lock and has what locks exposure, gains and white balance."""
        return self._locked

    def _connect(self) -> None:
        self._locked = False
        with self._library("libcamera does not start"):
            there = self._device_class.global_camera_info()
        if self._number >= len(there):
            attached = ", ".join(f"{number} ({info.get('Model')})" for number, info in enumerate(there))
            raise NoCameraError(
                f"{self.name}: no such camera; attached are: {attached or f'none; {self.advice}'}"
            )
        with self._library("does not open; where another program uses it, end that"):
            self._device = self._device_class(self._number)
        with self._library("does not take its settings"):
            self._configure()
            self._set_controls()
            self._device.start()
        if self._lock_after is not None:
            self._lock(self._lock_after)

    def _grab(self) -> Picture:
        with self._library("gives no picture"):
            request = self._next_request()
            try:
                main = request.make_array("main")
                lores = request.make_array("lores") if self._lores else None
                metadata = request.get_metadata()
            finally:
                request.release()
        # libcamera speaks of the boot clock, its drivers give the monotonic one: on a Pi, which never sleeps,
        # they are the same.
        taken_at = metadata["SensorTimestamp"] / 1e9 if "SensorTimestamp" in metadata else monotonic()
        small = self._lores.to_half_rgb(lores) if self._lores and lores is not None else None
        return Picture(self._main.to_rgb(main), taken_at, small)

    def _disconnect(self) -> None:
        device, self._device = self._device, None
        if device is None:
            return
        with self._library("does not close"):
            device.close()
        # picamera2's objects refer to each other and keep their buffers, of which a Pi has few, until this.
        del device
        gc.collect()

    def _configure(self) -> None:
        """Ask for red, green, blue in that order and take down what the camera gives instead."""
        device, size = self._device, self._asked_size or _DEFAULT_SIZE
        lores_size = self._lores_size(size)
        lores = {"size": lores_size, "format": "YUV420"} if lores_size else None
        device.configure(
            device.create_preview_configuration(main={"size": size, "format": "BGR888"}, lores=lores)
        )
        given = device.camera_configuration()
        self._size = width, height = given["main"]["size"]
        if self._asked_size and self._asked_size != self._size:
            raise SettingError(
                f"{self.name}: the camera gives {width}x{height} pixels, not the {size[0]}x{size[1]} asked "
                f"for; set width={width},height={height} or another size that it has"
            )
        yuv = _yuv_colour(device, given["colour_space"])
        self._main = self._layout(given["main"], yuv)
        self._lores: PixelLayout | None = None
        small = given["lores"]
        # One of another size may be of another shape than the main stream, and so distorted.
        if small and small["size"] == self._lores_size(self._size) and small["format"] in YUV_FORMATS:
            self._lores = self._layout(small, yuv)

    def _layout(self, stream: dict[str, Any], yuv: YuvColour | None) -> PixelLayout:
        width, height = stream["size"]
        try:
            return PixelLayout(stream["format"], width, height, yuv)
        except CameraError as error:
            raise CameraError(f"{self.name}: {error}; a USB camera is read as v4l2:/dev/videoN") from error

    def _lores_size(self, main: tuple[int, int]) -> tuple[int, int] | None:
        """Width and height of the low-resolution stream beside a main one; None where it is not worth it."""
        share = 2 * self._um_per_pixel / WORKING_UM_PER_PIXEL
        if not share < 1:  # also where the scale is still to be measured
            return None
        width, height = (2 * round(side * share / 2) for side in main)
        return width, height

    def _set_controls(self) -> None:
        ranges, controls = self._device.camera_controls, {}
        for option, value in self._fixed.items():
            control = _CONTROL_OF_OPTION[option]
            if control not in ranges:
                raise SettingError(
                    f"{self.name}: {option} is set, but this camera has no {control}; leave {option} out"
                )
            low, high = ranges[control][:2]
            if not low <= value <= high:
                raise SettingError(
                    f"{self.name}: {option}={value:g} is outside what this camera has, {low:g} to {high:g}"
                )
            controls[control] = value
        if "AfMode" in ranges and "focus" in self._fixed:
            controls["AfMode"] = _AF_MANUAL
        elif "AfMode" in ranges and self._lock_after is not None:
            controls["AfMode"] = _AF_CONTINUOUS
        if self._lock_after is not None and not ranges.keys() & {*_AUTOMATISMS_OFF, *_HELD}:
            raise SettingError(f"{self.name}: this camera has nothing to lock; leave lock_after out")
        self._device.set_controls(controls)

    def _lock(self, after: float) -> None:
        """Let the automatisms settle for so many seconds, then freeze them where they are."""
        end = monotonic() + after
        metadata: dict[str, Any] = {}
        with self._library("cannot be locked"):
            while not metadata or monotonic() < end:
                request = self._next_request()
                metadata = request.get_metadata()
                request.release()
            there = self._device.camera_controls
            frozen = _AUTOMATISMS_OFF | {name: metadata[name] for name in _HELD if name in metadata}
            self._device.set_controls({name: value for name, value in frozen.items() if name in there})
            self._locked = {"AeEnable", "AwbEnable"} <= there.keys()

    def _next_request(self) -> Any:
        """The next request that the camera completes, with its pictures; whoever gets it releases it."""
        # The picamera2 of the first Bookworm, 0.3.12, takes no limit for a wait of its own.
        complete = Event()
        job = self._device.capture_request(wait=False, signal_function=lambda _job: complete.set())
        limit_s = self._limits.frame_s * _SHARE_OF_LIMIT
        end = monotonic() + limit_s
        # One that is only about to be completed is waited for also when closing: libcamera is at it.
        while not complete.wait(_LOOK_UP_S):
            if self._closing:
                raise CameraError(f"{self.name}: is being closed")
            if monotonic() >= end:
                raise CameraError(
                    f"{self.name}: the camera stopped: nothing for {limit_s:g} s; {self.advice}"
                )
        return self._device.wait(job)

    @contextmanager
    def _library(self, failure: str) -> Iterator[None]:
        """What picamera2 and libcamera raise becomes a `CameraError` that says what failed."""
        try:
            yield
        except HematoVisionError:
            raise
        except (RuntimeError, OSError, ValueError, LookupError) as error:
            # picamera2 wraps what libcamera said in errors that say nothing.
            first: BaseException = error
            while first.__cause__ or first.__context__:
                first = first.__cause__ or first.__context__ or first
            raise CameraError(f"{self.name}: {failure} ({reason_of(first)})") from error


def _parse(argument: str) -> tuple[int, dict[str, Any]]:
    """The camera's number and its options."""
    first, _, rest = argument.partition(",")
    if first and "=" not in first:
        if not first.isdecimal():
            raise SettingError(f"camera 'picamera2:{argument}': '{first}' is no number of a camera")
        argument = rest
    options = parse_options(argument, _KNOWN_OPTIONS)
    if ("width" in options) != ("height" in options):
        raise SettingError("camera options width and height go together; give both or neither")
    for side in ("width", "height"):
        if side in options and (options[side] < MIN_SIDE_PX or options[side] % 2):
            raise SettingError(f"camera option {side}={options[side]}: must be even, {MIN_SIDE_PX} or more")
    for option, high in (("exposure_us", MAX_EXPOSURE_US), ("lock_after", MAX_LOCK_AFTER_S)):
        if option in options and not 0 < options[option] <= high:
            raise SettingError(f"camera option {option}={options[option]:g}: must be above 0, up to {high:g}")
    return int(first) if first.isdecimal() else 0, options


def _picamera2_class() -> Any:
    try:
        return importlib.import_module("picamera2").Picamera2
    # A ValueError where one of its compiled parts was built for another NumPy.
    except (ImportError, ValueError) as error:
        raise MissingPartError(
            f"picamera2 is not installed for this Python, or does not load ({reason_of(error)}); on a "
            "Raspberry Pi: sudo apt install python3-picamera2, and an environment made with "
            "--system-site-packages"
        ) from error


def _yuv_colour(device: Any, colour_space: Any) -> YuvColour | None:
    # libcamera's virtual camera says Rec709 of the pictures that it decodes from JPEG files.
    if device.camera_properties.get("PipelineHandler") == "virtual":
        return JPEG_COLOUR
    if colour_space is None:  # some USB cameras do not say
        return None
    return YuvColour(colour_space.ycbcrEncoding.name, colour_space.range.name == "Full")
