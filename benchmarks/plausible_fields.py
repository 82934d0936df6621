"""How many fields of each laboratory would be refused, as they are and with red and blue swapped.

``python -m benchmarks.plausible_fields DATA [EVERY]``: every so manieth picture of PBC (10), all of the rest.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from hematovision.images import RGBImage, read_image
from hematovision.optics import measure_field
from hematovision.plausibility import dark_object_note, is_empty, look_at, typical, why_no_smear

#: Folder of each laboratory's fields below the data, the pattern of their names, and their scale.
LABORATORIES = {
    "kaggle-blood-cells": ("kaggle-blood-cells/Original_Images", "*.jpg", 0.083),
    "chula": ("chula/images", "*.jpg", 0.097),
    "bcisc": ("bcisc", "*/*.jpg", 0.134),
    "raabin": ("raabin", "*/*.jpg", 0.06),
    "aslan": ("aslan/images", "*.png", 0.136),
    "pbc": ("pbc", "*/*.jpg", 0.104),
    "tecom": ("tecom/images", "*.bmp", 0.2),
}


def fields_of(data: Path, laboratory: str, every: int = 1) -> Iterator[tuple[RGBImage, float]]:
    """Read every so manieth field of a laboratory: (height, width, 3) uint8 RGB, and µm per pixel.

    Raises:
        ImageError: one cannot be read.
    """
    folder, pattern, um_per_pixel = LABORATORIES[laboratory]
    for path in sorted((data / folder).glob(pattern))[::every]:
        yield read_image(path), um_per_pixel


def main(data: Path, every: int) -> None:
    """Print a line for each laboratory."""
    click.echo("laboratory          fields  refused  empty  dark object  swapped: refused  their median")
    for laboratory in LABORATORIES:
        right, swapped = [], []
        for image, scale in fields_of(data, laboratory, every if laboratory == "pbc" else 1):
            right.append(look_at(measure_field(image, scale)))
            swapped.append(look_at(measure_field(np.ascontiguousarray(image[..., ::-1]), scale)))
        refused, wrong = (sum(why_no_smear(seen) is not None for seen in group) for group in (right, swapped))
        click.echo(
            f"{laboratory:20}{len(right):6}{refused:9}{sum(map(is_empty, right)):7}"
            f"{sum(dark_object_note(seen) is not None for seen in right):13}{wrong / len(right):18.0%}"
            f"{'refused' if why_no_smear(typical(swapped)) else 'passed':>14}",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
