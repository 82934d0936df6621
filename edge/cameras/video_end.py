"""Whether a video file ends before it should, by what its container says of its own length in bytes.

A number of frames does not tell: Matroska, WebM and FLV state none (OpenCV multiplies length by rate), an AVI
of variable rate counts frames that are not there, and a trimmed MP4 keeps frames that are not shown.
"""

import os
import re
import struct
from io import FileIO

_HEAD_BYTES = 64 * 1024
_UNKNOWN_SIZE = 0  # of an EBML element whose size bits are all set: written while nobody knew its end
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_RIFF_UNFINISHED = (0, 0xFFFFFFFF)  # lengths in a recording whose writer did not come to its end
_RIFF_SLACK = 8  # bytes that some writers count too many
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FLV_SIZE = re.compile(rb"\x00\x08filesize\x00(.{8})", re.DOTALL)
_MAX_OGG_PAGE = 27 + 255 + 255 * 255
_BOX_KIND = re.compile(rb"[ -~\xa9]{4}")
_BOX_HEAD_BYTES = 8
_MAX_BOXES = 1_000_000  # of a recording in fragments, one a second, more than a week


def ends_early(file: FileIO) -> bool:
    """Whether an open video file has fewer bytes than its container says; False where that cannot be told."""
    size = os.fstat(file.fileno()).st_size
    head = _at(file, 0, _HEAD_BYTES)
    try:
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _end_of_boxes(file, size) > size
        if head.startswith(b"RIFF"):
            return _end_of_riff(file, size) > size
        if head.startswith(_EBML):
            return _end_of_matroska(head) > size
        if head.startswith(b"FLV"):
            return _end_of_flv(file, size, head) > size
        if head.startswith(b"OggS"):
            return _end_of_ogg(file, size) > size
        if (place := head.find(_ASF_PROPERTIES)) >= 0:
            return bool(struct.unpack_from("<Q", head, place + 40)[0] > size)
    except struct.error:
        return True  # it ends within its header
    if head.startswith(b"\xff\xd8"):  # JPEG after JPEG, the last with its end
        return not _at(file, max(size - _HEAD_BYTES, 0), _HEAD_BYTES).rstrip(b"\0").endswith(b"\xff\xd9")
    # Packets of a transport stream, alone or each behind a time of four bytes.
    for packet, start in ((188, 0), (192, 4)):
        if head[start::packet][:3] == b"GGG":
            return any(_at(file, size - size % packet, packet))  # nothing, or filled up with zeros
    return False


def _at(file: FileIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count) or b""


def _end_of_boxes(file: FileIO, size: int) -> int:
    """Where the last box of an MP4 or MOV ends."""
    place = 0
    for _ in range(_MAX_BOXES):
        if place >= size:
            break
        head = _at(file, place, 16)
        if len(head) < _BOX_HEAD_BYTES:  # something else behind it
            break
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < _BOX_HEAD_BYTES or not _BOX_KIND.fullmatch(kind):  # up to the end, or no box
            break
        place += length
    return place


def _end_of_riff(file: FileIO, size: int) -> int:
    """Where the last list of an AVI ends; files of more than 1 GB have several."""
    place = 0
    while place < size and (head := _at(file, place, 8))[:4] == b"RIFF":
        (length,) = struct.unpack_from("<I", head, 4)
        if length in _RIFF_UNFINISHED:
            break
        place += 8 + length
    return place - _RIFF_SLACK


def _end_of_flv(file: FileIO, size: int, head: bytes) -> int:
    """Where an FLV ends: as it states, or, where it does not, with the size of its last tag behind that."""
    stated = _FLV_SIZE.search(head)
    if stated and (end := struct.unpack(">d", stated[1])[0]):
        return int(end)
    (length,) = struct.unpack(">I", _at(file, max(size - 4, 0), 4))
    (tag,) = struct.unpack(">I", _at(file, max(size - 4 - length, 0), 4))
    return size if length in (0, 11 + tag % (1 << 24)) else size + 1


def _end_of_ogg(file: FileIO, size: int) -> int:
    """Where the last page of an Ogg file ends."""
    start = max(size - _MAX_OGG_PAGE, 0)
    tail = _at(file, start, _MAX_OGG_PAGE)
    page = tail.rfind(b"OggS")
    (parts,) = struct.unpack_from("B", tail, page + 26)
    return start + page + 27 + parts + sum(struct.unpack_from(f"{parts}B", tail, page + 27))


def _end_of_matroska(head: bytes) -> int:
    """Where the one segment of a Matroska or WebM file ends; 0 where its writer did not know."""
    length, place = _ebml_size(head, len(_EBML))
    place += length
    if head[place : place + len(_SEGMENT)] != _SEGMENT:
        return _UNKNOWN_SIZE
    length, place = _ebml_size(head, place + len(_SEGMENT))
    return place + length if length else _UNKNOWN_SIZE


def _ebml_size(head: bytes, place: int) -> tuple[int, int]:
    """The size that stands at a place, 0 where it is unknown, and where what follows begins."""
    (first,) = struct.unpack_from("B", head, place)
    count = 9 - first.bit_length()  # of the size's own bytes
    if count > 8:
        return _UNKNOWN_SIZE, place
    digits = struct.unpack_from(f"{count}s", head, place)[0]
    value = int.from_bytes(digits) & ((1 << 7 * count) - 1)
    return (_UNKNOWN_SIZE if value == (1 << 7 * count) - 1 else value), place + count
