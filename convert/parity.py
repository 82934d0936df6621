"""How far a variant strays from the Keras model that it came from, as the device would run it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hematovision.classifier import Classifier, probabilities
from hematovision.errors import ConversionError, SettingError
from hematovision.model_file import ModelFile
from train.confidence import fit_temperature

# So that 98 of 100 cells keep a limit of 98 % whatever the rounding of the division.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reference:
    """What the Keras model says of the development cells of the four classes.

    ``crops``: (n, side, side, 3) uint8 RGB; ``labels``: (n,) int64, places in `CLASS_NAMES`; ``logits``:
    (n, classes) float32; ``weights``: (n,) of the cells in fitting a temperature; ``temperature``: the Keras
    model's.
    """

    crops: NDArray[np.uint8]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    weights: NDArray[np.float64]
    temperature: float


@dataclass(frozen=True)
class Parity:
    """One variant on one runtime against the Keras model; shares are fractions, not per cent.

    ``agreement``: share of cells given the same class, the decline threshold left aside.
    ``largest_probability_difference``: over all cells and classes, each side with its own temperature.
    ``accuracy_lost``: Keras's accuracy less the variant's; negative where the variant does better.
    """

    runtime: str
    cells: int
    agreement: float
    largest_probability_difference: float
    keras_accuracy: float
    variant_accuracy: float
    accuracy_lost: float


@dataclass(frozen=True)
class Limits:
    """What a variant may differ by: agreement in per cent, accuracy lost in percentage points."""

    min_agreement: float = 98.0
    max_accuracy_lost: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (
            ("agreement", self.min_agreement),
            ("accuracy lost", self.max_accuracy_lost),
        ):
            if not 0 <= value <= 100:  # also refuses not-a-number
                raise SettingError(f"the limit of {name} is {value:g}; it must lie between 0 and 100")

    def check(self, parities: Sequence[Parity]) -> None:
        """Raise `ConversionError` where a variant is beyond the limits, on whichever runtime."""
        excess = []
        for parity in parities:
            agreement, lost = 100 * parity.agreement, 100 * parity.accuracy_lost
            if agreement < self.min_agreement - _ROUNDING:
                excess.append(
                    f"on {parity.runtime} it names {agreement:.2f} % of cells as Keras does "
                    f"(at least {self.min_agreement:g})"
                )
            if lost > self.max_accuracy_lost + _ROUNDING:
                excess.append(
                    f"on {parity.runtime} it loses {lost:.2f} points of accuracy "
                    f"(at most {self.max_accuracy_lost:g})"
                )
        if excess:
            raise ConversionError(
                f"beyond the limits: {', '.join(excess)}; choose another recipe, or give other limits"
            )


def measure_parity(
    model: ModelFile, runtimes: Sequence[str], reference: Reference
) -> tuple[float, tuple[Parity, ...]]:
    """Run a variant as the device does, on each of some runtimes, and compare it with the reference.

    Returns:
        the variant's own temperature, fitted on the first runtime's logits, and a `Parity` for each runtime.

    Raises:
        ModelFileError: a runtime cannot load or run the model, or its tensors are not the contract's.
    """
    outputs: dict[str, NDArray[np.float32]] = {}
    for runtime in runtimes:
        classifier = Classifier(model, runtime)
        outputs[f"{runtime} {classifier.loaded.version}"] = classifier.logits(reference.crops)
    temperature = fit_temperature(next(iter(outputs.values())), reference.labels, reference.weights)
    return temperature, tuple(
        _compare(runtime, logits, temperature, reference) for runtime, logits in outputs.items()
    )


def _compare(runtime: str, logits: NDArray[np.float32], temperature: float, reference: Reference) -> Parity:
    top, keras_top = logits.argmax(axis=1), reference.logits.argmax(axis=1)
    difference = probabilities(logits, temperature) - probabilities(reference.logits, reference.temperature)
    accuracy = float((top == reference.labels).mean())
    keras_accuracy = float((keras_top == reference.labels).mean())
    return Parity(
        runtime=runtime,
        cells=len(reference.labels),
        agreement=float((top == keras_top).mean()),
        largest_probability_difference=float(np.abs(difference).max()),
        keras_accuracy=keras_accuracy,
        variant_accuracy=accuracy,
        accuracy_lost=keras_accuracy - accuracy,
    )
