"""However a variant is run, it goes through the device's own code and gives the network's logits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders import RUNTIMES, Contender, list_contenders, missing_runtimes
from benchmarks.latency import answers
from benchmarks.onnx_files import build_onnx
from benchmarks.variants import BuiltModel
from benchmarks.worker import Worker
from convert.recipes import RECIPES
from hematovision.errors import HematoVisionError
from train.fit import predict_logits
from train.network import load_network

# Of logits, by recipe: what rounding weights and activations may do to them.
TOLERANCE = {"keras": 1e-4, "float32": 1e-4, "float16": 0.02}
QUANTISED = 0.5


def contenders_of(model: BuiltModel) -> list[Contender]:
    return list_contenders({model.name: model.files}, threads=[1])[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_variant_gives_the_networks_logits(runtime: str, tiny_model: BuiltModel) -> None:
    if runtime in missing_runtimes():
        pytest.skip(missing_runtimes()[runtime])
    crops = tiny_model.crops()[:5]
    expected = predict_logits(load_network(tiny_model.files["keras"]), crops)
    ran = [one for one in contenders_of(tiny_model) if one.runtime == runtime and one.xnnpack is not False]
    if runtime == "tensorflow":  # takes seconds to load
        ran = [one for one in ran if one.variant == "int8"]
    assert ran
    for contender in ran:
        tolerance = TOLERANCE.get(contender.variant, QUANTISED)
        np.testing.assert_allclose(answers(contender, crops), expected, atol=tolerance)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
def test_without_xnnpack_other_kernels_compute(runtime: str, tiny_model: BuiltModel) -> None:
    """Which is seen from the last digits of float32's logits."""
    if runtime in missing_runtimes():
        pytest.skip(missing_runtimes()[runtime])
    crops = tiny_model.crops()[:20]
    contender = Contender("tiny", "float32", runtime, True, 1, str(tiny_model.files["float32"]))
    fast = answers(contender, crops)
    slow = answers(dataclasses.replace(contender, xnnpack=False), crops)
    np.testing.assert_allclose(slow, fast, atol=1e-4)
    assert (slow != fast).any()


def test_what_recipes_say_does_not_load_indeed_does_not(tiny_model: BuiltModel) -> None:
    """If it did, the reason given in a report would be wrong."""
    if "tflite-runtime" in missing_runtimes():
        pytest.skip(missing_runtimes()["tflite-runtime"])
    for recipe in RECIPES.values():
        if "tflite-runtime" in recipe.runtimes:
            continue
        contender = Contender(
            "tiny", recipe.name, "tflite-runtime", True, 1, str(tiny_model.files[recipe.name])
        )
        with pytest.raises(HematoVisionError, match=r"FULLY_CONNECTED.*version '12'"):
            answers(contender, tiny_model.crops()[:1])


@pytest.mark.parametrize(
    ("runtime", "variant"),
    [
        ("litert", "float32"),
        ("tflite-runtime", "float32"),  # of int8 only a part is XNNPACK's, whose threads are its own
        ("keras", "keras"),
        ("onnxruntime", "float32"),
    ],
)
def test_a_runtime_computes_with_as_many_threads_as_it_is_told(
    runtime: str, variant: str, tiny_model: BuiltModel
) -> None:
    """Each thread more is one more that the kernel lists, beside those that a runtime starts anyway."""
    if runtime in missing_runtimes():
        pytest.skip(missing_runtimes()[runtime])
    files = build_onnx(tiny_model, lambda _: None)[0] if runtime == "onnxruntime" else tiny_model.files
    counts = []
    for threads in (1, 3):
        contender = Contender("tiny", variant, runtime, None, threads, str(files[variant]))
        with Worker(contender, tiny_model.folder / "crops.npy") as running:
            running.load()
            running.time(untimed=0, timed=20, limit_s=10)
            counts.append(len(list(Path(f"/proc/{running._process.pid}/task").iterdir())))
    assert counts[1] - counts[0] == 2
