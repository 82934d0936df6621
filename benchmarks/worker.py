"""A fresh process for one contender, asked in JSON lines; it ends with whoever started it, at the latest."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Contender
from benchmarks.fresh_process import FreshProcess
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import HematoVisionError

#: How long a worker may be silent, in seconds, besides the time that it was given for its invocations.
SILENCE_S = 120.0
_SLOWEST_CROP_S = 2.0
_SHOWN_CHARACTERS = 400

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


class Worker(FreshProcess):
    """A process that runs one contender.

    Every method raises `HematoVisionError` also where the process answers something else than was asked, or
    says that the contender cannot be run.
    """

    def __init__(self, contender: Contender, crops: Path) -> None:
        """Start the process.

        Args:
            contender: what it is to run.
            crops: an ``.npy`` file, (n, side, side, 3) uint8 RGB.

        Raises:
            HematoVisionError: the process cannot be started, such as for want of memory.
        """
        super().__init__(
            "benchmarks.worker_process", json.dumps(asdict(contender)), str(crops), str(os.getpid())
        )

    def load(self) -> Loaded:
        """Import the runtime, load the model, run it once."""
        answer = self._ask({"ask": "load"}, SILENCE_S)
        return self._read(lambda: Loaded(**answer), answer)

    def answers(self, count: int) -> NDArray[np.float32]:
        """Logits of all crops, (``count``, classes) float32."""
        answer = self._ask({"ask": "answers"}, SILENCE_S + count * _SLOWEST_CROP_S)
        logits = self._read(lambda: np.array(answer["logits"], np.float32), answer)
        if logits.shape != (count, len(CLASS_NAMES)) or not np.isfinite(logits).all():
            raise self.failure(f"gave logits of shape {logits.shape} for {count} crops, or not finite")
        return logits

    def time(self, untimed: int, timed: int, limit_s: float) -> Turn:
        """One turn: untimed invocations, then timed ones, until there are so many or the time is over."""
        question = {"ask": "time", "untimed": untimed, "timed": timed, "limit_s": limit_s}
        answer = self._ask(question, SILENCE_S + limit_s)
        turn = self._read(lambda: Turn(tuple(map(float, answer["ms"])), bool(answer["disturbed"])), answer)
        if not turn.ms or not all(0 < ms < float("inf") for ms in turn.ms):
            raise self.failure(f"gave these times: {answer['ms']}")
        return turn

    def _ask(self, question: dict[str, Any], limit_s: float) -> dict[str, Any]:
        self.write_line(json.dumps(question).encode())
        line = self.read_line(limit_s)
        try:
            answer = json.loads(line)
        except ValueError:  # UnicodeDecodeError is one too
            answer = None
        if not isinstance(answer, dict):
            raise self.failure(f"answered {line[:_SHOWN_CHARACTERS]!r}, which is no JSON object")
        if "error" in answer:
            raise HematoVisionError(str(answer["error"]))
        return answer

    def _read(self, read: Callable[[], _T], answer: dict[str, Any]) -> _T:
        try:
            return read()
        except (KeyError, TypeError, ValueError) as error:
            shown = json.dumps(answer)[:_SHOWN_CHARACTERS]
            raise self.failure(f"answered {shown}, not what was asked ({error})") from error
