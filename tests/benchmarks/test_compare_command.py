"""Everything in one report: what is measured, what is left out, and that a failure holds up nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from benchmarks import compare_command
from benchmarks.accuracy import DEFAULT_DATA, measure_accuracy
from benchmarks.cli import bench
from benchmarks.contenders import thread_counts
from benchmarks.latency import ASKED
from benchmarks.report import read_report
from benchmarks.results import Unmeasured
from benchmarks.variants import VARIANT_NAMES, BuiltModel
from hematovision.classifier import default_model_path
from hematovision.errors import DataSetError, HematoVisionError

from .sample_report import sample_report

SECTIONS = ("latency", "layers", "peers", "throughput", "noise", "accuracy")


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(bench, ["compare", *map(str, arguments)])


@pytest.fixture
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No section gives a figure or fails."""
    for name in ("measure_accuracy", "measure_all", "measure_peers", "time_contenders"):
        monkeypatch.setattr(compare_command, name, lambda *_, **__: ([], []))


def refuse(*_: object, **__: object) -> tuple[list[Any], list[Unmeasured]]:
    raise DataSetError("cells.csv: has no column label; add it")


@pytest.mark.usefixtures("nothing_measured")
def test_a_section_that_fails_is_said_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tiny_keras: Path, tiny_model: BuiltModel, tmp_path: Path
) -> None:
    monkeypatch.setattr(compare_command, "measure_all", refuse)
    models = ("--model", tiny_keras, "--variants", tiny_model.folder.parent, "--variant", "int8")
    result = compare(*models, "--out", tmp_path / "out")
    assert result.exit_code == 1
    failures = [row for row in read_report(tmp_path / "out" / "report.json").unmeasured if row.failed]
    assert failures == [Unmeasured("throughput", "all of it", "cells.csv: has no column label; add it", True)]
    assert len(read_report(tmp_path / "out" / "report.json").layers) == 1


