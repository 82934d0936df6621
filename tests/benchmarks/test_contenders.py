"""What is timed, what cannot be and why."""

import json
import subprocess
import sys
from dataclasses import asdict
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from benchmarks import contenders
from benchmarks.contenders import (
    MODULES,
    RUNNERS,
    RUNTIMES,
    Contender,
    list_contenders,
    missing_runtimes,
    thread_counts,
)
from convert.recipes import RECIPES

FILES = {"tiny": {name: Path(f"{name}.tflite") for name in RECIPES} | {"keras": Path("tiny.keras")}}


@pytest.fixture
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install_only(monkeypatch, *(module.partition(".")[0] for module in MODULES.values()))


def install_only(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def find_spec(package: str) -> ModuleSpec | None:
        return ModuleSpec(package, None) if package in packages else None

    monkeypatch.setattr("importlib.util.find_spec", find_spec)


def have_cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(count)))
    monkeypatch.setattr("os.cpu_count", lambda: count)


@pytest.mark.usefixtures("everything_installed")
def test_each_variant_meets_each_runtime_that_loads_it_with_and_without_xnnpack() -> None:
    found, left_out = list_contenders(FILES, threads=[1])
    combinations = {(one.variant, one.runtime, one.xnnpack) for one in found}
    assert len(combinations) == len(found)
    expected = {
        (recipe.name, runtime, xnnpack)
        for recipe in RECIPES.values()
        for runtime in (*recipe.runtimes, "tensorflow")
        for xnnpack in (True, False)
    }
    assert combinations == expected | {("keras", "keras", None)}
    (dynamic,) = left_out
    assert (dynamic.section, dynamic.failed) == ("latency", False)
    assert dynamic.what == "tiny dynamic on tflite-runtime"
    assert "FULLY_CONNECTED version 12" in dynamic.why


@pytest.mark.parametrize(("cores", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4))])
def test_threads_are_one_two_and_all(
    cores: int, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    have_cores(monkeypatch, cores)
    assert thread_counts() == expected


def test_all_threads_are_no_more_than_the_device_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    have_cores(monkeypatch, 64)
    assert thread_counts() == (1, 2, 4)


def test_a_process_that_may_use_fewer_cores_than_there_are_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have_cores(monkeypatch, 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert thread_counts() == (1, 2)


@pytest.mark.usefixtures("everything_installed")
def test_each_is_listed_for_each_number_of_threads() -> None:
    found, _ = list_contenders(FILES, ["litert"], [1, 3])
    assert {one.threads for one in found} == {1, 3}
    assert len(found) == 2 * 2 * len(RECIPES)


@pytest.mark.usefixtures("everything_installed")
def test_models_are_kept_apart() -> None:
    found, _ = list_contenders(FILES | {"wide": {"int8": Path("wide.tflite")}}, ["litert"], [1])
    assert {(one.model, one.path) for one in found if one.variant == "int8"} == {
        ("tiny", "int8.tflite"),
        ("wide", "wide.tflite"),
    }


def test_what_is_not_installed_is_listed_once_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    install_only(monkeypatch, "tflite_runtime")
    found, left_out = list_contenders(FILES | {"wide": {"int8": Path("wide.tflite")}}, threads=[1])
    assert {one.runtime for one in found} == {"tflite-runtime"}
    missing = [one for one in left_out if "everything" in one.what]
    assert [one.what for one in missing] == [
        f"everything on {name}" for name in ("litert", "tensorflow", "keras")
    ]
    assert "ai_edge_litert is not installed; pip install 'hematovision[edge]'" in missing[0].why
    assert "hematovision[bench]" in missing[1].why
    assert not any(one.failed for one in left_out)


def test_runtimes_that_were_not_asked_for_are_not_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    install_only(monkeypatch, "ai_edge_litert")
    assert not any("everything" in one.what for one in list_contenders(FILES, ["litert"], [1])[1])


def test_looking_for_runtimes_imports_none() -> None:
    code = (
        "import sys; from benchmarks.contenders import *; missing_runtimes(); thread_counts(); "
        "sys.exit(bool({'tensorflow', 'ai_edge_litert', 'keras', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_runtime_has_a_runner_and_a_module() -> None:
    assert set(RUNNERS) == set(MODULES) >= set(RUNTIMES)
    assert set(missing_runtimes()) <= set(RUNNERS)


def test_a_contender_survives_json_and_says_what_it_is() -> None:
    contender = Contender("tiny", "int8", "litert", False, 2, "tiny-int8.tflite")
    assert contenders.Contender(**json.loads(json.dumps(asdict(contender)))) == contender
    assert str(contender) == "tiny int8 on litert without XNNPACK, 2 threads"
    assert str(Contender("tiny", "keras", "keras", None, 1, "x")) == "tiny keras on keras, 1 thread"
