import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from benchmarks import peers
from benchmarks.cache import keep_file
from benchmarks.contenders import Contender, missing_runtimes
from benchmarks.onnx_files import build_onnx
from benchmarks.peers import measure_peers
from benchmarks.results import Latency, Peer, Unmeasured
from benchmarks.variants import BuiltModel
from hematovision.errors import HematoVisionError

ALL = [way.name for way in peers._WAYS]


@pytest.fixture
def model(tiny_model: BuiltModel, tmp_path: Path) -> BuiltModel:
    """The tiny network in a folder of its own, ONNX files made, with 50 crops instead of 200."""
    build_onnx(tiny_model, lambda _: None)
    shutil.copytree(tiny_model.folder, tmp_path / "tiny")
    np.save(tmp_path / "tiny" / "crops.npy", tiny_model.crops()[::4])
    return dataclasses.replace(tiny_model, folder=tmp_path / "tiny")


@pytest.fixture
def keras_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process takes seconds to start, and is tried once elsewhere."""
    missing = missing_runtimes() | {"keras-predict": "left out of this test"}
    monkeypatch.setattr(peers, "missing_runtimes", lambda: missing)


def measure(model: BuiltModel) -> tuple[dict[str, Peer], list[Unmeasured]]:
    found, unmeasured = measure_peers(model, 3, 1.0, lambda _: None, threads=[1])
    return {peer.name: peer for peer in found}, unmeasured


def spoil(model: BuiltModel, node: onnx.NodeProto, *constants: onnx.TensorProto) -> None:
    """Have the float ONNX file do something to each crop before it is looked at."""
    network = onnx.load(model.folder / "float32.onnx")
    for one in network.graph.node:
        for place, name in enumerate(one.input):
            if name == "crop":
                one.input[place] = "spoilt"
    network.graph.node.insert(0, node)
    network.graph.initializer.extend(constants)
    onnx.checker.check_model(network)
    keep_file(model.folder, "float32.onnx", network.SerializeToString())


@pytest.mark.slow
def test_every_peer_is_timed_beside_ours_once_its_answers_are_right(model: BuiltModel) -> None:
    found, unmeasured = measure(model)
    assert unmeasured == []
    assert list(found) == ALL
    for peer in found.values():
        assert peer.right
        assert peer.agreement >= 0.98
        assert peer.cells == len(model.crops())
        assert peer.latency is not None
        assert peer.latency.invocations == 3
        assert peer.latency.ratio is not None
        assert (peer.latency.ratio.value == 1) == (peer.name == "LiteRT int8")
    assert found["LiteRT rebuilt"].largest_probability_difference == 0
    assert found["Keras predict"].largest_probability_difference < 1e-5


@pytest.mark.usefixtures("keras_left_out")
def test_a_peer_that_takes_bgr_for_rgb_is_not_timed_and_the_rest_is(model: BuiltModel) -> None:
    order = numpy_helper.from_array(np.array([2, 1, 0]), "order")
    spoil(model, helper.make_node("Gather", ["crop", "order"], ["spoilt"], axis=3), order)
    found, unmeasured = measure(model)
    for name in ("ONNX Runtime float32", "OpenCV dnn"):
        assert (found[name].right, found[name].latency) == (False, None)
        (row,) = [row for row in unmeasured if name in row.what]
        assert (row.section, row.failed) == ("peers", True)
        assert "not timed: it names" in row.why
    for name in ("LiteRT int8", "LiteRT float32", "LiteRT rebuilt", "ONNX Runtime int8"):
        assert found[name].right
        assert found[name].latency is not None


@pytest.mark.usefixtures("keras_left_out")
def test_a_peer_that_scales_pixels_to_1_is_not_timed(model: BuiltModel) -> None:
    scale = numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")
    spoil(model, helper.make_node("Mul", ["crop", "scale"], ["spoilt"]), scale)
    found, unmeasured = measure(model)
    assert not found["OpenCV dnn"].right
    assert found["OpenCV dnn"].latency is None
    assert any("OpenCV dnn" in row.what and row.failed for row in unmeasured)


@pytest.mark.usefixtures("keras_left_out")
def test_a_peer_whose_process_ends_is_a_row_that_says_so_and_the_rest_goes_on(model: BuiltModel) -> None:
    keep_file(model.folder, "uint8.onnx", b"no network")
    found, unmeasured = measure(model)
    assert "ONNX Runtime uint8" not in found
    (row,) = [row for row in unmeasured if row.failed]
    assert row.what == "tiny: ONNX Runtime uint8, 1 thread"
    assert "InvalidProtobuf" in row.why
    assert found["ONNX Runtime int8"].latency is not None


def test_what_is_not_installed_is_listed_and_is_no_failure(
    model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "it is not installed"
    monkeypatch.setattr(
        peers, "missing_runtimes", lambda: dict.fromkeys(("onnxruntime", "keras-predict"), reason)
    )
    found, unmeasured = measure(model)
    assert list(found) == ["LiteRT int8", "LiteRT float32", "LiteRT rebuilt", "OpenCV dnn"]
    assert [(row.what, row.why, row.failed) for row in unmeasured] == [
        (f"tiny: {name}", reason, False)
        for name in ("ONNX Runtime float32", "ONNX Runtime int8", "ONNX Runtime uint8", "Keras predict")
    ]


def test_of_a_tflite_alone_only_its_own_runtime_is_compared(tiny_model: BuiltModel, tmp_path: Path) -> None:
    shutil.copy(tiny_model.folder / "crops.npy", tmp_path)
    found, unmeasured = measure(
        dataclasses.replace(tiny_model, folder=tmp_path, files={"int8": tiny_model.files["int8"]})
    )
    assert list(found) == ["LiteRT int8", "LiteRT rebuilt"]
    assert {row.what.removeprefix("tiny: ") for row in unmeasured} == set(ALL) - set(found)
    assert not any(row.failed for row in unmeasured)


@pytest.mark.parametrize("spoilt", [None, b"", b"no array"])
def test_crops_that_cannot_be_read_are_named(model: BuiltModel, spoilt: bytes | None) -> None:
    (model.folder / "crops.npy").unlink()
    if spoilt is not None:
        (model.folder / "crops.npy").write_bytes(spoilt)
    found, (row,) = measure(model)
    assert found == {}
    assert row.failed
    assert "crops.npy: cannot be read" in row.why


@pytest.mark.usefixtures("keras_left_out")
def test_without_our_answers_nothing_is_timed(model: BuiltModel, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(model.files["float32"].read_bytes()[:-100])
    found, unmeasured = measure(dataclasses.replace(model, files=model.files | {"float32": damaged}))
    assert set(found) == {"LiteRT int8", "LiteRT rebuilt"}
    assert any(row.failed and "answers of our float32" in row.what for row in unmeasured)
    assert any("OpenCV dnn" in row.what and "no answers of our float32" in row.why for row in unmeasured)


def test_a_peer_that_fails_while_it_is_timed_is_a_failure_of_this_section(
    model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_timed(contenders: Sequence[Contender], *_: object) -> tuple[list[Latency], list[Unmeasured]]:
        return [], [Unmeasured("latency", str(one), "it ended", True) for one in contenders]

    logits = np.eye(4, dtype=np.float32)[np.arange(len(model.crops())) % 4]
    monkeypatch.setattr(peers, "answers", lambda *_: logits)
    monkeypatch.setattr(peers, "time_contenders", none_timed)
    found, unmeasured = measure(model)
    assert found == {}
    assert len(unmeasured) == len(ALL)
    assert {(row.section, row.failed) for row in unmeasured} == {("peers", True)}


@pytest.mark.parametrize(("changed", "right"), [(1, True), (2, False)])
def test_another_quantisation_may_name_two_per_cent_of_cells_otherwise(
    model: BuiltModel, monkeypatch: pytest.MonkeyPatch, changed: int, right: bool
) -> None:
    ours = np.tile(np.array([5, 0, 0, 0], np.float32), (50, 1))
    theirs = ours.copy()
    theirs[:changed] = [0, 5, 0, 0]
    timed: list[Contender] = []

    def answers(contender: Contender, _: np.ndarray) -> np.ndarray:
        return theirs if contender.runtime == "onnxruntime" else ours

    def time_contenders(
        contenders: Sequence[Contender], *_: object
    ) -> tuple[list[Latency], list[Unmeasured]]:
        timed.extend(contenders)
        return [], []

    monkeypatch.setattr(peers, "answers", answers)
    monkeypatch.setattr(peers, "time_contenders", time_contenders)
    measure(model)
    variants = {one.variant for one in timed if one.runtime == "onnxruntime"}
    # In float the same weights must give the same classes.
    assert variants == ({"int8", "uint8"} if right else set())


def test_peers_are_timed_on_one_thread_and_on_as_many_as_the_device_takes(
    model: BuiltModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Contender] = []

    def refuse(contender: Contender, _: np.ndarray) -> np.ndarray:
        asked.append(contender)
        raise HematoVisionError("not now")

    monkeypatch.setattr(peers, "answers", refuse)
    monkeypatch.setattr(peers, "cores", lambda: 2)
    monkeypatch.setattr(peers, "default_threads", lambda: 4)
    found, unmeasured = measure_peers(model, 3, 1.0, lambda _: None)
    assert found == []
    assert {one.threads for one in asked} == {1}  # our own answers, without which nobody else is asked
    assert {row.what.partition(", ")[2] for row in unmeasured if "thread" in row.what} == {
        "1 thread",
        "2 threads",
    }
