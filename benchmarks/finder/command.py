"""``hematovision bench finder``."""

import os
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from benchmarks.finder.finders import BASELINE, FINDER, open_finder
from benchmarks.finder.measure import FieldResult, measure_finders, summarise
from benchmarks.finder.robustness import OverlaidField, measure_overlays, summarise_overlays
from benchmarks.finder.tables import (
    FORMAT_VERSION,
    TOGETHER,
    false_table,
    found_table,
    overlays_table,
    recall_table,
    to_json,
)
from benchmarks.finder.threshold_rule import find_by_threshold
from benchmarks.finder.timing import make_mosaics, measure_memory, one_core, time_finders
from benchmarks.real_fields import FIELD_SIZE, FIELD_UM_PER_PIXEL
from benchmarks.text_table import widen_if_piped
from hematovision import __version__
from hematovision.classifier import Classifier, default_model_path
from hematovision.errors import DataSetError, SettingError
from hematovision.finder import default_finder_path
from hematovision.model_file import read_finder_file, read_model_file
from hematovision.terminal.progress import Progress
from train.console import check_places, write_json
from train.finder.boxed_fields import BoxedField, laboratories_of, read_boxed_fields

_Result = TypeVar("_Result", FieldResult, OverlaidField)


@click.command()
@click.argument("data", nargs=-1, metavar="DATA...")
@click.option(
    "--finder",
    "finder_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model file of a finder; by default the one that comes with hematovision.",
)
@click.option("--aside", is_flag=True, help="Only what is set aside for reporting: measure once, at the end.")
@click.option("--all", "both", is_flag=True, help="Also what is set aside for reporting.")
@click.option(
    "--overlays", is_flag=True, help="Also with bars, text, dirt and the like drawn over each field."
)
@click.option("--json", "json_file", metavar="FILE", type=click.Path(path_type=Path), help="Write all of it.")
@click.option(
    "--repetitions", default=300, show_default=True, type=click.IntRange(min=1), help="Fields timed."
)
def finder(
    data: tuple[str, ...],
    finder_file: Path | None,
    aside: bool,
    both: bool,
    overlays: bool,
    json_file: Path | None,
    repetitions: int,
) -> None:
    """Leukocytes found on boxed fields, what else is taken for one, and time per field, beside the baseline.

    \b
    DATA is a collection, with its µm per pixel after an @ but for Kaggle's:
      kaggle-blood-cells           originals with annotations
      chula@0.097, raabin@0.06     boxes.csv with every leukocyte
      bcisc@0.134                  labels.csv with one boxed cell an image
      pbc@0.104                    one folder a class, the cell in the middle
      tecom@0.2                    masks
    By default kaggle-blood-cells in the folder that HEMATOVISION_DATA names.
    """
    if aside and both:
        raise SettingError("--aside and --all exclude each other; give one of them")
    check_places(json_file)
    sources = data or (_default_collection(),)
    fields = _fields(sources, aside, both)
    classifier = Classifier(read_model_file(default_model_path()), threads=1)
    finders = {FINDER: open_finder(finder_file), BASELINE: find_by_threshold}
    with Progress() as progress, one_core():
        measured = measure_finders(
            fields,
            finders,
            classifier,
            FINDER,
            lambda number: progress.at("Finding cells", number, len(fields)),
        )
        covered = {}
        if overlays:
            covered = measure_overlays(
                fields, finders, FINDER, lambda number: progress.at("Under overlays", number, len(fields))
            )
    laboratories = laboratories_of(fields)
    if len(laboratories) > 1:
        laboratories.append(TOGETHER)
    results = {
        laboratory: {name: summarise(_of(every, laboratory)) for name, every in measured.items()}
        for laboratory in laboratories
    }
    overlaid = {
        laboratory: {
            name: {kind: summarise_overlays(_of(every, laboratory)) for kind, every in by_kind.items()}
            for name, by_kind in covered.items()
        }
        for laboratory in laboratories
        if overlays
    }
    mosaics = make_mosaics(fields)
    timing = time_finders(finders, mosaics, repetitions)
    memory = measure_memory(finder_file, mosaics[0])
    stdout = Console()
    widen_if_piped(stdout)
    found_table(results).print(stdout)
    false_table(results).print(stdout)
    recall_table(results).print(stdout)
    if overlaid:
        overlays_table(overlaid).print(stdout)
    for line in results[laboratories[-1]][FINDER].missed:
        stdout.print(f"missed: {line}", soft_wrap=True, markup=False, highlight=False)
    new, old = timing[FINDER], timing[BASELINE]
    stdout.print(
        f"Mosaics of {FIELD_SIZE[0]}x{FIELD_SIZE[1]} at {FIELD_UM_PER_PIXEL} µm per pixel, one core, "
        f"processor time of optics and finder, median of {new.repetitions} in turns: {new.ms:.2f} ms, "
        f"baseline {old.ms:.2f} ms; {new.ms / old.ms:.2f} of it. Beside a classifier it adds "
        f"{memory[FINDER]:.1f} MiB of memory, the baseline {memory[BASELINE]:.1f} (peak resident set)",
        soft_wrap=True,
    )
    if json_file is not None:
        content = {
            "format_version": FORMAT_VERSION,
            "hematovision": __version__,
            "data": list(sources),
            "side": "aside" if aside else "all" if both else "learnt",
            "finder_sha256": read_finder_file(finder_file or default_finder_path()).model_hash,
            **to_json(results, overlaid, timing, memory),
        }
        write_json(json_file, content)


def _default_collection() -> str:
    if "HEMATOVISION_DATA" not in os.environ:
        raise SettingError("no DATA given and HEMATOVISION_DATA is not set; give one of them")
    return str(Path(os.environ["HEMATOVISION_DATA"]) / "kaggle-blood-cells")


def _fields(data: tuple[str, ...], aside: bool, both: bool) -> list[BoxedField]:
    every = [field for source in data for field in read_boxed_fields(source)]
    fields = [field for field in every if both or field.aside == aside]
    if not fields:
        known = ", ".join(laboratories_of(every))
        raise DataSetError(
            f"{known}: {'nothing' if aside else 'all'} is set aside for reporting; "
            f"{'leave out --aside' if aside else 'give --aside or --all to measure on it'}"
        )
    return fields


def _of(results: list[_Result], laboratory: str) -> list[_Result]:
    return [one for one in results if laboratory in (one.boxed.laboratory, TOGETHER)]
