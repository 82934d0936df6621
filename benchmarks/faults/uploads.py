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
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.faults.page import HERE, Page, page_running
from edge.web.uploads import MAX_UPLOAD_PIXELS
from hematovision.terminal.progress import Progress

CAMERA = "phantom:rate=5,width=640,height=480"
#: Memory that all of it may take beside what the device has, in MiB.
MOST_MEMORY_MIB = 400.0
#: An answer takes no longer, in seconds.
MOST_S = 20.0

_PATH = "/api/v1/classify"
_LIMIT = 20_000_000
_SIDE = isqrt(MAX_UPLOAD_PIXELS)  # the largest picture that is looked at
_BOUNDARY = "0123456789"
_FORM = f"multipart/form-data; boundary={_BOUNDARY}"


@dataclass(frozen=True)
class Upload:
    """A request: what is wrong with it, its headers, and its body in pieces."""

    kind: str
    headers: dict[str, str]
    pieces: Callable[[], Iterator[bytes]]


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
            answers[upload.kind, _send(page, upload)] += 1
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


def _send(page: Page, upload: Upload) -> int:
    """The status that an upload is answered with; 0 where no answer came."""
    connection = http.client.HTTPConnection(HERE, page.port, timeout=MOST_S)
    try:
        connection.putrequest("POST", _PATH)
        for name, value in (upload.headers | {"Authorization": f"Bearer {page.token}"}).items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            for piece in upload.pieces():
                connection.send(piece)
        except ConnectionError:
            pass  # refused while it was sent: the answer is there
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


# Forms


def _form(kind: str, data: bytes, name: str = "cell.png", fields: dict[str, str] | None = None) -> Upload:
    """A form as a browser sends it, whatever is in its file."""
    head = (
        f'Content-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    )
    parts = [head.encode("utf-8", "surrogateescape") + data]
    parts += [
        f'Content-Disposition: form-data; name="{key}"\r\n\r\n{text}'.encode()
        for key, text in (fields or {}).items()
    ]
    return _whole(kind, b"".join(b"--%b\r\n%b\r\n" % (_BOUNDARY.encode(), part) for part in parts) + _END)


_END = f"--{_BOUNDARY}--\r\n".encode()


def _whole(kind: str, body: bytes, content_type: str = _FORM) -> Upload:
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    return Upload(kind, headers, lambda: iter((body,)))


# Pictures


def _picture(rng: random.Random) -> Image.Image:
    pixels = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 255, (96, 96, 3), np.uint8)
    return Image.fromarray(pixels)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


def _one_color(width: int, height: int, pixel: bytes) -> bytes:
    """A PNG chunk with all rows of a picture in one colour, a thousandth of its size."""
    squeeze = zlib.compressobj(9)
    row = b"\0" + pixel * width
    return _chunk(b"IDAT", b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush())


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
    return _form("0 bytes", b"", fields=rng.choice(({}, {"kind": "single"}, {"um_per_pixel": "0.1"})))


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
        _saved(_picture(rng), "GIF"),
        _saved(_picture(rng), "ICO"),
        _saved(_picture(rng), "PPM"),
        rng.randbytes(5000),
        b"\x89PNG\r\n\x1a\n" + rng.randbytes(3000),
        b"\xff\xd8\xff\xe0" + rng.randbytes(3000),
    )
    return _form("wrong type", rng.choice(contents))


