"""``hematovision classify``: stills and videos, every frame for itself."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from edge.annotate import annotate, prepare_folder, write_new
from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.folder import FolderCamera
from edge.cameras.video import VIDEO_SUFFIXES, VideoCamera
from edge.command_options import (
    NO_SCALE,
    blank_option,
    finder_option,
    load_blank,
    load_classifier,
    made_with,
    model_option,
    notice,
    runtime_option,
    scale_of,
    scale_option,
)
from edge.field_watch import FieldCondition, FieldWatch
from edge.lamp import LampWatch
from edge.output import CellTable, CsvRows, JsonLines, Output
from edge.stills import name_frames
from hematovision.errors import CameraError, ImageError
from hematovision.finder import load_finder
from hematovision.images import shown_path
from hematovision.plausibility import FieldState
from hematovision.runtime import AUTO, default_threads
from hematovision.terminal.interrupts import finishing_what_is_begun, up_to
from hematovision.terminal.progress import Progress

_OUTPUTS: dict[str, type[Output]] = {"table": CellTable, "jsonl": JsonLines, "csv": CsvRows}


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@model_option
@finder_option
@runtime_option
@scale_option
@blank_option
@click.option("--single", is_flag=True, help="Images of one cell each: name only the most prominent.")
@click.option(
    "--format", "form", type=click.Choice(tuple(_OUTPUTS)), default="table", help="Form of the results."
)
@click.option("--annotate", "copies", metavar="DIR", help="Write copies to DIR, the cells boxed and named.")
def classify(
    paths: tuple[str, ...],
    model: str | None,
    finder: str | None,
    runtime: str | None,
    um_per_pixel: float | None,
    blank: str | None,
    single: bool,
    form: str,
    copies: str | None,
) -> None:
    """Find and name the white cells in images, folders of images, or videos.

    What cannot be read is reported and the rest is still classified; the exit status is then 1.
    """
    if copies is not None:
        prepare_folder(Path(copies))
    # Before anything that takes seconds.
    refused, expected = _look_for(paths)
    empty = load_blank(blank)
    output = _OUTPUTS[form]()
    if len(refused) == len(set(paths)):
        for path in paths:
            output.failure(path, None, refused[path])
        output.end()
        click.echo(f"Looked at: 0. White cells: 0. Failed: {len(paths)}.", err=True)
        raise SystemExit(1)
    # Finding and naming take turns, so each may have every core that the interpreter gets.
    classifier = load_classifier(model, runtime, default_threads(), default_threads())
    looking = load_finder(finder, runtime or AUTO)
    scale = scale_of(um_per_pixel, [_camera_of(path, NO_SCALE) for path in paths if path not in refused])
    watch, lamp, told = FieldWatch(scale), LampWatch(), _Told()
    looked_at = cells = failed = 0

    def fail(image: str, frame: int | None, error: str) -> None:
        nonlocal failed
        failed += 1
        notice(f"Error: {error}")
        output.failure(image, frame, error)

    # Results that a person sees as they are made say enough.
    seen = form != "table" and sys.stdout.isatty()
    with ExitStack() as at_end:
        interrupted = at_end.enter_context(finishing_what_is_begun())
        # A table is shown also where something ends the batch half-way.
        at_end.callback(output.end)
        progress = at_end.enter_context(Progress(quiet=seen))
        for path in paths:
            if interrupted():
                break
            if path in refused:
                failed += 1
                output.failure(path, None, refused[path])
                continue
            camera = _camera_of(path, scale)
            try:
                with camera:
                    notice(remark := camera.remark)
                    for result in up_to(
                        interrupted, name_frames(camera, looking, classifier, single, empty, watch)
                    ):
                        progress.at("Classifying", looked_at + failed + 1, expected)
                        if isinstance(result, LostFrame):
                            fail(result.source, _number(camera, result), result.error)
                            continue
                        looked_at += 1
                        cells += len(result.cells)
                        source, number = result.frame.source, _number(camera, result.frame)
                        output.field(source, number, result)
                        notice(watch.scale_line)
                        told.see(source, result.condition)
                        notice(lamp.see(result.field))
                        if copies is not None:
                            try:
                                stem = _copy_stem(path, source, number)
                                write_new(annotate(result.frame.image, result.cells), Path(copies), stem)
                            except ImageError as error:
                                fail(source, number, str(error))
                    if camera.remark != remark:
                        notice(camera.remark)
            except CameraError as error:
                fail(path, None, str(error))
    notice(watch.end())
    click.echo(made_with(classifier, scale), err=True)
    click.echo(f"Looked at: {looked_at}. White cells: {cells}. Failed: {failed}.", err=True)
    if interrupted():
        raise KeyboardInterrupt
    if failed:
        raise SystemExit(1)


class _Told:
    """Says what is odd about images: where the one before was not, and that some are empty once."""

    def __init__(self) -> None:
        self._before: set[str] = set()
        self._empty = False

    def see(self, source: str, condition: FieldCondition) -> None:
        lines = {line.partition(":")[0]: line for line in condition.notes}
        if condition.state is FieldState.NOT_MONOLAYER:
            lines[condition.line.partition(":")[0]] = f"not the monolayer: {condition.line}"
        if condition.state is FieldState.EMPTY and not self._empty:
            self._empty = True
            notice(f"{shown_path(source)}: no cells: {condition.line} (said once)")
        for kind in lines.keys() - self._before:
            notice(f"{shown_path(source)}: {lines[kind]}")
        self._before = set(lines)


def _look_for(paths: Sequence[str]) -> tuple[dict[str, str], int | None]:
    """What is wrong with paths, which is said here, and how many images they are, where that can be told."""
    refused: dict[str, str] = {}
    expected: int | None = 0
    for path in paths:
        try:
            with _camera_of(path, NO_SCALE) as camera:
                known = camera.expected
                expected = None if expected is None or known is None else expected + known
        except CameraError as error:
            if path not in refused:
                notice(f"Error: {error}")
            refused[path] = str(error)
            expected = None if expected is None else expected + 1
    return refused, expected


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
