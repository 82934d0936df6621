"""What is timed: each variant on each runtime that loads it, with and without XNNPACK, by threads."""

import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.recipes import RECIPES
from hematovision.runtime import default_threads

if TYPE_CHECKING:  # imports much that the processes that are measured have no use for
    from benchmarks.results import Unmeasured

KERAS = "keras"
#: Holds of each runtime: the function that opens a contender, as ``module:function``. It takes a `Contender`
#: and gives a function from one crop, (side, side, 3) uint8 RGB, to its logits, (4,) float32. Imported in
#: the process that runs it and nowhere else.
RUNNERS = {
    "litert": "benchmarks.runners:open_tflite",
    "tflite-runtime": "benchmarks.runners:open_tflite",
    "tensorflow": "benchmarks.runners:open_tflite",
    KERAS: "benchmarks.runners:open_keras",
    "onnxruntime": "benchmarks.peer_runners:open_onnxruntime",
    "opencv-dnn": "benchmarks.peer_runners:open_opencv_dnn",
    "keras-predict": "benchmarks.peer_runners:open_keras_predict",
    "rebuilt": "benchmarks.peer_runners:open_rebuilt",
}
#: The module that a runtime is; its top package has the version.
MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite",
    KERAS: "keras",
    "onnxruntime": "onnxruntime",
    "opencv-dnn": "cv2",
    "keras-predict": "keras",
    "rebuilt": "ai_edge_litert.interpreter",
}
#: Those of one trained network's own variants; the others are peers.
RUNTIMES = ("litert", "tflite-runtime", "tensorflow", KERAS)

_EXTRAS = {"tensorflow": "bench", KERAS: "bench", "keras-predict": "bench", "onnxruntime": "bench"}
# What `convert.recipes` knows of files that a runtime does not load.
_LACKING = {
    ("dynamic", "tflite-runtime"): "it lacks FULLY_CONNECTED version 12, which TensorFlow 2.19 writes for it",
}


@dataclass(frozen=True)
class Contender:
    """One file on one runtime. ``xnnpack``: None where there is no such choice."""

    model: str
    variant: str
    runtime: str
    xnnpack: bool | None
    threads: int
    path: str

    def __str__(self) -> str:
        kernels = {None: "", True: " with XNNPACK", False: " without XNNPACK"}[self.xnnpack]
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.model} {self.variant} on {self.runtime}{kernels}, {threads}"


def missing_runtimes() -> dict[str, str]:
    """Those of `RUNNERS` that are not installed here, with what to do; imports none of them."""
    missing = {}
    for runtime, module in MODULES.items():
        package = module.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            extra = _EXTRAS.get(runtime, "edge")
            missing[runtime] = f"{package} is not installed; pip install 'hematovision[{extra}]' brings it"
    return missing


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def thread_counts() -> tuple[int, ...]:
    """1, 2 and all: as many as the device would take; no more than there are cores."""
    return tuple(sorted({count for count in (1, 2, default_threads()) if count <= cores()}))


def list_contenders(
    files: Mapping[str, Mapping[str, Path]],
    runtimes: Collection[str] = RUNTIMES,
    threads: Sequence[int] | None = None,
) -> tuple[list[Contender], list["Unmeasured"]]:
    """All that can be timed of some models, and what cannot be, with the reason.

    Args:
        files: of each model, by its name: variant → file.
        runtimes: of `RUNTIMES`; those to run on.
        threads: how many to compute with; `thread_counts` unless given.
    """
    from benchmarks.results import Unmeasured

    threads = thread_counts() if threads is None else threads
    missing = missing_runtimes()
    contenders: list[Contender] = []
    left_out = [
        Unmeasured("latency", f"everything on {runtime}", missing[runtime], failed=False)
        for runtime in RUNTIMES
        if runtime in runtimes and runtime in missing
    ]
    for model, variants in files.items():
        for variant, path in variants.items():
            for runtime in RUNTIMES:
                if runtime not in runtimes or runtime in missing:
                    continue
                if (runtime == KERAS) != (variant == KERAS):
                    continue  # Keras runs its own file and no other
                if reason := _why_not(variant, runtime):
                    left_out.append(Unmeasured("latency", f"{model} {variant} on {runtime}", reason, False))
                    continue
                contenders += [
                    Contender(model, variant, runtime, xnnpack, count, str(path))
                    for xnnpack in ((None,) if runtime == KERAS else (True, False))
                    for count in threads
                ]
    return contenders, left_out


def _why_not(variant: str, runtime: str) -> str | None:
    """Why a runtime does not load a recipe's file; TensorFlow's own loads what TensorFlow made."""
    if runtime in (KERAS, "tensorflow") or runtime in RECIPES[variant].runtimes:
        return None
    return _LACKING.get((variant, runtime), f"convert states that it loads on {RECIPES[variant].runtimes}")
