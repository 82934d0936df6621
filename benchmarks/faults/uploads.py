"""``hematovision bench faults uploads``: pictures made to do harm, sent to the page of a running device."""

import http.client
import io
import random
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from math import isqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import click
from rich.console import Console
from rich.table import Table

from benchmarks.faults.page import page_running
from benchmarks.faults.upload_requests import (
    BOUNDARY,
    END,
    FORM,
    Upload,
    chunk,
    form,
    many_scans,
    one_color,
    picture,
    png,
    saved,
    send,
    whole,
)
from edge.web.uploads import MAX_UPLOAD_PIXELS
from hematovision.terminal.progress import Progress

CAMERA = "phantom:rate=5,width=640,height=480"
#: Memory that all of it may take beside what the device has, in MiB.
MOST_MEMORY_MIB = 400.0
#: An answer takes no longer, in seconds.
MOST_S = 20.0

_LIMIT = 20_000_000
_SIDE = isqrt(MAX_UPLOAD_PIXELS)  # the largest picture that is looked at


@dataclass(frozen=True)
class Harm:
    """What came of it.

    ``answers``: how many of each kind got which status, 0 for none. ``slowest_s``: the longest answer.
    ``before_mib`` and ``peak_mib``: memory of the device. ``frames``: that it looked at meanwhile.
    """

    answers: Counter[tuple[str, int]]
    slowest_s: float
    before_mib: float
    peak_mib: float
    frames: int
    alive: bool

    @property
    def uploads(self) -> int:
        """All that were sent."""
        return self.answers.total()

    @property
    def wrong(self) -> list[str]:
        """What was not answered as the client's mistake."""
        return [
            f"{kind}: {count} times {status or 'no answer'}"
            for (kind, status), count in self.answers.items()
            if not 400 <= status < 500
        ]

    @property
    def passed(self) -> bool:
        """Whether it is as it must be."""
        memory = self.peak_mib - self.before_mib < MOST_MEMORY_MIB
        return not self.wrong and self.alive and self.frames > 0 and self.slowest_s < MOST_S and memory


def measure_uploads(count: int = 200, seed: int = 1) -> Harm:
    """Send hostile uploads to a device, one after the other, all kinds in turn."""
    answers: Counter[tuple[str, int]] = Counter()
    slowest = 0.0
    with TemporaryDirectory() as folder, page_running(Path(folder), CAMERA) as page:
        frames, before = page.status()["frames"], page.memory_mib()
        for upload in islice(hostile(seed), count):
            started = monotonic()
            answers[upload.kind, send(page, upload, MOST_S)] += 1
            slowest = max(slowest, monotonic() - started)
        try:
            alive = page.get("/healthz")[0] == 200
            frames = page.status()["frames"] - frames
        except (OSError, http.client.HTTPException):
            alive, frames = False, 0
        peak = page.peak_mib() if page.process.poll() is None else float("nan")
        return Harm(answers, slowest, before, peak, frames, alive)


def hostile(seed: int) -> Iterator[Upload]:
    """Hostile uploads without end, all kinds in turn, each time with other details."""
    rng = random.Random(seed)
    for make in cycle(_KINDS):
        yield make(rng)


