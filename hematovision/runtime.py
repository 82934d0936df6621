"""Which interpreter runs a model: LiteRT, or its predecessor tflite-runtime. Never TensorFlow."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from hematovision.errors import MissingPartError, ModelFileError, SettingError
from hematovision.extras import install_command
from hematovision.terminal.mistyped import did_you_mean

#: Name of each runtime and the package that it is, the preferred one first: on x86-64 the last wheel of
#: tflite-runtime has no fast int8 kernels and takes ten times as long as LiteRT.
PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
AUTO = "auto"

#: A Raspberry Pi has four cores; more threads than this bring nothing at batch 1.
MAX_THREADS = 4

_GREETING = re.compile(rb"INFO: .*(TensorFlow Lite|XNNPACK)")
_one_at_a_time = Lock()  # stderr is the whole process's
_PASSED_ON_S = 1.0


@dataclass(frozen=True)
class LoadedModel:
    """An interpreter with its tensors allocated, and what it is.

    ``interpreter`` has the methods of ``tf.lite.Interpreter``. It belongs to one thread.
    """

    runtime: str
    version: str
    threads: int
    interpreter: Any

    def __str__(self) -> str:
        return f"{self.runtime} {self.version}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def available_runtimes() -> tuple[str, ...]:
    """Names of the runtimes installed here, the preferred one first; imports none of them."""
    return tuple(name for name, package in PACKAGES.items() if importlib.util.find_spec(package))


def default_threads() -> int:
    """As many threads as this machine has cores, up to `MAX_THREADS`."""
    return min(os.cpu_count() or 1, MAX_THREADS)


def load_interpreter(
    flatbuffer: bytes, runtime: str = AUTO, threads: int | None = None, xnnpack: bool = True
) -> LoadedModel:
    """Load a model into an interpreter and allocate its tensors.

    Args:
        flatbuffer: a TensorFlow Lite model, as `read_model_file` found it whole: a damaged one can crash
            tflite-runtime, and Python with it. What follows the flatbuffer is ignored.
        runtime: a name of `PACKAGES`, or ``auto`` for the preferred one of those installed.
        threads: how many the interpreter computes with; `default_threads` unless given.
        xnnpack: compute with XNNPACK's kernels where the runtime has some for an operator. Without them it
            takes several times as long: for measuring what they bring.

    Raises:
        SettingError: no such runtime, or less than one thread.
        MissingPartError: the runtime is not installed, or its installation is broken.
        ModelFileError: the runtime cannot load the model.
    """
    threads = default_threads() if threads is None else threads
    if threads < 1:
        raise SettingError(f"{threads} threads; the interpreter needs at least 1")
    return allocate(*find_runtime(runtime), flatbuffer, threads, xnnpack)


def find_runtime(runtime: str = AUTO) -> tuple[Any, str, str]:
    """The module of a runtime that has its ``Interpreter``, its name and its version; it is imported.

    Raises:
        SettingError: no such runtime.
        MissingPartError: the runtime is not installed, or its installation is broken.
    """
    runtime = _choose(runtime)
    package = PACKAGES[runtime]
    try:
        module = importlib.import_module(f"{package}.interpreter")
        return module, runtime, str(importlib.import_module(package).__version__)
    except ImportError as error:
        raise MissingPartError(
            f"{runtime} is installed but does not load ({error}); "
            f"install {package.replace('_', '-')} again, or choose another runtime"
        ) from error


def allocate(
    module: Any, runtime: str, version: str, flatbuffer: bytes, threads: int, xnnpack: bool = True
) -> LoadedModel:
    """Load a model into an ``Interpreter`` of ``module``, as every package of TensorFlow Lite has one.

    Raises:
        ModelFileError: the runtime cannot load the model.
    """
    resolvers = module.OpResolverType
    try:
        with _greeting_left_out():
            interpreter = module.Interpreter(
                model_content=flatbuffer,
                num_threads=threads,
                experimental_op_resolver_type=(
                    resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{runtime} {version} cannot load the model ({reason})") from error
    return LoadedModel(runtime, version, threads, interpreter)


@contextmanager
def _greeting_left_out() -> Iterator[None]:
    """Pass on what is written to stderr, but not the lines in which a runtime says that it uses XNNPACK.

    They are written by C++, to the descriptor, and no setting of LiteRT keeps them back. Lines of other
    threads are passed on as they come: the pipe is read to its end, which is there when nobody holds it.
    """
    with _one_at_a_time:
        try:
            stderr = os.dup(2)
        except OSError:  # there is none
            yield
            return
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.close(writing)
        passing = Thread(target=_pass_on, args=(reading, stderr), name="stderr", daemon=True)
        passing.start()
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            # Not for ever: a process that another thread began meanwhile may hold the pipe.
            passing.join(_PASSED_ON_S)


def _pass_on(reading: int, stderr: int) -> None:
    with open(reading, "rb") as lines, open(stderr, "wb", buffering=0) as out:
        for line in lines:
            if not _GREETING.match(line):
                with suppress(OSError):  # a terminal that was closed
                    out.write(line)


def _choose(runtime: str) -> str:
    available = available_runtimes()
    if runtime == AUTO:
        if not available:
            raise MissingPartError(
                f"no runtime for the model is installed; {install_command('edge')} brings it"
            )
        return available[0]
    if runtime not in PACKAGES:
        meant = did_you_mean(runtime, (AUTO, *PACKAGES))
        raise SettingError(f"no runtime is called '{runtime}'; choose {AUTO}, {' or '.join(PACKAGES)}{meant}")
    if runtime not in available:
        raise MissingPartError(
            f"{runtime} is not installed; {sys.executable} -m pip install "
            f"{PACKAGES[runtime].replace('_', '-')}, or choose another runtime "
            f"(installed: {', '.join(available) or 'none'})"
        )
    return runtime
