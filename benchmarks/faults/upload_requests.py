"""Requests that bring a picture to the page, as harmful as one likes: forms, files, and their sending."""

import http.client
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.faults.page import HERE, Page

_PATH = "/api/v1/classify"
BOUNDARY = "0123456789"
# Where each pass of an interlaced PNG begins, and how far its pixels are apart, in x and y.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Upload:
    """A request: what is wrong with it, its headers, and its body in pieces."""

    kind: str
    headers: dict[str, str]
    pieces: Callable[[], Iterator[bytes]]


def send(page: Page, upload: Upload, limit_s: float) -> int:
    """The status that an upload is answered with; 0 where no answer came."""
    connection = http.client.HTTPConnection(HERE, page.port, timeout=limit_s)
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


def form(kind: str, data: bytes, name: str = "cell.png", fields: dict[str, str] | None = None) -> Upload:
    """A form as a browser sends it, whatever is in its file."""
    head = (
        f'Content-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    )
    parts = [head.encode("utf-8", "surrogateescape") + data]
    parts += [
        f'Content-Disposition: form-data; name="{key}"\r\n\r\n{text}'.encode()
        for key, text in (fields or {}).items()
    ]
    return whole(kind, b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), part) for part in parts) + END)


END = f"--{BOUNDARY}--\r\n".encode()


def whole(kind: str, body: bytes, content_type: str = FORM) -> Upload:
    """A request with its body in one piece."""
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    return Upload(kind, headers, lambda: iter((body,)))


# Pictures


def picture(rng: random.Random) -> Image.Image:
    """A small picture of colourful noise."""
    pixels = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 255, (96, 96, 3), np.uint8)
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as a file of a kind that Pillow writes."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2, interlaced: bool = False
) -> bytes:
    """A PNG of these chunks; ``depth``, ``color`` as in its header."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def one_color(width: int, height: int, pixel: bytes) -> bytes:
    """A PNG chunk with all rows of a picture in one colour, a thousandth of its size."""
    squeeze = zlib.compressobj(9)
    row = b"\0" + pixel * width
    return chunk(b"IDAT", b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush())


def one_color_interlaced(width: int, height: int, pixel: bytes) -> bytes:
    """The same for an interlaced PNG, whose seven passes hold more and more of the picture."""
    squeeze, data = zlib.compressobj(9), b""
    for x, y, step_x, step_y in _PASSES:
        row = b"\0" + pixel * len(range(x, width, step_x))
        data += b"".join(squeeze.compress(row) for _ in range(y, height, step_y))
    return chunk(b"IDAT", data + squeeze.flush())


def many_scans(side: int) -> bytes:
    """A JPEG whose last scan, of some bytes, comes again and again: each takes as long as the picture."""
    data = saved(Image.new("RGB", (side, side), (200, 100, 180)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 100_000 + data[-2:]
