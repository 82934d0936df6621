"""Fine-tuning: training cells in, a network and its history out; resumable."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.errors import DataSetError, ModelFileError, SettingError
from train.augment import PATCH_MARGIN, augment
from train.cells import OTHER, CellSet
from train.checkpoint import Checkpoint
from train.drawn import DRAWN_COLLECTION
from train.learning import compile_network, made_ahead
from train.network import build_network, load_network

#: One crop in ten is of no class (basophil, immature, platelet …) and teaches the network to be unsure.
OTHER_SHARE = 0.1
#: Where drawn cells are learnt from too, one crop in ten of each class: enough for what is so uniform.
DRAWN_SHARE = 0.1
LABEL_SMOOTHING = 0.05
WEIGHT_DECAY = 0.01
#: How strongly a small collection is raised beside a large one: 0 as large as it is, 1 all alike.
COLLECTION_BALANCE = 0.5


@dataclass(frozen=True)
class FitSettings:
    """What a training run is; kept beside its state, so that only the same run is resumed."""

    epochs: int = 30
    crops_per_epoch: int = 3200
    batch: int = 32
    learning_rate: float = 4e-4
    seed: int = 1
    crop: CropSize = field(default_factory=lambda: CropSize(20.0, 128))
    drawn_per_class: int = 0

    def __post_init__(self) -> None:
        right = {
            "epochs": self.epochs >= 1,
            "batch": 1 <= self.batch <= self.crops_per_epoch,
            "learning rate": 0 < self.learning_rate <= 1,
            "crop side in pixels": self.crop.side_px % 32 == 0 and 32 <= self.crop.side_px <= 512,
            "crop side in µm": 5 <= self.crop.side_um <= 100,
            "drawn cells of each class": 0 <= self.drawn_per_class <= 10_000,
        }
        wrong = [name for name, value in right.items() if not value]
        if wrong:
            raise SettingError(f"{', '.join(wrong)}: cannot be; see hematovision train fit --help")

    @property
    def patch(self) -> CropSize:
        """What is read from training images: the crop and a margin for turning and shifting it."""
        return CropSize(self.crop.side_um * PATCH_MARGIN, round(self.crop.side_px * PATCH_MARGIN))


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave: training loss, and loss and accuracy (four classes) on the development cells."""

    epoch: int
    loss: float
    development_loss: float
    development_accuracy: float
    development_balanced_accuracy: float
    seconds: float


StepProgress = Callable[[int, int, float], None]
EpochDone = Callable[[EpochResult], None]


class BalancedBatches:
    """Batches of augmented crops in which every class is as frequent as any other.

    Batch ``i`` of epoch ``e`` depends on seed, e and i alone: a resumed run sees what it would have seen.
    """

    def __init__(self, cells: CellSet, settings: FitSettings, epoch: int) -> None:
        self._cells = cells
        self._settings = settings
        self._epoch = epoch
        self._weights = sampling_weights(cells)

    def __len__(self) -> int:
        return self._settings.crops_per_epoch // self._settings.batch

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng((self._settings.seed, self._epoch, index))
        chosen = rng.choice(len(self._cells), self._settings.batch, p=self._weights)
        side = self._settings.crop.side_px
        crops = np.stack([augment(self._cells.crops[cell], side, rng) for cell in chosen])
        return crops.astype(np.float32), soft_targets(self._cells.labels[chosen])


def sampling_weights(cells: CellSet) -> NDArray[np.float64]:
    """Chance of each cell (n,) to be chosen: classes alike, small collections raised, few of no class.

    Raises:
        DataSetError: a class has no training cell but drawn ones.
    """
    drawn = np.array([image.collection == DRAWN_COLLECTION for image in cells.images], bool)
    absent = [name for label, name in enumerate(CLASS_NAMES) if not (cells.labels[~drawn] == label).any()]
    if absent:
        raise DataSetError(f"no training cell of {', '.join(absent)}; add images of every class")
    strata: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, image in enumerate(cells.images):
        strata[(int(cells.labels[index]), image.collection)].append(index)
    weights = np.zeros(len(cells))
    for members in strata.values():
        weights[members] = len(members) ** -COLLECTION_BALANCE
    other_share = OTHER_SHARE if (cells.labels == OTHER).any() else 0.0
    for label in (OTHER, *range(len(CLASS_NAMES))):
        of_label = cells.labels == label
        share = other_share if label == OTHER else (1 - other_share) / len(CLASS_NAMES)
        drawn_share = DRAWN_SHARE if (of_label & drawn).any() else 0.0
        for part, part_share in ((of_label & ~drawn, 1 - drawn_share), (of_label & drawn, drawn_share)):
            if part.any():
                weights[part] *= share * part_share / weights[part].sum()
    return weights / weights.sum()


