"""The first load of a model, in a process of its own: some files crash the runtime that reads them.

The flatbuffer is loaded and run once in a child. That it worked, or the signal that ended it, is remembered
by the flatbuffer's hash and the runtime's version, so that it is tried once and not at every start, and a
file that crashes is refused in a line, not started again and again by systemd. What is no crash (a file that
the runtime refuses, a runtime that is broken) the load that follows says better.
"""

import json
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path

from hematovision.child_process import Limits, run_in_child, serve_parent
from hematovision.errors import ChildEnding, ChildError, HematoVisionError, ModelFileError
from hematovision.images import shown_path
from hematovision.model_file import FinderFile, ModelFile, write_atomically
from hematovision.regular_file import read_regular_file
from hematovision.runtime import LoadedModel, find_runtime, load_interpreter

_FILE = "models-tried.json"
_LOADED = 0  # in the place of a signal
# A Pi Zero takes some ten seconds; a file that takes longer than this is not for a device.
_LIMITS = Limits(wall_s=120, cpu_s=100, memory_bytes=2 << 30, output_bytes=1000)
# What the same file does again. Anything else, as too little memory, may be another time's trouble.
_CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
)
_MAX_REMEMBERED, _MAX_BYTES = 100, 100_000

# Tried by this process, where nothing can be written or what was written is gone.
_tried: dict[str, int] = {}


def load_tried(model: ModelFile | FinderFile, runtime: str, threads: int | None) -> LoadedModel:
    """Load a model that is known to crash nothing, after trying that where it is not known.

    Args:
        model: the model file, read and found whole.
        runtime, threads: as for `load_interpreter`.

    Raises:
        ModelFileError: the model crashes the runtime or does not end; or as `load_interpreter`, which also
            raises the other errors. As there, the message does not name the file.
    """
    _, name, version = find_runtime(runtime)
    key = f"{model.model_hash} {name} {version} {platform.machine()}"
    ending = _tried.get(key, _remembered().get(key))
    if ending is None:
        ending = _try(model, name, version, threads)
        _remember(key, ending)
    _tried[key] = ending
    if ending != _LOADED:
        raise ModelFileError(
            f"crashes {name} {version} ({signal.Signals(ending).name}); give "
            f"another model, or remove {shown_path(_place() / _FILE)} to have it tried again"
        )
    return load_interpreter(model.flatbuffer, name, threads)


def _try(model: ModelFile | FinderFile, name: str, version: str, threads: int | None) -> int:
    """The signal that ends a child which loads the model and runs it once, or `_LOADED`."""
    asked = json.dumps([name, threads]).encode()
    try:
        run_in_child(__name__, asked + b"\n" + model.flatbuffer, _LIMITS)
    except OSError as error:
        raise ModelFileError(
            f"no process to try it in ({error.strerror}); free memory and start again"
        ) from error
    except ChildError as error:
        if error.ending is ChildEnding.KILLED and error.signal in _CRASHES:
            return error.signal
        reasons = {
            ChildEnding.TIMED_OUT: f"does not end within {_LIMITS.wall_s:g} s",
            ChildEnding.OUT_OF_MEMORY: f"takes more than {_LIMITS.memory_bytes >> 20} MiB of memory",
        }
        reason = reasons.get(error.ending, f"could not be tried ({error})")
        raise ModelFileError(f"{reason} on {name} {version}; give another model") from error
    return _LOADED


def _place() -> Path:
    """Folder of what is remembered: systemd's for the service, else the user's cache."""
    by_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if by_systemd:
        return Path(by_systemd)
    by_user = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(by_user) if by_user.startswith("/") else Path("~/.cache").expanduser()
    return cache / "hematovision"


def _remembered() -> dict[str, int]:
    """What is remembered; nothing where it cannot be read, since then it is only tried again."""
    try:
        content = json.loads(read_regular_file(_place() / _FILE, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    known = {_LOADED, *_CRASHES}
    return {key: ending for key, ending in content.items() if type(ending) is int and ending in known}


def _remember(key: str, ending: int) -> None:
    content = {**_remembered(), key: int(ending)}
    newest = dict(list(content.items())[-_MAX_REMEMBERED:])
    try:
        write_atomically(_place() / _FILE, (json.dumps(newest, indent=1) + "\n").encode())
    except (ModelFileError, RuntimeError):
        return  # on a system that cannot be written it is tried at every start


def _load_and_run(data: bytes) -> Iterator[bytes]:
    asked, _, flatbuffer = data.partition(b"\n")
    name, threads = json.loads(asked)
    try:
        interpreter = load_interpreter(flatbuffer, name, threads).interpreter
        interpreter.invoke()
    except (HematoVisionError, RuntimeError, ValueError):
        pass  # it is no crash, and the parent meets it too
    yield b"tried"


if __name__ == "__main__":
    serve_parent(_load_and_run)