def _truncated(rng: random.Random) -> Upload:
    form = rng.choice(("JPEG", "PNG", "BMP", "TIFF", "WEBP"))
    data = _saved(_picture(rng), form)
    return _form("truncated", data[: rng.randrange(1, len(data) - len(data) // 10)])


def _damaged(rng: random.Random) -> Upload:
    data = bytearray(_saved(_picture(rng), "PNG"))
    for _ in range(20):
        data[rng.randrange(8, len(data) - 12)] ^= 1 << rng.randrange(8)
    return _form("damaged", bytes(data))


def _huge(rng: random.Random) -> Upload:
    side = rng.choice((_SIDE + 1, 20_000, 65_500))
    wide = rng.choice((100_000, 2**31 - 1))
    jpeg = bytearray(_saved(_picture(rng), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(_saved(_picture(rng), "BMP"))
    bmp[18:26] = struct.pack("<ii", wide, wide)
    contents = (
        bytes(jpeg),
        bytes(bmp),
        _png(wide, wide, _chunk(b"IDAT", zlib.compress(bytes(100)))),
        _png(wide, 32, _chunk(b"IDAT", zlib.compress(bytes(100)))),
        _tiff_picture(wide, wide, bytes(100), 1),
        _png(1, 1, _one_color(1, 1, b"abc")),
        _png(0, 0),
    )
    return _form("huge or tiny dimensions", rng.choice(contents))


def _bomb(rng: random.Random) -> Upload:
    squeezed = zlib.compress(bytes(50_000_000), 9)
    text = b"Comment\0\0" + squeezed
    profile = b"x\0\0" + squeezed
    pixel = _one_color(64, 64, b"abc")
    contents: tuple[Callable[[], bytes], ...] = (
        lambda: _many_scans(_SIDE),
        lambda: _png(20_000, 20_000, _one_color(20_000, 20_000, b"abc")),
        lambda: _png(_SIDE, _SIDE, _one_color(_SIDE, _SIDE, b"\xd0\x90\xc0")),
        lambda: _png(_SIDE, _SIDE, _one_color(_SIDE, _SIDE, b"\xd0\0\x90\0\xc0\0"), depth=16),
        lambda: _png(_SIDE, _SIDE, _one_color(_SIDE, _SIDE, b"\xd0\0\x90\0\xc0\0\xff\0"), depth=16, color=6),
        lambda: _png(64, 64, _chunk(b"zTXt", text), pixel),
        lambda: _png(64, 64, _chunk(b"iCCP", profile), pixel),
        lambda: _png(64, 64, _chunk(b"IDAT", squeezed)),
        lambda: _tiff_picture(64, 64, squeezed, 8),
        lambda: _tiff_picture(_SIDE, _SIDE, zlib.compress(b"\xd0\x90\xc0" * _SIDE**2, 9), 8),
    )
    return _form("bomb", rng.choice(contents)())


def _many_scans(side: int) -> bytes:
    """A JPEG whose last scan, of some bytes, comes again and again: each takes as long as the picture."""
    data = _saved(Image.new("RGB", (side, side), (200, 100, 180)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 100_000 + data[-2:]


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
        _saved(_picture(rng), "TIFF", save_all=True, append_images=[_picture(rng)] * 3),
        _saved(_picture(rng), "PNG", save_all=True, append_images=[_picture(rng)] * 3),
        _saved(_picture(rng), "WEBP", save_all=True, append_images=[_picture(rng)] * 3),
    )
    return _form("TIFF directories and animations", rng.choice(contents))


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
    return _form("path names", rng.choice((b"", b"GIF89a", b"\0" * 100)), rng.choice(names))


def _fields(rng: random.Random) -> Upload:
    fields: tuple[dict[str, str], ...] = (
        *({"um_per_pixel": text} for text in ("nan", "inf", "-1", "0", "1e999", "9" * 400, "0x1", "1,5")),
        *({"kind": text} for text in ("", "slide", "../field", "x" * 10_000)),
        {"um_per_pixel": "1" * 400_000},
        {f"field{number}": "x" for number in range(30)},
    )
    return _form("fields", _saved(_picture(rng), "PNG"), fields=rng.choice(fields))


def _no_form(rng: random.Random) -> Upload:
    picture = _saved(_picture(rng), "PNG")
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'.encode()
    bodies = (
        (picture, "image/png"),
        (b"", _FORM),
        (b"{}", "application/json"),
        (picture, "multipart/form-data"),
        (picture, _FORM),
        (head + b"\r\n" + picture, _FORM),
        (head + b"X: " + b"x" * 100_000 + b"\r\n\r\n" + picture + b"\r\n" + _END, _FORM),
        (head * 2000 + b"\r\n" + _END, _FORM),
        ((head + b"\r\nx\r\n") * 2000 + _END, _FORM),
        (_END * 10_000, _FORM),
        (b"image=" + picture.hex().encode(), "application/x-www-form-urlencoded"),
    )
    body, content_type = rng.choice(bodies)
    return _whole("no such form", body, content_type)


def _too_long(rng: random.Random) -> Upload:
    length = rng.choice((_LIMIT + 1_000_000, 10**12, 10**30))
    return Upload(
        "longer than allowed",
        {"Content-Type": _FORM, "Content-Length": str(length)},
        lambda: islice((bytes(100_000) for _ in cycle((0,))), 30),
    )


def _endless(rng: random.Random) -> Upload:
    size = rng.choice((1_000, 50_000, 1_000_000))
    piece = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n"
    return Upload(
        "chunks without end",
        {"Content-Type": _FORM, "Transfer-Encoding": "chunked"},
        lambda: islice(cycle((piece,)), 2 * _LIMIT // size),
    )


def _wrong_chunks(rng: random.Random) -> Upload:
    body = rng.choice(
        (b"zz\r\nx\r\n", b"-1\r\n", b"1\r\nxx\r\n", b"f" * 100 + b"\r\n", b"1;" + b"a" * 70_000)
    )
    headers = {
        "Content-Type": _FORM,
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
