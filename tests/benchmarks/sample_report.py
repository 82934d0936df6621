"""A report of invented but plausible figures, every section filled: what writing, drawing and comparing are
tried on."""

from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.results import (
    FORMAT_VERSION,
    Accuracy,
    Comparison,
    Estimate,
    Latency,
    LayerTime,
    LayerTimes,
    Machine,
    MachineState,
    Peer,
    QuantisationNoise,
    Report,
    TensorNoise,
    Throughput,
    Unmeasured,
    Variant,
)
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import probabilities
from train.cells import OTHER, CellSet
from train.datasets import LabelledImage
from train.evaluate import evaluate

MODEL = "hematovision"

# Recipe: bytes of the file, sizes of those seen with MobileNetV2 1.0.
_FILE_BYTES = {
    "keras": 9_412_000,
    "float32": 8_871_424,
    "float16": 4_464_128,
    "dynamic": 2_597_376,
    "int8": 2_664_960,
    "int16x8": 2_829_824,
}
# Variant, runtime, its version, XNNPACK, threads, ms on the x86 machine, ms on the Pi.
_CONTENDERS: tuple[tuple[str, str, str, bool | None, int, float, float | None], ...] = (
    ("keras", "keras", "3.15.1", None, 1, 9.6, None),
    ("float32", "litert", "1.4.0", True, 1, 5.0, 61.0),
    ("float32", "litert", "1.4.0", True, 2, 3.1, 33.0),
    ("float32", "litert", "1.4.0", False, 1, 17.5, 142.0),
    ("float16", "litert", "1.4.0", True, 1, 5.1, 62.0),
    ("dynamic", "litert", "1.4.0", True, 1, 6.4, 48.0),
    ("int8", "litert", "1.4.0", True, 1, 5.1, 22.0),
    ("int8", "litert", "1.4.0", True, 2, 3.3, 12.5),
    ("int8", "litert", "1.4.0", False, 1, 11.8, 51.0),
    ("int8", "tensorflow", "2.19.1", True, 1, 5.2, None),
    ("int8", "tflite-runtime", "2.14.0", True, 1, 49.0, 23.5),
    ("int16x8", "litert", "1.4.0", True, 1, 120.0, 260.0),
)
# Data set: originals, files of each, share of its cells that the network is right on.
_DATA = {"kaggle-test": (71, 35, 0.93), "pbc": (400, 1, 0.985), "raabin": (180, 1, 0.76)}
# Variant: the share of cells that it answers otherwise than Keras.
_STRAYS = {"keras": 0.0, "float32": 0.0, "float16": 0.0, "dynamic": 0.004, "int8": 0.012, "int16x8": 0.002}

_Operator = tuple[str, str, tuple[int, ...], int]


@cache
def sample_report(*, on_pi: bool = False, disturbed: bool = False, seed: int = 0) -> Report:
    """A report of ``hematovision bench compare``: of a PC, or of a Raspberry Pi 4 with neither TensorFlow nor
    peers; ``disturbed``: other work ran beside it, and the Pi was throttled. ``seed``: of the noise."""
    rng = np.random.default_rng(seed)
    latency = _latencies(on_pi, disturbed, rng)
    unmeasured = [
        Unmeasured(
            "latency",
            "dynamic on tflite-runtime, 1 thread",
            "its FULLY_CONNECTED version 12 is newer than this runtime",
            failed=False,
        ),
        Unmeasured(
            "accuracy", "int16x8 on kisbleed", "kisbleed has no cell of class monocyte; add some", failed=True
        ),
    ]
    if on_pi:
        unmeasured.append(Unmeasured("latency", "tensorflow", "tensorflow is not installed", failed=False))
    return Report(
        format_version=FORMAT_VERSION,
        hematovision="0.5.0",
        command="compare",
        arguments=("hematovision.keras", "--data", "kaggle-test", "--out", "report"),
        started="2026-11-23T18:00:00+00:00",
        seconds=412.5,
        machine=_machine(on_pi, disturbed),
        variants=_variants(with_keras=not on_pi),
        latency=latency,
        layers=(_layers("float32", 5.0, rng), _layers("int8", 5.1, rng)),
        accuracy=tuple(
            one
            for number, name in enumerate(_DATA)
            for one in _accuracies(name, with_keras=not on_pi, seed=number)
        ),
        noise=(_noise(rng),),
        throughput=_throughputs(on_pi),
        peers=() if on_pi else _peers(latency, rng),
        unmeasured=tuple(unmeasured),
    )


