import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks import peers, peers_command
from benchmarks.contenders import missing_runtimes
from benchmarks.onnx_files import build_onnx
from benchmarks.options import AskedModels
from benchmarks.report import JSON
from benchmarks.results import Unmeasured
from benchmarks.variants import BuiltModel, Say
from hematovision.errors import SettingError


@pytest.fixture
def opened(tiny_model: BuiltModel, monkeypatch: pytest.MonkeyPatch) -> list[AskedModels]:
    """What was asked for; opened is the tiny network with few crops, on one core without Keras."""
    build_onnx(tiny_model, lambda _: None)
    asked: list[AskedModels] = []

    def open_tiny(models: AskedModels, say: Say) -> tuple[list[BuiltModel], list[Unmeasured]]:
        asked.append(models)
        return [tiny_model], []

    crops = tiny_model.crops()[::10]
    monkeypatch.setattr(BuiltModel, "crops", lambda _: crops)
    monkeypatch.setattr(peers, "default_threads", lambda: 1)
    missing = missing_runtimes() | {"keras-predict": "keras is not installed"}
    monkeypatch.setattr(AskedModels, "open", open_tiny)
    monkeypatch.setattr(peers, "missing_runtimes", lambda: missing)
    return asked


def call(*arguments: str) -> Result:
    return CliRunner().invoke(peers_command.peers, ["--invocations", "2", *arguments])


def test_a_report_holds_the_peers_that_are_installed_and_lists_those_that_are_not(
    opened: list[AskedModels], tmp_path: Path
) -> None:
    result = call("--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / JSON).read_text())
    assert report["command"] == "peers"
    assert {"LiteRT int8", "ONNX Runtime uint8", "OpenCV dnn"} <= {one["name"] for one in report["peers"]}
    assert [(one["what"], one["why"]) for one in report["unmeasured"]] == [
        ("tiny: Keras predict", "keras is not installed")
    ]
    assert opened[0].names == ("keras", "float32", "int8")


def test_a_peer_that_answers_otherwise_gives_status_1(
    opened: list[AskedModels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "OTHER_SCALES", peers.Limits(1.0, 0.0))
    result = call()
    assert result.exit_code == 1
    assert "not timed: a probability differs" in " ".join(result.output.split())


def test_only_the_variants_asked_for_are_opened(opened: list[AskedModels]) -> None:
    call("--variant", "int8", "--variant", "dynamic")
    assert opened[0].names == ("int8",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "dynamic"], "--variant dynamic: peers are made of"),
        (["--invocations", "0"], "0 invocations"),
        (["--seconds", "nan"], "nan s of timing"),
    ],
)
def test_what_cannot_be_is_refused(opened: list[AskedModels], arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert isinstance(result.exception, SettingError)
    assert message in str(result.exception)
    assert opened == []
