"""A picture as the page shows it: small enough for a browser, its cells boxed and named."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np

from edge.annotate import annotate
from edge.pipeline import SeenCell
from edge.stills import NamedCell
from hematovision.images import RGBImage, shrink
from hematovision.own_pictures import DRAWN_OVER, marked

#: A picture is shown no wider.
WIDTH_PX = 960
_JPEG_QUALITY = 80

_Cell = TypeVar("_Cell", SeenCell, NamedCell)


def draw(image: RGBImage, cells: Sequence[_Cell]) -> bytes:
    """A picture, (height, width, 3) uint8 RGB, with its cells, as JPEG at most `WIDTH_PX` wide.

    The picture given is only read: it may be in use elsewhere.
    """
    return draw_small(shrink(image, WIDTH_PX), cells, image.shape[1])


def draw_small(small: RGBImage, cells: Sequence[_Cell], width: int) -> bytes:
    """The same of a picture that was shrunk already, from so many pixels in width."""
    scale = small.shape[1] / width
    drawn = annotate(small, [_scaled(cell, scale) for cell in cells]) if cells else small
    quality = cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY
    _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), quality)
    jpeg = bytes(np.ascontiguousarray(data))
    # Who saves it beside the images must not have its cells counted again.
    return marked(jpeg, DRAWN_OVER) if cells else jpeg


def _scaled(cell: _Cell, scale: float) -> _Cell:
    x, y, width, height = (value * scale for value in cell.region.box)
    return replace(cell, region=replace(cell.region, box=(x, y, width, height)))
