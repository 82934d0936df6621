"""The real picamera2, on libcamera's virtual camera, in a root filesystem of its own.

What the virtual camera lacks (controls, RGB) is tested on a stand-in, in test_picamera2.py.
"""

import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import pytest

from hematovision.images import RGBImage
from hematovision.optics import WORKING_UM_PER_PIXEL
from hematovision.phantom import draw_field

pytestmark = pytest.mark.picamera2

VIRTUAL_CAMERA = """%YAML 1.1
---
"Virtual0":
  supported_formats:
{formats}
  frames:
    path: "/opt/frames/"
  location: "CameraLocationFront"
  model: "virtual-microscope"
"""
# Mounts in a namespace of their own, which ends with the command: nothing is written to the root filesystem.
ENTER = """
root=$1 frames=$2 camera=$3 repository=$4; shift 4
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/opt/hematovision"
for fs in proc sys dev; do mount --rbind "/$fs" "$root/$fs"; done
mount --bind "$frames" "$root/opt/frames"
mount --bind "$camera" "$root/usr/share/libcamera/pipeline/virtual/virtual.yaml"
mount --bind "$repository" "$root/opt/hematovision"
mount -o remount,ro,bind "$root/opt/hematovision"
exec chroot "$root" env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/site:/opt/hematovision \\
  PYTHONFAULTHANDLER=1 LD_PRELOAD=/opt/dmabuf_shim.so \\
  python3 /opt/hematovision/tests/edge/virtual_camera.py "$@"
"""

Scenario = Callable[..., dict[str, Any]]


@cache
def drawn(seed: int, width: int, height: int) -> RGBImage:
    return draw_field(seed, width, height).image


@pytest.fixture
def scenario(tmp_path: Path, repository: Path) -> Scenario:
    """Runs a function of virtual_camera.py where the camera shows drawn fields."""
    root = os.environ.get("HEMATOVISION_VIRTUAL_PICAMERA")
    if not root:
        pytest.skip(
            "HEMATOVISION_VIRTUAL_PICAMERA names no root filesystem with picamera2; .ci/run builds it"
        )

    def run(
        name: str, frames: int = 3, sizes: tuple[tuple[int, int], ...] = ((1280, 960), (512, 384))
    ) -> dict[str, Any]:
        folder, camera = tmp_path / "frames", tmp_path / "virtual.yaml"
        folder.mkdir()
        for seed in range(frames):
            bgr = cv2.cvtColor(drawn(seed, *sizes[0]), cv2.COLOR_RGB2BGR)
            assert cv2.imwrite(str(folder / f"{seed}.jpg"), bgr)
        formats = "\n".join(
            f"  - {{width: {width}, height: {height}, frame_rates: [30, 60]}}" for width, height in sizes
        )
        camera.write_text(VIRTUAL_CAMERA.format(formats=formats))
        enter = ["unshare", "--mount", "--propagation", "private", "bash", "-euc", ENTER, "enter", root]
        done = subprocess.run(
            [*enter, str(folder), str(camera), str(repository), name],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_real_frames_have_the_colours_of_the_files_and_the_camera_opens_again(scenario: Scenario) -> None:
    result = scenario("frames")
    shown = [frame for opening in result["openings"] for frame in opening]
    assert len(shown) == 12
    assert len({frame["file"] for frame in shown}) > 1
    for frame in shown:
        assert frame["size"] == [1280, 960]
        assert frame["mean_error"] < 3  # another file, or another range or order of colours: above 10
        assert max(map(abs, frame["color_error"])) < 2
        assert 0 <= frame["age_s"] < 10
        assert frame["small"] == [256, 192]
        assert frame["cells"] == frame["cells_by_small"] > 3
        assert frame["farthest_px"] < WORKING_UM_PER_PIXEL / 0.1
    assert result["left_open"][0] == result["left_open"][1] < 10  # buffers are files
    assert result["threads"] == []


def test_a_real_camera_that_has_other_sizes_gives_those(scenario: Scenario) -> None:
    result = scenario("frames", sizes=((1280, 720), (640, 480)))
    for frame in result["openings"][0]:
        assert frame["size"] == [1280, 720]
        assert frame["small"] is False
    assert result["threads"] == []


def test_what_a_real_camera_has_not_is_refused_and_it_opens_afterwards(scenario: Scenario) -> None:
    result = scenario("refusals")
    complaints = result["complaints"]
    assert (
        "NoCameraError: picamera2:3: no such camera; attached are: 0 (virtual-microscope)" in complaints["3"]
    )
    assert "no ExposureTime" in complaints["exposure_us=8000"]
    assert "no LensPosition" in complaints["focus=2"]
    assert "nothing to lock" in complaints["lock_after=1"]
    assert "gives 1280x960 pixels, not the 1920x1080" in complaints["width=1920,height=1080"]
    assert "another program uses it" in complaints["busy"]
    assert "Device or resource busy" in complaints["busy"]
    assert complaints["after"] == "opened"
    assert result["threads"] == []


def test_no_real_camera_is_an_error_that_says_so(scenario: Scenario) -> None:
    result = scenario("no_camera", frames=0)
    assert result["complaint"].startswith("NoCameraError: picamera2:0: no such camera; attached are: none")
    assert result["threads"] == []


def test_a_real_camera_that_stops_is_an_error_within_its_limit_and_opens_again(scenario: Scenario) -> None:
    result = scenario("stops")
    assert result["frames"] >= 2
    assert result["error"].startswith("CameraError: picamera2:0: ")
    assert result["seconds"] < 10
    assert result["threads"] == []
    assert result["again"] == "opened"


def test_a_real_camera_is_closed_while_a_picture_is_waited_for_and_opens_again(scenario: Scenario) -> None:
    result = scenario("closed_while_waiting")
    assert result["outcomes"] == [["ended"]] * 3
    assert result["left_open"][0] == result["left_open"][-1] < 10
    assert result["threads"] == []
    assert result["again"] == "opened"
