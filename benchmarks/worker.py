"""A fresh process for one contender, asked in JSON lines; it ends with whoever started it, at the latest."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Contender
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import HematoVisionError

# What a worker is given of the environment. Not what settles how libraries compute, such as OMP_NUM_THREADS:
# figures must not depend on a shell's settings.
_ENVIRONMENT = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "TMPDIR",
    "VIRTUAL_ENV",
)
_SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "-1",  # the processor is measured, for all alike
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
_PROGRAM = Path(__file__).resolve().parent.parent

#: How long a worker may be silent, in seconds, besides the time that it was given for its invocations.
SILENCE_S = 120.0
_SLOWEST_CROP_S = 2.0
_SHOWN_LINES, _SHOWN_CHARACTERS = 3, 400
_ENDING_S = 5.0
_CHUNK = 1 << 16

_T = TypeVar("_T")


@dataclass(frozen=True)
class Loaded:
    """What loading gave: see `results.Latency`."""

    version: str
    load_ms: float
    first_ms: float
    runtime_mib: float
    peak_mib: float


@dataclass(frozen=True)
class Turn:
    """Timed invocations in a row, in ms; ``disturbed``: something else held the processor meanwhile."""

    ms: tuple[float, ...]
    disturbed: bool


class Worker:
    """A process that runs one contender. A context manager: on leaving it, the process has ended.

    Every method raises `HematoVisionError` where the process ends, is silent for too long, answers something
    else than was asked, or says that the contender cannot be run. Which contender that is, the caller says.
    """

    def __init__(self, contender: Contender, crops: Path) -> None:
        """Start the process.

        Args:
            contender: what it is to run.
            crops: an ``.npy`` file, (n, side, side, 3) uint8 RGB.

        Raises:
            HematoVisionError: the process cannot be started, such as for want of memory.
        """
        self._received = b""
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        places = [*filter(None, [os.environ.get("PYTHONPATH")]), str(_PROGRAM)]
        environment = kept | _SETTINGS | {"PYTHONPATH": os.pathsep.join(places)}
        arguments = json.dumps(asdict(contender)), str(crops), str(os.getpid())
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
            self._process = subprocess.Popen(  # noqa: S603 (no part of it comes from outside)
                # -P: the folder that one happens to be in may have benchmarks of its own.
                [sys.executable, "-P", "-m", "benchmarks.worker_process", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us, who end it
            )
        except OSError as error:
            raise HematoVisionError(f"its process cannot be started ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait until it has ended. May be called again."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file is not None
            file.close()

    def load(self) -> Loaded:
        """Import the runtime, load the model, run it once."""
        answer = self._ask({"ask": "load"}, SILENCE_S)
        return self._read(lambda: Loaded(**answer), answer)

    def answers(self, count: int) -> NDArray[np.float32]:
        """Logits of all crops, (``count``, classes) float32."""
        answer = self._ask({"ask": "answers"}, SILENCE_S + count * _SLOWEST_CROP_S)
        logits = self._read(lambda: np.array(answer["logits"], np.float32), answer)
        if logits.shape != (count, len(CLASS_NAMES)) or not np.isfinite(logits).all():
            raise self._failure(f"gave logits of shape {logits.shape} for {count} crops, or not finite")
        return logits

    def time(self, untimed: int, timed: int, limit_s: float) -> Turn:
        """One turn: untimed invocations, then timed ones, until there are so many or the time is over."""
        question = {"ask": "time", "untimed": untimed, "timed": timed, "limit_s": limit_s}
        answer = self._ask(question, SILENCE_S + limit_s)
        turn = self._read(lambda: Turn(tuple(map(float, answer["ms"])), bool(answer["disturbed"])), answer)
        if not turn.ms or not all(0 < ms < float("inf") for ms in turn.ms):
            raise self._failure(f"gave these times: {answer['ms']}")
        return turn

    def _ask(self, question: dict[str, Any], limit_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._end() from error
        line = self._read_line(time.monotonic() + limit_s, limit_s)
        try:
            answer = json.loads(line)
        except ValueError:  # UnicodeDecodeError is one too
            answer = None
        if not isinstance(answer, dict):
            raise self._failure(f"answered {line[:_SHOWN_CHARACTERS]!r}, which is no JSON object")
        if "error" in answer:
            raise HematoVisionError(str(answer["error"]))
        return answer

    def _read_line(self, deadline: float, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while b"\n" not in self._received:
            ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._failure(f"gave no answer in {limit_s:.0f} s")
            chunk = os.read(source, _CHUNK)
            if not chunk:
                raise self._end()
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _read(self, read: Callable[[], _T], answer: dict[str, Any]) -> _T:
        try:
            return read()
        except (KeyError, TypeError, ValueError) as error:
            shown = json.dumps(answer)[:_SHOWN_CHARACTERS]
            raise self._failure(f"answered {shown}, not what was asked ({error})") from error

    def _end(self) -> HematoVisionError:
        """Why there will be no more answers: the process has closed its end, so it is ending or was ended."""
        try:
            status = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            return self._failure("closed its output")
        if status >= 0:
            return self._failure(f"ended with status {status}")
        name = signal.Signals(-status).name
        hint = ", as it is when memory is short" if status == -signal.SIGKILL else ""
        return self._failure(f"was ended by {name}{hint}")

    def _failure(self, what: str) -> HematoVisionError:
        """What happened, with the last that the process wrote to standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = " / ".join([line.strip() for line in lines if line.strip()][-_SHOWN_LINES:])
        if len(last) > _SHOWN_CHARACTERS:
            last = f"…{last[-_SHOWN_CHARACTERS:]}"
        said = f"; its last words: {last}" if last else ""
        return HematoVisionError(f"its process {what}{said}")
