"""A copy of a picture with its cells boxed and named."""

import io
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge.pipeline import SeenCell
from edge.stills import NamedCell
from hematovision.cell_classes import CELL_CLASSES, UNCLASSIFIED, UNCLASSIFIED_COLOR
from hematovision.errors import ImageError, SettingError
from hematovision.images import RGBImage, shown_path
from hematovision.own_pictures import DRAWN_OVER, marked

_COLORS = {one.name: one.color for one in CELL_CLASSES} | {UNCLASSIFIED: UNCLASSIFIED_COLOR}
_WHITE = (255, 255, 255)
# Of the picture's longer side.
_TEXT_SHARE = 0.022
_MIN_TEXT_PX = 11
_BOX_MARGIN = 0.15
_JPEG_QUALITY = 92


def annotate(image: RGBImage, cells: Sequence[NamedCell | SeenCell]) -> RGBImage:
    """Draw boxes, names and probabilities: (height, width, 3) uint8 RGB to a copy of the same shape.

    A cell of a run has its number before its name, once it is counted.
    """
    canvas = image.copy()
    rows, columns = canvas.shape[:2]
    text_px = max(_MIN_TEXT_PX, round(_TEXT_SHARE * max(rows, columns)))
    line_px = max(2, text_px // 8)
    # The most prominent cell last, on top.
    for cell in reversed(cells):
        color = _COLORS[cell.prediction.class_name] if cell.prediction else UNCLASSIFIED_COLOR
        x, y, width, height = cell.region.box
        margin = _BOX_MARGIN * max(width, height)
        left, top = max(round(x - margin), 0), max(round(y - margin), 0)
        right = min(round(x + width + margin), columns - 1)
        bottom = min(round(y + height + margin), rows - 1)
        cv2.rectangle(canvas, (left, top), (right, bottom), color, line_px)
        label = _drawn_label(_label(cell), color, text_px)
        high, wide = label.shape[:2]
        label_left = min(left, max(columns - wide, 0))
        label_top = top - high if top >= high else max(min(bottom, rows - high), 0)
        place = canvas[label_top : label_top + high, label_left : label_left + wide]
        place[:] = label[: place.shape[0], : place.shape[1]]
    return canvas


# Writing takes far longer than all else, and in a live picture a cell has its label for many frames.
@lru_cache(maxsize=256)
def _drawn_label(text: str, color: tuple[int, int, int], text_px: int) -> RGBImage:
    font = ImageFont.load_default(text_px)
    label = Image.new("RGB", (round(font.getlength(text)) + 4, round(1.3 * text_px)), color)
    ImageDraw.Draw(label).text((2, 0.1 * text_px), text, fill=_WHITE, font=font)
    return np.asarray(label)


def _label(cell: NamedCell | SeenCell) -> str:
    parts = [f"{cell.prediction.class_name} {cell.prediction.probability:.2f}"] if cell.prediction else []
    if isinstance(cell, SeenCell):
        parts = [f"{cell.number} {part}" if cell.counted else part for part in parts]
    elif not cell.found:
        parts.append("no nucleus found")
    if cell.region.touches_border:
        parts.append("cut")
    return ", ".join(parts) or "not named"


def prepare_folder(folder: Path) -> None:
    """Make a folder where there is none yet, and try whether it can be written to.

    Raises:
        SettingError: it cannot, or is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingError(
            f"{folder}: cannot be written to ({error.strerror}); name another folder"
        ) from error


def write_new(image: RGBImage, folder: Path, stem: str) -> Path:
    """Write an annotated picture as JPEG under a name that no file has yet, and return its path.

    The file bears a mark by which it is never taken for an image of a smear.

    Args:
        image: (height, width, 3) uint8 RGB.
        folder: where to.
        stem: its name less the ending; folders in it are made.

    Raises:
        ImageError: it cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    data = marked(buffer.getvalue(), DRAWN_OVER)
    path, number = folder / f"{stem}.jpg", 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                with path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                number += 1
                path = folder / f"{stem}-{number}.jpg"
            else:
                return path
    except OSError as error:
        raise ImageError(
            f"{shown_path(path)}: the copy cannot be written ({error.strerror}); check name and free space"
        ) from error
