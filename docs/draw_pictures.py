"""Draws the pictures of the README: ``python docs/draw_pictures.py`` writes them beside itself."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge.annotate import annotate
from edge.cameras import LostFrame
from edge.cameras.phantom import PhantomCamera
from edge.pipeline import LiveLine, SeenFrame
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import Classifier, default_model_path
from hematovision.model_file import read_model_file
from hematovision.phantom import Microscope, Pose, Slide, Smear

_FOLDER = Path(__file__).parent
_CELL_UM, _CELL_UM_PER_PIXEL, _SEEDS = 24.0, 0.06, (4, 5, 5, 2)
_LABEL_PX = 40
_QUALITY = 90


def draw_cells() -> Image.Image:
    """One cell of each class, its name below it."""
    side = round(_CELL_UM / _CELL_UM_PER_PIXEL)
    sheet = Image.new("RGB", (side * len(CLASS_NAMES), side + _LABEL_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(24)
    middle = _CELL_UM / 2
    for number, (name, seed) in enumerate(zip(CLASS_NAMES, _SEEDS, strict=True)):
        smear = Smear(seed, _CELL_UM / 1000, _CELL_UM / 1000, _CELL_UM_PER_PIXEL)
        microscope = Microscope(Slide(smear, [(name, (middle, middle))]), side, side, vignetting=0.0)
        sheet.paste(Image.fromarray(microscope.look(Pose(middle, middle)).image), (number * side, 0))
        x = number * side + (side - draw.textlength(name, font)) / 2
        draw.text((x, side + 4), name, "black", font)
    return sheet


def draw_field() -> Image.Image:
    """A frame of the demonstration in which most classes are counted, boxed and named."""
    line = LiveLine(Classifier(read_model_file(default_model_path())))
    fullest: SeenFrame | None = None
    with PhantomCamera("seed=3", np.nan) as camera:
        for frame in camera.frames():
            result = frame if isinstance(frame, LostFrame) else line.see(frame)
            if isinstance(result, SeenFrame) and (fullest is None or _kinds(result) > _kinds(fullest)):
                fullest = result
    assert fullest is not None
    return Image.fromarray(annotate(fullest.frame.image, fullest.cells))


def _kinds(result: SeenFrame) -> tuple[int, int]:
    names = [cell.prediction.class_name for cell in result.cells if cell.counted and cell.prediction]
    return len(set(names)), len(names)


if __name__ == "__main__":
    draw_cells().save(_FOLDER / "cells.jpg", quality=_QUALITY)
    draw_field().save(_FOLDER / "field.jpg", quality=_QUALITY)