def _machine(on_pi: bool, disturbed: bool) -> Machine:
    throttled = None if not on_pi else ("undervoltage since the start",) if disturbed else ()
    load = 1.9 if disturbed else 0.2
    before, after = (
        MachineState(
            time=f"2026-11-23T18:{minute:02d}:00+00:00",
            load_average=(load, load / 2, 0.1),
            governors=("ondemand",) if on_pi else (),
            clock_mhz=(1800.0,) * 4 if on_pi else (2600.0, 2600.0),
            temperature_c=61.3 if on_pi else None,
            throttled=throttled,
        )
        for minute in (0, 7)
    )
    disturbances = ["Other processes took 0.43 of 2 cores on average."] if disturbed else []
    if disturbed and on_pi:
        disturbances.append("The firmware reported: undervoltage since the start.")
    return Machine(
        processor="Cortex-A72" if on_pi else "Intel(R) Xeon(R) Processor",
        board="Raspberry Pi 4 Model B Rev 1.4" if on_pi else None,
        architecture="aarch64" if on_pi else "x86_64",
        features=("asimd",) if on_pi else ("avx2", "fma"),
        cores=4 if on_pi else 2,
        memory_mib=3792.0 if on_pi else 7941.0,
        virtual=not on_pi,
        system="Linux 6.6.51+rpt-rpi-v8" if on_pi else "Linux 6.8.0-49-generic",
        versions={"python": "3.11.2", "numpy": "1.26.4", "ai-edge-litert": "1.4.0"}
        | ({} if on_pi else {"tensorflow": "2.19.1", "onnxruntime": "1.32.0", "opencv": "4.11.0"}),
        before=before,
        after=after,
        disturbed=tuple(disturbances),
    )


def _variants(with_keras: bool) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            model=MODEL,
            name=name,
            file=f"{MODEL}.keras" if name == "keras" else f"{MODEL}-{name}.tflite",
            sha256=f"{number:064x}",
            file_bytes=size,
            side_px=128,
            parameters=2_229_060,
            operations=198_000_000,
        )
        for number, (name, size) in enumerate(_FILE_BYTES.items(), start=0xABC)
        if with_keras or name != "keras"
    )


def around(value: float, share: float = 0.01) -> Estimate:
    """A figure with an interval of ± that share."""
    return Estimate(value, value * (1 - share), value * (1 + share))


def _latency(
    variant: str,
    runtime: str,
    version: str,
    xnnpack: bool | None,
    threads: int,
    ms: float,
    reference_ms: float | None,
    disturbed: bool,
    rng: np.random.Generator,
) -> Latency:
    times = ms * (0.96 + rng.lognormal(-3.2, 0.9 if disturbed else 0.5, 400))
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    width = 0.04 if disturbed else 0.008
    ratio = None
    if reference_ms == ms:
        ratio = Estimate(1.0, 1.0, 1.0)
    elif reference_ms is not None:
        ratio = around(ms / reference_ms, width / 2)
    return Latency(
        model=MODEL,
        variant=variant,
        runtime=runtime,
        version=version,
        xnnpack=xnnpack,
        threads=threads,
        asked=400,
        invocations=400,
        turns=20,
        disturbed_turns=7 if disturbed else 0,
        min_ms=float(times.min()),
        mean_ms=around(float(times.mean()), width),
        p50_ms=around(float(p50), width),
        p90_ms=around(float(p90), 2 * width),
        p99_ms=around(float(p99), 5 * width),
        ratio=ratio,
        load_ms=2100.0 if variant == "keras" else 8.0 + 2 * ms,
        first_ms=1.6 * ms,
        runtime_mib=720.0 if runtime in ("keras", "tensorflow") else 61.0,
        peak_mib=(790.0 if runtime in ("keras", "tensorflow") else 66.0) + 2 * _FILE_BYTES[variant] / 2**20,
        gop_per_s=0.198e3 / float(p50),
        quantiles_ms=tuple(map(float, np.percentile(times, range(101)))),
    )


def _latencies(on_pi: bool, disturbed: bool, rng: np.random.Generator) -> tuple[Latency, ...]:
    reference = _CONTENDERS[1][6] if on_pi else _CONTENDERS[1][5]
    rows = []
    for variant, runtime, version, xnnpack, threads, pc_ms, pi_ms in _CONTENDERS:
        ms = pi_ms if on_pi else pc_ms
        if ms is not None:
            rows.append(_latency(variant, runtime, version, xnnpack, threads, ms, reference, disturbed, rng))
    return tuple(rows)


