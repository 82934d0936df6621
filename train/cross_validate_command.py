"""``hematovision train cross-validate``: what a design is chosen by, one laboratory left out at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from hematovision.errors import SettingError
from hematovision.terminal.progress import Progress
from train.console import stdout, write_json
from train.quiet import tensorflow_kept_quiet

_THRESHOLDS = (0.3, 0.4, 0.5, 0.6)

#: How the commands that learn a finder, or measure one, are given data.
BOXED_DATA = """
\b
DATA names a collection of fields with boxed cells, its µm per pixel after an @:
  kaggle-blood-cells     originals with annotations/*.xml
  FOLDER@0.1             boxes.csv (image,label,x,y,width,height; slide if known): every leukocyte is boxed
  FOLDER@0.1             labels.csv with the same columns: one labelled cell an image, the rest is unknown
  FOLDER@0.1             one folder a class: the cell is in the middle, the rest is unknown
"""


def finder_options(epochs: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `FinderSettings`."""
    options = (
        click.option(
            "--epochs", default=epochs, show_default=True, help="How often --tiles-per-epoch are learnt from."
        ),
        click.option("--tiles-per-epoch", default=2400, show_default=True, help="Made anew for each epoch."),
        click.option("--batch", default=16, show_default=True, help="Tiles a step."),
        click.option(
            "--learning-rate",
            default=3e-3,
            show_default=True,
            help="Highest; it falls to 0 as a cosine.",
        ),
        click.option(
            "--seed",
            default=1,
            show_default=True,
            type=click.IntRange(min=0),
            help="Of all that is random.",
        ),
    )

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


@click.command("cross-validate", epilog=BOXED_DATA)
@click.argument("data", nargs=-1, required=True)
@click.option("--finder", is_flag=True, help="Of the finder (so far, this is all that it does).")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the runs, one inside for each laboratory; the same command goes on in it.",
)
@click.option(
    "--leave-out", multiple=True, help="A laboratory to leave out, by its name; default each in turn."
)
@finder_options(epochs=24)
def cross_validate(
    data: Sequence[str], finder: bool, folder: Path, leave_out: Sequence[str], **settings: Any
) -> None:
    """Learn from all laboratories but one, and measure on that one; each in turn.

    Slides, subjects and originals set aside for reporting are neither learnt from nor measured. Writes
    LABORATORY.json for each to the folder. A region at the border of a field counts neither way.
    """
    if not finder:
        raise SettingError("--finder is missing: only the finder is cross-validated so far")
    from train.finder.boxed_fields import laboratories_of, read_boxed_fields

    fields = [field for source in data for field in read_boxed_fields(source)]
    laboratories = laboratories_of(fields)
    unknown = [name for name in leave_out if name not in laboratories]
    if unknown:
        raise SettingError(
            f"--leave-out {unknown[0]}: no such laboratory; there are {', '.join(laboratories)}"
        )
    if len(laboratories) < 2:
        raise SettingError(f"only {laboratories[0]} is given; without it there is nothing to learn from")
    with Progress("Loading TensorFlow"), tensorflow_kept_quiet():
        from train.finder.cross_validate import LeftOut, cross_validate_finder, to_json
        from train.finder.fit import FinderSettings, choose_training_fields, read_finder_data

    finder_settings = FinderSettings(**settings)
    chosen = choose_training_fields(fields, finder_settings.seed)
    table = Table(title="laboratories left out in turn")
    for heading in ("left out", "threshold", "cells", "found", "false per field", "per 1,000 red cells"):
        table.add_column(heading, justify="left" if heading == "left out" else "right")
    with Progress() as progress:
        boxed = read_finder_data(chosen, progress.of("reading fields"))

        def on_step(laboratory: str, done: int, total: int, loss: float) -> None:
            progress.at(f"training without {laboratory}, loss {loss:.3f}", done, total)

        def on_left_out(result: LeftOut) -> None:
            write_json(folder / f"{result.laboratory}.json", to_json(result))
            for threshold, score in result.scores.items():
                table.add_row(
                    result.laboratory,
                    f"{threshold:g}",
                    str(sum(score.cells.values())),
                    f"{100 * score.recall:.1f} %",
                    _shown(score.false_per_field),
                    _shown(score.false_per_1000_red_cells),
                )

        cross_validate_finder(
            chosen, boxed, finder_settings, _THRESHOLDS, folder, leave_out, on_step, on_left_out
        )
    stdout.print(table)


def _shown(figure: float) -> str:
    return "–" if figure != figure else f"{figure:.2f}"  # not a number: nothing to count by
