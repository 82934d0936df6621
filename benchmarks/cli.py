"""``hematovision bench``: measurements."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from benchmarks.faults import faults
from benchmarks.finder import FIELD_SIZE, FIELD_UM_PER_PIXEL, measure_finder, time_finder
from hematovision.errors import SettingError
from hematovision.images import list_images

if TYPE_CHECKING:
    from edge.phantom_score import Score

_stdout = Console()


@click.group()
def bench() -> None:
    """Measure the parts and the whole line."""


bench.add_command(faults)


@bench.command()
@click.argument("collection", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--repetitions", default=300, show_default=True, type=click.IntRange(min=1), help="Fields timed."
)
def finder(collection: Path | None, repetitions: int) -> None:
    """Leukocytes found and false regions on the annotated Kaggle originals, and time per field.

    COLLECTION is the Kaggle collection with its annotations; by default kaggle-blood-cells in the folder that
    HEMATOVISION_DATA names.
    """
    if collection is None:
        if "HEMATOVISION_DATA" not in os.environ:
            raise SettingError("no COLLECTION given and HEMATOVISION_DATA is not set; give one of them")
        collection = Path(os.environ["HEMATOVISION_DATA"]) / "kaggle-blood-cells"
    table = Table(title="finder on annotated fields")
    for heading in ("side", "fields", "boxes", "found", "recall", "95 %", "false per field"):
        table.add_column(heading, justify="left" if heading == "side" else "right")
    missed: list[str] = []
    for result in measure_finder(collection):
        recall = result.recall
        table.add_row(
            result.side,
            str(result.fields),
            str(result.boxes),
            str(result.found),
            f"{recall.percent:.1f} %" if recall.percent is not None else "–",
            f"{recall.low:.1f} to {recall.high:.1f}",
            f"{result.false_regions / max(result.fields, 1):.3f}",
        )
        missed += result.missed
    _stdout.print(table)
    for line in missed:
        _stdout.print(f"missed: {line}")
    timing = time_finder(list_images(collection / "Original_Images")[:20], repetitions)
    _stdout.print(
        f"Mosaics of {FIELD_SIZE[0]}x{FIELD_SIZE[1]} at {FIELD_UM_PER_PIXEL} µm per pixel, one core, "
        f"processor time, median of {timing.repetitions}: optics {timing.optics_ms:.1f} ms, "
        f"finder {timing.find_ms:.1f} ms, together {timing.total_ms:.1f} ms",
        soft_wrap=True,
    )


@bench.command()
@click.option(
    "--frames", default=20_000, show_default=True, type=click.IntRange(min=100), help="Frames from memory."
)
def throughput(frames: int) -> None:
    """Frames a second from frame to counted cell, time by step, memory, start to first result.

    Twelve overlapping fields of a drawn slide, 1280x960 at 0.1 µm per pixel, are looked at again and
    again from memory, each time as a new slide, in a process of its own.
    """
    from benchmarks.throughput import measure_throughput

    with _stdout.status("measuring"):
        result = measure_throughput(frames)
    table = Table(title="processor time per frame, ms")
    table.add_column("step")
    table.add_column("ms", justify="right")
    for name, milliseconds in result.step_ms.items():
        table.add_row(name, f"{milliseconds:.2f}")
    table.add_row("all but capture and invoke", f"{result.outside_ms:.2f}")
    _stdout.print(table)
    for line in (
        f"{result.frames} frames, {result.looked_at} looked at (the others moving), "
        f"{result.cells_in_view / result.looked_at:.1f} cells in each, {result.named} named, "
        f"{result.counted} counted",
        f"{result.frames_per_s:.0f} frames a second",
        f"resident memory {result.memory_mib:.0f} MiB, {result.growth_mib:+.1f} MiB since frame 1000",
        f"start to first frame with a named cell {result.first_s:.2f} s",
    ):
        _stdout.print(line, soft_wrap=True)


@bench.command()
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(min=1), help="Slides.")
@click.option("--model", metavar="FILE", help="Model file; by default the one that comes with hematovision.")
def tracker(seeds: int, model: str | None) -> None:
    """Whether every cell is counted once, on drawn slides of 300 cells and more, half of each seen twice.

    Exit status 1 where the count of all slides together is off by more than 1 %, more than 1 in 500 counts
    are of cells counted before, or top-1 is more than 0.5 points below that of single looks at these cells.
    """
    import cv2

    from benchmarks.tracker import FRAME_SIZE, by_hand, total, try_tracker
    from edge.classifier import Classifier, default_model_path
    from edge.phantom_score import LONG_ENOUGH
    from edge.pipeline import live_threads
    from hematovision.model_file import read_model_file
    from hematovision.phantom.stage import Scene, trial

    threads = live_threads()
    cv2.setNumThreads(threads.opencv)
    classifier = Classifier(read_model_file(model or default_model_path()), threads=threads.interpreter)
    table = Table(title="cells counted on drawn slides")
    for heading in ("seed", "shown", "counted", "missed", "briefly", "twice", "none", "top-1", "single"):
        table.add_column(heading, justify="right")
    trials = []
    with _stdout.status("counting") as status:
        for seed in range(seeds):
            status.update(f"slide {seed + 1} of {seeds}")
            scene = trial(seed)
            scene = Scene(scene.smear, tuple(by_hand(seed, scene.poses)))
            trials.append(try_tracker(classifier, scene, FRAME_SIZE))
            table.add_row(str(seed), *_tracker_row(trials[-1].score))
    everything = total(trials)
    table.add_section()
    table.add_row("all", *_tracker_row(everything))
    _stdout.print(table)
    frames = sum(one.frames for one in trials)
    skipped = sum((Counter(one.skipped) for one in trials), Counter[str]())
    for line in (
        f"shown: whole in {LONG_ENOUGH} good frames or more (standing, in focus, not over-exposed); briefly: "
        "counted, but shown in fewer; none: counted where no cell is; single: looks before the count.",
        f"Count {everything.count_error:+.2%}, counted twice {everything.share_twice:.2%}, top-1 "
        f"{100 * (everything.top1 - everything.single_top1):+.2f} points against single looks; "
        f"{everything.right} counts are under the class drawn.",
        f"{frames} frames, skipped: {', '.join(f'{n} {reason}' for reason, n in skipped.most_common())}; "
        f"tracking took {sum(one.track_ms * one.frames for one in trials) / frames:.2f} ms of processor time "
        "a frame.",
    ):
        _stdout.print(line, soft_wrap=True)
    if not everything.passed:
        raise SystemExit(1)


def _tracker_row(score: "Score") -> list[str]:
    counts = score.shown, score.counted, score.missed, score.briefly, score.twice, score.nothing
    return [*map(str, counts), f"{score.top1:.1%}", f"{score.single_top1:.1%}"]
