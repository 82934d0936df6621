"""``hematovision bench faults decode``: pictures that are cheap to send and dear to decode, one of each kind.

Then the largest that is allowed, many times in a row: what the device has afterwards must be what it had.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.faults.page import Page, page_running
from benchmarks.faults.upload_requests import (
    Upload,
    form,
    many_scans,
    one_color,
    one_color_interlaced,
    png,
    saved,
    send,
)
from benchmarks.faults.uploads import CAMERA
from edge.web.uploads import MAX_UPLOAD_PIXELS
from hematovision.picture_child import LIMITS

#: The device itself may grow by so much over all of it, in MiB: what four kept pictures and a model take.
MOST_GROWTH_MIB = 80.0
#: No answer takes longer than a child may, and what is around it, in seconds.
MOST_S = LIMITS.wall_s + 15

_SIDE = isqrt(MAX_UPLOAD_PIXELS)
_BODY = 19_000_000  # of the 20 MB that a form may have
_SCALE = {"um_per_pixel": "0.1"}
_SAMPLE_S = 0.03


@dataclass(frozen=True)
class Decoded:
    """What one upload came to: its answer (0: none), how long it took, the most memory meanwhile in MiB: of
    the device alone, and of the children that it had. ``may_be``: what answers are right."""

    kind: str
    sent_bytes: int
    status: int
    seconds: float
    device_mib: float
    child_mib: float
    may_be: range

    @property
    def passed(self) -> bool:
        """Whether the answer is right and came in time."""
        return self.status in self.may_be and self.seconds < MOST_S


@dataclass(frozen=True)
class Cost:
    """Every kind, and the device's memory: before all, and after each of the largest pictures in a row."""

    kinds: tuple[Decoded, ...]
    before_mib: float
    row_mib: tuple[float, ...]
    frames: int

    @property
    def growth_mib(self) -> float:
        """What the device has more in the end than it had before the row, its first picture left out."""
        return self.row_mib[-1] - self.row_mib[0] if self.row_mib else 0.0

    @property
    def passed(self) -> bool:
        """Whether all answers are right, the device keeps its memory, and goes on counting."""
        return all(one.passed for one in self.kinds) and self.growth_mib < MOST_GROWTH_MIB and self.frames > 0


def measure_decode(in_a_row: int = 30, kinds: frozenset[str] | None = None) -> Cost:
    """Send one upload of each kind (or of those named), then the largest allowed picture again and again."""
    with TemporaryDirectory() as folder, page_running(Path(folder), CAMERA) as page:
        frames, before = page.status()["frames"], page.memory_mib()
        results = tuple(
            _measure(page, upload, may_be)
            for upload, may_be in hostile_pictures()
            if kinds is None or upload.kind in kinds
        )
        largest = form("largest", _field_of_cells(), fields=_SCALE)
        row = []
        for _ in range(in_a_row):
            send(page, largest, MOST_S)
            row.append(page.memory_mib())
        return Cost(results, before, tuple(row), page.status()["frames"] - frames)


