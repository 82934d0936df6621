"""The root command: quick, lazy, and one line where something is wrong."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hematovision import __version__
from hematovision.cli import root
from hematovision.errors import CameraError, HematoVisionError, SettingError, StuckThreadError

PROGRAM = (sys.executable, "-m", "hematovision")


def in_a_new_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True)


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    code = (
        "import sys; from hematovision.cli import root; "
        "root(['--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("calibrate", "classify", "convert", "demo", "run", "train"):
        assert command in finished.stdout
    loaded = {name.partition(".")[0] for name in finished.stderr.split()}
    assert not loaded & {
        "numpy",
        "cv2",
        "PIL",
        "edge",
        "train",
        "convert",
        "benchmarks",
        "tensorflow",
        "scipy",
    }


def every_command(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for child in group.list_commands(context):
        command = group.get_command(context, child)
        assert command is not None
        yield f"{name} {child}".lstrip(), command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{name} {child}")


def test_every_command_has_help_on_itself_and_its_options() -> None:
    commands = dict(every_command(root))
    assert {"bench", "calibrate", "classify", "convert", "demo", "run", "train", "train fit"} <= set(commands)
    assert [name for name, command in commands.items() if not command.help] == []
    unexplained = [
        f"{name} {option.opts[0]}"
        for name, command in commands.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert unexplained == []


@pytest.mark.parametrize("command", ["calibrate", "classify", "demo", "run"])
def test_help_on_a_command_of_the_device_is_shown(command: str) -> None:
    result = CliRunner().invoke(root, [command, "--help"])
    assert result.exit_code == 0
    assert "--help" in result.stdout


def test_version_is_the_packages() -> None:
    assert __version__ in CliRunner().invoke(root, ["--version"]).output


def test_an_unknown_command_is_a_wrong_use() -> None:
    finished = in_a_new_process("diagnose")
    assert finished.returncode == 2
    assert "No such command 'diagnose'" in finished.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Not an image: what is said of it is said on standard output too."""
    (tmp_path / "a.png").write_text("hello")
    return tmp_path / "a.png"


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_that_cannot_be_written_is_one_line(form: str, image: Path) -> None:
    command = [*PROGRAM, "classify", str(image), "--format", form]
    # As a shell starts it: what is written is kept in a buffer first.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(command, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True)
    assert finished.returncode == 1
    errors = [line for line in finished.stderr.splitlines() if "a.png" not in line and "INFO" not in line]
    assert errors == [
        "Error: standard output cannot be written (No space left on device), results are lost; "
        "write it elsewhere"
    ]


def test_standard_output_that_is_closed_is_one_line() -> None:
    finished = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" >&-', *PROGRAM, "--version"], stderr=subprocess.PIPE, text=True
    )
    assert finished.returncode == 1
    assert finished.stderr == ("Error: standard output is closed, results would be lost; send it somewhere\n")


def test_standard_error_that_is_closed_puts_nothing_among_the_results(image: Path) -> None:
    finished = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" 2>&-', *PROGRAM, "classify", str(image), "--format", "csv"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert finished.returncode == 1
    header, row = finished.stdout.splitlines()
    assert header.startswith("image,") and row.startswith(str(image))


def test_a_reader_that_has_seen_enough_ends_the_program_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    finished = subprocess.run([*PROGRAM, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert finished.stderr == ""


def test_an_error_of_ours_is_one_line_without_a_traceback() -> None:
    finished = in_a_new_process("run", "--camera", "webcam:0")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("Error: no camera is called 'webcam'")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(("error", "status"), [(HematoVisionError, 1), (SettingError, 2)])
def test_each_kind_of_error_has_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, error: type[HematoVisionError], status: int
) -> None:
    def fail(*arguments: object) -> None:
        raise error("this is wrong; do that")

    monkeypatch.setattr("edge.run_command.open_camera", fail)
    result = CliRunner().invoke(root, ["run", "--camera", "folder:x"])
    assert result.exit_code == status
    assert result.stderr == "Error: this is wrong; do that\n"


def test_an_error_is_not_hidden_by_another_that_comes_when_cleaning_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        try:
            raise CameraError("the cable is out")
        finally:
            raise StuckThreadError("the thread 'camera' did not stop")

    monkeypatch.setattr(importlib.import_module("edge.run_command").run, "callback", fail)
    monkeypatch.setattr(importlib.import_module("edge.run_command").run, "params", [])
    result = CliRunner().invoke(root, ["run"])
    assert result.exit_code == 1
    assert result.stderr == "Error: the cable is out\nError: the thread 'camera' did not stop\n"


def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_tensorflow(name: str) -> None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow.keras")

    monkeypatch.setattr(importlib, "import_module", without_tensorflow)
    result = CliRunner().invoke(root, ["train"])
    assert result.exit_code == 1
    command = f"{sys.executable} -m pip install 'hematovision[train]'"
    assert result.stderr == f"Error: tensorflow is not installed; {command} brings it\n"


def test_a_module_of_ours_that_is_missing_is_a_fault_and_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'edge.nowhere'", name="edge.nowhere")

    monkeypatch.setattr(importlib, "import_module", broken)
    result = CliRunner().invoke(root, ["run"])
    assert isinstance(result.exception, ModuleNotFoundError)


WRONG_PATHS = """
import sys
from hematovision.cli import root
try:
    root(sys.argv[1:])
finally:
    slow = {"tensorflow", "scipy", "ai_edge_litert", "tflite_runtime", "matplotlib"} & set(sys.modules)
    print("loaded:", *sorted(slow), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("classify", "nowhere", "--model", "broken"),
        ("run", "--camera", "folder:nowhere", "--model", "broken", "--set", "store.folder=broken/state"),
        ("run", "--camera", "file:nowhere", "--model", "broken", "--set", "store.folder=broken/state"),
        ("run", "--camera", "folder:.", "--blank", "nowhere", "--set", "store.folder=broken/state"),
        ("calibrate", "nowhere"),
        ("calibrate", "--blank", "images", "--out", "nowhere/blank.png"),
        ("train", "evaluate", "broken", "nowhere"),
        ("train", "evaluate", "broken", "images", "--json", "nowhere/figures.json"),
        ("train", "audit", "images", "nowhere"),
        ("train", "audit", "images", "--json", "nowhere/figures.json"),
        ("train", "fit", "nowhere", "--out", "run"),
        ("train", "fit", "images", "--apart", "nowhere", "--out", "run"),
        ("train", "fit", "images", "--weights", "nowhere", "--out", "run"),
        ("convert", "trained", "--data", "nowhere", "--out", "converted"),
        ("convert", "nowhere", "--data", "images", "--out", "converted"),
    ],
)
def test_a_wrong_path_is_told_before_anything_that_takes_seconds(
    words: tuple[str, ...], tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "broken").write_text("hello", encoding="utf-8")
    (tmp_path / "images" / "monocyte").mkdir(parents=True)
    (tmp_path / "images" / "monocyte" / "a.png").write_text("hello", encoding="utf-8")
    trained = str(repository / "train" / "models" / "hematovision.keras")
    words = tuple(trained if word == "trained" else word for word in words)
    finished = subprocess.run(
        [sys.executable, "-c", WRONG_PATHS, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert finished.returncode in (1, 2)
    *said, loaded = finished.stderr.splitlines()
    assert "nowhere" in "\n".join(said) and "Traceback" not in finished.stderr
    assert loaded == "loaded:"
