"""``hematovision train``: data sets in, a proved Keras model out."""

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
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edge.classifier import Classifier, probabilities
from edge.runtime import AUTO, PACKAGES
from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.errors import CalibrationError, DataSetError, ImageError, SettingError, reason_of
from hematovision.images import read_image
from hematovision.model_file import (
    Manifest,
    file_hash,
    read_keras_manifest,
    read_model_file,
    write_atomically,
    write_keras_manifest,
    write_model_file,
)
from hematovision.red_cells import measure_red_cells, measure_scale
from train.audit import CellComparison
from train.audit_command import audit
from train.cells import CellSet, read_cells, read_side, read_varied_training
from train.datasets import DataSet, LabelledImage, read_dataset
from train.duplicates import find_duplicates
from train.evaluate import Evaluation, evaluate
from train.quiet import tensorflow_kept_quiet
from train.selection import Selection, require_names, select, shared_cells, training_side

_SCALE_SAMPLE = 60

_stdout = Console()
_stderr = Console(stderr=True)

_DATA_HELP = """
\b
DATA names a data set:
  kaggle-blood-cells                  the Kaggle collection: originals, else copies
  kaggle-blood-cells/images/TEST      a folder of its rotated copies
  FOLDER@0.104                        one folder a class; split.csv tells the sides
  TABLE.csv@0.1                       columns image, label; split and original if known
The number after @ is the scale in µm per pixel; without it, it is measured from red cells.
"""


@click.group()
def train() -> None:
    """Data sets: download, audit. Models: fit, evaluate."""


train.add_command(audit)


@train.command()
@click.argument("collection", type=click.Choice(["kaggle"]))
def download(collection: str) -> None:  # noqa: ARG001 (one collection so far)
    """Fetch a public data set; prints the folder that it is in."""
    from train.download import download_kaggle

    _stdout.print(str(download_kaggle()), soft_wrap=True, markup=False)


