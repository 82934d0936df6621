"""What runs in the process of one contender: answers questions, a JSON object a line each.

Arguments: the contender as JSON, the file of the crops, the process that asks. The answers go to where
standard output was on the start; what libraries write to standard output goes to standard error.
"""

import ctypes
import importlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge  # noqa: F401 (before NumPy: it settles how many threads NumPy takes)

import numpy as np  # isort: skip
from numpy.typing import NDArray

from benchmarks.contenders import MODULES, RUNNERS, Contender
from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import HematoVisionError, ModelFileError

#: A turn is disturbed in which something else held the processor for more than this share.
DISTURBED_SHARE = 0.05

# Untimed invocations end after this time even if fewer than asked were done: a slow network is warm by then.
_UNTIMED_S = 0.05
# Threads of some runtimes spin after an invocation, waiting for the next: ONNX Runtime's for some 25 ms,
# which is longer than a whole turn of a fast contender.
_SPINNING_S = 0.5
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Answer questions; see `benchmarks.worker` for what is asked."""
    contender, crops, parent = sys.argv[1:]
    _end_with(int(parent))
    with (
        os.fdopen(os.dup(0), encoding="utf-8") as questions,
        os.fdopen(os.dup(1), "w", encoding="utf-8") as answers,
    ):
        os.dup2(2, 1)
        with Path(os.devnull).open(encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), 0)
        contest = _Contest(Contender(**json.loads(contender)), np.load(crops, mmap_mode="r"))
        for line in questions:
            try:
                answer = contest.answer(json.loads(line))
            except HematoVisionError as error:
                answer = {"error": str(error)}
            _wait_until_idle()
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _end_with(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        raise SystemExit(1)


def _wait_until_idle() -> None:
    """Wait for the other threads of this process to sleep, so that the next turn is another's alone."""
    deadline = time.perf_counter() + _SPINNING_S
    while _is_computing() and time.perf_counter() < deadline:
        time.sleep(0.001)


def _is_computing() -> bool:
    """Whether a thread of this process but this one computes, or waits for a processor to."""
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, before or while it is read
            state = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            if state == "R" and task.name != str(threading.get_native_id()):
                return True
    return False


class _Contest:
    """One contender and the crops that it is shown in turn."""

    def __init__(self, contender: Contender, crops: NDArray[np.uint8]) -> None:
        self._contender = contender
        self._crops = crops
        self._shown = 0

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        match question:
            case {"ask": "load"}:
                return self._load()
            case {"ask": "answers"}:
                return {
                    "logits": [self._run(self._crop(index)).tolist() for index in range(len(self._crops))]
                }
            case {"ask": "time", "untimed": untimed, "timed": timed, "limit_s": limit_s}:
                return self._time(untimed, timed, limit_s)
        raise AssertionError(question)

    def _load(self) -> dict[str, Any]:
        name = MODULES[self._contender.runtime]
        importlib.import_module(name)
        module, function = RUNNERS[self._contender.runtime].split(":")
        open_contender = getattr(importlib.import_module(module), function)
        runtime_mib = _memory_mib("VmRSS")
        started = time.perf_counter()
        self._run = open_contender(self._contender)
        loaded = time.perf_counter()
        logits = self._run(self._crop(0))
        first = time.perf_counter()
        if logits.shape != (len(CLASS_NAMES),) or not np.isfinite(logits).all():
            raise ModelFileError(
                f"{self._contender.path}: gives {logits.tolist()} on {self._contender.runtime}, not "
                f"{len(CLASS_NAMES)} finite logits; convert the model again"
            )
        return {
            "version": str(sys.modules[name.partition(".")[0]].__version__),
            "load_ms": 1000 * (loaded - started),
            "first_ms": 1000 * (first - loaded),
            "runtime_mib": runtime_mib,
            # Not getrusage's ru_maxrss, which a process inherits from the one that started it.
            "peak_mib": _memory_mib("VmHWM"),
        }

    def _time(self, untimed: int, timed: int, limit_s: float) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(untimed):
            self._run(self._next_crop())
            if time.perf_counter() - started > _UNTIMED_S:
                break
        before = _Moment.now()
        times: list[int] = []
        while len(times) < timed and sum(times) < limit_s * 1e9:
            crop = self._next_crop()
            start = time.perf_counter_ns()
            self._run(crop)
            times.append(time.perf_counter_ns() - start)
        disturbed = before.disturbed(_Moment.now())
        return {"ms": [one / 1e6 for one in times], "disturbed": disturbed}

    def _next_crop(self) -> NDArray[np.uint8]:
        self._shown += 1
        return self._crop(self._shown % len(self._crops))

    def _crop(self, index: int) -> NDArray[np.uint8]:
        return np.array(self._crops[index])  # in memory before the clock runs


@dataclass(frozen=True)
class _Moment:
    """Seconds up to a moment: by the clock, that threads of this process waited for a processor, that the
    hypervisor kept processors from this machine, and that all processes, and this one, computed.
    ``threads``: of this process, also those that a runtime starts unasked."""

    threads: int
    clock: float
    waited: float
    stolen: float
    computed: float
    own: float

    @classmethod
    def now(cls) -> "_Moment":
        waited_ns = 0
        tasks = list(Path("/proc/self/task").iterdir())
        for task in tasks:
            try:
                waited_ns += int((task / "schedstat").read_text(encoding="utf-8").split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread has ended, before or while it is read, or the kernel does not count
        with Path("/proc/stat").open(encoding="utf-8") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
        return cls(
            len(tasks),
            time.perf_counter(),
            waited_ns / 1e9,
            steal * _TICK_S,
            (user + nice + system + irq + softirq) * _TICK_S,
            time.process_time(),
        )

    def disturbed(self, later: "_Moment") -> bool:
        """Whether something else held the processor for more than `DISTURBED_SHARE` of the time."""
        waited = later.waited - self.waited
        if later.threads > 1:
            # Threads of one process wait for each other too. The kernel counts what others computed in ticks.
            others = later.computed - self.computed - (later.own - self.own)
            waited = min(waited, max(0.0, others - _TICK_S * (os.cpu_count() or 1)))
        held = waited + later.stolen - self.stolen
        return held > DISTURBED_SHARE * (later.clock - self.clock)


def _memory_mib(field: str) -> float:
    """A field of /proc/self/status; NaN where the kernel does not tell."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return math.nan


if __name__ == "__main__":
    main()
