"""The whole line on real images: a little training, conversion, classification by the converted file."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hematovision.cell_classes import CLASS_NAMES
from hematovision.model_file import read_model_file

CELLS_A_CLASS = 14


def hematovision(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does; fails the test with what it said if it fails."""
    command = [sys.executable, "-m", "hematovision", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.data
@pytest.mark.slow
def test_trained_converted_and_classifying(data_dir: Path, tmp_path: Path, backbone_weights: Path) -> None:
    pbc = data_dir / "pbc"
    table = tmp_path / "cells" / "labels.csv"
    table.parent.mkdir()
    images = {name: sorted((pbc / name).glob("*.jpg"))[:CELLS_A_CLASS] for name in CLASS_NAMES}
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        rows.writerows([path, name] for name, paths in images.items() for path in paths)
    data = f"{table}@0.104"
    run = tmp_path / "run"
    fit: list[str | Path] = [
        "train",
        "fit",
        data,
        "--out",
        run,
        "--weights",
        backbone_weights,
        "--epochs",
        "1",
        "--crops-per-epoch",
        "8",
    ]
    hematovision(*fit, "--batch", "4", "--crop-px", "32")
    written = {path.name for path in run.iterdir()}
    assert {"model.keras", "model.manifest.json", "report.md", "report.json"} <= written
    assert {"curves.png", "confusion.png"} <= written

    # Eight steps teach nothing, so quantisation may change any answer: the limits are not what is tested.
    converted: list[str | Path] = [
        "convert",
        run / "model.keras",
        "--data",
        data,
        "--recipe",
        "int8",
        "--out",
        tmp_path / "models",
    ]
    hematovision(*converted, "--min-agreement", "0", "--max-accuracy-lost", "100")
    model = tmp_path / "models" / "model-int8.tflite"
    manifest = read_model_file(model).manifest
    assert manifest.recipe == "int8"
    assert manifest.crop.side_px == 32
    assert manifest.training["data"][0]["name"] == "cells-labels"

    some = [paths[0] for paths in images.values()]
    result = hematovision(
        "classify", *some, "--model", model, "--um-per-pixel", "0.104", "--single", "--format", "jsonl"
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in some]
    for line in lines:
        (cell,) = line["cells"]
        assert cell["found"] is True
        assert set(cell["probabilities"]) == set(CLASS_NAMES)
        assert sum(cell["probabilities"].values()) == pytest.approx(1, abs=1e-3)

    unseen = tmp_path / "unseen" / "labels.csv"
    unseen.parent.mkdir()
    with unseen.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        rows.writerows([sorted((pbc / name).glob("*.jpg"))[-1], name] for name in CLASS_NAMES)
    for measured in (run / "model.keras", model):
        hematovision(
            "train", "evaluate", measured, f"{unseen}@0.104", "--write", "--json", tmp_path / "figures.json"
        )
        (figures,) = json.loads((tmp_path / "figures.json").read_text())
        assert figures["files"]["count"] == len(CLASS_NAMES)
    (recorded,) = read_model_file(model).manifest.accuracy["sets"]
    assert (recorded["name"], recorded["cells"]) == ("unseen-labels", len(CLASS_NAMES))
    refused = subprocess.run(
        [sys.executable, "-m", "hematovision", "train", "evaluate", model, data, "--write"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "the model was trained on it" in refused.stderr