@pytest.mark.usefixtures("nothing_measured")
def test_what_one_model_file_alone_cannot_show_is_left_out_with_the_reason(tmp_path: Path) -> None:
    result = compare(
        "--quick", "--model", default_model_path(), "--variants", tmp_path / "kept", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    report = read_report(tmp_path / "out" / "report.json")
    left_out = {row.section: row.why for row in report.unmeasured if "variants" in row.why}
    assert "compares the variants int8 and float32" in left_out["noise"]


@pytest.mark.usefixtures("nothing_measured")
def test_quick_says_of_every_section_what_it_left_out(tmp_path: Path) -> None:
    compare(
        "--quick", "--model", default_model_path(), "--variants", tmp_path / "kept", "--out", tmp_path / "out"
    )
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {row["section"] for row in content["unmeasured"] if row["why"] == "--quick"} == {*SECTIONS} - {
        "noise"
    }


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize("quick", [False, True])
def test_quick_measures_as_much_less_as_it_says(
    quick: bool, monkeypatch: pytest.MonkeyPatch, tiny_keras: Path, tiny_model: BuiltModel, tmp_path: Path
) -> None:
    names = ("time_contenders", "measure_accuracy", "measure_peers", "measure_layers", "measure_noise")
    calls = {name: Mock(return_value=([], [])) for name in names}
    for name, call in calls.items():
        monkeypatch.setattr(compare_command, name, call)
    calls["measure_layers"].side_effect = calls["measure_noise"].side_effect = DataSetError("not here")
    row = replace(sample_report().latency[0], model="tiny", variant="int8", gop_per_s=None)
    left_out = Unmeasured("latency", "a runtime", "not here", failed=False)
    calls["time_contenders"].return_value = [row], [left_out]
    models = ("--model", tiny_keras, "--variants", tiny_model.folder.parent)
    compare(*models, *(["--quick"] if quick else []), "mine@0.1", "--out", tmp_path)
    contenders, _, asked, _, _ = calls["time_contenders"].call_args.args
    assert {one.runtime for one in contenders} <= {"litert", "tflite-runtime"} or not quick
    assert {one.xnnpack for one in contenders} == ({True} if quick else {None, True, False})
    assert {one.threads for one in contenders} == ({1} if quick else set(thread_counts()))
    assert asked == (100 if quick else ASKED)
    (classified,), sets, *_ = calls["measure_accuracy"].call_args.args
    assert set(VARIANT_NAMES) - set(classified.files) == ({"keras", "int16x8"} if quick else set())
    assert sets == ("mine@0.1",)
    assert calls["measure_peers"].call_count == (0 if quick else 1)
    looked_into = [call.args[1] for call in calls["measure_layers"].call_args_list]
    assert looked_into == ([] if quick else ["float32", "int8"])
    report = read_report(tmp_path / "report.json")
    (timed,) = report.latency
    assert timed.gop_per_s is not None
    assert left_out in report.unmeasured
    # Not there, or not able to load dynamic.
    assert any(row.what.endswith("on tflite-runtime") for row in report.unmeasured)


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize("more", [(), ("--quick",)])
def test_data_that_nobody_named_and_are_not_there_are_left_out(
    more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compare_command, "measure_accuracy", measure_accuracy)
    monkeypatch.setattr(compare_command, "measure_layers", refuse)
    monkeypatch.setenv("HEMATOVISION_DATA", str(tmp_path))
    arguments = (*more, "--model", default_model_path(), "--variants", tmp_path / "kept")
    compare(*arguments, "--out", tmp_path / "out")
    rows = read_report(tmp_path / "out" / "report.json").unmeasured
    sets = [row for row in rows if row.section == "accuracy" and row.why == f"not in {tmp_path}"]
    assert [row.what for row in sets] == list(DEFAULT_DATA[:1] if more else DEFAULT_DATA)
    assert not any(row.failed for row in sets)


@pytest.mark.usefixtures("nothing_measured")
def test_throughput_is_that_of_the_int8_variant_of_the_model_that_is_compared(
    monkeypatch: pytest.MonkeyPatch, tiny_keras: Path, tiny_model: BuiltModel, tmp_path: Path
) -> None:
    played = Mock(return_value=([], []))
    monkeypatch.setattr(compare_command, "measure_all", played)
    arguments = ("--quick", "--model", tiny_keras, "--variants", tiny_model.folder.parent)
    compare(*arguments, "--out", tmp_path)
    assert played.call_args.kwargs["model"] == tiny_model.files["int8"]
    rows = read_report(tmp_path / "report.json").unmeasured
    assert "all but tiny int8" in [row.what for row in rows if row.section == "throughput"]
    played.reset_mock()
    assert "none is here" in compare(*arguments, "--variant", "keras").stdout
    played.assert_not_called()


@pytest.mark.usefixtures("nothing_measured")
def test_what_goes_wrong_with_one_model_of_two_is_said_and_the_other_is_measured(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    models = ("--model", broken, "--model", default_model_path())
    result = compare("--quick", *models, "--variants", tmp_path / "kept", "--out", tmp_path / "out")
    assert result.exit_code == 1
    report = read_report(tmp_path / "out" / "report.json")
    assert [variant.model for variant in report.variants] == ["hematovision-int8"]
    assert [row.what for row in report.unmeasured if row.failed] == ["broken"]


def test_a_report_that_is_there_is_kept_and_nothing_is_measured_in_vain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text("{}")

    def never(*_: object) -> tuple[list[BuiltModel], list[Unmeasured]]:
        raise AssertionError("measured")

    monkeypatch.setattr("benchmarks.options.open_models", never)
    result = compare("--model", default_model_path(), "--out", tmp_path)
    assert isinstance(result.exception, HematoVisionError)
    assert "--force" in str(result.exception)
    assert (tmp_path / "report.json").read_text() == "{}"


@pytest.mark.slow
@pytest.mark.data
def test_quick_measures_the_shipped_file_for_real(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEMATOVISION_DATA", str(data_dir))
    result = compare(
        "--quick", "--model", default_model_path(), "--variants", tmp_path / "kept", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    report = read_report(tmp_path / "out" / "report.json")
    assert {row.runtime for row in report.latency} == {"litert", "tflite-runtime"}
    (accuracy,) = report.accuracy
    assert accuracy.evaluation.originals.count == 71
    # As the README has it, by the command of training.
    assert accuracy.evaluation.originals.accuracy.value == pytest.approx(65 / 71)
    (throughput,) = report.throughput
    assert throughput.named_per_frame == pytest.approx(1, abs=0.2)
