"""The command that measures µm per pixel from red cells, or records the light of an empty field."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edge.blank_field import record_blank, write_blank
from edge.cameras import Camera, Frame, open_camera
from edge.command_options import notice
from edge.scale import ENOUGH_RED_CELLS, MOST_FRAMES, VIDEO_STEP
from hematovision.blank_field import STEPS
from hematovision.errors import CameraError, ImageError, SettingError
from hematovision.image_folder import read_folder, require_no_own_picture
from hematovision.images import RGBImage, read_image, shown_path
from hematovision.red_cells import RED_CELL_UM, measure_red_cells, measure_scale
from hematovision.terminal.progress import Progress

# With so many, what a blank field adds to a frame's noise is a fifth of it, which makes 2 % more.
_BLANK_FRAMES = 25
_FEW_FRAMES = 8
# A camera that gives nothing better is not waited for any longer.
_MOST_LOST = 25


@click.command()
@click.argument("paths", nargs=-1, metavar="[IMAGE]...", type=click.Path(exists=True, path_type=Path))
@click.option("--blank", is_flag=True, help="Record the light of an empty field, instead of measuring.")
@click.option("--camera", "spec", metavar="CAMERA", help="A camera in place of images.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --blank: where to write it.  [default: blank.png]",
)
def calibrate(paths: tuple[Path, ...], blank: bool, spec: str | None, out: Path | None) -> None:
    """Measure µm per pixel from the red cells in images, or in folders of images.

    All images must come from the same microscope, objective and camera resolution: their red cells are
    pooled. The median diameter of whole, single red cells is taken to be 7.5 µm; people's means differ from
    that by a few per cent. A stage micrometer is more exact, where there is one.

    What cannot be read is reported and the rest is still used; the exit status is then 1. It is also 1 when
    there are too few red cells to tell, or they differ too much in size.

    With --camera: move to other cells every few seconds, until there are enough.

    With --blank: record the light of an empty field, dust and vignetting included, from images or a camera.
    Move to glass without cells, a little out of focus, with the lamp and the exposure that the smear is
    looked at with, and white balance locked. Commands that look at cells then take the file as --blank FILE.
    """
    if bool(paths) == (spec is not None):
        raise SettingError("give either images or folders of images, or --camera")
    if not blank:
        if out is not None:
            raise SettingError("--out goes with --blank; a scale is only said")
        if spec is None:
            _measure_scale(paths)
        else:
            _measure_scale_with(spec)
        return
    out = out or Path("blank.png")
    if not out.parent.is_dir():
        raise SettingError(f"--out {shown_path(out)}: there is no such folder; make it, or name another")
    frames: _Frames | None = None
    if spec is None:
        recorded, count = record_blank(_of_files(paths), shown_path(out))
    else:
        with open_camera(spec, math.nan) as camera:
            frames = _Frames(camera)
            recorded, count = record_blank(islice(frames, _BLANK_FRAMES), shown_path(out))
    write_blank(recorded, out)
    height, width = recorded.levels.shape[:2]
    frames_said = f"{count} frame{'s' * (count != 1)}"
    click.echo(f"{shown_path(out)}: the light of {width}x{height} pixels, the mean of {frames_said}")
    low, middle, high = np.percentile(recorded.levels[::4, ::4], (1, 50, 99), axis=(0, 1)) / STEPS
    for name, *levels in zip(("red", "green", "blue"), low, middle, high, strict=True):
        click.echo(
            "{}: {:.0f} in the darkest places, {:.0f} in most, {:.0f} at its brightest".format(name, *levels)
        )
    if count < _FEW_FRAMES:
        click.echo(f"the noise of so few comes into every crop; {_BLANK_FRAMES} frames are better", err=True)
    click.echo(f"use it with --blank {shown_path(out)}")
    if frames is not None:
        frames.fail_if_files_were_lost()


def _of_files(paths: tuple[Path, ...]) -> Iterator[tuple[str, RGBImage]]:
    images: list[Path] = []
    for path in paths:
        images += _images_of(path)
    with Progress() as progress:
        for done, image in enumerate(images):
            progress.at("Recording the light of images", done, len(images))
            yield shown_path(image), read_image(image, may_be_neutral=True)


def _images_of(path: Path) -> tuple[Path, ...]:
    """An image, or those below a folder; what of it is left out is said."""
    if not path.is_dir():
        require_no_own_picture(path)
        return (path,)
    found = read_folder(path)
    if not found.images:
        raise ImageError(f"{shown_path(path)}: {found.without_images}")
    if found.remark is not None:
        click.echo(f"{shown_path(path)}: {found.remark}", err=True)
    return found.images


class _Frames:
    """The frames of an open camera that can be used, each with what it is called; the others are said."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._lost = 0

    def __iter__(self) -> Iterator[tuple[str, RGBImage]]:
        if self.camera.remark is not None:
            click.echo(self.camera.remark, err=True)
        for frame in self.camera.frames():
            if isinstance(frame, Frame):
                yield f"{shown_path(frame.source)}, frame {frame.sequence}", frame.image
                continue
            self._lost += 1
            notice(frame.error)
            if self._lost == _MOST_LOST:
                raise CameraError(
                    f"{self.camera.name}: {self._lost} frames that cannot be used; see to them first"
                )

    def fail_if_files_were_lost(self) -> None:
        """End with status 1 where some were; of a live camera, which gives others, that is no failure."""
        if self._lost and not self.camera.live:
            raise SystemExit(1)


