import dataclasses
import importlib.util
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from benchmarks import onnx_files
from benchmarks.cache import kept_files
from benchmarks.onnx_files import FLOAT32, INT8, KINDS, UINT8, build_onnx
from benchmarks.variants import BuiltModel
from hematovision.classifier import Classifier
from hematovision.errors import ConversionError, MissingPartError
from hematovision.model_file import read_model_file


@pytest.fixture(scope="module")
def built(tiny_model: BuiltModel, tmp_path_factory: pytest.TempPathFactory) -> BuiltModel:
    """The tiny network with its ONNX files, in a folder of this module's own."""
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    shutil.copytree(tiny_model.folder, folder)
    model = dataclasses.replace(tiny_model, folder=folder)
    files, reasons = build_onnx(model, lambda _: None)
    assert reasons == {}
    assert files == {kind: folder / f"{kind}.onnx" for kind in KINDS}
    return model


@pytest.fixture
def copied(built: BuiltModel, tmp_path: Path) -> BuiltModel:
    """The same, to be spoilt."""
    shutil.copytree(built.folder, tmp_path / "tiny")
    return dataclasses.replace(built, folder=tmp_path / "tiny")


def logits_of(path: Path, crops: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    # On x86 without VNNI, ONNX Runtime's int8 kernels saturate: the files are looked at here, not those.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"crop": crop[None].astype(np.float32)})[0] for crop in crops])


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_float32_gives_the_logits_of_our_float_variant(built: BuiltModel) -> None:
    ours = Classifier(read_model_file(built.files[FLOAT32]), "litert").logits(built.crops())
    np.testing.assert_allclose(logits_of(built.folder / "float32.onnx", built.crops()), ours, atol=1e-4)


@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_quantised_files_give_the_same_classes_and_not_the_same_logits(built: BuiltModel, kind: str) -> None:
    crops = built.crops()
    exact = logits_of(built.folder / "float32.onnx", crops)
    logits = logits_of(built.folder / f"{kind}.onnx", crops)
    assert (logits.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.98
    assert 0 < np.abs(logits - exact).max() < 1


@pytest.mark.parametrize(("kind", "dtype", "dark"), [(INT8, "int8", -128), (UINT8, "uint8", 0)])
def test_activations_are_of_the_type_that_names_the_file_and_the_input_spans_all_pixel_values(
    built: BuiltModel, kind: str, dtype: str, dark: int
) -> None:
    graph = onnx.load(built.folder / f"{kind}.onnx").graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    (first,) = [node for node in graph.node if "crop" in node.input]
    assert first.op_type == "QuantizeLinear"
    scale, zero_point = (constants[name] for name in first.input[1:3])
    assert (scale.item(), zero_point.item(), zero_point.dtype) == (1.0, dark, dtype)


@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_weights_are_int8_with_a_scale_for_each_channel(built: BuiltModel, kind: str) -> None:
    graph = onnx.load(built.folder / f"{kind}.onnx").graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        weights, scales = (constants[name] for name in makers[node.input[1]].input[:2])
        assert (weights.dtype, len(scales)) == (np.int8, len(weights))


def test_what_is_kept_needs_neither_tensorflow_nor_the_tools(
    built: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "tensorflow", "tf2onnx", "onnx", "onnxruntime")
    said: list[str] = []
    files, reasons = build_onnx(dataclasses.replace(built, files={}), said.append)
    assert (set(files), reasons, said) == (set(KINDS), {}, [])


def test_a_damaged_file_is_made_again_and_no_other(copied: BuiltModel) -> None:
    whole = (copied.folder / "int8.onnx").read_bytes()
    (copied.folder / "int8.onnx").write_bytes(whole[:-100])
    said: list[str] = []
    files, reasons = build_onnx(copied, said.append)
    assert (set(files), reasons) == (set(KINDS), {})
    assert said == ["tiny: quantising the ONNX network to int8"]
    assert kept_files(copied.folder)["int8.onnx"].stat().st_size == len(whole)


def test_without_the_network_it_is_said_what_is_missing(tiny_model: BuiltModel, tmp_path: Path) -> None:
    given_as_tflite = dataclasses.replace(tiny_model, folder=tmp_path, files={INT8: tiny_model.files[INT8]})
    files, reasons = build_onnx(given_as_tflite, lambda _: None)
    assert files == {}
    assert set(reasons) == set(KINDS)
    for reason in reasons.values():
        assert isinstance(reason, MissingPartError)
        assert "float32.onnx is not kept, and is made of the .keras file" in str(reason)


def test_tools_that_are_not_installed_are_named(
    tiny_model: BuiltModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "tf2onnx", "onnx")
    _, reasons = build_onnx(dataclasses.replace(tiny_model, folder=tmp_path), lambda _: None)
    assert isinstance(reasons[FLOAT32], MissingPartError)
    assert "tf2onnx, onnx" in str(reasons[FLOAT32])
    assert "hematovision[bench]" in str(reasons[FLOAT32])


def test_float32_is_there_where_only_the_quantiser_is_missing(
    copied: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied.folder / "uint8.onnx").unlink()
    without(monkeypatch, "onnxruntime")
    files, reasons = build_onnx(copied, lambda _: None)
    assert set(files) == {FLOAT32, INT8}
    assert isinstance(reasons[UINT8], MissingPartError)


def test_an_operation_that_onnx_lacks_is_named_and_nothing_is_kept(
    tiny_model: BuiltModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    crop = keras.Input((32, 32, 3), name="crop")
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 256)(crop))
    network = keras.Model(crop, keras.layers.Dense(4)(keras.ops.erfinv(features)))
    network.save(tmp_path / "odd.keras")
    folder = tmp_path / "kept"
    model = dataclasses.replace(tiny_model, folder=folder, files={"keras": tmp_path / "odd.keras"})
    files, reasons = build_onnx(model, lambda _: None)
    assert files == {}
    assert isinstance(reasons[FLOAT32], ConversionError)
    assert "Erfinv" in str(reasons[FLOAT32])
    assert reasons[INT8] is reasons[UINT8] is reasons[FLOAT32]
    assert kept_files(folder) == {}
    assert capfd.readouterr() == ("", "")


def test_a_network_that_cannot_be_quantised_is_still_there_in_float(
    copied: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (INT8, UINT8):
        (copied.folder / f"{kind}.onnx").unlink()
    # Crops of another size than the network's: ONNX Runtime refuses to run them.
    monkeypatch.setattr(BuiltModel, "crops", lambda _: np.zeros((2, 16, 16, 3), np.uint8))
    files, reasons = build_onnx(copied, lambda _: None)
    assert set(files) == {FLOAT32}
    assert isinstance(reasons[INT8], ConversionError)
    assert onnx_files.INT8 in str(reasons[INT8])
