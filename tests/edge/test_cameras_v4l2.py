"""USB cameras: OpenCV's own Video4Linux code on a device that v4l2_device.c stands in for."""

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras import open_camera
from edge.cameras.v4l2 import V4L2Camera
from hematovision.errors import CameraError, NoCameraError, SettingError

UPPER, LOWER = (230, 150, 170), (90, 60, 200)
COUNT, TORN = 6, 4  # of pictures; number of the one that is torn
SKIPPED = 1  # OpenCV throws the first one away

# What each device does, looked at in one process: the device has to be there before Python starts.
LOOK = """
import json, os, sys, threading
from itertools import islice
from time import monotonic, sleep
from edge.cameras import Frame
from edge.cameras.live import Limits
from edge.cameras.v4l2 import V4L2Camera
from hematovision.errors import HematoVisionError

def look(argument):
    frames, lost, error = [], [], ""
    try:
        with V4L2Camera(os.environ["V4L2_DEVICES"] + argument, 0.1, Limits(frame_s=2.5)) as camera:
            for frame in islice(camera.frames(), 8):
                if isinstance(frame, Frame):
                    halves = frame.image[:44], frame.image[52:]
                    colors = [half.mean(axis=(0, 1)).tolist() for half in halves]
                    frames.append([frame.sequence, colors, monotonic() - frame.monotonic])
                else:
                    lost.append(frame.error)
    except HematoVisionError as caught:
        error = f"{type(caught).__name__}: {caught}"
    return {"frames": frames, "lost": lost, "error": error}

def close_while_it_waits(argument):
    camera = V4L2Camera(os.environ["V4L2_DEVICES"] + argument, 0.1, Limits(frame_s=30, stop_s=10))
    camera.open()
    waiting = threading.Event()
    reader = threading.Thread(target=lambda: [waiting.set() for _ in camera.frames()])
    reader.start()
    waiting.wait()
    sleep(0.5)  # it has fallen silent
    camera.close()
    reader.join()

seen = {argument: look(argument) for argument in sys.argv[1:]}
seen["again"] = look("unplugged")
close_while_it_waits("hanging")  # a StuckThreadError if it waited for as long as it is patient
print(json.dumps({**seen, "threads": threading.active_count()}))
"""
ARGUMENTS = ("mjpg", "mjpg,width=128,height=96", "mjpg,width=1920,height=1080", "yuyv", "late")
FAULTS = ("another-clock", "busy", "denied", "gone", "hanging", "metadata", "strange", "unplugged")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen of each device; ``threads``: how many were left; ``stderr``: what libraries said."""
    if shutil.which("gcc") is None:
        pytest.skip("the device that stands in needs gcc")
    folder = tmp_path_factory.mktemp("v4l2")
    source, library = Path(__file__).with_name("v4l2_device.c"), folder / "device.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    for form in ("MJPG", "YUYV"):
        (folder / form).mkdir()
    for number in range(COUNT):
        rgb = np.random.default_rng(number).integers(-9, 9, (96, 128, 1)) + np.array(UPPER)
        rgb[48:] += np.array(LOWER) - np.array(UPPER)
        bgr = rgb[..., ::-1].clip(0, 255).astype(np.uint8)
        jpeg = cv2.imencode(".jpg", bgr)[1].tobytes()
        (folder / "MJPG" / str(number)).write_bytes(jpeg[: len(jpeg) // 2] if number == TORN else jpeg)
        (folder / "YUYV" / str(number)).write_bytes(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_YUY2).tobytes())
    there = {"LD_PRELOAD": str(library), "V4L2_DEVICES": f"{folder}/video-", "V4L2_FRAMES": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *ARGUMENTS, *FAULTS],
        env={**os.environ, **there},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {**json.loads(done.stdout), "stderr": done.stderr}


@pytest.mark.parametrize("form", ["mjpg", "yuyv"])
def test_pictures_come_in_rgb_whatever_their_format(device: dict[str, Any], form: str) -> None:
    assert len(device[form]["frames"]) >= 6
    assert not device[form]["error"]
    for _, colors, _ in device[form]["frames"]:
        np.testing.assert_allclose(colors, [UPPER, LOWER], atol=6)


def test_a_torn_picture_is_lost_and_the_rest_follows(device: dict[str, Any]) -> None:
    (error,) = device["mjpg"]["lost"]
    assert f"frame {TORN - SKIPPED} is torn: the picture was not sent to its end" in error
    sequence = [number for number, _, _ in device["mjpg"]["frames"]]
    assert sequence == [number for number in range(8) if number != TORN - SKIPPED]


def test_a_frame_was_taken_when_the_driver_says_or_else_now(device: dict[str, Any]) -> None:
    ages = {kind: [age for *_, age in device[kind]["frames"]] for kind in ("late", "another-clock")}
    assert all(1 <= age < 5 for age in ages["late"])
    assert all(0 <= age < 1 for age in ages["another-clock"])


def test_a_size_is_given_as_asked_for_or_refused(device: dict[str, Any]) -> None:
    assert device["mjpg,width=128,height=96"]["frames"]
    assert (
        "gives 128x96 pixels, not the 1920x1080 asked for" in device["mjpg,width=1920,height=1080"]["error"]
    )


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("busy", "is in use (Device or resource busy); end the program that has it (fuser /"),
        ("denied", "may not be opened; join the group video"),
        ("metadata", "gives no pictures; a camera has several devices, take another"),
        ("strange", "gives pictures in no format that can be read"),
        ("unplugged", "the camera stopped; check its cable"),
        ("hanging", "no picture for 2 s; check its cable"),
    ],
)
def test_what_is_wrong_with_a_device_is_told(device: dict[str, Any], fault: str, complaint: str) -> None:
    assert device[fault]["error"].startswith("CameraError: v4l2:/")
    assert f"video-{fault}: {complaint}" in device[fault]["error"]
    begun = fault in {"unplugged", "hanging"}
    assert bool(device[fault]["frames"]) == begun


def test_a_camera_that_was_pulled_is_absent_when_it_is_opened_again(device: dict[str, Any]) -> None:
    for absent in ("again", "gone"):
        assert device[absent]["error"].startswith("NoCameraError: v4l2:/")
        assert "no such camera; plug it in" in device[absent]["error"]


def test_no_thread_is_left_and_libraries_add_no_lines(device: dict[str, Any]) -> None:
    assert device["threads"] == 1
    assert device["stderr"] == ""


def test_what_is_no_camera_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path, complaint in (
        (tmp_path / "video7", "no such camera; plug it in"),
        (tmp_path / "file", "not a camera"),
        (tmp_path, r"cannot be opened \(Is a directory\)"),
        (Path("/dev/null"), "not a camera"),
    ):
        with pytest.raises(CameraError, match=f"v4l2:{path}: {complaint}") as caught:
            V4L2Camera(str(path), 0.1).open()
        assert isinstance(caught.value, NoCameraError) == ("no such camera" in complaint)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("v4l2:0", "v4l2:0: names no device; write v4l2:/dev/video0"),
        ("v4l2:video0", "names no device"),
        ("v4l2:,width=640", "names no device"),
        ("v4l2:/dev/video0,width=640", "width and height go together; give both"),
        ("v4l2:/dev/video0,fps=30", "'fps=30' is unknown; known are width=, height="),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        open_camera(spec, 0.1)


EXPOSURE_AUTO, AUTO_WHITE_BALANCE, AUTO_GAIN = 0x009A0901, 0x0098090C, 0x00980912


@pytest.mark.parametrize(
    ("controls", "locked"),
    [
        ({EXPOSURE_AUTO: 1, AUTO_WHITE_BALANCE: 0}, True),
        ({EXPOSURE_AUTO: 1, AUTO_WHITE_BALANCE: 0, AUTO_GAIN: 0}, True),
        ({EXPOSURE_AUTO: 3, AUTO_WHITE_BALANCE: 0}, False),
        ({EXPOSURE_AUTO: 1, AUTO_WHITE_BALANCE: 1}, False),
        ({EXPOSURE_AUTO: 1, AUTO_WHITE_BALANCE: 0, AUTO_GAIN: 1}, False),
        ({EXPOSURE_AUTO: 1}, False),  # it cannot say
        ({}, False),
    ],
)
def test_it_is_known_to_be_locked_where_the_driver_says_so(
    controls: dict[int, int], locked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(device: int, request: int, answer: bytearray) -> int:
        assert request == 0xC008561B  # VIDIOC_G_CTRL
        asked, _ = struct.unpack("Ii", answer)
        if asked not in controls:
            raise OSError(errno.EINVAL, "Invalid argument")
        answer[:] = struct.pack("Ii", asked, controls[asked])
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    device = tmp_path / "video0"
    assert not V4L2Camera(str(device), 0.1).is_locked()  # no such device
    device.touch()
    assert V4L2Camera(str(device), 0.1).is_locked() is locked
