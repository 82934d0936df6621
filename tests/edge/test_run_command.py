"""What ``run`` says beside the count."""

from typing import Any

import pytest

from edge.cameras import Frame, LostFrame
from edge.cameras.phantom import PhantomCamera
from edge.pipeline import LiveLine
from edge.run_command import _Aside, _key_and_value
from hematovision.classifier import Classifier
from hematovision.errors import SettingError
from hematovision.phantom import draw_field

UM_PER_PIXEL = 0.2


class Heard:
    """What a device is told to say, instead of a device."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.shown: dict[str, str] = {}

    def say(self, kind: str, line: str) -> None:
        self.all.append(line)
        self.shown[kind] = line

    def unsay(self, kind: str) -> None:
        self.shown.pop(kind, None)


@pytest.mark.parametrize(("rate", "said"), [(",rate=20", 1), ("", 4)])
def test_of_a_live_camera_that_loses_every_other_frame_one_is_said(
    classifier: Classifier, rate: str, said: int
) -> None:
    heard: Any = Heard()
    line = LiveLine(classifier)
    aside = _Aside(heard, line)
    camera = PhantomCamera(f"width=640,height=480,um_per_pixel=0.2{rate}", UM_PER_PIXEL)
    field = draw_field(5, 640, 480, UM_PER_PIXEL).image
    for number in range(0, 8, 2):
        aside.check(LostFrame(number, "a camera", f"frame {number} is torn"), camera)
        seen = line.see(Frame.now(field, number + 1, UM_PER_PIXEL, "a camera"))
        aside.check(seen, camera)
        assert "frame" not in heard.shown
    assert len(heard.all) == said


@pytest.mark.parametrize(
    ("text", "value"),
    [("web.port=8080", 8080), ("mqtt.host=broker", "broker"), ('mqtt.name="a=b"', "a=b"), ("web.port=", "")],
)
def test_a_setting_on_the_command_line_is_toml_or_else_a_text(text: str, value: object) -> None:
    assert _key_and_value(text)[1] == value


def test_a_number_too_long_to_be_one_is_a_text() -> None:
    assert _key_and_value(f"web.port={'9' * 5000}") == ("web.port", "9" * 5000)


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(SettingError, match="write --set"):
        _key_and_value("web.port")