@train.command(epilog=_DATA_HELP)
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the run.",
)
@click.option(
    "--weights", default="imagenet", show_default=True, help="'imagenet', fetched by Keras, or a local file."
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
    confusion.png to the folder.
    """
    from train import report
    from train.confidence import choose_decline_threshold, fit_temperature

    with tensorflow_kept_quiet():
        from train.fit import FitSettings, fit, predict_logits

    fit_settings = FitSettings(**settings, crop=CropSize(crop_um, crop_px))
    if weights != "imagenet" and not Path(weights).is_file():
        raise SettingError(f"--weights {weights}: no such file; give 'imagenet' or a file of weights")
    selection = _select(data, apart, fit_settings.seed, folder)
    record = _settings_record(fit_settings, weights)
    with _progress() as progress:
        training = read_varied_training(
            selection, fit_settings.patch, _task(progress, "reading training cells")
        )
        development = read_side(
            selection, selection.development, fit_settings.crop, _task(progress, "reading development cells")
        )
        _say_unreadable(training, development)
        known = development.in_classes & development.found
        if not known.any():
            raise DataSetError("no development cell of the four classes was found; give more training images")
        task = progress.add_task("training", total=None)

        def on_step(done: int, total: int, loss: float) -> None:
            progress.update(task, completed=done, total=total, description=f"training, loss {loss:.3f}")

        network, history = fit(
            training,
            development,
            fit_settings,
            weights,
            {"weights": record.get("weights_sha256", weights), "selection": selection.record()},
            folder,
            on_step,
            lambda result: progress.console.print(
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
            _stderr.print(
                f"{dataset.name}: no development cell of the four classes, not in the report", markup=False
            )
    report.draw_curves(history, folder / "curves.png")
    report.draw_confusion(evaluations, folder / "confusion.png")
    (folder / "report.md").write_text(report.fit_markdown(manifest, record, history, evaluations))
    _write_json(
        folder / "report.json",
        {
            "manifest": json.loads(manifest.to_json()),
            "history": [dataclasses.asdict(result) for result in history],
            "development": [evaluation.to_json() for evaluation in evaluations],
        },
    )
    for evaluation in evaluations:
        _stdout.print(report.evaluation_table(evaluation))
    _stdout.print(f"{keras_path}, report in {folder / 'report.md'}", soft_wrap=True, markup=False)


@train.command("evaluate", epilog=_DATA_HELP)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--side",
    type=click.Choice(["test", "train", "all"]),
    default="test",
    show_default=True,
    help="Which images, where the data set has sides; without sides, all.",
)
@click.option(
    "--runtime",
    type=click.Choice([AUTO, *PACKAGES]),
    default=AUTO,
    show_default=True,
    help="What runs a .tflite model.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here."
)
@click.option(
    "--markdown", "markdown_path", type=click.Path(dir_okay=False, path_type=Path), help="Likewise."
)
@click.option("--write", is_flag=True, help="Record the measured accuracy in the model's manifest.")
def evaluate_command(
    model: Path,
    data: Sequence[str],
    side: str,
    runtime: str,
    json_path: Path | None,
    markdown_path: Path | None,
    write: bool,
) -> None:
    """Measure a .keras or .tflite MODEL on labelled images, per file and per original.

    A .tflite model is run by the device's own classifier. Top-1 ignores the decline threshold; a cell that
    the finder missed counts as wrong.
    """
    from train import report

    datasets = [_with_scale(read_dataset(source)) for source in data]
    require_names(datasets)
    if write and side != "test":
        raise SettingError(
            f"--write with --side {side}: only what was not learnt from is recorded as accuracy"
        )
    logits_of, manifest = _open_model(model, runtime)
    evaluations = []
    unreadable = 0
    for dataset in datasets:
        images, name = _chosen_side(dataset, side)
        with _progress() as progress:
            assert dataset.um_per_pixel is not None
            cells = read_cells(
                images, dataset.um_per_pixel, manifest.crop, _task(progress, f"reading {dataset.name}")
            )
        _say_unreadable(cells)
        sure = probabilities(logits_of(cells.crops), manifest.temperature)
        if not cells.in_classes.any():
            raise DataSetError(
                f"{dataset.path}: no readable cell of {', '.join(CLASS_NAMES)}; nothing to measure"
            )
        evaluation = evaluate(name, cells, sure, manifest.decline_below)
        unreadable += len(cells.unreadable)
        evaluations.append(evaluation)
        _stdout.print(report.evaluation_table(evaluation))
        for scores, count in ((evaluation.files, "per file"), (evaluation.originals, "per original")):
            _stdout.print(report.confusion_table(scores, f"{name}, {count}"))
    _stdout.print(report.INTERVAL_NOTE)
    if json_path:
        _write_json(json_path, [evaluation.to_json() for evaluation in evaluations])
    if markdown_path:
        text = "\n".join(report.evaluation_markdown(evaluation) for evaluation in evaluations)
        write_atomically(markdown_path, text.encode())
    if write:
        _record_accuracy(model, manifest, evaluations)
    if unreadable:
        raise SystemExit(1)


def _open_model(path: Path, runtime: str) -> tuple[Any, Manifest]:
    """A function from crops to logits, and the manifest."""
    if path.suffix == ".keras":
        with tensorflow_kept_quiet():
            from train.fit import predict_logits
            from train.network import load_network

        manifest = read_keras_manifest(path)
        network = load_network(path)
        return lambda crops: predict_logits(network, crops), manifest
    classifier = Classifier(read_model_file(path), runtime)
    _stderr.print(f"{path.name} on {classifier.loaded}", soft_wrap=True, markup=False)
    return classifier.logits, classifier.model.manifest


def _record_accuracy(path: Path, manifest: Manifest, evaluations: Sequence[Evaluation]) -> None:
    """Add what was measured to the manifest; a data set measured before is replaced."""
    measured = {entry["name"]: entry for entry in manifest.accuracy.get("sets", [])}
    measured |= {evaluation.name: evaluation.summary() for evaluation in evaluations}
    manifest = dataclasses.replace(manifest, accuracy={"sets": list(measured.values())})
    if path.suffix == ".keras":
        write_keras_manifest(path, manifest)
    else:
        write_model_file(path, read_model_file(path).flatbuffer, manifest)
    _stdout.print(f"recorded in {path}", soft_wrap=True, markup=False)


def _select(data: Sequence[str], apart: Sequence[str], seed: int, folder: Path) -> Selection:
    """Read data sets and find by content what must not be learnt from; the finding is kept in the folder."""
    datasets = [_with_scale(read_dataset(source)) for source in data]
    training = [image for dataset in datasets for image in training_side(dataset)]
    tests = [image for dataset in datasets for image in dataset.on_side("test")]
    sets_apart = [read_dataset(source) for source in apart]
    tests += [image for dataset in sets_apart for image in dataset.images]
    require_names(datasets)
    kept = folder / "shared_cells.json"
    compared = _digest_of_files([training, tests])
    if kept.exists():
        try:
            content = json.loads(kept.read_text())
            if content["compared"] == compared:
                return select(datasets, content["left_out"], content["kin"], seed)
        except (ValueError, KeyError, TypeError) as error:
            raise SettingError(f"{kept}: damaged ({reason_of(error)}); delete it") from error
    with _progress() as progress:
        task = progress.add_task("looking for shared cells", total=None)
        search = find_duplicates(
            [*training, *tests],
            lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )
    scales = {image: dataset.um_per_pixel for dataset in [*datasets, *sets_apart] for image in dataset.images}
    left_out, kin = shared_cells(search.pairs, training, tests, CellComparison(scales))
    _write_json(kept, {"left_out": left_out, "kin": kin, "compared": compared})
    _stdout.print(
        f"{len(training)} training images; {len(left_out)} originals left out, because they overlap a test "
        f"image or their cell has two labels; {len(kin)} others overlap another."
    )
    return select(datasets, left_out, kin, seed)


def _with_scale(dataset: DataSet) -> DataSet:
    """The data set with its scale, measured from red cells where nobody said it."""
    for reason, count in dataset.dropped:
        _stderr.print(f"{dataset.path}: {count} left out: {reason}", soft_wrap=True, markup=False)
    if dataset.unknown_originals:
        _stderr.print(
            f"{dataset.path}: {dataset.unknown_originals} of {len(dataset.images)} copies are of unknown "
            "originals; each counts as one, so intervals come out too narrow",
            soft_wrap=True,
            markup=False,
        )
    if dataset.um_per_pixel is not None:
        return dataset
    step = max(1, len(dataset.images) // _SCALE_SAMPLE)
    diameters = []
    for image in dataset.images[::step]:
        try:
            diameters.append(measure_red_cells(read_image(image.path)))
        except ImageError:
            continue  # it is reported when its cell is read
    try:
        measured = measure_scale(diameters)
    except CalibrationError as error:
        raise CalibrationError(f"{dataset.path}: {error}; or give the scale, {dataset.path}@0.1") from error
    scale = round(measured.um_per_pixel, 4)
    _stderr.print(
        f"{dataset.path}: {scale:.4f} µm per pixel ({measured.low:.4f} to {measured.high:.4f}), "
        f"measured from {measured.cells} red cells",
        soft_wrap=True,
        markup=False,
    )
    return dataclasses.replace(dataset, um_per_pixel=scale)


def _digest_of_files(groups: Sequence[Sequence[LabelledImage]]) -> str:
    """Which files, as what: the same finding is good for exactly the same ones."""
    digest = hashlib.sha256()
    for group in groups:
        for line in sorted(os.fsencode(image.path.resolve()) + f"|{image.label}".encode() for image in group):
            digest.update(line + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()


def _chosen_side(dataset: DataSet, side: str) -> tuple[Sequence[LabelledImage], str]:
    """Images of a side, and what they are called in reports; all of them where nobody drew sides."""
    if not any(image.side for image in dataset.images):
        return dataset.images, dataset.name
    images = dataset.on_side(None if side == "all" else side)
    if not images:
        raise DataSetError(f"{dataset.path}: has no images on the {side} side; choose with --side")
    return images, dataset.name if side == "test" else f"{dataset.name}, {side} side"


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


def _say_unreadable(*sets: CellSet) -> None:
    for cells in sets:
        for _, reason in cells.unreadable:
            _stderr.print(f"left out: {reason}", soft_wrap=True, markup=False)


def _write_json(path: Path, content: Any) -> None:
    write_atomically(
        path, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    )


def _task(progress: Progress, description: str) -> Any:
    task = progress.add_task(description, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)
