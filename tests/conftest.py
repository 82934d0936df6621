"""What tests share: where the real images are, and a tiny real network with the classifier that runs it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hematovision.classifier import Classifier
from hematovision.crops import CropSize
from hematovision.errors import MissingPartError
from hematovision.finder import Finder, load_finder
from hematovision.model_file import Manifest, read_model_file, write_model_file
from tests.tiny_models.network import SIDE, flatbuffer

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real images; the test is skipped, with the reason, where there are none."""
    folder = Path(os.environ.get("HEMATOVISION_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "kaggle-blood-cells").is_dir():
        pytest.skip(f"no real images at {folder}; set HEMATOVISION_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a device keeps its state if nothing else is said: a folder of the test's own."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where it is remembered which models load: the tests' own folder, so that each is tried once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def mosquitto_where_it_is_needed(request: pytest.FixtureRequest) -> None:
    """Tests marked so need the broker, and are skipped, with the reason, where there is none."""
    if request.node.get_closest_marker("mosquitto"):
        from benchmarks.faults.mosquitto import find_mosquitto

        try:
            find_mosquitto()
        except MissingPartError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def backbone_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights for the backbone: what is tested with them is the line, not a model."""
    import keras

    path = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None).save_weights(
        path
    )
    return path


@pytest.fixture(scope="session")
def int8_flatbuffer() -> bytes:
    return flatbuffer("int8")


@pytest.fixture(scope="session")
def float32_flatbuffer() -> bytes:
    return flatbuffer("float32")


@pytest.fixture(scope="session")
def unrunnable_flatbuffer() -> bytes:
    """A whole flatbuffer that the runtimes of a device cannot run."""
    return flatbuffer("float32-unrunnable")


ModelMaker = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> ModelMaker:
    """Writes a model file: its flatbuffer, then what its manifest says other than the tiny network's."""

    def make(flatbuffer: bytes, **changes: object) -> Path:
        content = {"crop": CropSize(20.0, SIDE), "temperature": 1.0, "decline_below": 0.6} | changes
        path = tmp_path / "tiny.tflite"
        write_model_file(path, flatbuffer, Manifest(**content))  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture
def model_path(make_model: ModelMaker, int8_flatbuffer: bytes) -> Path:
    return make_model(int8_flatbuffer, runtimes=("litert", "tflite-runtime"))


@pytest.fixture
def classifier(model_path: Path) -> Classifier:
    return Classifier(read_model_file(model_path))


@pytest.fixture
def finder() -> Finder:
    """The finder that comes with the program; of this test's thread."""
    return load_finder()
