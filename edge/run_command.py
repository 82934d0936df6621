"""``hematovision run``: count the white cells that a camera sees."""

import click
from rich.console import Console, Group
from rich.live import Live

from edge.cameras import CAMERA_KINDS, Camera, LostFrame, open_camera
from edge.command_options import (
    NO_SCALE,
    blank_option,
    load_blank,
    load_classifier,
    made_with,
    model_option,
    notice,
    runtime_option,
    scale_of,
    scale_option,
)
from edge.differential import TARGETS
from edge.lamp import LampWatch
from edge.pipeline import LiveLine, Pipeline, StillLine, live_threads
from edge.scale import ScaleWatch
from hematovision.errors import HematoVisionError, SettingError

_KINDS = "; ".join(f"{kind.usage} {kind.help}" for kind in CAMERA_KINDS)


@click.command()
@click.option(
    "--camera", "spec", required=True, metavar="CAMERA", help=f"Where the frames come from: {_KINDS}."
)
@model_option
@runtime_option
@scale_option
@blank_option
@click.option(
    "--target",
    type=click.Choice([str(target) for target in TARGETS]),
    help="End when so many cells have been given a class.",
)
@click.option("--timing", is_flag=True, help="Say at the end how long each step took.")
def run(
    spec: str,
    model: str | None,
    runtime: str,
    um_per_pixel: float | None,
    blank: str | None,
    target: str | None,
    timing: bool,
) -> None:
    """Count the white cells that a camera sees, each of them once: a live differential, then a summary.

    Move the slide a little at a time and rest for a moment: a cell counts when enough looks at it agree, and
    not again when it comes back into view. Cells cut by the border are not counted, as at the microscope.
    Ctrl-C ends it.
    """
    from edge.tally import Tally  # its limits need SciPy, which takes longer to load than all the rest

    camera = open_camera(spec, NO_SCALE if um_per_pixel is None else um_per_pixel)
    threads = live_threads()
    classifier = load_classifier(model, runtime, threads.opencv, threads.interpreter)
    scale = _scale(um_per_pixel, camera)
    camera = open_camera(spec, scale)
    line = (StillLine if camera.places_apart else LiveLine)(classifier, load_blank(blank))
    tally = Tally(classifier.model.manifest, None if target is None else int(target))
    console = Console(highlight=False)
    console.print(made_with(classifier, scale), markup=False, soft_wrap=True)
    ended: HematoVisionError | None = None
    stopped = opened = losing = False
    pipeline = Pipeline(camera, line)
    watch, lamp = ScaleWatch(scale), LampWatch()
    display = Live(
        console=console,
        transient=True,
        # Drawn some times a second, not for every frame.
        get_renderable=lambda: Group(tally.table(), *pipeline.notes()),
        # What is said beside the display comes above it, unless it goes to a file.
        redirect_stderr=Console(stderr=True).is_terminal,
    )
    try:
        with pipeline, display:
            opened = True
            for result in pipeline.results():
                tally.add(result)
                if isinstance(result, LostFrame):
                    # A camera in the dark loses thirty a second: the first is said, all are counted.
                    if not (camera.live and losing):
                        notice(f"Error: {result.error}")
                    losing = True
                else:
                    losing = False
                    with line.times.step("check"):
                        said = watch.see(result.frame, camera), lamp.see(result.field)
                    notice(said[0])
                    notice(said[1])
                if tally.target_reached:
                    break
    except KeyboardInterrupt:
        stopped = True
    except HematoVisionError as error:
        if not opened:
            raise
        ended = error  # what was counted until then is still shown
    notice(watch.end())
    console.print(tally.table())
    for text in (*tally.summary(), *pipeline.notes()):
        console.print(text, markup=False, soft_wrap=True)
    if timing:
        console.print(line.times.table())
    if stopped and not camera.live:
        click.echo("Stopped before the last frame.", err=True)
    if ended is not None:
        raise ended
    if tally.lost and not camera.live:  # a live camera gives another
        raise SystemExit(1)


def _scale(given: float | None, camera: Camera) -> float:
    """µm per pixel of a run. A live camera's is not guessed from whatever lies under it when it starts."""
    if camera.um_per_pixel is not None:
        return camera.um_per_pixel
    if camera.live and given is None:
        raise SettingError(
            f"{camera.name}: a live camera needs --um-per-pixel; hematovision calibrate --camera measures it"
        )
    return scale_of(given, [camera])
