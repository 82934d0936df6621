"""OpenCV is kept silent by whichever name its release has for that, and nothing depends on the name."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from edge.cameras import capture

ERRORS_ONLY = 2


def stand_in(old: bool, new: bool) -> tuple[SimpleNamespace, list[int]]:
    """A cv2 that has the function by its name until 4.12, by that since 4.13, or by neither."""
    levels: list[int] = []
    function = SimpleNamespace(setLogLevel=levels.append)
    cv2 = SimpleNamespace(utils=SimpleNamespace(logging=function) if new else SimpleNamespace())
    if old:
        cv2.setLogLevel = levels.append
    return cv2, levels


@pytest.mark.parametrize(("old", "new"), [(True, False), (False, True), (True, True)])
def test_the_log_level_is_set_by_the_name_that_this_opencv_has(
    old: bool, new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2, levels = stand_in(old, new)
    monkeypatch.setattr(capture, "cv2", cv2)
    capture.silence_libraries()
    assert levels == [ERRORS_ONLY]


def test_an_opencv_with_no_name_for_the_log_level_is_no_reason_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cv2, levels = stand_in(old=False, new=False)
    monkeypatch.setattr(capture, "cv2", cv2)
    capture.silence_libraries()
    assert levels == []


def test_a_camera_that_is_not_there_makes_opencv_say_nothing() -> None:
    opening = "import cv2; cv2.VideoCapture('/dev/no-such-camera', cv2.CAP_V4L2)"
    loud, silent = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
        for code in (opening, f"import edge.cameras.capture; {opening}")
    )
    assert "WARN" in loud, "this OpenCV says nothing by itself: the test needs another occasion"
    assert silent == ""
