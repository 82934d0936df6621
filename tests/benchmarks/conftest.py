"""The tiny network of `tests.tiny_network` with its variants built, for whatever measures them."""

import dataclasses
from pathlib import Path

import keras
import pytest

from benchmarks import variants
from benchmarks.variants import VARIANT_NAMES, BuiltModel, open_models
from hematovision.model_file import write_keras_manifest
from tests.tiny_network import build_tiny_network, draw_cells, tiny_manifest
from train.cells import CellSet


@pytest.fixture(scope="session")
def training() -> CellSet:
    return draw_cells(60, seed=1)


@pytest.fixture(scope="session")
def development() -> CellSet:
    return draw_cells(25, seed=2)


@pytest.fixture(scope="session")
def tiny_network(training: CellSet) -> keras.Model:
    return build_tiny_network(training)


@pytest.fixture(scope="session")
def tiny_keras(tiny_network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``.keras`` file with its manifest beside it."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.keras"
    tiny_network.save(path)
    data = [{"name": "drawn", "um_per_pixel": 0.1}]
    write_keras_manifest(path, dataclasses.replace(tiny_manifest(), training={"data": data}))
    return path


@pytest.fixture
def tiny_cells(training: CellSet, development: CellSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building takes the drawn cells, whatever data are named."""
    monkeypatch.setattr(variants, "load_training_cells", lambda *_: (training, development))


@pytest.fixture(scope="session")
def tiny_model(
    tiny_keras: Path, training: CellSet, development: CellSet, tmp_path_factory: pytest.TempPathFactory
) -> BuiltModel:
    """The tiny network and all its variants."""
    folder = tmp_path_factory.mktemp("variants")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "load_training_cells", lambda *_: (training, development))
        (model,), unmeasured = open_models([tiny_keras], VARIANT_NAMES, ["drawn"], folder, lambda _: None)
    assert unmeasured == []
    return model
