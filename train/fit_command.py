"""``hematovision train fit``: data sets in, a Keras model with its manifest and report out."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from hematovision.classifier import probabilities
from hematovision.crops import CropSize
from hematovision.errors import DataSetError, SettingError, reason_of
from hematovision.model_file import (
    Manifest,
    file_hash,
    read_keras_manifest,
    write_atomically,
    write_keras_manifest,
)
from hematovision.terminal.progress import Progress
from train.audit import CellComparison
from train.cells import CellSet, read_side, read_varied_training
from train.console import (
    DATA_HELP,
    say_unreadable,
    stderr,
    stdout,
    with_scale,
    write_json,
)
from train.datasets import DataSet, LabelledImage, read_dataset
from train.duplicates import find_duplicates
from train.evaluate import evaluate
from train.quiet import tensorflow_kept_quiet
from train.selection import Selection, require_names, select, shared_cells, training_side


@click.command(epilog=DATA_HELP)
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the run.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    help="'imagenet', fetched by Keras; a local file of such weights; or a .keras file to go on from.",
)
@click.option(
    "--apart",
    multiple=True,
    help="Data set whose cells are kept for testing: training originals that show one are left out. "
    "Test sides of DATA always are.",
)
@click.option("--epochs", default=30, show_default=True, help="How often --crops-per-epoch are learnt from.")
@click.option("--crops-per-epoch", default=3200, show_default=True, help="Drawn anew for each epoch.")
@click.option("--batch", default=32, show_default=True, help="Crops a step.")
@click.option("--learning-rate", default=4e-4, show_default=True, help="Highest; it falls to 0 as a cosine.")
@click.option("--crop-um", default=20.0, show_default=True, help="Side of a crop on the slide.")
@click.option("--crop-px", default=128, show_default=True, help="Side of a crop in pixels, a multiple of 32.")
@click.option(
    "--drawn-per-class",
    default=0,
    show_default=True,
    help="Cells of the drawn smear to learn from as well, so many of each class. Nothing is chosen by them.",
)
@click.option(
    "--seed",
    default=1,
    show_default=True,
    type=click.IntRange(min=0),
    help="Of the development side and all that is random.",
)
def fit(
    data: Sequence[str],
    folder: Path,
    weights: str,
    apart: Sequence[str],
    crop_um: float,
    crop_px: int,
    **settings: Any,
) -> None:
    """Fine-tune a MobileNetV2 on the cells of DATA; the same command again resumes an interrupted run.

    Splits are by original. Writes model.keras with its manifest, report.md and .json, curves.png and
    confusion.png to the folder. Images that cannot be read are named and left out.
    """
    # What is most often mistyped is looked at before anything that takes seconds.
    if weights != "imagenet" and not os.path.isfile(weights):  # noqa: PTH113 (raises nothing)
        raise SettingError(f"--weights {weights}: no such file; give 'imagenet' or a file of weights")
    datasets, sets_apart = list(map(read_dataset, data)), list(map(read_dataset, apart))
    require_names(datasets)
    with Progress("Loading TensorFlow"), tensorflow_kept_quiet():
        from train import report
        from train.confidence import choose_decline_threshold, fit_temperature
        from train.fit import FitSettings, fit, predict_logits

    fit_settings = FitSettings(**settings, crop=CropSize(crop_um, crop_px))
    selection = _select(datasets, sets_apart, fit_settings.seed, folder)
    if Path(weights).suffix == ".keras":
        _require_same_development(Path(weights), selection)
    record = _settings_record(fit_settings, weights)
    with Progress() as progress:
        training = read_varied_training(
            selection,
            fit_settings.patch,
            fit_settings.drawn_per_class,
            progress.of("reading training cells"),
        )
        development = read_side(
            selection, selection.development, fit_settings.crop, progress.of("reading development cells")
        )
        say_unreadable(training, development)
        known = development.in_classes & development.found
        if not known.any():
            raise DataSetError("no development cell of the four classes was found; give more training images")

        def on_step(done: int, total: int, loss: float) -> None:
            progress.at(f"training, loss {loss:.3f}", done, total)

        network, history = fit(
            training,
            development,
            fit_settings,
            weights,
            {"weights": record.get("weights_sha256", weights), "selection": selection.record()},
            folder,
            on_step,
            lambda result: stderr.print(
                f"epoch {result.epoch}: training loss {result.loss:.3f}, development loss "
                f"{result.development_loss:.3f}, accuracy {100 * result.development_accuracy:.1f} %, "
                f"balanced {100 * result.development_balanced_accuracy:.1f} %"
            ),
        )
    logits = predict_logits(network, development.crops)
    weights_of_known = development.select(known).collection_weights
    temperature = fit_temperature(logits[known], development.labels[known], weights_of_known)
    sure = probabilities(logits, temperature)
    manifest = Manifest(
        crop=fit_settings.crop,
        temperature=round(temperature, 4),
        decline_below=round(choose_decline_threshold(sure[known], weights_of_known), 4),
        training={**selection.record(), **record},
        tools={name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "numpy")},
    )
    keras_path = folder / "model.keras"
    network.save(keras_path)
    write_keras_manifest(keras_path, manifest)
    evaluations = []
    for dataset in selection.datasets:
        cells, sure_of_cells = _of_dataset(development, sure, selection, dataset)
        if cells.in_classes.any():
            name = f"{dataset.name}, development"
            evaluations.append(evaluate(name, cells, sure_of_cells, manifest.decline_below))
        else:
            stderr.print(
                f"{dataset.name}: no development cell of the four classes, not in the report", markup=False
            )
    report.draw_curves(history, folder / "curves.png")
    report.draw_confusion(evaluations, folder / "confusion.png")
    text = report.fit_markdown(manifest, record, history, evaluations)
    write_atomically(folder / "report.md", text.encode())
    write_json(
        folder / "report.json",
        {
            "manifest": json.loads(manifest.to_json()),
            "history": [dataclasses.asdict(result) for result in history],
            "development": [evaluation.to_json() for evaluation in evaluations],
        },
    )
    for evaluation in evaluations:
        stdout.print(report.evaluation_table(evaluation))
    stdout.print(f"{keras_path}, report in {folder / 'report.md'}", soft_wrap=True, markup=False)


def _select(datasets: list[DataSet], sets_apart: list[DataSet], seed: int, folder: Path) -> Selection:
    """Find by content what must not be learnt from; the finding is kept in the folder."""
    datasets = [with_scale(dataset) for dataset in datasets]
    training = [image for dataset in datasets for image in training_side(dataset)]
    tests = [image for dataset in datasets for image in dataset.on_side("test")]
    tests += [image for dataset in sets_apart for image in dataset.images]
    kept = folder / "shared_cells.json"
    compared = [_digest_of_files([training, tests]), [dataset.um_per_pixel for dataset in datasets]]
    if os.path.exists(kept):  # noqa: PTH110 (raises nothing)
        try:
            content = json.loads(kept.read_text(encoding="utf-8"))
            same, left_out, kin = content["compared"] == compared, content["left_out"], content["kin"]
        except (ValueError, KeyError, TypeError) as error:
            raise SettingError(f"{kept}: damaged ({reason_of(error)}); delete it") from error
        if same:
            return select(datasets, left_out, kin, seed)
    with Progress() as progress:
        search = find_duplicates([*training, *tests], progress.at)
    scales = {image: dataset.um_per_pixel for dataset in [*datasets, *sets_apart] for image in dataset.images}
    left_out, kin = shared_cells(search.pairs, training, tests, CellComparison(scales))
    write_json(kept, {"left_out": left_out, "kin": kin, "compared": compared})
    stdout.print(
        f"{len(training)} training images; {len(left_out)} originals left out, because they overlap a test "
        f"image or their cell has two labels; {len(kin)} others overlap another."
    )
    return select(datasets, left_out, kin, seed)


def _require_same_development(path: Path, selection: Selection) -> None:
    """Refuse to go on from a model that has learnt what is to be chosen on now."""
    key = "development_sha256"
    if read_keras_manifest(path).training.get(key) != selection.record()[key]:
        raise SettingError(
            f"{path}: was trained with another development side, of which it has learnt cells that this run "
            "would choose on; give the same data and --seed"
        )


def _digest_of_files(groups: Sequence[Sequence[LabelledImage]]) -> str:
    """Which files, as what: the same finding is good for exactly the same ones."""
    digest = hashlib.sha256()
    for group in groups:
        for image in sorted(group, key=lambda image: image.path):
            for part in (str(image.path.resolve()), image.original, image.label):
                digest.update(os.fsencode(part) + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()


def _of_dataset(
    cells: CellSet, sure: NDArray[np.float64], selection: Selection, dataset: DataSet
) -> tuple[CellSet, NDArray[np.float64]]:
    members = {image.path for image in selection.development(dataset)}
    keep = np.array([image.path in members for image in cells.images], bool)
    return cells.select(keep), sure[keep]


def _settings_record(settings: Any, weights: str) -> dict[str, Any]:
    record = {
        key: value for key, value in dataclasses.asdict(settings).items() if key not in ("crop", "seed")
    }
    source = weights if weights == "imagenet" else Path(weights).name
    digest = {} if weights == "imagenet" else {"weights_sha256": file_hash(Path(weights))}
    return {**record, "weights": source, **digest}
