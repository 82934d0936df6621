"""The tables of a report, the summary first."""

from collections.abc import Iterable, Sequence

from benchmarks.results import (
    Accuracy,
    Estimate,
    Latency,
    LayerTimes,
    QuantisationNoise,
    Report,
    Throughput,
)
from benchmarks.text_table import NONE, TextTable, estimate, number, percent
from hematovision.cell_classes import CLASS_NAMES

_MIB = 2**20
#: Of a network's operators, those that take longest are printed; all are in the JSON.
_LAYERS_SHOWN = 10
#: In the order in which a device would take them (`hematovision.runtime`), then what is on no device.
_RUNTIMES = ("litert", "tflite-runtime", "tensorflow", "keras")


def tables(report: Report) -> list[TextTable]:
    """Those of the sections that are filled, the summary first."""
    return [table for tables in sections(report).values() for table in tables]


def sections(report: Report, whole: bool = False) -> dict[str, list[TextTable]]:
    """The tables that have rows, by section of the report; ``whole``: with what a terminal has no room for,
    intervals in the summary and every operator."""
    count = None if whole else _LAYERS_SHOWN
    sets = dict.fromkeys(row.evaluation.name for row in report.accuracy)
    found = {
        "summary": [_summary(report, whole)] if report.latency or report.accuracy else [],
        "latency": [_times(report.latency, report), _costs(report.latency, report)],
        "accuracy": [
            table
            for name in sets
            for table in _accuracy(
                name, [row for row in report.accuracy if row.evaluation.name == name], report
            )
        ],
        "layers": [_layers(one, report, count) for one in report.layers],
        "noise": [_noise(one, report, whole) for one in report.noise],
        "throughput": [_throughput(report.throughput), _steps(report.throughput)],
        "peers": [_peers(report)],
    }
    filled = {section: [table for table in tables if table.rows] for section, tables in found.items()}
    return {section: tables for section, tables in filled.items() if tables}


def runtime_of(latency: Latency) -> str:
    """A runtime with its kernels: ``litert``, or ``litert without XNNPACK``."""
    return f"{latency.runtime} without XNNPACK" if latency.xnnpack is False else latency.runtime


def device_choice(report: Report) -> list[Latency]:
    """Of each variant, the row that a device comes closest to; of those, the one with fewest threads."""
    best: dict[tuple[str, str], Latency] = {}
    for row in sorted(
        report.latency,
        key=lambda row: (
            _RUNTIMES.index(row.runtime) if row.runtime in _RUNTIMES else len(_RUNTIMES),
            row.xnnpack is False,
            row.threads,
        ),
    ):
        best.setdefault((row.model, row.variant), row)
    order = [(variant.model, variant.name) for variant in report.variants]
    return [best.pop(key) for key in order if key in best] + list(best.values())


def _name(report: Report, model: str, variant: str) -> str:
    """A variant, and of which model where there are several."""
    models = {row.model for row in report.variants}
    return f"{model} {variant}" if len(models) > 1 else variant


def _summary(report: Report, whole: bool) -> TextTable:
    timed = {(row.model, row.variant): row for row in device_choice(report)}
    files = {(row.model, row.name): row for row in report.variants}
    scored = {(row.model, row.variant, row.evaluation.name): row for row in report.accuracy}
    sets = list(dict.fromkeys(row.evaluation.name for row in report.accuracy))
    rows = []
    for model, variant in dict.fromkeys([*files, *timed, *(key[:2] for key in scored)]):
        file, latency = files.get((model, variant)), timed.get((model, variant))
        rows.append(
            (
                _name(report, model, variant),
                _with_threads(latency) if latency else NONE,
                estimate(latency.p50_ms) if latency else NONE,
                estimate(latency.ratio) if latency else NONE,
                *(_accuracy_cell(scored.get((model, variant, name)), whole) for name in sets),
                f"{file.file_bytes / _MIB:.1f}" if file else NONE,
                number(latency.peak_mib) if latency else NONE,
            )
        )
    return TextTable(
        "Summary",
        (
            "variant",
            "runtime",
            "p50, ms",
            "ratio",
            *(f"{name}, %" for name in sets),
            "file, MiB",
            "peak, MiB",
        ),
        tuple(rows),
        names=2,
        caption="Of one crop at a time; in brackets 95 % intervals."
        + _ratio_caption(report.latency, report)
        + " In %: accuracy. Peak: memory of a fresh process.",
    )


def _accuracy_cell(row: Accuracy | None, whole: bool) -> str:
    if row is None:
        return NONE
    accuracy = row.evaluation.files.accuracy
    return percent(accuracy) if whole else f"{100 * accuracy.value:.1f}"


def _with_threads(row: Latency) -> str:
    return runtime_of(row) if row.threads == 1 else f"{runtime_of(row)}, {row.threads} threads"


