"""Fit: balanced batches, a run that resumes where it stopped, and one that refuses to become another."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.errors import DataSetError, ModelFileError, SettingError
from train.cells import OTHER, CellSet
from train.datasets import LabelledImage
from train.drawn import DRAWN_COLLECTION
from train.fit import BalancedBatches, FitSettings, fit, predict_logits, sampling_weights, soft_targets
from train.network import build_network, load_network

SETTINGS = FitSettings(epochs=2, crops_per_epoch=8, batch=4, crop=CropSize(20.0, 32))


def cells(counts: dict[tuple[str, int], int], side: int) -> CellSet:
    """Grey crops: so many of each collection and label."""
    images, labels = [], []
    for (collection, label), count in counts.items():
        name = CLASS_NAMES[label] if label != OTHER else "platelet"
        for number in range(count):
            images.append(LabelledImage(Path("x.jpg"), name, f"{collection}/{name}{number}", "train"))
            labels.append(label)
    crops = np.full((len(labels), side, side, 3), 200, np.uint8)
    return CellSet(tuple(images), crops, np.array(labels, np.int64), np.ones(len(labels), bool))


def few_cells(side: int) -> CellSet:
    return cells({("lab", label): 2 for label in (*range(4), OTHER)}, side)


def test_classes_are_drawn_alike_and_small_collections_raised() -> None:
    counts = {("large", 0): 400, ("small", 0): 4, ("large", 1): 50, ("large", 2): 20, ("small", 3): 5}
    training = cells({**counts, ("large", OTHER): 30}, 1)
    weights = sampling_weights(training)
    for label in range(4):
        assert weights[training.labels == label].sum() == pytest.approx(0.9 / 4)
    assert weights[training.labels == OTHER].sum() == pytest.approx(0.1)
    small = np.array([image.original.startswith("small") for image in training.images])
    share = weights[small & (training.labels == 0)].sum() / weights[training.labels == 0].sum()
    assert share == pytest.approx(2 / (2 + 20))  # as the square roots of 4 and 400


def test_drawn_cells_are_one_in_ten_of_each_class_however_many_there_are() -> None:
    for count in (1, 500):
        counts = {(collection, label): 20 for collection in ("lab", "other") for label in range(4)}
        training = cells({**counts, **{(DRAWN_COLLECTION, label): count for label in range(4)}}, 1)
        weights = sampling_weights(training)
        drawn = np.array([image.collection == DRAWN_COLLECTION for image in training.images])
        for label in range(4):
            of_label = training.labels == label
            assert weights[of_label].sum() == pytest.approx(1 / 4)
            assert weights[of_label & drawn].sum() == pytest.approx(0.1 / 4)


def test_drawn_cells_are_no_substitute_for_real_ones() -> None:
    counts = {("lab", label): 1 for label in (0, 1, 3)} | {(DRAWN_COLLECTION, 2): 9}
    with pytest.raises(DataSetError, match="monocyte"):
        sampling_weights(cells(counts, 1))


def test_a_class_without_cells_is_refused() -> None:
    with pytest.raises(DataSetError, match="monocyte"):
        sampling_weights(cells({("lab", label): 1 for label in (0, 1, 3)}, 1))


def test_targets_are_nearly_sure_of_a_class_and_undecided_for_none() -> None:
    targets = soft_targets(np.array([2, OTHER]))
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert targets[0].argmax() == 2
    assert targets[0].max() > 0.9
    np.testing.assert_allclose(targets[1], 0.25)


def test_a_batch_depends_on_seed_epoch_and_number_alone() -> None:
    training = few_cells(SETTINGS.patch.side_px)
    crops, targets = BalancedBatches(training, SETTINGS, epoch=1)[1]
    again, _ = BalancedBatches(training, SETTINGS, epoch=1)[1]
    other, _ = BalancedBatches(training, SETTINGS, epoch=0)[1]
    assert crops.shape == (4, 32, 32, 3)
    assert targets.shape == (4, 4)
    np.testing.assert_array_equal(crops, again)
    assert (crops != other).any()


def run(
    folder: Path, weights: Path, settings: FitSettings = SETTINGS, stop_after: int | None = None
) -> list[int]:
    """Fit and return the epochs that were done; ``stop_after`` interrupts as Ctrl-C would."""
    done: list[int] = []

    def on_step(step: int, total: int, loss: float) -> None:
        assert np.isfinite(loss)
        if stop_after is not None and step > stop_after * 2:
            raise KeyboardInterrupt

    training, development = few_cells(settings.patch.side_px), few_cells(32)
    fit(
        training,
        development,
        settings,
        weights,
        {"weights": str(weights)},
        folder,
        on_step,
        lambda result: done.append(result.epoch),
    )
    return done


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_another_is_refused(tmp_path: Path, backbone_weights: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", backbone_weights, stop_after=1)
    assert [entry["epoch"] for entry in json.loads((tmp_path / "run/history.json").read_text())] == [1]
    assert run(tmp_path / "run", backbone_weights) == [2]
    assert run(tmp_path / "run", backbone_weights) == []  # it is complete
    with pytest.raises(SettingError, match="another seed"):
        run(tmp_path / "run", backbone_weights, dataclasses.replace(SETTINGS, seed=9))
    state = tmp_path / "run/state.keras"
    whole = state.read_bytes()
    state.write_bytes(whole[:-30000] + bytes([whole[-30000] ^ 1]) + whole[-29999:])
    with pytest.raises(ModelFileError, match=r"state\.keras"):
        run(tmp_path / "run", backbone_weights)
    state.write_bytes(whole)
    (tmp_path / "run/settings.json").write_text("[]")
    with pytest.raises(SettingError, match="holds a run with another"):
        run(tmp_path / "run", backbone_weights)
    (tmp_path / "run/settings.json").unlink()
    (tmp_path / "run/history.json").write_text("[{")
    with pytest.raises(SettingError, match=r"history\.json: damaged"):
        run(tmp_path / "run", backbone_weights)


def test_the_network_takes_crops_as_they_are_and_gives_four_logits(
    backbone_weights: Path, tmp_path: Path
) -> None:
    network = build_network(32, backbone_weights)
    crops = np.stack([np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)])
    logits = predict_logits(network, crops)
    assert logits.shape == (2, 4)
    assert np.abs(logits[0] - logits[1]).max() > 0
    assert predict_logits(network, crops[:0]).shape == (0, 4)
    with pytest.raises(ModelFileError, match="takes crops of"):
        predict_logits(network, crops[:, :16])
    network.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        predict_logits(load_network(tmp_path / "model.keras"), crops), logits, atol=1e-5
    )
    data = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"cut\.keras"):
        load_network(tmp_path / "cut.keras")


def test_a_model_made_before_is_gone_on_from(tmp_path: Path, backbone_weights: Path) -> None:
    first = build_network(32, backbone_weights)
    first.save(tmp_path / "first.keras")
    second = build_network(32, tmp_path / "first.keras")
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [layer.trainable for layer in first._flatten_layers()] == [
        layer.trainable for layer in second._flatten_layers()
    ]
    with pytest.raises(ModelFileError, match="--crop-px"):
        build_network(64, tmp_path / "first.keras")


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.weights.h5").write_text("not weights")
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        build_network(32, tmp_path / "w.weights.h5")


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"learning_rate": 0.0}, {"crop": CropSize(20.0, 100)}, {"crop": CropSize(1.0, 128)}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(SettingError):
        dataclasses.replace(SETTINGS, **wrong)
