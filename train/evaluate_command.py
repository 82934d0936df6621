"""``hematovision train evaluate``: how often a model is right, at the terminal, in files, in its manifest."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hematovision.classifier import Classifier, probabilities
from hematovision.errors import SettingError
from hematovision.model_file import (
    Manifest,
    read_keras_manifest,
    read_model_file,
    write_atomically,
    write_keras_manifest,
    write_model_file,
)
from hematovision.runtime import AUTO, PACKAGES
from hematovision.terminal.progress import Progress
from train.cells import read_cells
from train.console import (
    DATA_HELP,
    check_places,
    say_unreadable,
    stderr,
    stdout,
    with_scale,
    write_json,
)
from train.datasets import DataSet, read_dataset
from train.evaluate import Evaluation, evaluate
from train.quiet import tensorflow_kept_quiet
from train.selection import chosen_side, is_learnt_from, require_names


@click.command("evaluate", epilog=DATA_HELP)
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
@click.option(
    "--write", is_flag=True, help="Record the accuracy in the manifest; not for data that MODEL learnt from."
)
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
    datasets = [read_dataset(source) for source in data]
    require_names(datasets)
    check_places(json_path, markdown_path)
    if write and side != "test":
        raise SettingError(
            f"--write with --side {side}: what a model learnt from says nothing of its accuracy; "
            "use --side test"
        )
    from train import report

    logits_of, manifest = _open_model(model, runtime)
    if write:
        _refuse_learnt_from(datasets, manifest)
    datasets = [with_scale(dataset) for dataset in datasets]
    evaluations = []
    unreadable = 0
    for dataset in datasets:
        images, name = chosen_side(dataset, side)
        with Progress() as progress:
            assert dataset.um_per_pixel is not None
            cells = read_cells(
                images, dataset.um_per_pixel, manifest.crop, progress.of(f"reading {dataset.name}")
            )
        say_unreadable(cells)
        sure = probabilities(logits_of(cells.crops), manifest.temperature)
        evaluation = evaluate(name, cells, sure, manifest.decline_below)
        unreadable += len(cells.unreadable)
        evaluations.append(evaluation)
        stdout.print(report.evaluation_table(evaluation))
        for scores, count in ((evaluation.files, "per file"), (evaluation.originals, "per original")):
            stdout.print(report.confusion_table(scores, f"{name}, {count}"))
    stdout.print(report.INTERVAL_NOTE)
    if json_path:
        write_json(json_path, [evaluation.to_json() for evaluation in evaluations])
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
        with Progress("Loading TensorFlow"), tensorflow_kept_quiet():
            from train.fit import predict_logits
            from train.network import load_network

        manifest = read_keras_manifest(path)
        network = load_network(path)
        return lambda crops: predict_logits(network, crops), manifest
    classifier = Classifier(read_model_file(path), runtime)
    stderr.print(f"{path.name} on {classifier.loaded}", soft_wrap=True, markup=False)
    return classifier.logits, classifier.model.manifest


def _refuse_learnt_from(datasets: Sequence[DataSet], manifest: Manifest) -> None:
    """Raise `SettingError` for a data set that the model was trained on and that has no test side."""
    for dataset in datasets:
        if is_learnt_from(dataset, manifest):
            raise SettingError(
                f"--write with {dataset.path}: the model was trained on it and it has no test side; "
                "measure on images that it never saw"
            )


def _record_accuracy(path: Path, manifest: Manifest, evaluations: Sequence[Evaluation]) -> None:
    """Add what was measured to the manifest; a data set measured before is replaced."""
    measured = {entry["name"]: entry for entry in manifest.accuracy.get("sets", [])}
    measured |= {evaluation.name: evaluation.summary() for evaluation in evaluations}
    manifest = dataclasses.replace(manifest, accuracy={"sets": list(measured.values())})
    if path.suffix == ".keras":
        write_keras_manifest(path, manifest)
    else:
        write_model_file(path, read_model_file(path).flatbuffer, manifest)
    stdout.print(f"recorded in {path}", soft_wrap=True, markup=False)
