"""The command that measures µm per pixel from red cells."""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from hematovision.errors import ImageError
from hematovision.images import list_images, read_image
from hematovision.red_cells import RED_CELL_UM, measure_red_cells, measure_scale


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(exists=True, path_type=Path)
)
def calibrate(paths: tuple[Path, ...]) -> None:
    """Measure µm per pixel from the red cells in images, or in folders of images.

    All images must come from the same microscope, objective and camera resolution: their red cells are
    pooled. The median diameter of whole, single red cells is taken to be 7.5 µm; people's means differ from
    that by a few per cent. A stage micrometer is more exact, where there is one.

    What cannot be read is reported and the rest is still used; the exit status is then 1. It is also 1 when
    there are too few red cells to tell, or they differ too much in size.
    """
    images: list[Path] = []
    failed = 0
    for path in paths:
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            click.echo(f"{path}: no images in this folder", err=True)
            failed += 1
        images += found
    diameters: list[NDArray[np.float32]] = []
    console = Console(stderr=True)
    for image in track(images, "Measuring", console=console, transient=True, disable=not console.is_terminal):
        try:
            diameters.append(_red_cells(image))
        except ImageError as error:
            click.echo(str(error), err=True)
            failed += 1
    if failed:
        click.echo(f"{failed} of the images and folders given could not be used", err=True)
    scale = measure_scale(diameters)
    click.echo(f"{scale.um_per_pixel:.4f} µm per pixel, 95 % interval {scale.low:.4f} to {scale.high:.4f}")
    click.echo(
        f"measured on {scale.cells} red cells in {scale.images} of {len(diameters)} images: "
        f"their median diameter, {RED_CELL_UM / scale.um_per_pixel:.1f} pixels, is {RED_CELL_UM} µm"
    )
    click.echo(f"use it with --um-per-pixel {scale.um_per_pixel:.4f}")
    if failed:
        raise SystemExit(1)


def _red_cells(path: Path) -> NDArray[np.float32]:
    image = read_image(path)
    try:
        return measure_red_cells(image)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
