"""``hematovision bench throughput``."""

from pathlib import Path

import click

from benchmarks.cache import cache_folder
from benchmarks.options import progress, report_options
from benchmarks.real_fields import MOST_LEUKOCYTES
from benchmarks.report import measuring
from benchmarks.throughput import CELLS_PER_FRAME, FRAMES, MIN_FRAMES, SOURCES, measure_all
from benchmarks.variants import VARIANT_NAMES, open_models
from hematovision.classifier import default_model_path
from hematovision.model_file import read_model_file


@click.command()
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Choice(SOURCES),
    help="Drawn or real fields; may be given several times. Both, if not given, as far as they are there.",
)
@click.option(
    "--cells",
    "cells_per_frame",
    multiple=True,
    type=click.IntRange(0, MOST_LEUKOCYTES),
    default=CELLS_PER_FRAME,
    show_default=True,
    help="Leukocytes in each field; may be given several times.",
)
@click.option(
    "--frames",
    default=FRAMES,
    show_default=True,
    type=click.IntRange(min=MIN_FRAMES),
    help="Frames of each run; memory is taken to be settled after 1000 of them.",
)
@click.option(
    "--model",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model file (.tflite); by default the one that comes with hematovision.",
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The Kaggle collection with its annotations, for real fields; by default kaggle-blood-cells in the "
    "folder HEMATOVISION_DATA.",
)
@report_options
def throughput(
    sources: tuple[str, ...],
    cells_per_frame: tuple[int, ...],
    frames: int,
    model: Path | None,
    data: Path | None,
    out: Path | None,
    force: bool,
) -> None:
    """Frames to counted cells on drawn and real fields, by cells a frame.

    Twelve fields of 1280x960 pixels at 0.1 µm per pixel are played from memory, each until its cells are
    counted: once as fast as they are taken, once as by a camera of 30 frames a second. Exit status 1 where
    something could not be measured.
    """
    path = model or default_model_path()
    read_model_file(path)  # a .keras file would be opened too, and variants made of it
    with measuring(out, force) as run:
        with progress() as say:
            (opened,), unmeasured = open_models([path], VARIANT_NAMES, (), cache_folder(), say)
            measured, failed = measure_all(sources, cells_per_frame, frames, path, data, say)
        run.conclude(variants=opened.variants, throughput=measured, unmeasured=[*unmeasured, *failed])
