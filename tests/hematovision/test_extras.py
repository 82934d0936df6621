"""An installation without extras: each command runs, or names the one command that brings what it needs."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edge.store import Store
from hematovision.phantom import draw_field

# Stands for an environment with nothing but what setup.cfg asks for without extras.
BARE = """
import json, sys
from importlib.machinery import PathFinder

absent = set(json.loads(sys.argv[1]))

class Installed:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in absent else PathFinder.find_spec(name, path, target)

    find_distributions = PathFinder.find_distributions

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
from hematovision.cli import main
main(sys.argv[2:])
"""
# The names that the extras' packages are imported by, of those that extras bring and nothing else does.
ABSENT = [
    *("tensorflow", "keras", "sklearn", "matplotlib", "kagglehub", "scipy", "tflite_runtime"),
    *("ai_edge_litert", "flask", "werkzeug", "waitress", "paho", "prometheus_client", "jinja2"),
    *("jsonschema", "onnx", "onnxruntime", "tf2onnx", "flatbuffers"),
]
RUNS = [
    ("--help",),
    ("classify", "--help"),
    ("calibrate", "a.png"),
    ("config", "show"),
    ("service", "install", "--dry-run"),
    ("sessions", "list", "--folder", "state"),
    ("token", "new", "--folder", "state"),
]
NEEDS = [
    (("demo",), "edge"),
    (("classify", "a.png"), "edge"),
    (("run", "--camera", "folder:."), "edge"),
    (("config", "check"), "edge"),
    (("train", "download", "kaggle"), "train"),
    (("train", "evaluate", "trained", "images@0.1"), "train"),
    (("train", "fit", "images@0.1", "--out", "run"), "train"),
    (("bench", "compare", "--quick"), "bench"),
    (("bench", "tracker"), "edge"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    (folder / "images" / "monocyte").mkdir(parents=True)
    for name in ("a.png", "images/monocyte/a.png"):
        Image.fromarray(draw_field(1, 1024, 768, 0.1).image).save(folder / name)
    with Store(folder / "state"):
        pass
    return folder


def bare(folder: Path, repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    trained = str(repository / "train" / "models" / "hematovision.keras")
    return subprocess.run(
        [sys.executable, "-c", BARE, json.dumps(ABSENT), *(trained if w == "trained" else w for w in words)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )


@pytest.mark.parametrize("words", RUNS)
def test_it_runs_without_extras(words: tuple[str, ...], folder: Path, repository: Path) -> None:
    finished = bare(folder, repository, *words)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(("words", "extra"), NEEDS)
def test_it_names_the_command_that_brings_what_it_needs(
    words: tuple[str, ...], extra: str, folder: Path, repository: Path
) -> None:
    finished = bare(folder, repository, *words)
    assert finished.returncode == 1
    *_, line = finished.stderr.splitlines()
    assert line.startswith("Error: ") and "Traceback" not in finished.stderr
    assert f"{sys.executable} -m pip install 'hematovision[{extra}]' brings it" in line


def test_every_extra_that_is_named_is_one(repository: Path) -> None:
    extras = set(importlib.metadata.metadata("hematovision").get_all("Provides-Extra") or ())
    named = {
        extra
        for package in ("hematovision", "edge", "train", "convert", "benchmarks")
        for path in (repository / package).rglob("*.py")
        for found in re.findall(
            r"hematovision\[([a-z,]+)\]|extra=\"([a-z,]+)\"", path.read_text(encoding="utf-8")
        )
        for extra in "".join(found).split(",")
    }
    assert {"edge", "train", "bench"} <= named <= extras
