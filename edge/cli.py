"""The commands of the device: classify, run, demo."""

import math
import os
from pathlib import Path

import click
import cv2
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edge.annotate import annotate, prepare_folder, write_new
from edge.cameras import Camera, Frame, LostFrame, open_camera
from edge.cameras.folder import FolderCamera
from edge.cameras.video import VIDEO_SUFFIXES, VideoCamera
from edge.classifier import Classifier, default_model_path
from edge.output import CellTable, CsvRows, JsonLines, Output
from edge.pipeline import NamedField, name_cells, name_frames
from edge.runtime import AUTO, PACKAGES, default_threads
from edge.scale import ScaleWatch, choose_scale
from hematovision.errors import CameraError, ImageError, SettingError
from hematovision.model_file import read_model_file
from hematovision.phantom import PhantomFrame, draw_field

_OUTPUTS: dict[str, type[Output]] = {"table": CellTable, "jsonl": JsonLines, "csv": CsvRows}
# Of a camera whose scale is still to be measured: nothing can be classified with it by mistake.
_NO_SCALE = math.nan
_DEMO_SEED = 3
# A nucleus found this near to a drawn one is that one; drawn cells are 20 µm apart.
_SAME_CELL_UM = 4.0

_model_option = click.option(
    "--model", metavar="FILE", help="Model file (.tflite); the one that comes with hematovision if not given."
)
_runtime_option = click.option(
    "--runtime",
    type=click.Choice((AUTO, *PACKAGES)),
    default=AUTO,
    help="What runs the model; auto takes the first of the others that is installed.",
)
_scale_option = click.option(
    "--um-per-pixel",
    type=float,
    metavar="X",
    help="Scale of the images; measured from their red cells if not given.",
)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_model_option
@_runtime_option
@_scale_option
@click.option("--single", is_flag=True, help="Images of one cell each: name only the most prominent.")
@click.option(
    "--format", "form", type=click.Choice(tuple(_OUTPUTS)), default="table", help="Form of the results."
)
@click.option("--annotate", "copies", metavar="DIR", help="Write copies to DIR, the cells boxed and named.")
def classify(
    paths: tuple[str, ...],
    model: str | None,
    runtime: str,
    um_per_pixel: float | None,
    single: bool,
    form: str,
    copies: str | None,
) -> None:
    """Find and name the white cells in images, folders of images, or videos.

    What cannot be read is reported and the rest is still classified; the exit status is then 1.
    """
    if copies is not None:
        prepare_folder(Path(copies))
    classifier = _load(model, runtime)
    scale = _scale(um_per_pixel, [_camera_of(path, _NO_SCALE) for path in paths])
    watch = ScaleWatch(scale)
    output = _OUTPUTS[form]()
    looked_at = cells = failed = 0

    def fail(image: str, frame: int | None, error: str) -> None:
        nonlocal failed
        failed += 1
        click.echo(f"Error: {error}", err=True)
        output.failure(image, frame, error)

    try:
        for path in paths:
            camera = _camera_of(path, scale)
            try:
                with camera:
                    for result in name_frames(camera, classifier, single):
                        if isinstance(result, LostFrame):
                            fail(result.source, _number(camera, result), result.error)
                            continue
                        looked_at += 1
                        cells += len(result.cells)
                        source, number = result.frame.source, _number(camera, result.frame)
                        output.field(source, number, result)
                        _notice(watch.see(result.frame, camera))
                        if copies is not None:
                            try:
                                stem = _copy_stem(path, source, number)
                                write_new(annotate(result.frame.image, result.cells), Path(copies), stem)
                            except ImageError as error:
                                fail(source, number, str(error))
            except CameraError as error:
                fail(path, None, str(error))
    finally:
        # A table is shown also where something ends the batch half-way.
        output.end()
    click.echo(_made_with(classifier, scale), err=True)
    click.echo(f"Looked at: {looked_at}. White cells: {cells}. Failed: {failed}.", err=True)
    if failed:
        raise SystemExit(1)


@click.command()
@click.option(
    "--camera",
    "spec",
    required=True,
    metavar="CAMERA",
    help="Where the frames come from: folder:DIR, each image in it a place of its own.",
)
@_model_option
@_runtime_option
@_scale_option
def run(spec: str, model: str | None, runtime: str, um_per_pixel: float | None) -> None:
    """Count the white cells that a camera sees: a live differential, then a summary. Ctrl-C ends it.

    Cells cut by the border of an image are not counted, as at the microscope; they are shown apart.
    """
    from edge.tally import Tally  # its limits need SciPy, which takes longer to load than all the rest

    camera = open_camera(spec, _NO_SCALE)
    if not camera.places_apart:
        raise SettingError(
            f"{spec}: a cell stays in view over many frames and would be counted in each; "
            "name the cells frame by frame with hematovision classify"
        )
    classifier = _load(model, runtime)
    scale = _scale(um_per_pixel, [camera])
    watch = ScaleWatch(scale)
    tally = Tally(classifier.model.manifest)
    console = Console(highlight=False)
    console.print(_made_with(classifier, scale), markup=False, soft_wrap=True)
    stopped = False
    with open_camera(spec, scale) as camera, Live(tally.table(), console=console, transient=True) as live:
        try:
            for result in name_frames(camera, classifier):
                tally.add(result)
                if isinstance(result, LostFrame):
                    click.echo(f"Error: {result.error}", err=True)
                else:
                    _notice(watch.see(result.frame, camera))
                live.update(tally.table())
        except KeyboardInterrupt:
            stopped = True
    console.print(tally.table())
    for line in tally.summary():
        console.print(line, markup=False, soft_wrap=True)
    if stopped:
        click.echo("Stopped before the last frame.", err=True)
    if tally.lost:
        raise SystemExit(1)


