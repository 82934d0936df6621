"""``hematovision bench tracker``."""

from collections import Counter

import click
import cv2
from rich.console import Console
from rich.table import Table

from benchmarks.tracker import FRAME_SIZE, by_hand, total, try_tracker
from edge.phantom_score import LONG_ENOUGH, Score
from edge.pipeline import live_threads
from hematovision.classifier import Classifier, default_model_path
from hematovision.model_file import read_model_file
from hematovision.phantom.stage import Scene, trial
from hematovision.terminal.progress import Progress

_stdout = Console()


@click.command()
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(min=1), help="Slides.")
@click.option("--model", metavar="FILE", help="Model file; by default the one that comes with hematovision.")
def tracker(seeds: int, model: str | None) -> None:
    """Whether every cell is counted once, on drawn slides of 300 cells and more, half of each seen twice.

    Exit status 1 where the count of all slides together is off by more than 1 %, more than 1 in 500 counts
    are of cells counted before, or top-1 is more than 0.5 points below that of single looks at these cells.
    """
    threads = live_threads()
    cv2.setNumThreads(threads.opencv)
    classifier = Classifier(read_model_file(model or default_model_path()), threads=threads.interpreter)
    table = Table(title="cells counted on drawn slides")
    for heading in ("seed", "shown", "counted", "missed", "briefly", "twice", "none", "top-1", "single"):
        table.add_column(heading, justify="right")
    trials = []
    with Progress() as progress:
        for seed in range(seeds):
            progress.at("Counting on slides", seed, seeds)
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


def _tracker_row(score: Score) -> list[str]:
    counts = score.shown, score.counted, score.missed, score.briefly, score.twice, score.nothing
    return [*map(str, counts), f"{score.top1:.1%}", f"{score.single_top1:.1%}"]