def _ratio_caption(rows: Iterable[Latency], report: Report) -> str:
    reference = reference_of(rows)
    if reference is None:
        return ""
    return f" Ratio: to {_name(report, reference.model, reference.variant)} on {_with_threads(reference)}."


def reference_of(rows: Iterable[Latency]) -> Latency | None:
    """The contender that ratios are to: the one whose own is 1, with nothing to either side."""
    for row in rows:
        if row.ratio is not None and row.ratio.value == 1 and not row.ratio.low < row.ratio.high:
            return row
    return None


def _contender(row: Latency, report: Report) -> tuple[str, str, str]:
    return _name(report, row.model, row.variant), runtime_of(row), str(row.threads)


def _times(rows: Sequence[Latency], report: Report) -> TextTable:
    return TextTable(
        "Latency of one crop, ms",
        ("variant", "runtime", "threads", "min", "p50", "p90", "p99", "mean", "ratio"),
        tuple(
            (
                *_contender(row, report),
                number(row.min_ms),
                estimate(row.p50_ms),
                number(row.p90_ms.value),
                number(row.p99_ms.value),
                estimate(row.mean_ms),
                estimate(row.ratio),
            )
            for row in rows
        ),
        names=2,
        caption=_ratio_caption(report.latency, report).strip(),
    )


def _costs(rows: Sequence[Latency], report: Report) -> TextTable:
    return TextTable(
        "What else a variant costs",
        (
            "variant",
            "runtime",
            "threads",
            "load, ms",
            "first, ms",
            "peak, MiB",
            "runtime, MiB",
            "GOP/s",
            "timed",
            "turns disturbed",
        ),
        tuple(
            (
                *_contender(row, report),
                number(row.load_ms),
                number(row.first_ms),
                number(row.peak_mib),
                number(row.runtime_mib),
                NONE if row.gop_per_s is None else number(row.gop_per_s),
                str(row.invocations) if row.invocations == row.asked else _of(row.invocations, row.asked),
                _of(row.disturbed_turns, row.turns),
            )
            for row in rows
        ),
        names=2,
        caption="Load: of the model, by a runtime that is imported. Peak: most memory of a fresh process; "
        "runtime: of it, before the model was loaded. Timed: invocations, and of how many where the time for "
        "them was over.",
    )


def _accuracy(name: str, rows: Sequence[Accuracy], report: Report) -> list[TextTable]:
    """What is known on one data set."""
    variants = {id(row): _name(report, row.model, row.variant) for row in rows}
    files, originals = rows[0].evaluation.files.count, rows[0].evaluation.originals.count
    cells = f"{files} cells" if files == originals else f"{files} cells of {originals} originals"
    missing = sorted({missing for row in rows for missing in row.missing})
    accuracy = TextTable(
        f"Accuracy on {name}, %: {cells}",
        ("variant", "accuracy", "balanced", "calibration error", "declined", "named right"),
        tuple(
            (
                variants[id(row)],
                percent(row.evaluation.files.accuracy),
                percent(row.evaluation.files.balanced_accuracy),
                percent(row.evaluation.files.calibration_error),
                percent(_declined(row)),
                percent(row.evaluation.files.named_accuracy),
            )
            for row in rows
        ),
        caption="Accuracy is top-1. Declined: given no class, for want of certainty or because no cell was "
        "found; named right: of those that were given one."
        + (f" No cell of {', '.join(missing)}: balanced over the other classes." if missing else ""),
    )
    of_class = rows[0].evaluation.named
    recall = TextTable(
        f"Recall by class on {name}, %",
        ("variant", *CLASS_NAMES),
        tuple(
            (variants[id(row)], *(percent(row.evaluation.files.recall[one]) for one in CLASS_NAMES))
            for row in rows
        ),
        caption="Originals of each class: "
        + ", ".join(f"{one} {of_class[one]['originals']}" for one in CLASS_NAMES)
        + ".",
    )
    compared = TextTable(
        f"Against the network that they were made from, on the same cells of {name}",
        (
            "variant",
            "against",
            "same class, %",
            "accuracy, points",
            "largest difference",
            "only that right",
            "only this right",
            "McNemar's p",
        ),
        tuple(
            (
                variants[id(row)],
                row.comparison.reference,
                percent(row.comparison.agreement),
                percent(row.comparison.accuracy_difference),
                number(row.comparison.largest_probability_difference, 2),
                str(row.comparison.only_keras_right),
                str(row.comparison.only_variant_right),
                number(row.comparison.mcnemar_p, 2),
            )
            for row in rows
            if row.comparison is not None
        ),
        names=2,
        caption="Largest difference: of a probability. The last three count originals; p of the exact "
        "test, not corrected for the number of tests.",
    )
    return [accuracy, recall, compared]


def _declined(row: Accuracy) -> Estimate:
    coverage = row.evaluation.files.coverage
    return Estimate(1 - coverage.value, 1 - coverage.high, 1 - coverage.low)


