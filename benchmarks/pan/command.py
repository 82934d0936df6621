"""``hematovision bench pan``."""

from functools import partial

import click
import cv2
from rich.console import Console
from rich.table import Table

from benchmarks.pan.measure import MISSED, NOTHING, TWICE, PanResult, pan_over
from benchmarks.pan.slide import EMPTY_FOR_EACH, make_slides
from edge.pipeline import live_threads
from hematovision.classifier import Classifier, default_model_path
from hematovision.errors import SettingError
from hematovision.model_file import read_model_file
from hematovision.terminal.progress import Progress
from train.finder.boxed_fields import read_boxed_fields

_stdout = Console()


@click.command("pan")
@click.argument("data", nargs=-1, required=True)
@click.option("--cells", default=40, show_default=True, type=click.IntRange(min=1), help="A slide, at most.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the slides and paths."
)
@click.option("--learnt", is_flag=True, help="The fields that are learnt from, not those set aside.")
@click.option("--model", metavar="FILE", help="Model file; by default the one that comes with hematovision.")
def pan_command(data: tuple[str, ...], cells: int, seed: int, learnt: bool, model: str | None) -> None:
    """Show whether a run over real smears counts each leukocyte once, and nothing else.

    DATA are collections of boxed fields, such as chula@0.097 and kaggle-blood-cells. Their fields, those set
    aside for reporting, are put together to slides, with ten empty stretches for each that has a leukocyte,
    and a window of 1280x960 pixels is panned over them: with rests, returns, jumps, and the focus turned.
    Exit status 1 where a leukocyte shown long enough is missed, one is counted twice, or anything else is.
    """
    threads = live_threads()
    cv2.setNumThreads(threads.opencv)
    classifier = Classifier(read_model_file(model or default_model_path()), threads=threads.interpreter)
    results: list[PanResult] = []
    with Progress() as progress:
        for source in data:
            fields = [field for field in read_boxed_fields(source) if field.aside is not learnt]
            if not (fields := [field for field in fields if field.all_known]):
                raise SettingError(
                    f"{source}: no field of it with all its leukocytes known is "
                    f"{'learnt from; leave out' if learnt else 'set aside; give'} --learnt"
                )
            for slide in make_slides(fields, cells, seed):
                at = partial(progress.at, f"Panning over {slide.name}")
                results.append(pan_over(classifier, slide, seed=seed, at=at))
    _print(results)
    if any(result.miscounts for result in results):
        raise SystemExit(1)


def _print(results: list[PanResult]) -> None:
    table = Table(title="leukocytes of real smears, panned over")
    table.add_column("slide")
    for heading in ("frames", "cells", "shown", "once", MISSED, TWICE, NOTHING, "named", "areas"):
        table.add_column(heading, justify="right")
    rows = [
        (
            result.frames,
            result.cells,
            result.shown,
            result.once,
            *(result.number(why) for why in (MISSED, TWICE, NOTHING)),
            result.nothing_named,
            result.areas,
        )
        for result in results
    ]
    for result, row in zip(results, rows, strict=True):
        table.add_row(result.name, *map(str, row))
    table.add_section()
    table.add_row("all", *(str(sum(column)) for column in zip(*rows, strict=True)))
    _stdout.print(table)
    _stdout.print(
        f"{EMPTY_FOR_EACH} stretches of 23 µm without a leukocyte for every one with. shown: long "
        "enough to be counted, of which missed were not; nothing: counted where no leukocyte is; named: of "
        "these, those with a class; areas: one more for each time that the place was lost.",
        soft_wrap=True,
    )
    for result in results:
        for one in result.miscounts:
            _stdout.print(
                f"{result.name}: {one.why} ({one.name}) at {one.x_um:.0f}, {one.y_um:.0f} µm: {one.source}",
                soft_wrap=True,
            )