def _operators() -> list["_Operator"]:
    """Operator, name of its output, shape, operations: the outline of a MobileNetV2 at 128x128."""
    rows: list[_Operator] = [("CONV_2D", "Conv1_relu", (1, 64, 64, 32), 7_077_888)]
    side, channels = 64, 32
    for block in range(1, 17):
        if block in (2, 4, 7, 14):
            side //= 2
        if block in (2, 4, 7, 11, 14):
            channels = {2: 24, 4: 32, 7: 64, 11: 96, 14: 160}[block]
        wide = 6 * channels
        shape = (1, side, side, wide)
        rows += [
            ("CONV_2D", f"block_{block}_expand_relu", shape, 2 * side**2 * channels * wide),
            ("DEPTHWISE_CONV_2D", f"block_{block}_depthwise_relu", shape, 18 * side**2 * wide),
            ("CONV_2D", f"block_{block}_project", (1, side, side, channels), 2 * side**2 * channels * wide),
        ]
    rows += [
        ("CONV_2D", "Conv_1_relu", (1, 4, 4, 1280), 2 * 16 * 320 * 1280),
        ("MEAN", "global_average_pooling", (1, 1280), 20_480),
        ("FULLY_CONNECTED", "logits", (1, 4), 10_240),
    ]
    return rows


def _layers(variant: str, whole_ms: float, rng: np.random.Generator) -> LayerTimes:
    rows = _operators()
    weights = np.array([row[3] + 4e5 * (row[0] != "CONV_2D") for row in rows]) * rng.lognormal(
        0, 0.2, len(rows)
    )
    shares = weights / weights.sum()
    return LayerTimes(
        model=MODEL,
        variant=variant,
        runtime="litert",
        threads=1,
        method="Time of the graph up to and with this operator, less that up to the one before.",
        whole_ms=whole_ms,
        layers=tuple(
            LayerTime(index, operator, output, shape, operations, around(share * whole_ms, 0.1), share)
            for index, ((operator, output, shape, operations), share) in enumerate(
                zip(rows, shares.tolist(), strict=True)
            )
        ),
    )


def _noise(rng: np.random.Generator) -> QuantisationNoise:
    rows = _operators()
    decibels = 34 - 14 * np.linspace(0, 1, len(rows)) ** 0.7 + rng.normal(0, 1.2, len(rows))
    for sunk in (5, 20):
        decibels[sunk] -= 7
    tensors = tuple(
        TensorNoise(
            index,
            operator,
            output,
            shape,
            Estimate(db, db - 0.6, db + 0.6),
            Estimate(db + 9, db + 8, db + 10),
        )
        for index, ((operator, output, shape, _), db) in enumerate(zip(rows, decibels.tolist(), strict=True))
    )
    return QuantisationNoise(
        model=MODEL,
        variant="int8",
        reference="float32",
        crops=64,
        tensors=tensors,
        worst=(rows[5][1], rows[20][1], rows[-1][1]),
        unmatched=("block_9_pad",),
    )


def _accuracies(name: str, with_keras: bool, seed: int) -> list[Accuracy]:
    """Every variant on one data set: right as often as `_DATA` says, at random otherwise than Keras."""
    originals, copies, share_right = _DATA[name]
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.choice(4, originals, p=[0.45, 0.25, 0.1, 0.2]), copies)
    labels = np.append(labels, [OTHER] * 10)
    owner = np.append(np.repeat(np.arange(originals), copies), originals + np.arange(10))
    images = tuple(
        LabelledImage(
            Path(f"{n}.jpg"),
            CLASS_NAMES[label] if label != OTHER else "basophil",
            f"{name}/{one:04d}",
            "test",
        )
        for n, (label, one) in enumerate(zip(labels, owner, strict=True))
    )
    found = rng.random(len(labels)) > 0.01
    cells = CellSet(images, np.zeros((len(labels), 1, 1, 3), np.uint8), labels, found)
    logits = rng.normal(0, 1, (len(labels), 4))
    hit = rng.random(originals + 10)[owner] < share_right
    top = np.where(hit, np.maximum(labels, 0), (labels + 1) % 4)
    logits[np.arange(len(labels)), top] = logits.max(axis=1) + rng.uniform(0.5, 5, len(labels))
    keras_right = (logits.argmax(axis=1) == labels) & found
    known = cells.in_classes
    sizes = np.bincount(owner[known])
    rows = []
    for variant, strays in _STRAYS.items():
        strayed = rng.random(len(labels)) < strays
        given = logits.copy()
        given[strayed] = np.roll(given[strayed], 1, axis=1)
        sure = probabilities(given.astype(np.float32), 0.8)
        right = (sure.argmax(axis=1) == labels) & found
        agreement = float(1 - strayed[known].mean())
        difference = float(right[known].mean() - keras_right[known].mean())
        comparison = Comparison(
            agreement=Estimate(agreement, agreement - 0.006, min(agreement + 0.006, 1.0)),
            accuracy_difference=Estimate(difference, difference - 0.006, difference + 0.006),
            largest_probability_difference=0.03 + 40 * strays,
            only_keras_right=int((keras_right & ~right)[known].sum()) // copies,
            only_variant_right=int((right & ~keras_right)[known].sum()) // copies,
            mcnemar_p=0.22 if strays else 1.0,
            reference="keras" if with_keras else "float32",
        )
        if variant == "keras" and not with_keras:
            continue
        rows.append(
            Accuracy(
                model=MODEL,
                variant=variant,
                runtime="keras" if variant == "keras" else "litert",
                version="3.15.1" if variant == "keras" else "1.4.0",
                evaluation=evaluate(name, cells, sure, 0.6),
                comparison=None if variant == comparison.reference else comparison,
                cells_sha256=f"{seed:064x}",
                right_per_original=tuple(
                    zip(
                        np.bincount(owner[known], right[known]).astype(int).tolist(),
                        sizes.tolist(),
                        strict=True,
                    )
                ),
            )
        )
    return rows


