"""Where a network's time goes, operator by operator.

LiteRT's Python package has no profiler: its interpreter (1.4 and 2.3) gives no way to the per-operator times
that its C++ library can record. So the network is cut after each operator, every such prefix gets an
interpreter of its own, and an operator's time is what its prefix takes longer than the one before.

An operator takes some microseconds of a millisecond, so all depends on how they are measured. All prefixes
take turns, in an order that is shuffled each round. A turn is a few invocations in a row, since a prefix's
weights must first come back into the processor's caches; its fastest counts, because whatever else the
machine does can only make it slower. A round in which the whole machine was slower (a lower clock) is brought
to the speed of the others. Of each prefix the median over rounds is taken. Differences of these medians add
up to the whole exactly; one that noise made negative stays so.

Parts from an operator to the end would give steadier figures for the last ones, being shorter. But what few
weights they have stay in the caches, as they do not when the whole network runs: with float32 the last
convolution came out at half its time.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.flatbuffer import as_input, cut_out, read_network
from benchmarks.results import Estimate, LayerTime, LayerTimes
from benchmarks.variants import BuiltModel
from hematovision.errors import ModelFileError, SettingError
from hematovision.model_file import read_model_file
from hematovision.runtime import load_interpreter

RUNTIME = "litert"
_MIN_ROUNDS, _MAX_ROUNDS = 5, 200
# In a row, the first untimed: with 9 MB of float32 weights the third is still slower than the fifth.
_INVOCATIONS = 5
_RESAMPLES = 500
# Prefixes are timed in groups that take no more than this share of the machine's memory. An interpreter takes
# about four times its file: the file, the weights as its kernels want them, and room for activations.
_MEMORY_SHARE = 0.25
_MEMORY_OF_FILE = 4

Say = Callable[[str], None]
Times = NDArray[np.float64]


def measure_layers(
    model: BuiltModel,
    variant: str,
    threads: int = 1,
    say: Say = lambda _: None,
    limit_s: float = 20.0,
) -> LayerTimes:
    """Time each operator of a variant on LiteRT, on one of the crops kept beside the variants.

    Args:
        model: the trained network.
        variant: the one of its variants to look into.
        threads: how many LiteRT computes with.
        say: told how far it is.
        limit_s: rounds are begun for so long; at least 5 are made, at most 200.

    Raises:
        SettingError: the variant is not among those built, or less than one thread.
        MissingPartError: LiteRT is not installed.
        ModelFileError: the file is damaged, or LiteRT cannot run it.
    """
    path = model.files.get(variant)
    if path is None or path.suffix != ".tflite":
        raise SettingError(f"{model.name}: no variant {variant} among those built; ask for it too")
    try:
        return _measure(model, variant, read_model_file(path).flatbuffer, threads, say, limit_s)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: the time of its layers cannot be measured: {error}") from error


def _measure(
    model: BuiltModel, variant: str, flatbuffer: bytes, threads: int, say: Say, limit_s: float
) -> LayerTimes:
    network = read_network(flatbuffer)
    crop = as_input(model.crops()[0], network.input)
    count = len(network.operators)
    groups: list[Times] = []
    for prefixes in _prefixes(flatbuffer, count):
        say(f"time of each layer: {len(prefixes)} parts of {count} operators, group {len(groups) + 1}")
        groups.append(_time_in_turns(prefixes, threads, crop, limit_s * len(prefixes) / count))
    whole_ms, times, shares = divide(groups)
    return LayerTimes(
        model=model.name,
        variant=variant,
        runtime=RUNTIME,
        threads=threads,
        method=_method(min(map(len, groups)), network.uncounted),
        whole_ms=whole_ms,
        layers=tuple(
            LayerTime(
                index=operator.index,
                operator=operator.kind,
                output=operator.layer,
                shape=operator.output.shape,
                operations=operator.operations or 0,
                ms=ms,
                share=share,
            )
            for operator, ms, share in zip(network.operators, times, shares, strict=True)
        ),
    )


def divide(groups: Sequence[Times]) -> tuple[float, list[Estimate], list[float]]:
    """The time of each operator from the times of prefixes.

    Args:
        groups: (rounds, prefixes) each, in milliseconds: prefixes of growing length, each of one operator
            more than the one before, in the group or in the group before. Last in each group is the whole
            network, besides: by it one group is brought to the speed of the next. In the last group it is
            also the longest prefix.

    Returns:
        Time of the whole network in milliseconds (the median over all rounds), of each operator, with 95 %
        intervals from resampling rounds, and each operator's share, which add up to 1.
    """
    whole_ms, shares = _divide(groups)
    generator = np.random.default_rng(0)
    resampled = np.empty((_RESAMPLES, len(shares)))
    for row in resampled:
        whole, drawn = _divide([one[generator.integers(len(one), size=len(one))] for one in groups])
        row[:] = whole * drawn
    low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
    times = [Estimate(*map(float, row)) for row in zip(whole_ms * shares, low, high, strict=True)]
    return whole_ms, times, shares.tolist()


def _divide(groups: Sequence[Times]) -> tuple[float, Times]:
    reached = [0.0]
    for times in groups:
        slowness = np.median(times / np.median(times, axis=0), axis=1, keepdims=True)
        typical = np.median(times / slowness, axis=0)
        reached += (typical[:-1] / typical[-1]).tolist()
    return float(np.median(np.concatenate([times[:, -1] for times in groups]))), np.diff([*reached, 1.0])


def _prefixes(flatbuffer: bytes, count: int) -> Iterator[list[bytes]]:
    """The network's prefixes, shortest first, in groups that fit into memory; the whole ends each group."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _MEMORY_SHARE / _MEMORY_OF_FILE
    whole = cut_out(flatbuffer, 0, count - 1)
    group: list[bytes] = []
    for last in range(count - 1):
        prefix = cut_out(flatbuffer, 0, last)
        if group and sum(map(len, group)) + len(prefix) + len(whole) > memory:
            yield [*group, whole]
            group = []
        group.append(prefix)
    yield [*group, whole]