def soft_targets(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the network should answer (n, 4): nearly sure of a class, and undecided for a cell of none.

    Hendrycks et al., Deep anomaly detection with outlier exposure, ICLR 2019.
    """
    count = len(CLASS_NAMES)
    targets = np.full((len(labels), count), 1 / count, np.float32)
    known = np.flatnonzero(labels != OTHER)
    targets[known] = LABEL_SMOOTHING / count
    targets[known, labels[known]] += 1 - LABEL_SMOOTHING
    return targets


def fit(
    training: CellSet,
    development: CellSet,
    settings: FitSettings,
    weights: str | Path,
    identity: Mapping[str, Any],
    folder: Path,
    on_step: StepProgress,
    on_epoch: EpochDone,
) -> tuple[keras.Model, list[EpochResult]]:
    """Fine-tune, or go on with a run that was interrupted; at most one epoch's work is lost by that.

    Args:
        training: patches of `FitSettings.patch`.
        development: crops of `FitSettings.crop`; watched, never learnt from.
        settings: of the run.
        weights: to start from; see `build_network`.
        identity: what else makes this run and no other, as JSON: its data, the hash of its weights.
        folder: where the run keeps its state.
        on_step: called after each batch with steps done, steps in all, and the loss.
        on_epoch: called after each epoch.

    Raises:
        SettingError: the folder holds another run.
        ModelFileError: weights or state cannot be loaded.
    """
    checkpoint = Checkpoint(folder, {**dataclasses.asdict(settings), **identity}, EpochResult)
    keras.utils.set_random_seed(settings.seed)
    steps = settings.crops_per_epoch // settings.batch
    history = checkpoint.read_history()
    if history:
        network = load_network(checkpoint.state, with_optimizer=True)
    else:
        network = build_network(settings.crop.side_px, weights)
        loss_function = keras.losses.CategoricalCrossentropy(from_logits=True)
        compile_network(network, loss_function, settings.learning_rate, WEIGHT_DECAY, steps, settings.epochs)
    for epoch in range(len(history), settings.epochs):
        started = time.monotonic()
        batches = BalancedBatches(training, settings, epoch)
        loss = _learn(network, batches, epoch * steps, settings.epochs * steps, on_step)
        result = _look(network, development, epoch + 1, loss, started)
        history.append(result)
        checkpoint.save(network, history)
        on_epoch(result)
    # Without the optimiser, whose state is twice the size of the network.
    return load_network(checkpoint.state), history


def predict_logits(network: keras.Model, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, 4) float32 of crops (n, side, side, 3) uint8.

    Raises:
        ModelFileError: the network takes crops of another size.
    """
    if crops.shape[1:] != network.input_shape[1:]:
        raise ModelFileError(
            f"the network takes crops of {network.input_shape[1:]}, these are {crops.shape[1:]}"
        )
    logits = [
        network.predict_on_batch(crops[start : start + 64].astype(np.float32))
        for start in range(0, len(crops), 64)
    ]
    return np.concatenate(logits) if logits else np.zeros((0, len(CLASS_NAMES)), np.float32)


def _learn(
    network: keras.Model, batches: BalancedBatches, before: int, total: int, on_step: StepProgress
) -> float:
    """Train one epoch, after so many steps out of so many in all; return its mean loss."""
    network.reset_metrics()
    loss = float("nan")
    for step, (crops, targets) in enumerate(made_ahead(batches.__getitem__, len(batches))):
        loss = float(network.train_on_batch(crops, targets, return_dict=True)["loss"])
        on_step(before + step + 1, total, loss)
    return loss


def _look(network: keras.Model, development: CellSet, epoch: int, loss: float, started: float) -> EpochResult:
    known = development.in_classes
    labels = development.labels[known]
    logits = predict_logits(network, development.crops[known])
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return EpochResult(
        epoch,
        loss,
        float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        float(right.mean()),
        float(np.mean(recalls)),
        time.monotonic() - started,
    )
