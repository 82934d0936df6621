"""A wheel installed elsewhere is a whole device."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from hematovision.phantom import draw_field

PACKAGES = ("hematovision", "edge", "train", "convert", "benchmarks")


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: a build leaves its own folders beside the sources.
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    for name in PACKAGES:
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source)
    (wheel,) = out.glob("hematovision-*.whl")
    return wheel


def pip(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)],
        check=True,
    )


def test_the_wheel_holds_every_module_model_and_page_of_the_device(wheel: Path, repository: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(repository).as_posix()
        for package in PACKAGES
        for path in (repository / package).rglob("*.py")
    }
    for pattern in (
        "hematovision/models/*.tflite",
        "edge/web/templates/*.html",
        "edge/web/static/*.*",
        "train/finder/*.csv",
    ):
        files = set(repository.glob(pattern))
        assert files
        wanted |= {path.relative_to(repository).as_posix() for path in files}
    assert wanted <= held
    assert not {name for name in held if name.startswith("tests/") or name.endswith(".keras")}


def test_a_wheel_installed_elsewhere_classifies_with_the_model_it_brings(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, wheel)
    field = draw_field(1, 640, 480, 0.125)
    Image.fromarray(field.image).save(tmp_path / "smear.png")
    finished = subprocess.run(
        [sys.executable, "-m", "hematovision", "classify", "smear.png", "--format", "csv"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 1 + len(field.cells)
    assert "hematovision-int8.tflite (" in finished.stderr
    where = subprocess.run(
        [sys.executable, "-c", "import hematovision, edge; print(hematovision.__file__, edge.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(Path(file).is_relative_to(site) for file in where)


def test_the_command_that_adds_an_extra_needs_no_index_for_hematovision_itself(
    wheel: Path, tmp_path: Path
) -> None:
    """As `hematovision.extras.install_command` has it; what the extra needs is here already."""
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, wheel)
    finished = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "hematovision[edge]"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Requirement already satisfied: hematovision[edge] in ./site" in finished.stdout


def make_demo(folder: Path, repository: Path) -> str:
    """What ``make demo`` calls the program with, in a folder where the environment is made already."""
    shutil.copy(repository / "Makefile", folder)
    for name in ("setup.cfg", "pyproject.toml"):
        (folder / name).touch()
    program = folder / ".venv-edge" / "bin" / "hematovision"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / ".venv-edge" / "installed").touch()
    called = subprocess.run(
        ["make", "--silent", "demo"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert called[:2] == ["demo", "--out"]
    return called[2]


def test_make_demo_writes_its_picture_where_it_can(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    assert make_demo(tmp_path / "here", repository) == "runs/demo"
    (tmp_path / "elsewhere" / "runs").write_text("a person's file", encoding="utf-8")
    place = Path(make_demo(tmp_path / "elsewhere", repository))
    assert place.is_absolute() and place.is_dir()
    place.rmdir()