def _time_in_turns(
    prefixes: Sequence[bytes], threads: int, crop: NDArray[np.generic], limit_s: float
) -> Times:
    """(rounds, prefixes): fastest invocation of each turn, in milliseconds."""
    interpreters = [load_interpreter(prefix, RUNTIME, threads).interpreter for prefix in prefixes]
    for interpreter in interpreters:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], crop)
    order = np.random.default_rng(0)
    rounds: list[Times] = []
    started = time.perf_counter()
    try:
        while len(rounds) < _MIN_ROUNDS or (
            len(rounds) < _MAX_ROUNDS and time.perf_counter() - started < limit_s
        ):
            fastest = np.empty(len(interpreters))
            for place in order.permutation(len(interpreters)):
                fastest[place] = _fastest_ms(interpreters[place].invoke)
            rounds.append(fastest)
    except RuntimeError as error:
        raise ModelFileError(f"LiteRT cannot run a part of the model ({error})") from error
    return np.stack(rounds)


def _fastest_ms(invoke: Callable[[], None]) -> float:
    invoke()
    taken = []
    for _ in range(_INVOCATIONS - 1):
        begun = time.perf_counter_ns()
        invoke()
        taken.append(time.perf_counter_ns() - begun)
    return min(taken) / 1e6


def _method(rounds: int, uncounted: Sequence[str]) -> str:
    method = (
        "Time of the network cut after the operator, less that of the network cut before it: medians of "
        f"{rounds} rounds, in each the fastest of {_INVOCATIONS - 1} invocations. The first operator bears "
        "the fixed cost of an invocation, a cut keeps operators from being fused, and noise leaves some "
        "differences negative."
    )
    if uncounted:
        method += f" Operations of {', '.join(uncounted)} are not known here and stand as 0."
    return method
