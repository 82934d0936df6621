"""A picture as the page shows it: small enough for a browser, its cells boxed and named."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np

from edge.annotate import annotate
from edge.pipeline import SeenCell
from edge.stills import NamedCell
from hematovision.images import RGBImage

#: A picture is shown no wider.
WIDTH_PX = 960
_JPEG_QUALITY = 80

_Cell = TypeVar("_Cell", SeenCell, NamedCell)


def draw(image: RGBImage, cells: Sequence[_Cell]) -> bytes:
    """A picture, (height, width, 3) uint8 RGB, with its cells, as JPEG at most `WIDTH_PX` wide.

    The picture given is only read: it may be in use elsewhere.
    """
    height, width = image.shape[:2]
    scale = min(1.0, WIDTH_PX / width)
    if scale < 1:
        # Averaging to a whole part of the size first: averaging to any size takes five times as long.
        part = width // WIDTH_PX
        if part > 1:
            image = cv2.resize(image, (width // part, height // part), interpolation=cv2.INTER_AREA)
        size = WIDTH_PX, max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    drawn = annotate(image, [_scaled(cell, scale) for cell in cells]) if cells else image
    quality = cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY
    _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), quality)
    return bytes(np.ascontiguousarray(data))


def _scaled(cell: _Cell, scale: float) -> _Cell:
    x, y, width, height = (value * scale for value in cell.region.box)
    return replace(cell, region=replace(cell.region, box=(x, y, width, height)))