def _tiff(*entries: tuple[int, int, int, int], next_at: int = 0, rest: bytes = b"") -> bytes:
    """A TIFF of one directory; entries are tag, type, count, value."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + struct.pack("<I", next_at) + rest


def _tiff_picture(width: int, height: int, data: bytes, compression: int, next_at: int = 0) -> bytes:
    at = 8 + 2 + 9 * 12 + 4
    entries = (
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 2)),
        *((273, 4, 1, at), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data))),
    )
    return _tiff(*entries, next_at=next_at, rest=data)


# Kinds of harm


def _empty(rng: random.Random) -> Upload:
    return form("0 bytes", b"", fields=rng.choice(({}, {"kind": "single"}, {"um_per_pixel": "0.1"})))


def _wrong_type(rng: random.Random) -> Upload:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cell.png", bytes(10_000_000))
    contents = (
        b"<html><script>alert(1)</script></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        b"%PDF-1.7\n",
        b"\x7fELF" + bytes(200),
        packed.getvalue(),
        saved(picture(rng), "GIF"),
        saved(picture(rng), "ICO"),
        saved(picture(rng), "PPM"),
        rng.randbytes(5000),
        b"\x89PNG\r\n\x1a\n" + rng.randbytes(3000),
        b"\xff\xd8\xff\xe0" + rng.randbytes(3000),
    )
    return form("wrong type", rng.choice(contents))


def _truncated(rng: random.Random) -> Upload:
    kind = rng.choice(("JPEG", "PNG", "BMP", "TIFF", "WEBP"))
    data = saved(picture(rng), kind)
    return form("truncated", data[: rng.randrange(1, len(data) - len(data) // 10)])


def _damaged(rng: random.Random) -> Upload:
    data = bytearray(saved(picture(rng), "PNG"))
    for _ in range(20):
        data[rng.randrange(8, len(data) - 12)] ^= 1 << rng.randrange(8)
    return form("damaged", bytes(data))


def _huge(rng: random.Random) -> Upload:
    side = rng.choice((_SIDE + 1, 20_000, 65_500))
    wide = rng.choice((100_000, 2**31 - 1))
    jpeg = bytearray(saved(picture(rng), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(saved(picture(rng), "BMP"))
    bmp[18:26] = struct.pack("<ii", wide, wide)
    contents = (
        bytes(jpeg),
        bytes(bmp),
        png(wide, wide, chunk(b"IDAT", zlib.compress(bytes(100)))),
        png(wide, 32, chunk(b"IDAT", zlib.compress(bytes(100)))),
        _tiff_picture(wide, wide, bytes(100), 1),
        png(1, 1, one_color(1, 1, b"abc")),
        png(0, 0),
    )
    return form("huge or tiny dimensions", rng.choice(contents))


def _bomb(rng: random.Random) -> Upload:
    squeezed = zlib.compress(bytes(50_000_000), 9)
    text = b"Comment\0\0" + squeezed
    profile = b"x\0\0" + squeezed
    pixel = one_color(64, 64, b"abc")
    contents: tuple[Callable[[], bytes], ...] = (
        lambda: many_scans(_SIDE),
        lambda: png(20_000, 20_000, one_color(20_000, 20_000, b"abc")),
        lambda: png(_SIDE, _SIDE, one_color(_SIDE, _SIDE, b"\xd0\x90\xc0")),
        lambda: png(_SIDE, _SIDE, one_color(_SIDE, _SIDE, b"\xd0\0\x90\0\xc0\0"), depth=16),
        lambda: png(_SIDE, _SIDE, one_color(_SIDE, _SIDE, b"\xd0\0\x90\0\xc0\0\xff\0"), depth=16, color=6),
        lambda: png(64, 64, chunk(b"zTXt", text), pixel),
        lambda: png(64, 64, chunk(b"iCCP", profile), pixel),
        lambda: png(64, 64, chunk(b"IDAT", squeezed)),
        lambda: _tiff_picture(64, 64, squeezed, 8),
        lambda: _tiff_picture(_SIDE, _SIDE, zlib.compress(b"\xd0\x90\xc0" * _SIDE**2, 9), 8),
    )
    return form("bomb", rng.choice(contents)())


def _directories(rng: random.Random) -> Upload:
    """TIFF directories that lead to each other, to nowhere, or that are too many."""
    pages = []
    at = 8 + 2 + 9 * 12 + 4
    for number in range(200_000):
        pages.append(struct.pack("<HI", 0, at + 6 * (number + 1)))
    contents = (
        _tiff_picture(64, 64, b"abc" * 4096, 1, next_at=8),
        _tiff_picture(64, 64, b"".join(pages), 1, next_at=at),
        _tiff((256, 4, 2**32 - 1, 0), (257, 4, 1, 64)),
        _tiff((256, 4, 1, 64), (257, 4, 1, 64), (273, 4, 2**31, 8), (279, 4, 2**31, 8)),
        saved(picture(rng), "TIFF", save_all=True, append_images=[picture(rng)] * 3),
        saved(picture(rng), "PNG", save_all=True, append_images=[picture(rng)] * 3),
        saved(picture(rng), "WEBP", save_all=True, append_images=[picture(rng)] * 3),
    )
    return form("TIFF directories and animations", rng.choice(contents))


def _path_names(rng: random.Random) -> Upload:
    names = (
        *(
            "../../../../etc/passwd",
            "/etc/shadow",
            "..\\..\\boot.ini",
            "cell.png\0.exe",
            "CON",
            "~/.ssh/id_rsa",
        ),
        *("$(reboot).png", "`id`", "x" * 20_000, "%2e%2e%2f", "\u202egnp.exe", "'; DROP TABLE cells; --"),
    )
    return form("path names", rng.choice((b"", b"GIF89a", b"\0" * 100)), rng.choice(names))


def _fields(rng: random.Random) -> Upload:
    fields: tuple[dict[str, str], ...] = (
        *({"um_per_pixel": text} for text in ("nan", "inf", "-1", "0", "1e999", "9" * 400, "0x1", "1,5")),
        *({"kind": text} for text in ("", "slide", "../field", "x" * 10_000)),
        {"um_per_pixel": "1" * 400_000},
        {f"field{number}": "x" for number in range(30)},
    )
    return form("fields", saved(picture(rng), "PNG"), fields=rng.choice(fields))


def _no_form(rng: random.Random) -> Upload:
    file = saved(picture(rng), "PNG")
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'.encode()
    bodies = (
        (file, "image/png"),
        (b"", FORM),
        (b"{}", "application/json"),
        (file, "multipart/form-data"),
        (file, FORM),
        (head + b"\r\n" + file, FORM),
        (head + b"X: " + b"x" * 100_000 + b"\r\n\r\n" + file + b"\r\n" + END, FORM),
        (head * 2000 + b"\r\n" + END, FORM),
        ((head + b"\r\nx\r\n") * 2000 + END, FORM),
        (END * 10_000, FORM),
        (b"image=" + file.hex().encode(), "application/x-www-form-urlencoded"),
    )
    body, content_type = rng.choice(bodies)
    return whole("no such form", body, content_type)


def _too_long(rng: random.Random) -> Upload:
    length = rng.choice((_LIMIT + 1_000_000, 10**12, 10**30))
    return Upload(
        "longer than allowed",
        {"Content-Type": FORM, "Content-Length": str(length)},
        lambda: islice((bytes(100_000) for _ in cycle((0,))), 30),
    )


def _endless(rng: random.Random) -> Upload:
    size = rng.choice((1_000, 50_000, 1_000_000))
    piece = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n"
    return Upload(
        "chunks without end",
        {"Content-Type": FORM, "Transfer-Encoding": "chunked"},
        lambda: islice(cycle((piece,)), 2 * _LIMIT // size),
    )


def _wrong_chunks(rng: random.Random) -> Upload:
    body = rng.choice(
        (b"zz\r\nx\r\n", b"-1\r\n", b"1\r\nxx\r\n", b"f" * 100 + b"\r\n", b"1;" + b"a" * 70_000)
    )
    headers = {
        "Content-Type": FORM,
        "Transfer-Encoding": rng.choice(("chunked", "chunked", "chunked, gzip")),
    }
    return Upload("chunks that are none", headers, lambda: iter((body,)))


_KINDS = (
    *(_empty, _wrong_type, _truncated, _damaged, _huge, _bomb, _directories, _path_names, _fields, _no_form),
    *(_too_long, _endless, _wrong_chunks),
)


@click.command()
@click.option("--times", "count", default=200, show_default=True, type=click.IntRange(min=1), help="Uploads.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of their details.")
def uploads(count: int, seed: int) -> None:
    """Send pictures made to do harm to a running device: bombs, truncated, huge, of wrong types, endless.

    Exit status 1 where one is not answered with a 4xx, memory grows by 400 MiB or more, or the device does
    not go on.
    """
    console = Console(highlight=False)
    with Progress("Sending"):
        result = measure_uploads(count, seed)
    table = Table("upload", "answered", "times")
    for (kind, status), times in sorted(result.answers.items()):
        table.add_row(kind, str(status or "nothing"), str(times))
    console.print(table)
    console.print(
        f"{result.uploads} uploads, {len(result.wrong)} kinds answered wrongly; the slowest took "
        f"{result.slowest_s:.1f} s. Memory {result.before_mib:.0f} MiB before, {result.peak_mib:.0f} MiB at "
        f"the most. The device looked at {result.frames} frames meanwhile and is "
        f"{'well' if result.alive else 'NOT well'}.",
        soft_wrap=True,
    )
    for line in result.wrong:
        console.print(line, markup=False)
    if not result.passed:
        raise SystemExit(1)
