"""From crops to calibrated predictions, with one interpreter for the life of the classifier."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import ImageError, ModelFileError
from hematovision.loaded_network import flip_top_bit, load_network, only_tensor
from hematovision.model_file import ModelFile, shipped_model
from hematovision.runtime import AUTO, LoadedModel

_TYPES = ("int8", "float32")
_DEFAULT_MODEL = "hematovision-int8.tflite"


@dataclass(frozen=True)
class Prediction:
    """What the network says of one cell.

    ``probabilities``: calibrated, one per class in the order of `CLASS_NAMES`. ``class_name``: the class with
    the largest, or `UNCLASSIFIED`, and then ``declined_because`` says why.
    """

    probabilities: tuple[float, ...]
    class_name: str
    declined_because: str | None = None

    @property
    def probability(self) -> float:
        """The largest probability, also where the classifier declined."""
        return max(self.probabilities)


class Classifier:
    """A model ready to name cells. It belongs to one thread, as its interpreter does."""

    def __init__(
        self,
        model: ModelFile,
        runtime: str = AUTO,
        threads: int | None = None,
        loaded: LoadedModel | None = None,
    ) -> None:
        """Load a model and check that it keeps the network's contract.

        Args:
            model: the model file, read and found whole.
            runtime: name of a runtime of `hematovision.runtime`, or ``auto``.
            threads: how many the interpreter computes with; as many as there are cores unless given.
            loaded: an interpreter that holds the model already, in place of one by ``runtime`` and
                ``threads``: any with the methods of ``tf.lite.Interpreter``.

        Raises:
            ModelFileError: the runtime cannot load the model, or its tensors are not the contract's.
            MissingPartError: the runtime is not installed.
            SettingError: no such runtime.
        """
        self.model = model
        self.loaded = loaded or load_network(model, runtime, threads)
        self._interpreter = self.loaded.interpreter
        side = model.manifest.crop.side_px
        self._crop_shape = (side, side, 3)
        sources, results = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        source = only_tensor(model, "input", sources, (1, side, side, 3), _TYPES)
        result = only_tensor(model, "output", results, (1, len(CLASS_NAMES)), _TYPES)
        self._is_int8 = source["dtype"] is np.int8
        self._output_scale, self._output_zero_point = 1.0, 0
        if result["dtype"] is np.int8:
            self._output_scale, self._output_zero_point = result["quantization"]
        # These give a view of the tensor on each call. None may be held while the interpreter runs.
        self._input = self._interpreter.tensor(source["index"])
        self._output = self._interpreter.tensor(result["index"])

    def predict(self, crops: NDArray[np.uint8]) -> list[Prediction]:
        """Name cells: (n, side, side, 3) uint8 RGB crops to n predictions. Raises as `logits` does."""
        manifest = self.model.manifest
        table = probabilities(self.logits(crops), manifest.temperature)
        return [decide(row, manifest.decline_below) for row in table]

    def logits(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on crops.

        Args:
            crops: (n, side, side, 3) uint8 RGB, as `hematovision.crops` cuts them to the manifest's size.

        Returns:
            (n, classes) float32, one logit per class in the order of `CLASS_NAMES`.

        Raises:
            ImageError: the crops have another shape, number of channels or type.
            ModelFileError: the runtime fails, or an output is not a finite number.
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != self._crop_shape:
            side = self._crop_shape[0]
            raise ImageError(
                f"crops must be (n, {side}, {side}, 3) uint8 RGB for this model, "
                f"these are {crops.shape} {crops.dtype}"
            )
        logits = np.empty((len(crops), len(CLASS_NAMES)), np.float32)
        for crop, row in zip(crops, logits, strict=True):
            if self._is_int8:
                flip_top_bit(crop, self._input()[0])
            else:
                np.copyto(self._input()[0], crop)
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise ModelFileError(
                    f"{self.model.path}: {self.loaded.runtime} fails on it ({error})"
                ) from error
            row[:] = (self._output()[0].astype(np.float32) - self._output_zero_point) * self._output_scale
        if not np.isfinite(logits).all():
            raise ModelFileError(
                f"{self.model.path}: its output is not a finite number; train or convert the model again"
            )
        return logits


def default_model_path() -> Path:
    """The model that comes with this program.

    Raises:
        ModelFileError: it is not there.
    """
    return shipped_model(_DEFAULT_MODEL, "the model", "--model")


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Calibrated probabilities: softmax of logits over temperature (Guo et al. 2017), (n, classes)."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def decide(row: NDArray[np.float64], decline_below: float) -> Prediction:
    """Name one cell by its calibrated probabilities, (classes,), or decline to."""
    best = int(row.argmax())
    values = tuple(float(value) for value in row)
    if row[best] < decline_below:
        reason = f"{CLASS_NAMES[best]} is likeliest at {row[best]:.2f}, below {decline_below:.2f}"
        return Prediction(values, UNCLASSIFIED, reason)
    return Prediction(values, CLASS_NAMES[best])
