"""What the commands of the device share: options, loading the model, what they say of themselves."""

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import click
import cv2

from edge.blank_field import read_blank
from edge.cameras import Camera
from edge.config import find_file, load_settings, state_folder
from edge.scale import choose_scale
from hematovision.blank_field import BlankField
from hematovision.classifier import Classifier, default_model_path
from hematovision.model_file import read_model_file
from hematovision.runtime import AUTO, PACKAGES
from hematovision.terminal.progress import Progress

model_option = click.option(
    "--model", metavar="FILE", help="Model file (.tflite); the one that comes with hematovision if not given."
)
finder_option = click.option(
    "--finder",
    metavar="FILE",
    help="Finder's file (.tflite); the one that comes with hematovision if not given.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice((AUTO, *PACKAGES)),
    help="What runs the model; auto, if not given, takes the first of the others that is installed.",
)
scale_option = click.option(
    "--um-per-pixel",
    type=float,
    metavar="X",
    help="Scale of the images; of files it is measured from their red cells if not given.",
)
blank_option = click.option(
    "--blank",
    metavar="FILE",
    help="Picture of the empty field, which every frame is divided by; hematovision calibrate --blank "
    "records it.",
)
config_option = click.option(
    "--config", metavar="FILE", help="Settings file; /etc/hematovision.toml where there is one, if not given."
)


def with_state_folder(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a device's state folder, and the folder as its first argument."""

    @config_option
    @click.option("--folder", metavar="DIR", help="The device's folder, whatever the settings say.")
    @functools.wraps(command)
    def with_folder(config: str | None, folder: str | None, **arguments: object) -> None:
        place = Path(folder) if folder is not None else state_folder(load_settings(find_file(config)))
        command(place, **arguments)

    return with_folder


#: Of a camera whose scale is still to be measured: nothing can be classified with it by mistake.
NO_SCALE = math.nan
NOTE = "Research and teaching use; not a medical device."


def load_classifier(model: str | None, runtime: str | None, opencv_threads: int, threads: int) -> Classifier:
    """The classifier of a command, and how many threads OpenCV and the interpreter may have each."""
    cv2.setNumThreads(opencv_threads)
    return Classifier(read_model_file(model or default_model_path()), runtime or AUTO, threads)


def load_blank(path: str | None) -> BlankField | None:
    """The blank field of a command, if one was given."""
    return None if path is None else read_blank(Path(path))


def scale_of(given: float | None, cameras: list[Camera]) -> float:
    """µm per pixel of a batch, given or measured; how it was measured is said. See `choose_scale`."""
    with Progress() as progress:
        um_per_pixel, line = choose_scale(given, cameras, progress.of("Measuring µm per pixel on red cells"))
    notice(line)
    return um_per_pixel


def notice(line: str | None) -> None:
    """Say something beside the results, if there is something to say; above a live display."""
    if line is not None:
        # Not err=True: that passes by what a live display puts in its place, and is painted over.
        click.echo(line, file=sys.stderr)


def made_with(classifier: Classifier, um_per_pixel: float) -> str:
    """What a result was made with, in a line."""
    model = classifier.model
    scale = "" if math.isnan(um_per_pixel) else f", {um_per_pixel:.4g} µm per pixel"
    return f"{model.path.name} ({model.model_hash[:12]}) on {classifier.loaded}{scale}."
