"""Training the finder: fields with boxed cells in, a network out; resumable."""

import dataclasses
import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import DataSetError, ModelFileError, SettingError, reason_of
from train.checkpoint import Checkpoint
from train.finder.boxed_fields import BoxedField
from train.finder.drawn_fields import DRAWN_FIELDS, DRAWN_LABORATORY, draw_training_field
from train.finder.network import build_finder_network, heat_loss
from train.finder.tiles import TrainingField, make_tile, read_training_field
from train.learning import compile_network, made_ahead

WEIGHT_DECAY = 1e-3
#: How strongly a small laboratory is raised beside a large one: 0 as large as it is, 1 all alike.
LABORATORY_BALANCE = 0.8
#: A single-cell collection counts as so many fields at most: it says nothing of what lies around its cells.
MOST_SINGLE_CELLS = 600


@dataclass(frozen=True)
class FinderSettings:
    """What a training run of the finder is; kept beside its state, so that only the same run is resumed."""

    epochs: int = 24
    tiles_per_epoch: int = 2400
    batch: int = 16
    learning_rate: float = 3e-3
    seed: int = 1

    def __post_init__(self) -> None:
        right = {
            "epochs": self.epochs >= 1,
            "batch": 1 <= self.batch <= self.tiles_per_epoch,
            "learning rate": 0 < self.learning_rate <= 1,
            "seed": self.seed >= 0,
        }
        wrong = [name for name, value in right.items() if not value]
        if wrong:
            raise SettingError(f"{', '.join(wrong)}: cannot be; see hematovision train cross-validate --help")


@dataclass(frozen=True)
class FinderEpoch:
    """What one epoch of the finder gave."""

    epoch: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class FinderData:
    """Training fields read into memory, and the laboratory of each."""

    fields: tuple[TrainingField, ...]
    laboratories: tuple[str, ...]

    def without(self, laboratory: str | None) -> "FinderData":
        """Return the fields of all other laboratories."""
        kept = [place for place, name in enumerate(self.laboratories) if name != laboratory]
        return FinderData(
            tuple(self.fields[place] for place in kept), tuple(self.laboratories[place] for place in kept)
        )

    @property
    def weights(self) -> NDArray[np.float64]:
        """(n,) chances of each field to be chosen: small laboratories are raised beside large ones."""
        _, owner, counts = np.unique(self.laboratories, return_inverse=True, return_counts=True)
        weights = counts[owner].astype(float) ** -LABORATORY_BALANCE
        return weights / weights.sum()


def choose_training_fields(fields: Sequence[BoxedField], seed: int) -> list[BoxedField]:
    """Choose what is learnt from: nothing set aside, and of a single-cell collection a sample.

    Raises:
        DataSetError: nothing is left, or a collection is for looking only.
    """
    for field in fields:
        if field.looking_only:
            raise DataSetError(
                f"{field.laboratory}: for looking only, nothing may be learnt from it; leave it out "
                "(hematovision bench finder measures on it)"
            )
    rng = np.random.default_rng(seed)
    chosen: list[BoxedField] = []
    for laboratory in sorted({field.laboratory for field in fields}):
        own = [field for field in fields if field.laboratory == laboratory and not field.aside]
        if len(own) > MOST_SINGLE_CELLS:
            own = [own[place] for place in np.sort(rng.permutation(len(own))[:MOST_SINGLE_CELLS])]
        chosen += own
    if not chosen:
        raise DataSetError("all fields are set aside for reporting; give fields to learn from")
    return chosen


def read_finder_data(fields: Sequence[BoxedField], on_read: Callable[[int, int], None]) -> FinderData:
    """Read training fields into memory, at the finder's scale, and draw those of the drawn smear.

    Raises:
        ImageError: an image cannot be read.
    """
    read = []
    for done, field in enumerate(fields, 1):
        read.append(read_training_field(field))
        on_read(done, len(fields))
    laboratories = [field.laboratory for field in fields] + [DRAWN_LABORATORY] * DRAWN_FIELDS
    read += [draw_training_field(number) for number in range(DRAWN_FIELDS)]
    return FinderData(tuple(read), tuple(laboratories))


