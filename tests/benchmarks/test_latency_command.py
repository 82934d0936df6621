"""``hematovision bench latency``: from a model file to a report, and what cannot be."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.contenders import cores
from hematovision.classifier import default_model_path
from hematovision.cli import root
from hematovision.runtime import available_runtimes
from tests.benchmarks.impostor import install_impostor

RUNTIME = available_runtimes()[0]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the crops of the shipped model are kept from one test to the next."""
    return tmp_path_factory.mktemp("kept")


def run_latency(kept: Path, *arguments: object, runtime: str = RUNTIME) -> Result:
    command = ["bench", "latency", "--model", default_model_path(), "--variants", kept, "--runtime", runtime]
    return CliRunner().invoke(root, [str(argument) for argument in (*command, *arguments)])


def report_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_a_model_file_is_timed_with_and_without_xnnpack_and_reported(kept: Path, tmp_path: Path) -> None:
    result = run_latency(kept, "--threads", 1, "--invocations", 20, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = report_in(tmp_path / "out")
    assert report["command"].endswith("latency")
    assert [(row["variant"], row["xnnpack"], row["threads"]) for row in report["latency"]] == [
        ("int8", True, 1),
        ("int8", False, 1),
    ]
    assert all(row["invocations"] == row["asked"] == 20 for row in report["latency"])
    assert all(row["gop_per_s"] > 0 for row in report["latency"])
    assert [variant["name"] for variant in report["variants"]] == ["int8"]
    assert report["machine"]["before"]["time"] <= report["machine"]["after"]["time"]
    assert report["unmeasured"] == []
    assert RUNTIME in result.stdout


def test_fewer_invocations_than_asked_are_said_and_are_no_failure(kept: Path) -> None:
    result = run_latency(kept, "--threads", 1, "--invocations", 10000, "--seconds", 0.1)
    assert result.exit_code == 0, result.output
    done = [int(text) for text in re.findall(r"(\d+)/10000\b", result.stdout)]
    assert len(done) == 2  # with XNNPACK, and without
    assert all(0 < one < 10000 for one in done)


@pytest.mark.parametrize(
    ("invoking", "expected"),
    [
        ("self.calls == 20 and os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("raise RuntimeError('node 5 (CUSTOM) failed to invoke')", "node 5 .* failed to invoke"),
    ],
)
def test_a_contender_that_fails_is_a_row_that_says_so_and_the_exit_status_is_1(
    invoking: str, expected: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "tflite-runtime" not in available_runtimes():
        pytest.skip("tflite-runtime is not installed, so nothing can take its place")
    install_impostor(tmp_path / "impostor", monkeypatch, invoking=invoking)
    result = run_latency(kept, "--runtime", "tflite-runtime", "--threads", 1, "--invocations", 20)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    timed, _, failed = " ".join(result.stdout.split()).partition("Failed (2)")
    assert f"int8 {RUNTIME} without XNNPACK 1" in timed
    for kernels in ("with XNNPACK", "without XNNPACK"):
        assert re.search(rf"on tflite-runtime {kernels}, 1 thread: .*{expected}", failed)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--invocations", 0), "0 invocations; at least 1 must be timed"),
        (("--invocations", -3), "-3 invocations"),
        (("--seconds", 0), "give seconds above 0"),
        (("--seconds", "nan"), "give seconds above 0"),
        (("--threads", 0), "--threads"),
        (("--threads", cores() + 1), f"--threads {cores() + 1}: this process may use {cores()} cores"),
        (("--runtime", "onnx"), "'onnx' is not one of"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_done(
    arguments: tuple[object, ...], expected: str, tmp_path: Path
) -> None:
    result = run_latency(tmp_path / "nothing", *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())
    assert not (tmp_path / "nothing").exists()


def test_a_runtime_asked_for_by_name_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "benchmarks.latency_command.missing_runtimes", lambda: {"tensorflow": "tensorflow is not installed"}
    )
    result = run_latency(tmp_path, runtime="tensorflow")
    assert result.exit_code == 1
    assert "--runtime tensorflow: tensorflow is not installed" in result.output


def test_ctrl_c_leaves_no_process_behind(kept: Path) -> None:
    command = [sys.executable, "-m", "hematovision", "bench", "latency", "--model", str(default_model_path())]
    # Where these tests run in the background of a shell, Ctrl-C is ignored, and programs inherit that.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [*command, "--variants", str(kept), "--runtime", RUNTIME, "--invocations", "1000000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, ours)
    deadline = time.monotonic() + 60
    children: list[str] = []
    try:
        while len(children) < 2:
            assert time.monotonic() < deadline
            assert running.poll() is None
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(60) != 0
    while alive := [pid for pid in children if os.path.exists(f"/proc/{pid}")]:  # noqa: PTH110
        assert time.monotonic() < deadline + 30, alive
        time.sleep(0.02)
