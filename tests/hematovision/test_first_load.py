"""A model that crashes its runtime is tried in another process, once, and refused in a line."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hematovision.first_load
from hematovision.child_process import Limits
from hematovision.crops import CropSize
from hematovision.errors import ModelFileError
from hematovision.first_load import load_tried
from hematovision.model_file import Manifest, ModelFile, read_model_file, write_model_file
from hematovision.runtime import LoadedModel

# A runtime that does what the model says, and writes down that it was asked.
RUNTIME = """
import os, pathlib, signal
class OpResolverType: AUTO = BUILTIN_WITHOUT_DEFAULT_DELEGATES = 0
class Interpreter:
    def __init__(self, model_content, **_):
        self.todo = model_content[8:].decode()
    def allocate_tensors(self):
        with open(pathlib.Path(__file__).with_name("log"), "a") as log:
            log.write(self.todo + "\\n")
        if self.todo == "refused": raise ValueError("no such operator")
        if self.todo == "endless":
            while True: pass
        if self.todo == "large": self.held = bytearray(1 << 40)
        if self.todo.startswith("SIG"): os.kill(os.getpid(), getattr(signal, self.todo))
    def invoke(self):
        if self.todo == "refused later": raise RuntimeError("cannot be run")
        if self.todo.startswith("later SIG"): os.kill(os.getpid(), getattr(signal, self.todo[6:]))
"""


class Fake:
    """A runtime in the child's way; in this process, what is loaded is only written down."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.package = folder / "runtime" / "ai_edge_litert"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").write_text('__version__ = "9.9"\n')
        (self.package / "interpreter.py").write_text(RUNTIME)
        self.folder, self.version, self.loaded = folder, "9.9", 0
        monkeypatch.syspath_prepend(self.package.parent)
        monkeypatch.setattr("hematovision.first_load.find_runtime", lambda _: (None, "litert", self.version))
        monkeypatch.setattr("hematovision.first_load.load_interpreter", self._load)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.new_process(monkeypatch)

    def _load(self, flatbuffer: bytes, runtime: str, threads: int | None) -> LoadedModel:
        self.loaded += 1
        return LoadedModel(runtime, self.version, threads or 1, None)

    def new_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hematovision.first_load._tried", {})

    def model(self, todo: str) -> ModelFile:
        path = self.folder / "m.tflite"
        write_model_file(path, b"\x1c\0\0\0TFL3" + todo.encode(), Manifest(CropSize(20.0, 32), 1.0, 0.5))
        return read_model_file(path)

    @property
    def tried(self) -> list[str]:
        log = self.package / "log"
        return log.read_text().split("\n")[:-1] if log.exists() else []


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


@pytest.mark.parametrize("todo", ["SIGSEGV", "SIGABRT", "later SIGBUS"])
def test_a_model_that_crashes_is_refused_and_never_loaded_here(fake: Fake, todo: str) -> None:
    with pytest.raises(ModelFileError, match=rf"^crashes litert 9\.9 \({todo.split()[-1]}\)"):
        load_tried(fake.model(todo), "auto", 1)
    assert fake.loaded == 0


@pytest.mark.parametrize(
    ("todo", "loaded"), [("fine", 3), ("SIGSEGV", 0), ("refused", 3), ("refused later", 3)]
)
def test_it_is_tried_once_and_remembered_over_processes(
    fake: Fake, todo: str, loaded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fake.model(todo)
    for _ in range(3):
        try:
            load_tried(model, "auto", 1)
        except ModelFileError as error:
            assert "\n" not in str(error)
        fake.new_process(monkeypatch)
    assert fake.tried == [todo]
    assert fake.loaded == loaded


def test_another_version_of_the_runtime_is_tried_again(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake.model("fine")
    load_tried(model, "auto", 1)
    fake.version = "10.0"
    load_tried(model, "auto", 1)
    assert fake.tried == ["fine", "fine"]


def test_what_is_remembered_can_be_removed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError) as caught:
        load_tried(fake.model("SIGSEGV"), "auto", 1)
    remembered = fake.folder / "cache/hematovision/models-tried.json"
    assert f"remove {remembered} to have it tried again" in str(caught.value)
    remembered.unlink()
    fake.new_process(monkeypatch)
    with pytest.raises(ModelFileError):
        load_tried(fake.model("SIGSEGV"), "auto", 1)
    assert fake.tried == ["SIGSEGV", "SIGSEGV"]


@pytest.mark.parametrize("todo", ["endless", "large", "SIGKILL"])
def test_what_may_be_another_times_trouble_is_refused_and_not_remembered(
    fake: Fake, todo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(wall_s=60, cpu_s=1, memory_bytes=1 << 30, output_bytes=1000)
    monkeypatch.setattr("hematovision.first_load._LIMITS", limits)
    complaint = {"endless": "does not end", "large": "of memory", "SIGKILL": "could not be tried"}[todo]
    for _ in range(2):
        with pytest.raises(ModelFileError, match=complaint):
            load_tried(fake.model(todo), "auto", 1)
    assert fake.tried == [todo, todo]
    assert fake.loaded == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "[" * 50_000, '{"KEY": "loaded"}', '{"KEY": 9}', '{"KEY": true}']
)
def test_a_memory_that_is_damaged_is_only_tried_again(fake: Fake, content: str) -> None:
    model = fake.model("fine")
    remembered = fake.folder / "cache/hematovision/models-tried.json"
    load_tried(model, "auto", 1)
    key = next(iter(json.loads(remembered.read_text())))
    remembered.write_text(content.replace("KEY", key))
    hematovision.first_load._tried.clear()
    load_tried(model, "auto", 1)
    assert fake.tried == ["fine", "fine"]


def test_where_nothing_can_be_written_it_is_tried_once_a_process(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake.folder / "cache").write_text("a file where the folder would be")
    model = fake.model("fine")
    for _ in range(3):
        load_tried(model, "auto", 1)
    assert fake.tried == ["fine"]
    fake.new_process(monkeypatch)
    load_tried(model, "auto", 1)
    assert fake.tried == ["fine", "fine"]


def test_the_service_remembers_in_its_state_folder(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(fake.folder / "state"))
    load_tried(fake.model("fine"), "auto", 1)
    assert (fake.folder / "state/models-tried.json").exists()


def test_a_command_refuses_a_model_that_crashes_in_a_line(fake: Fake) -> None:
    model = fake.model("SIGSEGV")
    (fake.folder / "a.png").write_bytes(b"")
    start = (
        f"import sys; sys.path.insert(0, {str(fake.package.parent)!r}); "
        "from hematovision.cli import main; main()"
    )
    for _ in range(2):
        command = [
            sys.executable,
            "-c",
            start,
            "classify",
            "--model",
            str(model.path),
            "--um-per-pixel",
            "0.1",
        ]
        ended = subprocess.run(
            [*command, str(fake.folder / "a.png")], capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 1
        assert f"crashes litert 9.9 ({signal.SIGSEGV.name})" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert fake.tried == ["SIGSEGV"]