def _measure_scale(paths: tuple[Path, ...]) -> None:
    images: list[Path] = []
    failed = 0
    for path in paths:
        try:
            images += _images_of(path)
        except ImageError as error:
            click.echo(str(error), err=True)
            failed += 1
    diameters: list[NDArray[np.float32]] = []
    with Progress() as progress:
        for done, image in enumerate(images):
            progress.at("Measuring red cells in images", done, len(images))
            try:
                diameters.append(_red_cells(image))
            except ImageError as error:
                notice(str(error))
                failed += 1
    if failed:
        click.echo(f"{failed} of the images and folders given could not be used", err=True)
    _say_scale(diameters)
    if failed:
        raise SystemExit(1)


def _measure_scale_with(spec: str) -> None:
    with open_camera(spec, math.nan) as camera, Progress() as progress:
        frames = _Frames(camera)
        diameters = _red_cells_of_camera(frames, progress)
    _say_scale(diameters)
    frames.fail_if_files_were_lost()


def _red_cells_of_camera(frames: _Frames, progress: Progress) -> list[NDArray[np.float32]]:
    diameters: list[NDArray[np.float32]] = []
    for _, image in islice(frames, 0, None, 1 if frames.camera.places_apart else VIDEO_STEP):
        diameters.append(measure_red_cells(image))
        progress.at("Measuring red cells, enough of them", sum(map(len, diameters)), ENOUGH_RED_CELLS)
        if len(diameters) == MOST_FRAMES or sum(map(len, diameters)) >= ENOUGH_RED_CELLS:
            break
    return diameters


def _say_scale(diameters: list[NDArray[np.float32]]) -> None:
    scale = measure_scale(diameters)
    click.echo(f"{scale.um_per_pixel:.4f} µm per pixel, 95 % interval {scale.low:.4f} to {scale.high:.4f}")
    click.echo(
        f"measured on {scale.cells} red cells in {scale.images} of {len(diameters)} images: "
        f"their median diameter, {RED_CELL_UM / scale.um_per_pixel:.1f} pixels, is {RED_CELL_UM} µm"
    )
    click.echo(f"use it with --um-per-pixel {scale.um_per_pixel:.4f}")


def _red_cells(path: Path) -> NDArray[np.float32]:
    image = read_image(path)
    try:
        return measure_red_cells(image)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
