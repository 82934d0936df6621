"""A USB camera, by its device file.

``v4l2:/dev/video0``, and the size of its pictures behind it where it shall be another than what comes nearest
to 1280x960::

    v4l2:/dev/video0,width=1920,height=1080
"""

import errno
import fcntl
import os
import struct
from time import monotonic

import cv2

from edge.cameras.capture import CaptureCamera, sends_jpeg
from edge.cameras.live import Limits
from edge.cameras.options import parse_options
from hematovision.errors import CameraError, NoCameraError, SettingError
from hematovision.images import shown_path

_DEFAULT_SIZE = (1280, 960)
# One is filled while the other is read: with one alone every second picture would be lost, with more, they
# would be old.
_BUFFERS = 2
_OLDEST_STAMP_S = 5.0
# Of a device file whose camera has been pulled, which may stay for as long as somebody has it open.
_NO_DEVICE = {errno.ENODEV, errno.ENXIO}

# How long OpenCV waits for a picture at a time, and cannot be told to stop. It takes whole seconds, from
# here, once for all cameras of a process.
_SELECT_TIMEOUT_S = 1
os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(_SELECT_TIMEOUT_S)
# The wait ends before that for a picture: so the error says who did not answer.
_SHARE_OF_LIMIT = 0.8

# From linux/videodev2.h.
_VIDIOC_QUERYCAP = 0x80685600
_VIDIOC_REQBUFS = 0xC0145608
_VIDIOC_G_CTRL = 0xC008561B
_CAPABILITY = struct.Struct("16s32s32s6I")  # driver, card, bus, version, capabilities, of this node, reserved
_REQUEST = struct.Struct("5I")  # count, type, memory, capabilities, flags
_CONTROL = struct.Struct("Ii")  # which, value
# What each automatism is set to where it is off; a camera that lacks the last has no automatic gain.
_EXPOSURE_AUTO, _AUTO_WHITE_BALANCE, _AUTO_GAIN = 0x009A0901, 0x0098090C, 0x00980912
_OFF = {_EXPOSURE_AUTO: (1,), _AUTO_WHITE_BALANCE: (0,), _AUTO_GAIN: (0, None)}
_HAS_NODE_CAPABILITIES = 0x80000000
_CAPTURES_VIDEO = 0x00000001 | 0x00001000  # in one plane or in several
_BUFFERS_OF_CAPTURE, _BUFFERS_IN_PLANES, _MEMORY_MMAP = 1, 9, 1


class V4L2Camera(CaptureCamera):
    """The camera of a device such as ``/dev/video0``; JPEG where it can, which USB carries fastest."""

    advice = "check its cable"

    def __init__(self, argument: str, um_per_pixel: float, limits: Limits | None = None) -> None:
        self._device, _, text = argument.partition(",")
        options = parse_options(text, {"width": int, "height": int})
        if not self._device.startswith("/"):
            raise SettingError(f"v4l2:{shown_path(argument)}: names no device; write v4l2:/dev/video0")
        if len(options) == 1:
            raise SettingError(f"v4l2:{shown_path(argument)}: width and height go together; give both")
        super().__init__(f"v4l2:{shown_path(self._device)}", um_per_pixel, limits)
        self._asked = (options["width"], options["height"]) if options else None

    @property
    def _patience_s(self) -> float:
        return max(1, self._limits.frame_s * _SHARE_OF_LIMIT // _SELECT_TIMEOUT_S) * _SELECT_TIMEOUT_S

    def _wait(self, capture: cv2.VideoCapture) -> bool:
        end = monotonic() + self._patience_s
        while not self._closing:
            began = monotonic()
            if capture.grab():
                return True
            now = monotonic()
            if now - began < _SELECT_TIMEOUT_S or now >= end:
                return False  # what fails at once was no wait: the device is gone
        return False

    def _connect(self) -> None:
        self._check_device()
        capture = self._capture = cv2.VideoCapture(self._device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraError(
                f"{self.name}: gives pictures in no format that can be read; "
                "a Raspberry Pi's own camera is read with picamera2"
            )
        width, height = self._asked or _DEFAULT_SIZE
        # Format before size: each has sizes of its own. What is not taken is seen below.
        for setting, value in (
            (cv2.CAP_PROP_BUFFERSIZE, _BUFFERS),
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
        ):
            capture.set(setting, value)
        if sends_jpeg(capture):
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self._size = given = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if self._asked not in {None, given}:
            raise SettingError(
                f"{self.name}: gives {given[0]}x{given[1]} pixels, not the {width}x{height} asked for; "
                "give a size that it has (v4l2-ctl --list-formats-ext lists them)"
            )
        self._good_at = monotonic()

    def is_locked(self) -> bool:
        """Return whether the driver says that exposure, gain and white balance are set by hand."""
        try:
            device = os.open(self._device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return False
        try:
            return all(_control(device, control) in off for control, off in _OFF.items())
        finally:
            os.close(device)

    def _check_device(self) -> None:
        """OpenCV only says that a device did not open; ask the device why."""
        try:
            device = os.open(self._device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError as error:
            raise self._no_camera() from error
        except PermissionError as error:
            raise CameraError(
                f"{self.name}: may not be opened; join the group video (sudo usermod -aG video $USER)"
            ) from error
        except OSError as error:
            if error.errno in _NO_DEVICE:
                raise self._no_camera() from error
            raise CameraError(f"{self.name}: cannot be opened ({error.strerror}); check the name") from error
        try:
            answer = bytearray(_CAPABILITY.size)
            try:
                fcntl.ioctl(device, _VIDIOC_QUERYCAP, answer)
            except OSError as error:
                if error.errno in _NO_DEVICE:
                    raise self._no_camera() from error
                raise CameraError(f"{self.name}: not a camera; ls /dev/video* shows what there is") from error
            *_, everywhere, here, _, _, _ = _CAPABILITY.unpack(answer)
            capabilities = here if everywhere & _HAS_NODE_CAPABILITIES else everywhere
            if not capabilities & _CAPTURES_VIDEO:
                raise CameraError(
                    f"{self.name}: gives no pictures; a camera has several devices, take another"
                )
            kind = _BUFFERS_OF_CAPTURE if capabilities & 1 else _BUFFERS_IN_PLANES
            try:
                # No buffers: changes nothing, and is refused while somebody has some.
                fcntl.ioctl(device, _VIDIOC_REQBUFS, _REQUEST.pack(0, kind, _MEMORY_MMAP, 0, 0))
            except OSError as error:
                raise CameraError(
                    f"{self.name}: is in use ({error.strerror}); end the program that has it "
                    f"(fuser {self.name.partition(':')[2]} names it)"
                ) from error
        finally:
            os.close(device)

    def _no_camera(self) -> NoCameraError:
        return NoCameraError(f"{self.name}: no such camera; plug it in, ls /dev/video* shows it")

    def _taken_at(self, capture: cv2.VideoCapture) -> float:
        # Most drivers stamp by the monotonic clock; a time that cannot be is by another.
        stamp, now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, monotonic()
        return stamp if now - _OLDEST_STAMP_S <= stamp <= now else now


def _control(device: int, control: int) -> int | None:
    """Return what a control is set to; None where the camera has none of the kind."""
    answer = bytearray(_CONTROL.pack(control, 0))
    try:
        fcntl.ioctl(device, _VIDIOC_G_CTRL, answer)
    except OSError:
        return None
    value: int = _CONTROL.unpack(answer)[1]
    return value
