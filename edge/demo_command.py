"""``hematovision demo``: the device at work on the phantom, beside its truth."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from edge.annotate import annotate, prepare_folder, write_new
from edge.cameras import LostFrame
from edge.cameras.phantom import PhantomCamera
from edge.command_options import NO_SCALE, NOTE, load_classifier, made_with, model_option, runtime_option
from edge.phantom_score import PhantomScore
from edge.pipeline import LiveLine, Pipeline, SeenFrame, live_threads
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import CameraError
from hematovision.terminal.interrupts import finishing_what_is_begun, up_to

if TYPE_CHECKING:
    from edge.differential import Differential

# Chosen for nothing but that its slide has some of everything.
_SLIDE = "seed=3"


@click.command()
@model_option
@runtime_option
@click.option("--out", metavar="DIR", help="Write two of the frames to DIR, the cells boxed and named.")
@click.option("--timing", is_flag=True, help="Say at the end how long each step took.")
def demo(model: str | None, runtime: str | None, out: str | None, timing: bool) -> None:
    """Count the cells of a drawn slide that is moved under the microscope, and end with the truth beside it.

    The stage dwells, pans, loses the focus, comes back to fields seen before and jumps. The slide is drawn,
    and the model has learnt drawn cells too: how many it names right here says nothing about a real smear.
    """
    from edge.differential import Differential
    from edge.tally import Tally  # its limits need SciPy, which takes longer to load than all the rest

    if out is not None:
        prepare_folder(Path(out))
    threads = live_threads()
    classifier = load_classifier(model, runtime, threads.opencv, threads.interpreter)
    camera = PhantomCamera(_SLIDE, NO_SCALE)
    line, score = LiveLine(classifier), PhantomScore()
    tally = Tally(classifier.model.manifest)
    console = Console(highlight=False)
    fullest: SeenFrame | None = None
    pipeline = Pipeline(camera, line)
    display = Live(
        console=console, transient=True, get_renderable=lambda: Group(tally.table(), *pipeline.notes())
    )
    with finishing_what_is_begun() as interrupted, pipeline, display:
        for result in up_to(interrupted, pipeline.results()):
            if isinstance(result, LostFrame):
                raise CameraError(result.error)
            tally.add(result)
            score.see(result)
            if fullest is None or _counted_in(result) > _counted_in(fullest):
                fullest = result
    counts = score.score()
    console.print(_beside_truth(tally.differential, Differential(counts.shown_of_class)))
    for text in (
        f"{counts.counted} cells counted, {counts.right} under the class that they were drawn as; "
        f"{counts.twice} counted twice, {counts.nothing} counts of what is no cell.",
        f"{counts.shown} cells were shown long enough to be counted; of these {counts.missed} were not.",
        *pipeline.notes(),
        made_with(classifier, camera.um_per_pixel),
        f"A drawn slide: this shows that the device runs, not how well it names real cells. {NOTE}",
    ):
        console.print(text, markup=False, soft_wrap=True)
    if timing:
        console.print(line.times.table())
    if out is not None and fullest is not None:
        for image, stem in (
            (fullest.frame.image, "phantom"),
            (annotate(fullest.frame.image, fullest.cells), "phantom_cells"),
        ):
            click.echo(f"wrote {write_new(image, Path(out), stem)}", err=True)
    if interrupted():
        raise KeyboardInterrupt


def _counted_in(result: SeenFrame) -> int:
    """How many different classes, then cells, a frame shows that are counted."""
    names = [cell.prediction.class_name for cell in result.cells if cell.counted and cell.prediction]
    return 100 * len(set(names)) + len(names)


def _beside_truth(counted: "Differential", shown: "Differential") -> Table:
    from edge.tally import share_row

    table = Table(title="Counted, beside what was shown long enough", title_justify="left")
    table.add_column("Class")
    for heading in ("Counted", "%", "95 % limits", "Shown", "%"):
        table.add_column(heading, justify="right")
    for name in CLASS_NAMES:
        share, truth = counted.share(name), shown.share(name)
        table.add_row(name, *share_row(share), str(truth.count), share_row(truth)[1])
    table.add_section()
    table.add_row(f"{UNCLASSIFIED}, of all", *share_row(counted.unclassified_share), "0", "0.0")
    return table