def _layers(times: LayerTimes, report: Report, count: int | None) -> TextTable:
    longest = sorted(times.layers, key=lambda layer: -layer.share)[:count]
    return TextTable(
        f"Where {_name(report, times.model, times.variant)} spends its {number(times.whole_ms)} ms",
        ("operator", "output", "number", "shape", "MOP", "ms", "share, %"),
        tuple(
            (
                layer.operator,
                layer.output,
                str(layer.index),
                _shape(layer.shape),
                number(layer.operations / 1e6),
                estimate(layer.ms),
                f"{100 * layer.share:.1f}",
            )
            for layer in longest
        ),
        names=2,
        caption=f"On {times.runtime}, threads: {times.threads}. {times.method} "
        f"The {len(longest)} longest of {len(times.layers)}: "
        f"{100 * sum(layer.share for layer in longest):.0f} % of the time.",
    )


def _noise(noise: QuantisationNoise, report: Report, whole: bool) -> TextTable:
    by_output = {tensor.output: tensor for tensor in noise.tensors}
    shown = list(noise.tensors) if whole else [by_output[output] for output in noise.worst]
    last = noise.tensors[-1] if noise.tensors else None
    which = "In order of execution" if whole else f"The steps that bring most noise, of {len(noise.tensors)}"
    caption = f"{which}, over {noise.crops} crops. Of its own: given the inputs of {noise.reference}."
    if last is not None:
        caption += f" At the end, {last.output}: {estimate(last.sqnr_db, places=1)} dB."
    if noise.unmatched:
        caption += f" Without a counterpart in {noise.reference}: {len(noise.unmatched)}."
    return TextTable(
        f"Where {_name(report, noise.model, noise.variant)} strays from {noise.reference}: "
        "signal to quantisation noise",
        ("operator", "output", "number", "shape", "dB of its own", "dB in all"),
        tuple(
            (
                tensor.operator,
                tensor.output,
                str(tensor.index),
                _shape(tensor.shape),
                estimate(tensor.step_db, places=1),
                estimate(tensor.sqnr_db, places=1),
            )
            for tensor in shown
        ),
        names=2,
        caption=caption,
    )


def _throughput(rows: Sequence[Throughput]) -> TextTable:
    return TextTable(
        "Frames to counted cells",
        (
            "fields",
            "cells a frame",
            "frames",
            "frames/s",
            "named a frame",
            "counted",
            "cells/min",
            "dropped",
            "lost",
            "MiB gained",
            "first cell, s",
        ),
        tuple(
            (
                row.source,
                str(row.cells_per_frame),
                str(row.frames),
                number(row.frames_per_s),
                number(row.named_per_frame),
                str(row.counted),
                number(row.cells_per_min),
                _of(row.dropped, row.offered),
                str(row.lost),
                number(row.growth_mib, 2),
                number(row.first_s, 2),
            )
            for row in rows
        ),
        caption=f"Frames/s: as fast as they go; dropped: at {' or '.join(_rates(rows))} frames a second, "
        "like a camera.",
    )


def _rates(rows: Sequence[Throughput]) -> list[str]:
    return [f"{rate:g}" for rate in sorted({row.camera_fps for row in rows})]


def _steps(rows: Sequence[Throughput]) -> TextTable:
    steps = list(dict.fromkeys(step for row in rows for step in row.step_ms))
    return TextTable(
        "Processor time of a frame, ms",
        ("fields", "cells a frame", *steps, "all but capture, invoke"),
        tuple(
            (
                row.source,
                str(row.cells_per_frame),
                *(number(row.step_ms[step]) if step in row.step_ms else NONE for step in steps),
                number(row.outside_ms),
            )
            for row in rows
        ),
    )


def _peers(report: Report) -> TextTable:
    cells = [str(count) for count in sorted({peer.cells for peer in report.peers})]
    rows = []
    for peer in report.peers:
        latency = peer.latency
        rows.append(
            (
                _name(report, peer.model, peer.name),
                peer.what,
                str(peer.threads),
                f"{100 * peer.agreement:.1f}",
                number(peer.largest_probability_difference, 2),
                estimate(latency.p50_ms) if latency else NONE if peer.right else "wrong",
                estimate(latency.ratio) if latency else NONE,
                number(latency.peak_mib) if latency else NONE,
            )
        )
    return TextTable(
        "The same weights as others run them",
        (
            "peer",
            "what it is",
            "threads",
            "same class, %",
            "largest difference",
            "p50, ms",
            "ratio",
            "peak, MiB",
        ),
        tuple(rows),
        names=2,
        caption=f"Answers to {' or '.join(cells)} cells are held against ours first; what answers otherwise "
        "is wrong, and not timed."
        + _ratio_caption((peer.latency for peer in report.peers if peer.latency), report),
    )


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}"


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
