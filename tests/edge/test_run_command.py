"""What ``run`` says beside the count."""

from typing import Any

import numpy as np
import pytest

from edge.cameras import Frame, LostFrame
from edge.cameras.phantom import PhantomCamera
from edge.pipeline import LiveLine, SeenFrame
from edge.run_command import _Aside, _key_and_value
from edge.stage_motion import Position
from edge.tracker import Place
from hematovision.blank_field import STEPS, BlankField
from hematovision.classifier import Classifier
from hematovision.errors import SettingError
from hematovision.learned_blank import MIN_PLACES
from hematovision.optics import measure_field
from hematovision.phantom import draw_field
from hematovision.phantom.microscope import WARM_LAMP

UM_PER_PIXEL = 0.2


class Heard:
    """What a device is told to say, instead of a device."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.shown: dict[str, str] = {}
        self.blanks: list[BlankField] = []

    def offer_blank(self, blank: BlankField) -> None:
        self.blanks.append(blank)

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


def test_a_blank_field_is_learnt_from_a_smear_that_is_moved(classifier: Classifier) -> None:
    heard: Any = Heard()
    aside = _Aside(heard, LiveLine(classifier))
    camera = PhantomCamera("width=480,height=360,um_per_pixel=0.2", UM_PER_PIXEL)
    for number in range(MIN_PLACES):
        frame = Frame.now(draw_field(number, 480, 360, UM_PER_PIXEL).image, number, UM_PER_PIXEL, "a camera")
        place = Place(Position(1, 100.0 * number, 0.0), (96.0, 72.0), UM_PER_PIXEL, frame.captured_at)
        field = measure_field(frame.image, UM_PER_PIXEL)
        aside.check(SeenFrame(frame, field, None, (), (), 1.0, 1, place), camera)
    assert heard.shown["blank"] == "A blank field was learnt from 30 places: used from the next session on."
    (blank,) = heard.blanks
    # The phantom's lamp, (238, 226, 196) in the middle, which loses 16 % of it in the corners.
    middle = blank.levels[blank.levels.shape[0] // 2, blank.levels.shape[1] // 2] / STEPS
    np.testing.assert_allclose(middle, WARM_LAMP, rtol=0.03)
    np.testing.assert_allclose(blank.levels[0, 0] / STEPS, 0.84 * np.array(WARM_LAMP), rtol=0.06)


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
