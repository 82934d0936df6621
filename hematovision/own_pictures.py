"""Pictures that HematoVision writes: each bears a mark inside, by which it is known again wherever it lies.

Written below the folder of the images, an annotated copy or a crop would otherwise be taken for another image
of the smear, and its cells counted again.
"""

import re
import struct
import zlib

from hematovision.errors import ImageError

#: What a picture is, as messages call it; each is written into its file.
DRAWN_OVER = "copy with the cells boxed and named"
BLANK = "blank field"
PLOT = "plot"
#: The one kind that is a picture of a cell, to be learnt from or looked at.
CROP = "crop of a counted cell"

_MARK = re.compile(rb"Written by HematoVision: ([a-z ]+)\.")
#: The mark lies within so many bytes of a file's start.
MARKED_BYTES = 4096

_JPEG, _JFIF, _COMMENT = b"\xff\xd8", b"\xff\xe0", b"\xff\xfe"
_PNG, _PNG_HEADER_BYTES = b"\x89PNG\r\n\x1a\n", 33


def mark_of(kind: str) -> str:
    """The text that a file's comment has."""
    return f"Written by HematoVision: {kind}."


def marked(data: bytes, kind: str) -> bytes:
    """A JPEG or PNG file with the mark of its kind, a comment that changes no pixel; others as they are."""
    text = mark_of(kind).encode()
    if data.startswith(_JPEG):
        at = len(_JPEG)
        if data[at : at + 2] == _JFIF:  # which is to stand first
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
        mark = _COMMENT + struct.pack(">H", len(text) + 2) + text
    elif data.startswith(_PNG):
        at, chunk = _PNG_HEADER_BYTES, b"tEXtComment\0" + text
        mark = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    else:
        return data
    return data[:at] + mark + data[at:]


def kind_of(data: bytes) -> str | None:
    """What kind of picture HematoVision wrote, from the start of its file; None of all others."""
    if not data.startswith((_JPEG, _PNG)):
        return None
    found = _MARK.search(data, 0, MARKED_BYTES)
    return found and found[1].decode()


def refuse_own_picture(data: bytes, name: str) -> None:
    """Raise `ImageError` where HematoVision wrote a file and it shows no cell as the camera saw it.

    Args:
        data: the start of the file, `MARKED_BYTES` or more.
        name: what messages call it.
    """
    kind = kind_of(data)
    if kind not in (None, CROP):
        raise ImageError(f"{name}: a {kind}, which hematovision wrote; give an image as the camera took it")
