"""The tiny network of `tests.tiny_network`, converted, and what conversion takes."""

from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from convert.calibration import Calibration, draw_calibration
from convert.export import save_model, take_reference, to_tflite
from convert.parity import Reference
from convert.recipes import RECIPES
from hematovision.model_file import Manifest, write_keras_manifest
from tests.tiny_network import build_tiny_network, draw_cells, tiny_manifest
from train.cells import CellSet


@pytest.fixture(scope="session")
def training() -> CellSet:
    return draw_cells(60, seed=1)


@pytest.fixture(scope="session")
def development() -> CellSet:
    return draw_cells(25, seed=2)


@pytest.fixture(scope="session")
def network(training: CellSet) -> keras.Model:
    return build_tiny_network(training)


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    return tiny_manifest()


@pytest.fixture(scope="session")
def saved_model(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_model")
    save_model(network, folder)
    return folder


@pytest.fixture(scope="session")
def calibration(training: CellSet) -> Calibration:
    return draw_calibration(training)


@pytest.fixture(scope="session")
def reference(network: keras.Model, development: CellSet, manifest: Manifest) -> Reference:
    return take_reference(network, development, manifest.temperature)


@pytest.fixture(scope="session")
def flatbuffers(saved_model: Path, calibration: Calibration) -> dict[str, bytes]:
    """The network converted by every recipe, once for all tests."""
    return {name: to_tflite(saved_model, recipe, calibration.crops) for name, recipe in RECIPES.items()}


@pytest.fixture
def keras_file(network: keras.Model, manifest: Manifest, tmp_path: Path) -> Path:
    """A ``.keras`` file with its manifest beside it."""
    path = tmp_path / "tiny.keras"
    network.save(path)
    write_keras_manifest(path, manifest)
    return path


@pytest.fixture(scope="session")
def cosine_model(training: CellSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with an operation that the int8 converter leaves in float, without a word."""
    folder = tmp_path_factory.mktemp("cosine_model")
    save_model(build_tiny_network(training, keras.ops.cos), folder)
    return folder


@pytest.fixture(scope="session")
def narrow_crops(calibration: Calibration) -> NDArray[np.uint8]:
    """Crops for calibration without a 0 or a 255 among their pixels."""
    return np.clip(calibration.crops, 20, 240)