def fit_finder(
    data: FinderData,
    settings: FinderSettings,
    identity: Mapping[str, Any],
    folder: Path,
    on_step: Callable[[int, int, float], None],
    weights: Path | None = None,
) -> keras.Model:
    """Train, or go on with a run that was interrupted; at most one epoch's work is lost by that.

    Args:
        data: what is learnt from.
        settings: of the run.
        identity: what else makes this run and no other, as JSON.
        folder: where the run keeps its state.
        on_step: called after each batch with steps done, steps in all, and the loss.
        weights: a finder to begin with; without one learning begins anew.

    Raises:
        SettingError: the folder holds another run.
        ModelFileError: a finder or the state cannot be loaded, or training has diverged.
    """
    checkpoint = Checkpoint(folder, {**dataclasses.asdict(settings), **identity}, FinderEpoch)
    keras.utils.set_random_seed(settings.seed)
    steps = settings.tiles_per_epoch // settings.batch
    history = checkpoint.read_history()
    network = load_finder_network(checkpoint.state) if history else _begin(settings, steps, weights)
    for epoch in range(len(history), settings.epochs):
        started = time.monotonic()
        loss = _train_epoch(network, data, settings, epoch, on_step)
        history.append(FinderEpoch(epoch + 1, loss, time.monotonic() - started))
        checkpoint.save(network, history)
    return network


def load_finder_network(path: Path) -> keras.Model:
    """Load a finder's network, with its optimiser's state where the file has one.

    Raises:
        ModelFileError: it is missing, damaged, or not such a network.
    """
    try:
        network = keras.models.load_model(path, custom_objects={"heat_loss": heat_loss})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"{path}: not a finder's network that can be loaded ({reason_of(error)}); copy or train it again"
        ) from error
    if network.output_shape != (None, None, None, 1) or network.input_shape != (None, None, None, 3):
        raise ModelFileError(
            f"{path}: maps {network.input_shape} to {network.output_shape}, not fields to heat maps; give a "
            "model made by hematovision train fit-finder"
        )
    return network


def _begin(settings: FinderSettings, steps: int, weights: Path | None) -> keras.Model:
    network = build_finder_network()
    if weights is not None:
        network.set_weights(load_finder_network(weights).get_weights())
    compile_network(network, heat_loss, settings.learning_rate, WEIGHT_DECAY, steps, settings.epochs)
    return network


def _train_epoch(
    network: keras.Model,
    data: FinderData,
    settings: FinderSettings,
    epoch: int,
    on_step: Callable[[int, int, float], None],
) -> float:
    """Train one epoch on batches made ahead by threads; return its mean loss."""
    steps = settings.tiles_per_epoch // settings.batch
    weights = data.weights
    total = 0.0

    def make_batch(step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Of seed, epoch and step alone: a resumed run sees what it would have seen.
        rng = np.random.default_rng((settings.seed, epoch, step))
        chosen = rng.choice(len(data.fields), settings.batch, p=weights)
        tiles, targets = zip(*(make_tile(data.fields[place], rng) for place in chosen), strict=True)
        return np.stack(tiles).astype(np.float32), np.stack(targets)

    for step, (tiles, targets) in enumerate(made_ahead(make_batch, steps)):
        # Of this batch alone: Keras would return the mean since the metrics were last reset.
        network.reset_metrics()
        loss = float(network.train_on_batch(tiles, targets))
        if not math.isfinite(loss):
            raise ModelFileError(
                f"training has diverged: the loss is {loss} in epoch {epoch + 1}; lower the learning rate"
            )
        total += loss
        on_step(epoch * steps + step + 1, settings.epochs * steps, total / (step + 1))
    return total / steps
