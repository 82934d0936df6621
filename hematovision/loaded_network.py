"""A network in its interpreter, and what a classifier's and a finder's have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hematovision.errors import ModelFileError
from hematovision.first_load import load_tried
from hematovision.model_file import FinderFile, ModelFile
from hematovision.runtime import LoadedModel

#: Scale and zero point of an int8 input: value + 128 is the picture's.
INT8_INPUT = 1.0, -128

_TOP_BIT = np.uint8(0x80)


def load_network(model: ModelFile | FinderFile, runtime: str, threads: int | None) -> LoadedModel:
    """Load a model as `load_tried` does; where that fails the message names the file.

    Raises:
        ModelFileError, MissingPartError, SettingError: as `load_tried`.
    """
    try:
        return load_tried(model, runtime, threads)
    except ModelFileError as error:
        stated = ", ".join(model.manifest.runtimes) or "no runtime"
        raise ModelFileError(
            f"{model.path}: {error}; its manifest states that it runs on {stated}"
        ) from error


def only_tensor(
    model: ModelFile | FinderFile,
    role: str,
    details: Sequence[dict[str, Any]],
    shape: tuple[int, ...],
    types: tuple[str, ...],
) -> dict[str, Any]:
    """Return the only input or output of a network.

    Raises:
        ModelFileError: there are others, or it has another shape, another type, or no scale that is usable.
    """
    found = [(tuple(map(int, one["shape"])), np.dtype(one["dtype"]).name) for one in details]
    if found not in [[(shape, name)] for name in types]:
        seen = " and ".join(f"{of_shape} {name}" for of_shape, name in found)
        raise ModelFileError(
            f"{model.path}: its {role} is {seen}, not {shape} {' or '.join(types)}; "
            "convert the model again with hematovision convert"
        )
    tensor = details[0]
    if tensor["dtype"] is np.int8:
        quantization = tensor["quantization"]
        if role == "input" and quantization != INT8_INPUT:
            raise ModelFileError(
                f"{model.path}: its int8 input has scale and zero point {quantization}, not {INT8_INPUT}; "
                "convert the model again with hematovision convert"
            )
        if not quantization[0] > 0:
            raise ModelFileError(
                f"{model.path}: its int8 {role} has no scale; "
                "convert the model again with hematovision convert"
            )
    return tensor


def flip_top_bit(values: NDArray[np.uint8], out: NDArray[np.int8]) -> None:
    """Write a picture, uint8, into an int8 input of the same shape: each value less 128."""
    np.bitwise_xor(values, _TOP_BIT, out=out.view(np.uint8))
