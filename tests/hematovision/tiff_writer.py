"""A writer of TIFF files in the forms that scientific cameras and programs use, for tests of reading."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNCOMPRESSED, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
TILE = 16  # pixels a side; the format asks for multiples of 16
ROWS = 10  # of a strip

_PLACES, _SIZES = (273, 324), (279, 325)  # of strips, of tiles
_SHORT, _LONG = 3, 4
_FORMS = {_SHORT: "H", _LONG: "I"}


@dataclass(frozen=True)
class Form:
    """How a file is written, and so must be read. ``extra``: kinds of the samples beyond RGB."""

    apart: bool = False
    compression: int = UNCOMPRESSED
    tiled: bool = False
    order: str = "<"
    big: bool = False
    predictor: int = 1
    extra: tuple[int, ...] = ()


def write_tiff(
    pixels: NDArray[Any], form: Form, tags: dict[int, tuple[int, ...]] | None = None, photometric: int = 2
) -> bytes:
    """A TIFF file of (height, width, samples) unsigned pixels; ``tags`` are added or replace what it has."""
    height, width, samples = pixels.shape
    planes = [pixels[..., channel : channel + 1] for channel in range(samples)] if form.apart else [pixels]
    pieces = [_packed(part, form) for plane in planes for part in _parts(plane, form.tiled)]
    counts = tuple(map(len, pieces))
    place, sizes = _PLACES[form.tiled], _SIZES[form.tiled]
    entries: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (8 * pixels.itemsize,) * samples,
        259: (form.compression,),
        262: (photometric,),
        277: (samples,),
        284: (2 if form.apart else 1,),
        317: (form.predictor,),
        place: (0,) * len(counts),
        sizes: counts,
    }
    entries |= {322: (TILE,), 323: (TILE,)} if form.tiled else {278: (ROWS,)}
    entries |= {338: form.extra} if form.extra else {}
    entries |= tags or {}
    if tags is None or place not in tags:
        start = len(_directory(entries, form))
        entries[place] = tuple(start + int(before) for before in np.cumsum([0, *counts[:-1]]))
    return _directory(entries, form) + b"".join(pieces)


def _parts(plane: NDArray[Any], tiled: bool) -> list[NDArray[Any]]:
    height, width, samples = plane.shape
    if not tiled:
        return [plane[top : top + ROWS] for top in range(0, height, ROWS)]
    parts = []
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = np.zeros((TILE, TILE, samples), plane.dtype)
            piece = plane[top : top + TILE, left : left + TILE]
            tile[: piece.shape[0], : piece.shape[1]] = piece
            parts.append(tile)
    return parts


def _packed(part: NDArray[Any], form: Form) -> bytes:
    if form.predictor == 2:
        part = part.copy()
        part[:, 1:] -= part[:, :-1]  # wraps around, as it should
    data = np.ascontiguousarray(part).astype(f"{form.order}u{part.itemsize}").tobytes()
    if form.compression == DEFLATE:
        return zlib.compress(data)
    if form.compression == LZW:
        return _lzw(data)
    if form.compression == PACKBITS:
        row = len(data) // part.shape[0]
        rows = (data[at : at + row] for at in range(0, len(data), row))
        return b"".join(bytes([len(run) - 1]) + run for one in rows for run in _runs(one))
    return data


def _runs(row: bytes) -> list[bytes]:
    return [row[at : at + 128] for at in range(0, len(row), 128)]


def _lzw(data: bytes) -> bytes:
    """LZW that learns no words: its table is cleared before a code would take more than 9 bits."""
    codes = [256]
    for at, byte in enumerate(data):
        if at and at % 200 == 0:
            codes.append(256)
        codes.append(byte)
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _directory(entries: dict[int, tuple[int, ...]], form: Form) -> bytes:
    """The file up to its pixels: header, tags, and the values that do not fit into these."""
    offset, count, room, start = ("Q", "Q", 8, 16) if form.big else ("I", "H", 4, 8)
    entry_bytes = 4 + 2 * room
    behind_at = start + struct.calcsize(count) + entry_bytes * len(entries) + room
    directory, behind = struct.pack(form.order + count, len(entries)), b""
    for tag, values in sorted(entries.items()):
        kind = _LONG if tag in (*_PLACES, *_SIZES) else _SHORT
        packed = struct.pack(f"{form.order}{len(values)}{_FORMS[kind]}", *values)
        place = packed.ljust(room, b"\0")
        if len(packed) > room:
            place = struct.pack(form.order + offset, behind_at + len(behind))
            behind += packed + b"\0" * (len(packed) % 2)
        directory += struct.pack(f"{form.order}HH{offset}", tag, kind, len(values)) + place
    mark = b"II" if form.order == "<" else b"MM"
    version = struct.pack(form.order + "HHH", 43, 8, 0) if form.big else struct.pack(form.order + "H", 42)
    return mark + version + struct.pack(form.order + offset, start) + directory + bytes(room) + behind
