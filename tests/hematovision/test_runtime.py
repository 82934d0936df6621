"""Which runtime runs a model is chosen in the open."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from hematovision.crops import CropSize
from hematovision.errors import MissingPartError, ModelFileError, SettingError
from hematovision.model_file import Manifest, write_model_file
from hematovision.runtime import PACKAGES, available_runtimes, load_interpreter

RUNTIMES = available_runtimes()


def install_only(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def find_spec(package: str) -> ModuleSpec | None:
        return ModuleSpec(package, None) if package in packages else None

    monkeypatch.setattr("importlib.util.find_spec", find_spec)


def test_at_least_one_runtime_is_installed_here() -> None:
    assert RUNTIMES


def test_auto_takes_litert_where_both_are_installed(
    monkeypatch: pytest.MonkeyPatch, int8_flatbuffer: bytes
) -> None:
    if RUNTIMES != ("litert", "tflite-runtime"):
        pytest.skip(f"only {RUNTIMES} here")
    assert load_interpreter(int8_flatbuffer).runtime == "litert"


def test_auto_takes_tflite_runtime_where_it_is_alone(
    monkeypatch: pytest.MonkeyPatch, int8_flatbuffer: bytes
) -> None:
    if "tflite-runtime" not in RUNTIMES:
        pytest.skip("tflite-runtime is not installed here")
    install_only(monkeypatch, "tflite_runtime")
    assert available_runtimes() == ("tflite-runtime",)
    assert load_interpreter(int8_flatbuffer).runtime == "tflite-runtime"


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_runtime_asked_for_is_the_one_that_runs(name: str, int8_flatbuffer: bytes) -> None:
    loaded = load_interpreter(int8_flatbuffer, name, threads=1)
    assert loaded.runtime == name
    assert loaded.interpreter.__class__.__module__.startswith(PACKAGES[name])
    assert str(loaded) == f"{name} {loaded.version}, 1 thread"
    assert loaded.version[0].isdigit()


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_whole_model_file_loads_its_appended_zip_being_ignored(name: str, model_path: Path) -> None:
    load_interpreter(model_path.read_bytes(), name)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_model_that_a_runtime_cannot_run_is_refused_by_its_name(
    name: str, unrunnable_flatbuffer: bytes
) -> None:
    with pytest.raises(ModelFileError, match=rf"{name} .* cannot load the model .*BesselJ0"):
        load_interpreter(unrunnable_flatbuffer, name)


def test_an_unknown_runtime_is_refused_with_the_known_ones(int8_flatbuffer: bytes) -> None:
    with pytest.raises(SettingError, match=r"'tensorflow'.*litert or tflite-runtime"):
        load_interpreter(int8_flatbuffer, "tensorflow")


def test_a_runtime_that_is_not_installed_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, int8_flatbuffer: bytes
) -> None:
    install_only(monkeypatch, "tflite_runtime")
    with pytest.raises(MissingPartError, match=r"pip install ai-edge-litert.*\(installed: tflite-runtime\)"):
        load_interpreter(int8_flatbuffer, "litert")


def test_no_runtime_at_all_names_the_extra_that_brings_one(
    monkeypatch: pytest.MonkeyPatch, int8_flatbuffer: bytes
) -> None:
    install_only(monkeypatch)
    with pytest.raises(MissingPartError, match=r"hematovision\[edge\]"):
        load_interpreter(int8_flatbuffer)


def test_a_broken_installation_is_told_and_not_replaced_by_the_other_runtime(
    monkeypatch: pytest.MonkeyPatch, int8_flatbuffer: bytes
) -> None:
    install_only(monkeypatch, "ai_edge_litert", "tflite_runtime")

    def import_module(name: str) -> ModuleType:
        raise ImportError(f"{name}: GLIBC_2.99 not found")

    monkeypatch.setattr("importlib.import_module", import_module)
    with pytest.raises(MissingPartError, match=r"litert is installed but does not load .*GLIBC_2\.99"):
        load_interpreter(int8_flatbuffer)


def test_no_threads_is_no_setting(int8_flatbuffer: bytes) -> None:
    with pytest.raises(SettingError, match="0 threads"):
        load_interpreter(int8_flatbuffer, threads=0)


@pytest.mark.parametrize("name", RUNTIMES)
def test_without_xnnpack_no_operator_is_delegated_to_it(name: str, float32_flatbuffer: bytes) -> None:
    def operators(xnnpack: bool) -> set[str]:
        loaded = load_interpreter(float32_flatbuffer, name, threads=1, xnnpack=xnnpack)
        return {operator["op_name"] for operator in loaded.interpreter._get_ops_details()}

    assert "DELEGATE" in operators(xnnpack=True)
    assert "DELEGATE" not in operators(xnnpack=False)


@pytest.mark.parametrize("name", RUNTIMES)
def test_commands_say_nothing_of_the_kernels_that_a_runtime_uses(
    name: str, tmp_path: Path, float32_flatbuffer: bytes
) -> None:
    """LiteRT and tflite-runtime write a line of their own where they use XNNPACK, as here for float32."""
    write_model_file(tmp_path / "m.tflite", float32_flatbuffer, Manifest(CropSize(20.0, 32), 1.0, 0.4))
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    command = [sys.executable, "-m", "hematovision", "classify", str(tmp_path / "a.png"), "--runtime", name]
    command += ["--model", str(tmp_path / "m.tflite"), "--um-per-pixel", "0.3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0
    assert "XNNPACK" not in ended.stderr
    assert "INFO" not in ended.stderr


LOADS = """
import os, sys, threading
from hematovision.runtime import allocate
class OpResolverType: AUTO = 0
class Interpreter:
    def __init__(self, **_):
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    def allocate_tensors(self):
        os.write(2, b"ERROR: node 3 cannot be prepared\\n" + b"no end of line")
        if "wrong" in sys.argv: raise ValueError("cannot be prepared")
class Module: OpResolverType, Interpreter = OpResolverType, Interpreter
def talk():
    for number in range(2000): os.write(2, f"line {number}\\n".encode())
others = [threading.Thread(target=talk) for _ in range(3)]
for other in others: other.start()
def load():
    try: allocate(Module, "fake", "1", b"", 1)
    except ValueError as error: os.write(2, f"\\n{error}\\n".encode())
loads = [threading.Thread(target=load) for _ in range(5)]
for one in loads: one.start()
for one in (*loads, *others): one.join()
os.write(2, b"after\\n")
"""


def test_whatever_else_is_written_while_a_model_is_loaded_gets_through() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOADS], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stderr.count("ERROR: node 3 cannot be prepared") == 5
    assert ended.stderr.count("no end of line") == 5
    for number in range(2000):
        assert ended.stderr.count(f"line {number}\n") == 3
    assert ended.stderr.endswith("after\n")


def test_what_is_written_before_a_load_fails_gets_through() -> None:
    command = [sys.executable, "-c", LOADS, "wrong"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert ended.stderr.count("ERROR: node 3 cannot be prepared") == 5
    assert ended.stderr.count("fake 1 cannot load the model (cannot be prepared)") == 5


def test_a_model_is_loaded_where_there_is_no_stderr() -> None:
    without = f"import os\nos.close(2)\n{LOADS}\nprint('loaded')".replace("os.write(2,", "str(")
    ended = subprocess.run(
        [sys.executable, "-c", without], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    assert ended.stdout == "loaded\n"
