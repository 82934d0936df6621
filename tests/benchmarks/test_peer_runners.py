from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders import Contender
from benchmarks.latency import answers
from benchmarks.onnx_files import build_onnx
from benchmarks.variants import BuiltModel
from hematovision.classifier import Classifier
from hematovision.model_file import read_model_file


@pytest.fixture(scope="module")
def files(tiny_model: BuiltModel) -> dict[tuple[str, str], Path]:
    """By runtime and our variant: what each runtime is given."""
    onnx_files, reasons = build_onnx(tiny_model, lambda _: None)
    assert reasons == {}
    return {
        ("onnxruntime", "float32"): onnx_files["float32"],
        ("opencv-dnn", "float32"): onnx_files["float32"],
        ("keras-predict", "float32"): tiny_model.files["keras"],
        ("rebuilt", "int8"): tiny_model.files["int8"],
    }


@pytest.mark.parametrize(
    ("runtime", "ours", "threads"),
    [
        ("onnxruntime", "float32", 1),
        ("onnxruntime", "float32", 2),
        ("opencv-dnn", "float32", 1),
        ("opencv-dnn", "float32", 2),
        ("keras-predict", "float32", 1),
        ("rebuilt", "int8", 1),
    ],
)
def test_a_peer_gives_the_logits_of_our_variant_of_the_same_weights(
    tiny_model: BuiltModel, files: dict[tuple[str, str], Path], runtime: str, ours: str, threads: int
) -> None:
    crops = tiny_model.crops()[::20]
    path = files[runtime, ours]
    theirs = answers(Contender("tiny", ours, runtime, None, threads, str(path)), crops)
    expected = Classifier(read_model_file(tiny_model.files[ours]), "litert").logits(crops)
    np.testing.assert_allclose(theirs, expected, atol=1e-4)