def _throughputs(on_pi: bool) -> tuple[Throughput, ...]:
    rows = []
    for source in ("drawn", "real"):
        for cells in (0, 1, 3, 10):
            cell_ms = 24.0 if on_pi else 5.6
            step_ms = {
                "optics": 31.0 if on_pi else 9.1,
                "finder": 40.0 if on_pi else 11.0,
                "crops": 0.4 * cells,
                "invoke": cell_ms * cells,
                "tracker": 0.2 + 0.05 * cells,
            }
            per_s = 1000 / (sum(step_ms.values()) + 2)
            rows.append(
                Throughput(
                    source=source,
                    cells_per_frame=cells,
                    frames=2000,
                    looked_at=2000,
                    cells_in_view=2000 * cells,
                    named=1950 * cells,
                    counted=110 * cells,
                    frames_per_s=per_s,
                    named_per_frame=0.975 * cells,
                    cells_per_min=110 * cells / 2000 * per_s * 60,
                    step_ms=step_ms,
                    outside_ms=sum(step_ms.values()) - step_ms["invoke"] + 1.1,
                    camera_fps=10.0,
                    offered=600,
                    dropped=int(600 * max(0, 1 - per_s / 10)),
                    lost=0,
                    memory_mib=tuple((n, 142.0 + 3 * (1 - 0.5 ** (n / 300))) for n in range(0, 2001, 100)),
                    growth_mib=0.3,
                    first_s=0.9 if cells else float("nan"),
                )
            )
    return tuple(rows)


def _peers(ours: tuple[Latency, ...], rng: np.random.Generator) -> tuple[Peer, ...]:
    reference_ms = _CONTENDERS[1][5]
    rows = [
        Peer(
            MODEL,
            f"LiteRT {ours[number].variant}",
            f"ours: {ours[number].variant} on LiteRT, one thread",
            1,
            ours[number].variant,
            200,
            1.0,
            0.0,
            True,
            ours[number],
        )
        for number in (1, 6)
    ]
    for name, what, variant, runtime, version, ms, agreement in (
        (
            "ONNX Runtime float",
            "the ONNX export on ONNX Runtime",
            "float32",
            "onnxruntime",
            "1.32.0",
            5.6,
            1.0,
        ),
        ("ONNX Runtime int8", "quantised by ONNX Runtime", "int8", "onnxruntime", "1.32.0", 8.2, 0.98),
        (
            "OpenCV dnn",
            "the ONNX export in OpenCV's dnn module",
            "float32",
            "opencv-dnn",
            "4.11.0",
            11.6,
            1.0,
        ),
        ("Keras predict", "network.predict for every image", "keras", "keras-predict", "3.15.1", 61.0, 1.0),
        ("rebuilt", "an interpreter rebuilt for every frame", "int8", "rebuilt", "1.4.0", 19.4, 1.0),
    ):
        rows.append(
            Peer(
                MODEL,
                name,
                what,
                1,
                "int8" if variant == "int8" else "float32",
                200,
                agreement,
                0.21 if agreement < 1 else 2e-5,
                True,
                _latency(variant, runtime, version, None, 1, ms, reference_ms, False, rng),
            )
        )
    rows.append(
        Peer(MODEL, "OpenCV dnn int8", "the quantised export in dnn", 1, "int8", 200, 0.41, 0.97, False, None)
    )
    return tuple(rows)
