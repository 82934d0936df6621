"""Which runtime runs a model is chosen in the open."""

from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from edge.runtime import PACKAGES, available_runtimes, load_interpreter
from hematovision.errors import MissingPartError, ModelFileError, SettingError

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
