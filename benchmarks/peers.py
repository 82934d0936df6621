"""The same network, run as others would run it: side by side with ours, and only if it gives our answers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import KERAS, Contender, cores, missing_runtimes
from benchmarks.latency import answers, time_contenders
from benchmarks.onnx_files import FLOAT32, INT8, UINT8, build_onnx
from benchmarks.results import Latency, Peer, Unmeasured
from benchmarks.variants import BuiltModel, Say
from convert import parity
from hematovision.classifier import probabilities
from hematovision.errors import HematoVisionError, MissingPartError, ModelFileError
from hematovision.runtime import default_threads

#: Of ours: what peers are compared with, and made of.
VARIANTS = (KERAS, FLOAT32, INT8)

_SECTION = "peers"
_ROUNDING = 1e-9  # so that 98 of 100 cells keep a limit of 98 %


@dataclass(frozen=True)
class Limits:
    """How far a peer's answers may be from ours: share of the same class, difference of a probability."""

    min_agreement: float
    max_probability_difference: float


#: The same stored weights: in float only the order of the additions differs. Through MobileNetV2 that moved
#: probabilities by less than 0.00001; this is far above it, and far below what swapped colours or another
#: scale of the pixels do.
SAME_WEIGHTS = Limits(1.0, 1e-3)
#: Quantised by another tool, so with other scales: what ``hematovision convert`` asks of our own int8 file.
OTHER_SCALES = Limits(parity.Limits().min_agreement / 100, 1.0)


@dataclass(frozen=True)
class _Way:
    """A way to run the network: a file, ``variant`` of ``format``, on ``runtime`` of `contenders.RUNNERS`.

    ``against``: our variants that its answers are held against; the first has the weights most like its own.
    """

    name: str
    what: str
    runtime: str
    format: str
    variant: str
    against: tuple[str, ...]

    @property
    def limits(self) -> Limits:
        return OTHER_SCALES if self.against == _EITHER else SAME_WEIGHTS


_TFLITE, _ONNX = "tflite", "onnx"
_FLOAT, _QUANTISED, _EITHER = (FLOAT32,), (INT8,), (INT8, FLOAT32)
_OURS = "litert"
# Times are held against the first's. OpenCV cannot run the quantised ONNX files: 4.11 does not read them
# (DequantizeLinear of a scalar), 5.0 reads them and fails.
_WAYS = (
    _Way("LiteRT int8", "ours: the device's file and code", _OURS, _TFLITE, INT8, _QUANTISED),
    _Way("LiteRT float32", "ours, not quantised", _OURS, _TFLITE, FLOAT32, _FLOAT),
    # What a well-known example for cameras does.
    _Way("LiteRT rebuilt", "an interpreter for every crop", "rebuilt", _TFLITE, INT8, _QUANTISED),
    _Way("ONNX Runtime float32", "Keras's ONNX export", "onnxruntime", _ONNX, FLOAT32, _FLOAT),
    _Way("ONNX Runtime int8", "activations int8, its first advice", "onnxruntime", _ONNX, INT8, _EITHER),
    _Way("ONNX Runtime uint8", "weights int8, activations uint8", "onnxruntime", _ONNX, UINT8, _EITHER),
    _Way("OpenCV dnn", "Keras's ONNX export", "opencv-dnn", _ONNX, FLOAT32, _FLOAT),
    # What most demonstrations with blood cells on the web do.
    _Way("Keras predict", "called for every crop", "keras-predict", KERAS, KERAS, _FLOAT),
)


@dataclass(frozen=True)
class _Entry:
    """A way with its file, on so many threads."""

    way: _Way
    contender: Contender

    @property
    def what(self) -> str:
        threads = self.contender.threads
        return f"{self.contender.model}: {self.way.name}, {threads} thread{'s' if threads > 1 else ''}"


