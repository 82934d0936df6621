"""The train commands: each mistake one line, with what to do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hematovision.classifier import default_model_path
from hematovision.cli import root
from hematovision.crops import CropSize
from hematovision.errors import ModelFileError
from hematovision.model_file import Manifest, write_keras_manifest


def hematovision(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, list(map(str, arguments)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("neutrophil", "eosinophil", "monocyte", "lymphocyte"):
        (tmp_path / "lab" / label).mkdir(parents=True)
        (tmp_path / "lab" / label / "1.jpg").write_bytes(b"no image")
    return tmp_path / "lab"


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (["nowhere"], 1, "nowhere: no such folder"),
        (["{folder}@0.1", "--weights", "none.h5"], 2, "none.h5: no such file"),
        (["{folder}@0"], 2, "µm per pixel is 0"),
        (["{folder}@0.1", "--epochs", "0"], 2, "epochs: cannot be"),
        (["{folder}@0.1", "--seed", "-1"], 2, "--seed"),
        (["{folder}@0.1", "{folder}@0.1"], 1, "2 of the data sets are called lab"),
        (["{folder}@0.1", "--crop-px", "100"], 2, "crop side in pixels: cannot be"),
        (["{folder}"], 1, "red cells"),
        ([], 2, "Missing argument"),
    ],
)
def test_fit_says_what_is_wrong(folder: Path, options: list[str], status: int, complaint: str) -> None:
    arguments = [option.format(folder=folder) for option in options]
    result = hematovision("train", "fit", *arguments, "--out", folder.parent / "run")
    assert result.exit_code == status
    assert complaint in result.output
    assert isinstance(result.exception, SystemExit)


def test_fit_does_not_go_on_from_a_model_that_has_learnt_what_it_would_choose_on(folder: Path) -> None:
    model = folder.parent / "model.keras"
    model.write_bytes(b"one model")
    write_keras_manifest(
        model, Manifest(CropSize(20.0, 32), 1.0, 0.5, training={"development_sha256": "another"})
    )
    arguments = ("train", "fit", f"{folder}@0.1", "--out", folder.parent / "run", "--weights", model)
    result = hematovision(*arguments)
    assert result.exit_code == 2
    assert "was trained with another development side" in result.output


def test_evaluate_refuses_a_keras_file_that_its_manifest_was_not_written_for(folder: Path) -> None:
    model = folder.parent / "model.keras"
    model.write_bytes(b"one model")
    write_keras_manifest(model, Manifest(CropSize(20.0, 32), 1.0, 0.5))
    model.write_bytes(b"another model")
    result = hematovision("train", "evaluate", model, f"{folder}@0.1")
    assert result.exit_code == 1
    assert "not the model that model.manifest.json was written for" in result.output


def test_evaluate_refuses_a_keras_file_that_is_none(folder: Path) -> None:
    model = folder.parent / "model.keras"
    model.write_bytes(b"one model")
    write_keras_manifest(model, Manifest(CropSize(20.0, 32), 1.0, 0.5))
    result = hematovision("train", "evaluate", model, f"{folder}@0.1")
    assert result.exit_code == 1
    assert "not a Keras model" in result.output


def test_evaluate_refuses_the_same_data_set_twice(folder: Path) -> None:
    model = folder.parent / "model.keras"
    model.touch()
    result = hematovision("train", "evaluate", model, f"{folder}@0.1", f"{folder}@0.1")
    assert result.exit_code == 1
    assert "2 of the data sets are called lab" in result.output


def test_only_what_was_not_learnt_from_is_recorded_as_accuracy(folder: Path) -> None:
    model = folder.parent / "model.keras"
    model.touch()
    result = hematovision("train", "evaluate", model, f"{folder}@0.1", "--side", "train", "--write")
    assert result.exit_code == 2
    assert "--write with --side train" in result.output


def test_evaluate_refuses_a_missing_model(folder: Path) -> None:
    result = hematovision("train", "evaluate", folder / "none.keras", f"{folder}@0.1")
    assert result.exit_code == 2
    assert "none.keras" in result.output


def test_a_download_without_a_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import kagglehub

    def unreachable(handle: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(kagglehub, "dataset_download", unreachable)
    result = hematovision("train", "download", "kaggle")
    assert result.exit_code == 1
    assert "cannot be fetched from Kaggle (no route to host); check the network" in result.output


def test_a_downloaded_collection_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import kagglehub

    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: str(tmp_path / handle))
    result = hematovision("train", "download", "kaggle")
    assert result.exit_code == 0
    assert result.output.strip() == str(tmp_path / "paultimothymooney/blood-cells")


def test_what_was_compared_before_is_not_compared_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the search for shared cells, a run goes on from what it found."""
    run = folder.parent / "run"
    first = hematovision("train", "fit", f"{folder}@0.1", "--out", run, "--weights", __file__)
    assert first.exit_code == 1  # no readable image
    assert set(json.loads((run / "shared_cells.json").read_text())) == {"left_out", "kin", "compared"}
    monkeypatch.setattr("train.fit_command.find_duplicates", lambda *_: pytest.fail("searched again"))
    again = hematovision("train", "fit", f"{folder}@0.1", "--out", run, "--weights", __file__)
    assert again.output.splitlines()[-1] == first.output.splitlines()[-1]


def test_a_damaged_record_of_shared_cells_is_named(folder: Path) -> None:
    run = folder.parent / "run"
    run.mkdir()
    (run / "shared_cells.json").write_text("{")
    result = hematovision("train", "fit", f"{folder}@0.1", "--out", run, "--weights", __file__)
    assert result.exit_code == 2
    assert "shared_cells.json: damaged" in result.output


def test_imagenet_weights_that_cannot_be_fetched_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.network import build_network

    def unreachable(**_: object) -> None:
        raise Exception("URL fetch failure on https://…: None -- no route")

    monkeypatch.setattr("keras.applications.MobileNetV2", unreachable)
    with pytest.raises(ModelFileError, match=r"cannot be fetched \(URL fetch failure.*--weights"):
        build_network(32, "imagenet")


@pytest.mark.parametrize("command", ["fit", "evaluate", "audit"])
def test_labels_that_are_taken_for_no_class_are_said(folder: Path, command: str) -> None:
    for label, images in (("basophil", 2), ("Platelets", 1)):
        (folder / label).mkdir()
        for number in range(images):
            (folder / label / f"{number}.jpg").write_bytes(b"no image")
    (folder / "neutrophil" / "2.heic").touch()
    options = {"fit": ["--out", str(folder.parent / "run")], "evaluate": [], "audit": []}[command]
    model = [str(default_model_path())] if command == "evaluate" else []
    result = hematovision("train", command, *model, f"{folder}@0.1", *options)
    assert f"{folder}: taken for no class: basophil 2, platelet 1" in result.stderr
    assert "1 left out: .heic, not read" in result.output


@pytest.mark.parametrize("command", ["fit", "evaluate", "audit"])
def test_a_misspelt_class_is_never_taken_for_no_class(folder: Path, command: str) -> None:
    (folder / "neutrophil").rename(folder / "neutrofils")
    options = {"fit": ["--out", str(folder.parent / "run")], "evaluate": [], "audit": []}[command]
    model = [str(default_model_path())] if command == "evaluate" else []
    result = hematovision("train", command, *model, f"{folder}@0.1", *options)
    assert result.exit_code == 1
    assert "nearly a class, and so not taken for a cell of none: 'neutrofil' (neutrophil?)" in result.stderr
