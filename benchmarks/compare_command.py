"""``hematovision bench compare``."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from benchmarks.accuracy import DEFAULT_DATA, measure_accuracy
from benchmarks.contenders import KERAS, RUNTIMES, list_contenders
from benchmarks.latency import ASKED, LIMIT_S, time_contenders, with_rates
from benchmarks.layers import measure_layers
from benchmarks.noise import measure_noise
from benchmarks.options import AskedModels, model_options, progress, report_options
from benchmarks.peers import measure_peers
from benchmarks.report import measuring
from benchmarks.results import Accuracy, Latency, LayerTimes, Peer, QuantisationNoise, Throughput, Unmeasured
from benchmarks.throughput import CELLS_PER_FRAME, DRAWN, FRAMES, measure_all
from benchmarks.variants import BuiltModel, Say
from hematovision.errors import HematoVisionError
from train.console import DATA_HELP

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class _Extent:
    """How much is measured.

    ``kernels``: values of a contender's ``xnnpack`` that are timed; ``not_classified``: variants whose
    accuracy is not measured; ``sets``: test sets where none is named; ``left_out``: of which section what is
    not measured.
    """

    runtimes: tuple[str, ...] = RUNTIMES
    kernels: tuple[bool | None, ...] = (None, True, False)
    threads: tuple[int, ...] | None = None
    asked: int = ASKED
    limit_s: float = LIMIT_S
    looked_into: tuple[str, ...] = ("float32", "int8")
    sources: tuple[str, ...] = ()
    cells_per_frame: tuple[int, ...] = CELLS_PER_FRAME
    frames: int = FRAMES
    peers: bool = True
    not_classified: tuple[str, ...] = ()
    sets: tuple[str, ...] = DEFAULT_DATA
    left_out: tuple[tuple[str, str], ...] = ()


_ALL = _Extent()
# Enough to see that something is badly wrong. Keras and int16x8 take longer to name cells than the others
# together.
_QUICK = _Extent(
    runtimes=("litert", "tflite-runtime"),
    kernels=(True,),
    threads=(1,),
    asked=100,
    limit_s=1.0,
    looked_into=(),
    sources=(DRAWN,),
    cells_per_frame=(1,),
    frames=150,
    peers=False,
    not_classified=(KERAS, "int16x8"),
    sets=DEFAULT_DATA[:1],
    left_out=(
        ("latency", "TensorFlow, Keras, kernels without XNNPACK, more than one thread"),
        ("layers", "time by layer"),
        ("accuracy", "Keras and int16x8; test sets other than the first, unless named"),
        ("throughput", "real fields; 0, 3 and 10 cells a frame"),
        ("peers", "all of them"),
    ),
)


@click.command(epilog=DATA_HELP)
@click.argument("sets", nargs=-1, metavar="[DATA]...")
@click.option("--quick", is_flag=True, help="Less of it, within a minute; the report says what was left out.")
@model_options
@report_options
def compare(models: AskedModels, sets: tuple[str, ...], quick: bool, out: Path | None, force: bool) -> None:
    """What quantisation costs and buys: latency, layers, accuracy, throughput and peers in one report.

    Accuracy is measured on the test side of each data set DATA; without DATA, on the test sets of this
    project, in the folder that HEMATOVISION_DATA names. What fails becomes a row that says so, and the exit
    status is 1. Making the variants of a trained network, once, takes a few minutes more.
    """
    extent = _QUICK if quick else _ALL
    with measuring(out, force) as run:
        with progress() as say:
            built, unmeasured = models.open(say)
            unmeasured += [Unmeasured(section, what, "--quick", False) for section, what in extent.left_out]
            variants = [variant for model in built for variant in model.variants]

            def section(name: str, measure: Callable[[], tuple[list[_Row], list[Unmeasured]]]) -> list[_Row]:
                rows, others = _attempt(name, "all of it", measure)
                unmeasured.extend(others)
                return rows

            # Times first, while the processor is cool; answers do not depend on it.
            latency = section("latency", lambda: _time(built, extent, say))
            layers = section("layers", lambda: _look_into(built, extent, say))
            peers = section("peers", lambda: _hold_peers_against(built, extent, say))
            throughput = section("throughput", lambda: _play(built, extent, say))
            noise = section("noise", lambda: _compare_tensors(built, say))
            accuracy = section("accuracy", lambda: _classify(built, sets, extent, say))
        run.conclude(
            variants=variants,
            latency=with_rates(latency, variants),
            layers=layers,
            accuracy=accuracy,
            noise=noise,
            throughput=throughput,
            peers=peers,
            unmeasured=unmeasured,
        )


def _attempt(
    section: str, what: str, measure: Callable[[], tuple[list[_Row], list[Unmeasured]]]
) -> tuple[list[_Row], list[Unmeasured]]:
    """What is measured; a failure is a row that says so."""
    try:
        return measure()
    except HematoVisionError as error:
        return [], [Unmeasured(section, what, str(error), failed=True)]


def _time(built: Sequence[BuiltModel], extent: _Extent, say: Say) -> tuple[list[Latency], list[Unmeasured]]:
    contenders, left_out = list_contenders(
        {model.name: model.files for model in built}, extent.runtimes, extent.threads
    )
    contenders = [one for one in contenders if one.xnnpack in extent.kernels]
    crops = {model.name: model.crops() for model in built}
    rows, failed = time_contenders(contenders, crops, extent.asked, extent.limit_s, say)
    return rows, left_out + failed


def _look_into(
    built: Sequence[BuiltModel], extent: _Extent, say: Say
) -> tuple[list[LayerTimes], list[Unmeasured]]:
    def times(model: BuiltModel, variant: str) -> tuple[list[LayerTimes], list[Unmeasured]]:
        return [measure_layers(model, variant, say=say)], []

    return _joined(
        _attempt("layers", f"{model.name} {variant}", partial(times, model, variant))
        for model in built
        for variant in extent.looked_into
        if variant in model.files
    )


def _hold_peers_against(
    built: Sequence[BuiltModel], extent: _Extent, say: Say
) -> tuple[list[Peer], list[Unmeasured]]:
    return _joined(
        _attempt("peers", model.name, partial(measure_peers, model, extent.asked, extent.limit_s, say))
        for model in (built if extent.peers else ())
    )


def _play(
    built: Sequence[BuiltModel], extent: _Extent, say: Say
) -> tuple[list[Throughput], list[Unmeasured]]:
    """With one file, as a device runs one: the first int8 variant, or else the first of any."""
    files = {
        f"{model.name} {variant}": path
        for model in built
        for variant, path in model.files.items()
        if variant != KERAS
    }
    if not files:
        return [], [Unmeasured("throughput", "all of it", "a device runs .tflite files; none is here", False)]
    chosen = next((name for name in files if name.endswith(" int8")), next(iter(files)))
    rows, unmeasured = measure_all(
        extent.sources, extent.cells_per_frame, extent.frames, model=files[chosen], data=None, say=say
    )
    if len(files) > 1:
        why = "a frame takes the same with each, but for the network's own time, which is under latency"
        unmeasured = [*unmeasured, Unmeasured("throughput", f"all but {chosen}", why, failed=False)]
    return rows, unmeasured


def _compare_tensors(
    built: Sequence[BuiltModel], say: Say
) -> tuple[list[QuantisationNoise], list[Unmeasured]]:
    def noise(model: BuiltModel) -> tuple[list[QuantisationNoise], list[Unmeasured]]:
        if {"float32", "int8"} <= model.files.keys():
            return [measure_noise(model, say=say)], []
        why = "compares the variants int8 and float32 of a trained network, which are not both there"
        return [], [Unmeasured("noise", model.name, why, failed=False)]

    return _joined(_attempt("noise", model.name, partial(noise, model)) for model in built)


def _classify(
    built: Sequence[BuiltModel], sets: Sequence[str], extent: _Extent, say: Say
) -> tuple[list[Accuracy], list[Unmeasured]]:
    classified = [
        dataclasses.replace(
            model,
            files={name: path for name, path in model.files.items() if name not in extent.not_classified},
        )
        for model in built
    ]
    return measure_accuracy(classified, sets, say, extent.sets)


def _joined(
    parts: Iterable[tuple[list[_Row], list[Unmeasured]]],
) -> tuple[list[_Row], list[Unmeasured]]:
    rows: list[_Row] = []
    unmeasured: list[Unmeasured] = []
    for measured, others in parts:
        rows += measured
        unmeasured += others
    return rows, unmeasured
