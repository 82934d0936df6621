import pytest
from click.testing import CliRunner, Result

from edge.selftest import SelfTest
from hematovision.cli import root
from hematovision.errors import SettingError

STEPS = ["phantom", "scale", "finder", "model", "classifier", "tracker", "store"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["selftest", *arguments])


def test_the_device_as_it_comes_passes() -> None:
    result = call()
    assert result.exit_code == 0, result.output
    assert result.stdout.count("│ pass") == len(STEPS)
    assert "All passed" in result.stdout


def test_a_missing_model_fails_its_step_and_what_needs_it_and_no_other() -> None:
    result = call("--model", "nowhere.tflite")
    assert result.exit_code == 1
    assert "Failed: model, classifier, tracker, store." in result.stderr
    assert "nowhere.tflite" in result.stdout


def test_a_finder_that_sees_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hematovision.finder.Finder.find", lambda self, field: [])
    steps = {step.name: step for step in SelfTest("nowhere.tflite", "auto").run()}
    assert list(steps) == STEPS
    assert not steps["finder"].passed
    assert "0 of" in steps["finder"].said
    assert steps["scale"].passed


def test_a_slide_of_another_scale_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.selftest._UM_PER_PIXEL", 0.2)
    test = SelfTest("nowhere.tflite", "auto")
    monkeypatch.setattr("edge.selftest._FIELD_PX", (640, 480))
    test._draw()
    monkeypatch.setattr("edge.selftest._UM_PER_PIXEL", 0.15)
    with pytest.raises(Exception, match=r"0\.2\d+ µm per pixel measured, 0\.15 drawn"):
        test._measure_scale()


def test_a_classifier_that_names_wrongly_and_a_count_that_is_wrong_fail(model_path: object) -> None:
    # The tiny network calls nearly everything by one name.
    steps = {step.name: step for step in SelfTest(str(model_path), "auto").run()}
    assert not steps["classifier"].passed
    assert "named as they were drawn" in steps["classifier"].said
    assert steps["tracker"].passed


def test_a_step_that_fails_says_why_and_the_rest_is_still_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SettingError("cannot be drawn")

    monkeypatch.setattr("edge.selftest.draw_field", fail)
    steps = SelfTest(None, "auto").run()
    assert [step.name for step in steps] == STEPS
    assert steps[0].said == "cannot be drawn"
    # What had nothing to look at proves nothing.
    assert [step.name for step in steps if step.passed] == ["model", "tracker", "store"]