def hostile_pictures() -> Iterator[tuple[Upload, range]]:
    """Every kind, and what it may be answered with: a refusal, or what was found where it can be decoded."""
    refused, seen = range(400, 500), range(200, 500)
    jpeg = saved(Image.new("RGB", (96, 96), (200, 100, 180)), "JPEG")

    def before(data: bytes) -> bytes:
        return jpeg[:2] + data + jpeg[2:]

    def segments(code: int, content: bytes) -> bytes:
        one = bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content
        return before(one * (_BODY // len(one)))

    noise = np.random.default_rng(1).integers(0, 255, (1600, 2000, 3), np.uint8)
    kinds = {
        "JPEG, small EXIF segments": (segments(0xE1, b"Exif\0\0ab"), refused),
        "JPEG, empty application segments": (segments(0xE5, b""), refused),
        "JPEG, colour profile in parts": (segments(0xE2, b"ICC_PROFILE\0\1\1"), refused),
        "JPEG, Photoshop segments": (segments(0xED, b"Photoshop 3.0\0"), refused),
        "JPEG, comments": (segments(0xFE, b""), refused),
        "JPEG, filling": (before(b"\xff" * _BODY), refused),
        "JPEG, filling without a marker": (before(b"\xff" * _BODY + b"\xd0"), refused),
        "JPEG, many scans": (many_scans(_SIDE), refused),
        "PNG, very wide": (png(390_000, 32, one_color(390_000, 32, b"\xd0\x90\xc0")), refused),
        "PNG, very high": (png(32, 390_000, one_color(32, 390_000, b"\xd0\x90\xc0")), refused),
        "PNG, interlaced RGBA": (
            png(
                *(_SIDE, _SIDE, one_color_interlaced(_SIDE, _SIDE, b"\xd0\x90\xc0\xff")),
                color=6,
                interlaced=True,
            ),
            seen,
        ),
        "PNG, many small chunks": (_chunks(), seen),
        "BMP, run lengths": (_run_lengths(), seen),
        "PNG, noise full of nuclei": (saved(Image.fromarray(noise), "PNG"), refused),
        "JPEG, largest of cells": (_field_of_cells(), range(200, 201)),
    }
    for kind, (data, may_be) in kinds.items():
        # At 0.4 µm per pixel noise is searched as it is.
        yield form(kind, data, fields={"um_per_pixel": "0.4"} if "noise" in kind else _SCALE), may_be


def _chunks() -> bytes:
    """Millions of chunks that say nothing, before the picture's own."""
    nothing = b"\0\0\0\0tIME\x3b\x57\xf4\xac"
    data = png(64, 64, one_color(64, 64, b"\xd0\x90\xc0"))
    return data[:33] + nothing * (_BODY // len(nothing)) + data[33:]


def _run_lengths() -> bytes:
    """A picture of runs of one pixel, which Pillow decodes in Python."""
    palette = b"".join(bytes((index, 255 - index, 128, 0)) for index in range(256))
    row = b"".join(b"\1" + bytes((column % 256,)) for column in range(2500)) + b"\0\0"
    data = row * 2500 + b"\0\1"
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, 2500, 2500, 1, 8, 1, len(data), 2835, 2835, 256, 0)
    return head + palette + data


def _field_of_cells() -> bytes:
    """A drawn field as large as may be."""
    from edge.cameras import Frame, open_camera

    with open_camera("phantom:width=1280,height=960", 0.1) as camera:
        frame = next(iter(camera.frames()))
    assert isinstance(frame, Frame)
    tiled = np.tile(frame.image, (4, 3, 1))[: MAX_UPLOAD_PIXELS // (3 * 1280)]
    return saved(Image.fromarray(np.ascontiguousarray(tiled)), "JPEG", quality=90)


def _measure(page: Page, upload: Upload, may_be: range) -> Decoded:
    size = int(upload.headers["Content-Length"])
    started = monotonic()
    with _watched(page) as most:
        status = send(page, upload, MOST_S)
    return Decoded(upload.kind, size, status, monotonic() - started, most[0], most[1], may_be)


@contextmanager
def _watched(page: Page) -> Iterator[list[float]]:
    """The most memory of the device and of its children, in MiB, looked at again and again."""
    most, stop = [0.0, 0.0], Event()

    def look() -> None:
        while not stop.wait(_SAMPLE_S):
            most[0] = max(most[0], page.memory_mib())
            most[1] = max(most[1], page.children_mib())

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


@click.command()
@click.option(
    "--in-a-row", default=30, show_default=True, type=click.IntRange(min=0), help="Largest pictures after it."
)
def decode(in_a_row: int) -> None:
    """Send pictures that are cheap to send and dear to decode, one of each kind, then the largest in a row.

    Exit status 1 where one is not answered as it should be, or the device keeps memory or does not go on.
    """
    console = Console(highlight=False)
    with console.status("sending"):
        result = measure_decode(in_a_row)
    table = Table("picture", "MB", "answered", "s", "device MiB", "child MiB")
    for one in result.kinds:
        table.add_row(
            one.kind,
            f"{one.sent_bytes / 1e6:.2f}",
            f"{one.status or 'nothing'}{'' if one.passed else ' WRONG'}",
            f"{one.seconds:.1f}",
            f"{one.device_mib:.0f}",
            f"{one.child_mib:.0f}" if one.child_mib else "–",
        )
    console.print(table)
    row = result.row_mib
    if row:
        console.print(
            f"{len(row)} of the largest in a row: {row[0]:.0f} MiB of the device after the first, "
            f"{max(row):.0f} at the most, {row[-1]:.0f} after the last."
        )
    console.print(
        f"Memory of the device {result.before_mib:.0f} MiB before. It looked at {result.frames} frames "
        "meanwhile.",
        soft_wrap=True,
    )
    if not result.passed:
        raise SystemExit(1)
