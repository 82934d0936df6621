"""Time from a crop to its logits, of many contenders in one run: their ratios hold on a noisy machine.

Each contender has a fresh process. In every round each has one turn, in an order drawn anew, while all others
sleep: some untimed invocations, since others have had the caches, then timed ones. What slows the machine
down, such as its clock, slows all of them down alike. Other programs on the same processors do not: they
interrupt long invocations more than short ones; turns in which they did are counted. Where contenders do not
fit into memory together, they run in groups, each with the reference contender in it.
"""

import random
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Contender
from benchmarks.latency_statistics import ratio_of_rounds, summarise
from benchmarks.machine import available_memory_mib
from benchmarks.results import Latency, Unmeasured, Variant
from benchmarks.worker import Loaded, Turn, Worker
from hematovision.errors import HematoVisionError, SettingError, StoreError

#: Timed invocations of each contender, and seconds of its own time after which fewer will do.
ASKED, LIMIT_S = 200, 10.0
#: Turns of each contender.
ROUNDS = 20
_UNTIMED = 5
_SEED = 0
_SECTION = "latency"

Crops = NDArray[np.uint8] | Mapping[str, NDArray[np.uint8]]


@dataclass
class _Run:
    """A contender as far as it has come: its turns by round."""

    contender: Contender
    worker: Worker
    loaded: Loaded
    turns: dict[int, Turn] = field(default_factory=dict)

    def timed(self) -> int:
        return sum(len(turn.ms) for turn in self.turns.values())

    def timed_s(self) -> float:
        return sum(sum(turn.ms) for turn in self.turns.values()) / 1000


def time_contenders(
    contenders: Sequence[Contender],
    crops: Crops,
    asked: int = ASKED,
    limit_s: float = LIMIT_S,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Latency], list[Unmeasured]]:
    """Time contenders side by side.

    Args:
        contenders: no two alike.
        crops: (n, side, side, 3) uint8 RGB, shown in turn; of models of several sizes, such an array for
            each by the model's name.
        asked: timed invocations of each.
        limit_s: of its own timed time, in seconds; a contender that reaches it has fewer invocations.
        say: told what is being done.

    Returns:
        Times in the order of the contenders, and those that could not be timed, or only in part, with the
        reason. The reference of the ratios is the first int8 variant, or else the first one, on LiteRT with
        XNNPACK and one thread; without such a contender there are none.

    Raises:
        SettingError: nothing is asked for.
        StoreError: the crops cannot be written for the processes to read.
    """
    check_amount(asked, limit_s)
    if not contenders:
        return [], []
    reference = reference_of(contenders)
    waiting = deque(contender for contender in contenders if contender != reference)
    results: dict[Contender, Latency] = {}
    failures: list[Unmeasured] = []
    with tempfile.TemporaryDirectory(prefix="hematovision-bench-") as folder:
        files = write_crops(crops, contenders, Path(folder))
        budget_mib = available_memory_mib() / 2
        while True:
            with ExitStack() as alive:
                group = _start(reference, waiting, files, budget_mib, alive, failures, say)
                _take_turns(group, asked, limit_s, failures, say)
            beside = next((run for run in group if run.contender == reference), None)
            for run in group:
                if run.turns:
                    results.setdefault(run.contender, _latency(run, beside, asked))
            if reference not in results:
                reference = None  # it failed, and would again
            if not waiting:
                break
    return [results[one] for one in contenders if one in results], failures


def check_amount(asked: int, limit_s: float) -> None:
    """Raise `SettingError` for an amount of timing that is none."""
    if asked < 1:
        raise SettingError(f"{asked} invocations; at least 1 must be timed")
    if not 0 < limit_s < float("inf"):
        raise SettingError(f"{limit_s:g} s of timing; give seconds above 0")