def measure_peers(
    model: BuiltModel, asked: int, limit_s: float, say: Say, threads: Sequence[int] | None = None
) -> tuple[list[Peer], list[Unmeasured]]:
    """Hold each peer's answers against ours on the model's crops, then time those that give them, and ours.

    Args:
        model: with its variants float32, int8 and keras, as far as they are there.
        asked: timed invocations of each.
        limit_s: at most this long for each.
        say: told what is being done.
        threads: how many to compute with, each in turn; 1 and as many as the device takes, unless given.

    Returns:
        What was checked, in a fixed order, and what could not be, or was not timed.
    """
    counts = threads or sorted({1, min(default_threads(), cores())})
    try:
        crops = model.crops()
    except ModelFileError as error:
        return [], [Unmeasured(_SECTION, f"{model.name}: all peers", str(error), failed=True)]
    entries, unmeasured = _entries(model, counts, say)
    references, without = _references(model, crops, say)
    unmeasured += without
    peers: list[Peer] = []
    right: list[tuple[_Entry, Peer]] = []
    for entry in entries:
        if not set(entry.way.against) <= set(references):
            why = f"there are no answers of our {' and '.join(entry.way.against)} to hold its answers against"
            unmeasured.append(Unmeasured(_SECTION, entry.what, why, failed=False))
            continue
        say(f"{entry.what}: comparing its answers with ours")
        try:
            logits = answers(entry.contender, crops)
        except HematoVisionError as error:
            unmeasured.append(Unmeasured(_SECTION, entry.what, str(error), failed=True))
            continue
        peer, why_not = _compare(entry, logits, references, model.manifest.temperature)
        if why_not is None:
            right.append((entry, peer))
        else:
            peers.append(peer)
            unmeasured.append(Unmeasured(_SECTION, entry.what, f"not timed: {why_not}", failed=True))
    latencies, failures = time_contenders([entry.contender for entry, _ in right], crops, asked, limit_s, say)
    unmeasured += [dataclasses.replace(failure, section=_SECTION) for failure in failures]
    by_contender = {_key(latency): latency for latency in latencies}
    for entry, peer in right:
        latency = by_contender.get(_key(entry.contender))
        if latency is not None:
            peers.append(dataclasses.replace(peer, latency=latency))
    order = [way.name for way in _WAYS]
    return sorted(peers, key=lambda peer: (order.index(peer.name), peer.threads)), unmeasured


def _entries(model: BuiltModel, counts: Sequence[int], say: Say) -> tuple[list[_Entry], list[Unmeasured]]:
    """Every way whose runtime and file are here, on each number of threads; the others, with the reason."""
    missing = missing_runtimes()
    onnx_files, reasons = build_onnx(model, say)
    entries, unmeasured = [], []
    for way in _WAYS:
        why, failed = missing.get(way.runtime), False
        files = onnx_files if way.format == _ONNX else model.files
        if why is None and way.variant not in files:
            why = f"{model.name} is not there as {way.variant}; give its .keras file, and all its variants"
            if way.format == _ONNX:
                why = str(reasons[way.variant])
                failed = not isinstance(reasons[way.variant], MissingPartError)
        if why is not None:
            unmeasured.append(Unmeasured(_SECTION, f"{model.name}: {way.name}", why, failed))
            continue
        path = files[way.variant]
        entries += [_Entry(way, _contender(model, way, path, count)) for count in counts]
    return entries, unmeasured


def _contender(model: BuiltModel, way: _Way, path: Path, threads: int) -> Contender:
    xnnpack = True if way.runtime == _OURS else None
    return Contender(model.name, way.variant, way.runtime, xnnpack, threads, str(path))


def _references(
    model: BuiltModel, crops: NDArray[np.uint8], say: Say
) -> tuple[dict[str, NDArray[np.float32]], list[Unmeasured]]:
    """Logits of our own variants on one thread, by the variant's name."""
    references, unmeasured = {}, []
    for way in _WAYS:
        if way.runtime != _OURS or way.runtime in missing_runtimes() or way.variant not in model.files:
            continue  # said of the way itself
        say(f"{model.name}: our answers, {way.variant}")
        try:
            references[way.variant] = answers(_contender(model, way, model.files[way.variant], 1), crops)
        except HematoVisionError as error:
            what = f"{model.name}: answers of our {way.variant}"
            unmeasured.append(Unmeasured(_SECTION, what, str(error), failed=True))
    return references, unmeasured


def _compare(
    entry: _Entry,
    logits: NDArray[np.float32],
    references: dict[str, NDArray[np.float32]],
    temperature: float,
) -> tuple[Peer, str | None]:
    """A row without times, and why it may not be timed, if so."""
    way, theirs = entry.way, probabilities(logits, temperature)
    agreements, differences, faults = [], [], []
    for variant in way.against:
        ours = probabilities(references[variant], temperature)
        agreement = float((theirs.argmax(axis=1) == ours.argmax(axis=1)).mean())
        difference = float(np.abs(theirs - ours).max())
        agreements.append(agreement)
        differences.append(difference)
        if agreement < way.limits.min_agreement - _ROUNDING:
            faults.append(
                f"it names {100 * agreement:.1f} % of {len(logits)} cells as our {variant} does "
                f"(at least {100 * way.limits.min_agreement:g})"
            )
        if difference > way.limits.max_probability_difference:
            faults.append(
                f"a probability differs by {difference:.4f} from that of our {variant} "
                f"(at most {way.limits.max_probability_difference:g})"
            )
    peer = Peer(
        model=entry.contender.model,
        name=way.name,
        what=way.what,
        threads=entry.contender.threads,
        ours=way.against[0],
        cells=len(logits),
        agreement=agreements[0],
        largest_probability_difference=differences[0],
        right=not faults,
        latency=None,
    )
    return peer, " and ".join(faults) or None


def _key(run: Contender | Latency) -> tuple[str, str, str, int]:
    return run.model, run.variant, run.runtime, run.threads
