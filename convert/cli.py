"""The command ``hematovision convert``."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convert.parity import Limits
from convert.recipes import RECIPES
from hematovision.errors import ConversionError, SettingError
from hematovision.model_file import (
    FinderManifest,
    Manifest,
    kind_of_keras,
    read_finder_manifest,
    read_keras_manifest,
)
from hematovision.runtime import available_runtimes
from hematovision.terminal.progress import Progress
from train.cells import CellSet, load_training_cells
from train.console import say_unreadable
from train.quiet import tensorflow_kept_quiet

if TYPE_CHECKING:  # it imports TensorFlow
    from convert.export import Outcome

_ALL = "all"
_LIMITS = Limits()


@click.command(
    epilog="Recipes: " + "; ".join(f"{recipe.name}, {recipe.what}" for recipe in RECIPES.values()) + "."
)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data",
    "data",
    multiple=True,
    required=True,
    help="A data set that MODEL was trained on, written as for train fit (a finder: train fit-finder); give "
    "each of them.",
)
@click.option(
    "--recipe",
    "names",
    type=click.Choice([*RECIPES, _ALL]),
    multiple=True,
    default=("int8",),
    show_default=True,
    help="How numbers are stored; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the model files, NAME-RECIPE.tflite each.",
)
@click.option(
    "--min-agreement",
    type=float,
    default=_LIMITS.min_agreement,
    show_default=True,
    help="Per cent of development cells that a variant must name as the Keras model does.",
)
@click.option(
    "--max-accuracy-lost",
    type=float,
    default=_LIMITS.max_accuracy_lost,
    show_default=True,
    help="Percentage points of accuracy on development cells that a variant may lose.",
)
@click.option("--force", is_flag=True, help="Replace model files that are there.")
def convert(
    model: Path,
    data: tuple[str, ...],
    names: tuple[str, ...],
    out: Path,
    min_agreement: float,
    max_accuracy_lost: float,
    force: bool,
) -> None:
    """Convert a Keras model to TensorFlow Lite model files.

    MODEL is a .keras file made by train fit or train fit-finder, its manifest beside it. The quantiser is
    calibrated on cells that MODEL was trained on. Each variant is then compared with MODEL on its development
    cells, on every runtime installed here that its recipe names. One beyond the limits is not written; an
    earlier file of that name is left as it is. A finder is made int8 and compared by the centres it marks.
    """
    limits = Limits(min_agreement, max_accuracy_lost)
    if kind_of_keras(model) == FinderManifest.KIND:
        _convert_finder(model, data, names, out, min_agreement, force)
        return
    manifest = read_keras_manifest(model)
    targets = {
        recipe: out / f"{model.stem}-{recipe.name}.tflite"
        for recipe in RECIPES.values()
        if _ALL in names or recipe.name in names
    }
    _require_absent(targets.values(), force)
    console = Console()
    training, development = _read_cells(data, manifest, console)
    outcomes: list[Outcome] = []
    with Progress("Loading TensorFlow and the Keras model") as progress, tensorflow_kept_quiet():
        from convert.export import convert_network
        from train.network import load_network

        network = load_network(model)
        progress.at("Converting, checking and comparing", 0, len(targets))
        for outcome in convert_network(network, manifest, training, development, targets, limits):
            outcomes.append(outcome)
            progress.at("Converting, checking and comparing", len(outcomes), len(targets))
    console.print(_table(outcomes))
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if failures:
        raise ConversionError("\n".join(failures))


def _convert_finder(
    model: Path, data: tuple[str, ...], names: tuple[str, ...], out: Path, min_agreement: float, force: bool
) -> None:
    if names != ("int8",):
        raise SettingError(f"--recipe {', '.join(names)}: a finder is made int8 only; leave the option out")
    manifest = read_finder_manifest(model)
    path = out / f"{model.stem}-int8.tflite"
    _require_absent([path], force)
    with Progress("Loading TensorFlow, converting and comparing"), tensorflow_kept_quiet():
        from convert.finder import convert_finder
        from train.finder.boxed_fields import identify, read_boxed_fields
        from train.finder.fit import choose_training_fields, load_finder_network

        fields = choose_training_fields(
            [field for source in data for field in read_boxed_fields(source)], manifest.training["seed"]
        )
        fields = [field for field in fields if field.laboratory not in manifest.training["left_out"]]
        if identify(fields) != manifest.training["fields_sha256"]:
            raise SettingError(f"--data: not the fields that {model} has learnt from; give the same data")
        parities = convert_finder(load_finder_network(model), manifest, fields, path, min_agreement)
    table = Table("runtime", "fields", "centres", "agreement", "more", box=SIMPLE_HEAD, show_edge=False)
    for parity in parities:
        table.add_row(
            parity.runtime,
            str(parity.fields),
            str(parity.centers),
            f"{100 * parity.agreement:.1f} %",
            f"{100 * parity.more:.1f} %",
        )
    console = Console()
    console.print(table)
    console.print(str(path), soft_wrap=True, markup=False)


def _require_absent(paths: Iterable[Path], force: bool) -> None:
    there = [str(path) for path in paths if os.path.exists(path)]  # noqa: PTH110 (raises nothing)
    if there and not force:
        raise SettingError(f"{', '.join(there)}: there already; --force replaces, or choose another --out")


def _read_cells(data: tuple[str, ...], manifest: Manifest, console: Console) -> tuple[CellSet, CellSet]:
    with Progress("Reading the training data") as progress:
        training, development = load_training_cells(data, manifest, progress.of("Finding cells"))
    console.print(f"{len(training)} training cells, {len(development)} development cells")
    say_unreadable(training, development)
    return training, development


def _table(outcomes: "list[Outcome]") -> Table:
    """A row for each variant and runtime, narrow enough for a terminal of 80 characters."""
    columns = ("recipe", "MB", "runtime", "agreement", "max Δp", "accuracy", "written")
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, caption_justify="left")
    available = available_runtimes()
    for outcome in outcomes:
        written = "yes" if outcome.failure is None else "no"
        if outcome.variant is None:
            table.add_row(outcome.recipe.name, "–", "–", "–", "–", "–", written)
            continue
        start = outcome.recipe.name, f"{len(outcome.variant.flatbuffer) / 1e6:.2f}"
        for parity in outcome.variant.parities:
            table.add_row(
                *start,
                parity.runtime,
                f"{100 * parity.agreement:.1f} %",
                f"{parity.largest_probability_difference:.3f}",
                f"{100 * parity.variant_accuracy:.1f} %",
                written,
            )
            start = "", ""
        for runtime in outcome.recipe.runtimes:
            if runtime not in available:
                table.add_row("", "", runtime, "not tried: not installed")
        table.caption = (
            f"The Keras model's accuracy is {100 * parity.keras_accuracy:.1f} %. "
            "Δp: how far a probability is from the Keras model's."
        )
    return table