def answers(contender: Contender, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of crops (n, side, side, 3) uint8 RGB from a process of the contender's own, (n, 4) float32.

    Raises:
        HematoVisionError: the contender cannot be run, or its process fails; which one, the caller says.
    """
    with tempfile.TemporaryDirectory(prefix="hematovision-bench-") as folder:
        file = write_crops(crops, [contender], Path(folder))[contender.model]
        with Worker(contender, file) as worker:
            worker.load()
            return worker.answers(len(crops))


def reference_of(contenders: Sequence[Contender]) -> Contender | None:
    """The contender that the others' times are divided by."""
    possible = [one for one in contenders if (one.runtime, one.xnnpack, one.threads) == ("litert", True, 1)]
    return next((one for one in possible if one.variant == "int8"), possible[0] if possible else None)


def with_rates(rows: Sequence[Latency], variants: Sequence[Variant]) -> list[Latency]:
    """Rows with the operations per second at their median time, where the variant's operations are known."""
    operations = {(variant.model, variant.name): variant.operations for variant in variants}
    return [
        replace(row, gop_per_s=None if count is None else count / row.p50_ms.value / 1e6)
        for row in rows
        for count in [operations.get((row.model, row.variant))]
    ]


def write_crops(crops: Crops, contenders: Sequence[Contender], folder: Path) -> dict[str, Path]:
    """One ``.npy`` file for each model.

    Raises:
        StoreError: they cannot be written.
    """
    files = {}
    for number, model in enumerate(dict.fromkeys(one.model for one in contenders)):
        files[model] = folder / f"{number}.npy"
        try:
            np.save(files[model], crops[model] if isinstance(crops, Mapping) else crops)
        except OSError as error:
            raise StoreError(
                f"{files[model]}: the crops cannot be written ({error.strerror or error}); free some space, "
                "or name another folder in TMPDIR"
            ) from error
    return files


def _start(
    reference: Contender | None,
    waiting: deque[Contender],
    files: Mapping[str, Path],
    budget_mib: float,
    alive: ExitStack,
    failures: list[Unmeasured],
    say: Callable[[str], None],
) -> list[_Run]:
    """Start the reference and, one after another, as many of those waiting as fit into memory."""
    group: list[_Run] = []
    due = [reference] if reference else []
    while due or waiting:
        contender = due.pop() if due else waiting.popleft()
        say(f"loading {contender}")
        with ExitStack() as until_loaded:
            try:
                worker = until_loaded.enter_context(Worker(contender, files[contender.model]))
                group.append(_Run(contender, worker, worker.load()))
            except HematoVisionError as error:
                failures.append(_failed(contender, error))
                continue
            alive.push(until_loaded.pop_all())
        # What processes share is counted in each: rather a group more than a machine that swaps.
        if len(group) > 1 and sum(run.loaded.peak_mib for run in group) > budget_mib:
            break
    return group


def _take_turns(
    group: list[_Run],
    asked: int,
    limit_s: float,
    failures: list[Unmeasured],
    say: Callable[[str], None],
) -> None:
    rounds = min(ROUNDS, asked)
    order = random.Random(_SEED)
    running = list(group)
    for number in range(rounds):
        say(f"timing {len(running)} side by side, round {number + 1} of {rounds}")
        for run in order.sample(running, len(running)):
            left = rounds - number
            timed, seconds = asked - run.timed(), limit_s - run.timed_s()
            if timed <= 0 or seconds <= 0:
                continue
            try:
                run.turns[number] = run.worker.time(_UNTIMED, -(-timed // left), seconds / left)
            except HematoVisionError as error:
                run.worker.close()
                running.remove(run)
                failures.append(_failed(run.contender, error, run.timed()))


def _failed(contender: Contender, error: HematoVisionError, timed: int = 0) -> Unmeasured:
    so_far = f" (after {timed} timed invocations, which are reported)" if timed else ""
    return Unmeasured(_SECTION, str(contender), f"{error}{so_far}", failed=True)


def _latency(run: _Run, reference: _Run | None, asked: int) -> Latency:
    summary = summarise([turn.ms for turn in run.turns.values()])
    shared = sorted(run.turns.keys() & reference.turns.keys()) if reference else []
    return Latency(
        model=run.contender.model,
        variant=run.contender.variant,
        runtime=run.contender.runtime,
        version=run.loaded.version,
        xnnpack=run.contender.xnnpack,
        threads=run.contender.threads,
        asked=asked,
        invocations=run.timed(),
        turns=len(run.turns),
        disturbed_turns=sum(turn.disturbed for turn in run.turns.values()),
        min_ms=summary.minimum,
        mean_ms=summary.mean,
        p50_ms=summary.p50,
        p90_ms=summary.p90,
        p99_ms=summary.p99,
        ratio=(
            ratio_of_rounds(
                [run.turns[number].ms for number in shared],
                [reference.turns[number].ms for number in shared],
            )
            if reference and shared
            else None
        ),
        load_ms=run.loaded.load_ms,
        first_ms=run.loaded.first_ms,
        runtime_mib=run.loaded.runtime_mib,
        peak_mib=run.loaded.peak_mib,
        gop_per_s=None,
        quantiles_ms=summary.quantiles,
    )