@click.command()
@_model_option
@_runtime_option
@click.option("--out", metavar="DIR", help="Write the drawn field to DIR, as it is and with its cells named.")
def demo(model: str | None, runtime: str, out: str | None) -> None:
    """Find and name the cells of a drawn smear, beside what they were drawn as.

    It shows that everything is installed and runs. The model was trained on real cells, not on drawn ones:
    how many of these it names right says nothing about how well it does on a smear.
    """
    if out is not None:
        prepare_folder(Path(out))
    classifier = _load(model, runtime)
    field = draw_field(_DEMO_SEED)
    frame = Frame.now(field.image, 0, field.um_per_pixel, "phantom")
    named = name_cells(frame, classifier)
    table, found = _beside_truth(field, named)
    console = Console(highlight=False)
    console.print(table)
    for line in (
        f"{found} of {len(field.cells)} drawn cells found, in {named.find_ms:.0f} ms; "
        f"all named in {named.classify_ms:.0f} ms.",
        _made_with(classifier, field.um_per_pixel),
        "The cells are drawn and the model was trained on real ones: this shows that the device runs, not "
        "how well it names cells. Research and teaching use; not a medical device.",
    ):
        console.print(line, markup=False, soft_wrap=True)
    if out is not None:
        for image, stem in ((field.image, "phantom"), (annotate(field.image, named.cells), "phantom_cells")):
            click.echo(f"wrote {write_new(image, Path(out), stem)}", err=True)


def _load(model: str | None, runtime: str) -> Classifier:
    # Finding and naming take turns, so each may have every core that the interpreter gets.
    cv2.setNumThreads(default_threads())
    return Classifier(read_model_file(model or default_model_path()), runtime)


def _scale(given: float | None, cameras: list[Camera]) -> float:
    um_per_pixel, notice = choose_scale(given, cameras)
    _notice(notice)
    return um_per_pixel


def _notice(line: str | None) -> None:
    if line is not None:
        click.echo(line, err=True)


def _camera_of(path: str, um_per_pixel: float) -> Camera:
    """A video by its ending; else a folder of images or a single one."""
    # Unlike Path's, this raises nothing for a path that cannot be looked at: opening the camera tells why.
    if Path(path).suffix.lower() in VIDEO_SUFFIXES and not os.path.isdir(path):  # noqa: PTH112
        return VideoCamera(path, um_per_pixel)
    return FolderCamera(path, um_per_pixel)


def _number(camera: Camera, frame: Frame | LostFrame) -> int | None:
    """Number of a frame, where it is one of several in a file."""
    return None if camera.places_apart else frame.sequence


def _copy_stem(given: str, source: str, number: int | None) -> str:
    """Name of a copy: with the folder that was given, what lies below it and the ending, so that it tells."""
    name = Path(source).name
    if source != given:
        name = f"{Path(given).resolve().name}/{Path(source).relative_to(given)}"
    return name + ("" if number is None else f"-{number:06d}") + "_cells"


def _made_with(classifier: Classifier, um_per_pixel: float) -> str:
    model = classifier.model
    scale = "" if math.isnan(um_per_pixel) else f", {um_per_pixel:.4g} µm per pixel"
    return f"{model.path.name} ({model.model_hash[:12]}) on {classifier.loaded}{scale}."


def _beside_truth(field: PhantomFrame, named: NamedField) -> tuple[Table, int]:
    """A table of drawn cells and their names, and how many of them were found."""
    table = Table("Drawn", "Named", "Probability", "Nucleus drawn, µm²", "Nucleus found, µm²")
    left = list(named.cells)
    for cell in field.cells:
        near = [
            one
            for one in left
            if math.dist(one.region.center, cell.center) * field.um_per_pixel <= _SAME_CELL_UM
        ]
        if not near:
            table.add_row(cell.class_name, "not found", "", f"{cell.nucleus_area_um2:.0f}", "")
            continue
        left.remove(near[0])
        table.add_row(
            cell.class_name,
            near[0].prediction.class_name,
            f"{near[0].prediction.probability:.2f}",
            f"{cell.nucleus_area_um2:.0f}",
            f"{near[0].region.nucleus_area_um2:.0f}",
        )
    for one in left:
        table.add_row("nothing", one.prediction.class_name, f"{one.prediction.probability:.2f}", "", "")
    return table, len(named.cells) - len(left)
