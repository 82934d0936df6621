"""The files that the device's tests run are what their script makes."""

from typing import Any

import numpy as np
import pytest

from hematovision.errors import ModelFileError
from hematovision.runtime import load_interpreter
from tests.tiny_models.make import VARIANTS, convert
from tests.tiny_models.network import FOLDER, SIDE, flatbuffer

CROPS = np.random.default_rng(1).integers(0, 256, (20, 1, SIDE, SIDE, 3), np.uint8)


def run(network: bytes) -> tuple[list[Any], np.ndarray]:
    """Types, shapes, scales and zero points of input and output, and the output for each of the crops."""
    interpreter = load_interpreter(network, threads=1).interpreter
    (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()
    outputs = []
    for crop in CROPS:
        levels = crop ^ 128 if given["dtype"] is np.int8 else crop
        value = levels.view(np.int8) if given["dtype"] is np.int8 else levels.astype(given["dtype"])
        interpreter.set_tensor(given["index"], value)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(got["index"]))
    contract = [(one["dtype"], tuple(one["shape"]), one["quantization"]) for one in (given, got)]
    return contract, np.concatenate(outputs)


def test_every_file_is_made_by_the_script() -> None:
    assert {path.stem for path in FOLDER.glob("*.tflite")} == set(VARIANTS)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "float32-unrunnable"])
def test_a_file_computes_what_the_script_makes_of_it_now(name: str) -> None:
    (contract, outputs), (contract_now, outputs_now) = run(flatbuffer(name)), run(convert(**VARIANTS[name]))
    for one, now in zip(contract, contract_now, strict=True):
        assert one[:2] == now[:2]
        np.testing.assert_allclose(one[2], now[2], rtol=1e-5)
    # Another converter may round by one level of the output's type, or in the last places of a float.
    tolerance = 1e-4 if outputs.dtype == np.float32 else 1
    np.testing.assert_allclose(outputs.astype(float), outputs_now.astype(float), atol=tolerance)


def test_the_network_that_no_device_can_run_is_still_one() -> None:
    for network in (flatbuffer("float32-unrunnable"), convert(**VARIANTS["float32-unrunnable"])):
        with pytest.raises(ModelFileError, match="BesselJ0"):
            load_interpreter(network)
