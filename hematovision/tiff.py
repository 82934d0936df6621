"""TIFF files: their tags decide what is read; what is not known to be read rightly is refused.

Pillow reads 8 bits a channel rightly, in every form that it takes. Of 16 bits it cuts the low half off, and
where the channels lie one after the other, Pillow and OpenCV both give another picture. So 16 bits are
repacked here into plain small files, one a plane where the channels lie apart, which OpenCV reads rightly.
"""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import ImageError

_CLASSIC, _BIG = 42, 43  # versions; the second has offsets of 64 bits
# Those of the types that are whole numbers and unsigned, as `struct` calls them.
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_LONG = 4

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, _PREDICTOR = 266, 274, 277, 278, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 322, 323, 338, 339
_STRIPS, _TILES = (273, 279), (324, 325)  # where they begin, and how many bytes they have
_DEFAULTS = {_SUBFILE: 0, _BITS: 1, _COMPRESSION: 1, _FILL_ORDER: 1, _ORIENTATION: 1, _SAMPLES: 1, _PLANAR: 1}

_REDUCED = 1  # of the bits of _SUBFILE
_GREY, _WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 1, 0, 2, 3, 6
_COLOURS = {
    5: "CMYK",
    8: "CIELab",
    9: "CIELab",
    10: "CIELab",
    32803: "a sensor's mosaic",
    34892: "linear raw",
}
_NUMBERS = {2: "signed numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}
_CHANNELS_APART = 2
_WANTED = frozenset({*_DEFAULTS, *_STRIPS, *_TILES, _WIDTH, _HEIGHT, _PHOTOMETRIC, _ROWS_PER_STRIP})
_WANTED |= {_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT}
# A picture of the most pixels that are opened, in the smallest tiles that the format allows, has fewer.
_MAX_VALUES = 1_000_000
_ASSOCIATED_ALPHA = 1
_DIFFERENCES = 2  # a predictor, which readers know of with LZW and deflate only
_WITHOUT_PREDICTOR = frozenset({1, 32773})
# None, LZW, deflate under two numbers, PackBits.
_COMPRESSIONS_16 = frozenset({1, 5, 8, 32946, 32773})
# Beside them with 8 bits, where Pillow's libtiff has it: JPEG, LZMA, Zstandard.
_COMPRESSIONS_8 = _COMPRESSIONS_16 | {7, 34925, 50000}
_MAX_INTERLEAVED = 4  # samples that OpenCV takes


@dataclass(frozen=True)
class Tiff:
    """The first picture of a TIFF file.

    ``order``: its byte order, as `struct` has it. ``tags``: those that tell how it is read, by their number.
    ``pages``: whether others follow.
    """

    order: str
    tags: dict[int, tuple[int, ...]]
    pages: bool

    def one(self, tag: int) -> int:
        """The first value of a tag, or what the format says where it is absent. Raises `LookupError`."""
        return self.tags[tag][0] if self.tags.get(tag) else _DEFAULTS[tag]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.one(_WIDTH), self.one(_HEIGHT)

    @property
    def orientation(self) -> int:
        """How it is to be turned, in EXIF's numbers."""
        return self.one(_ORIENTATION)

    @property
    def is_deep(self) -> bool:
        """Whether it has 16 bits a channel, so that `decode_deep` reads it, and Pillow does not."""
        return self.one(_BITS) == 16 and self.one(_PHOTOMETRIC) == _RGB


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tags(data: bytes, name: str) -> Tiff:
    """Read the tags of a TIFF's first picture.

    Args:
        data: the file.
        name: what messages call it.

    Raises:
        ImageError: they are damaged, or say that it is of a form that is not read.
    """
    try:
        tiff = _directory(data)
        _check(tiff, name)
    except (struct.error, LookupError, OverflowError, MemoryError) as error:
        raise ImageError(f"{name}: its header is damaged ({error}); copy it again") from error
    return tiff


def decode_deep(data: bytes, tiff: Tiff, name: str) -> NDArray[np.uint8]:
    """Decode a TIFF that `Tiff.is_deep`, as it lies, to (height, width, 3) uint8 RGB.

    Raises:
        ImageError: it is damaged, cut short, or compressed in a way that OpenCV lacks.
    """
    try:
        if tiff.one(_PLANAR) == _CHANNELS_APART:
            planes = [_decode(_repacked(data, tiff, plane), (*tiff.size, 1), name) for plane in range(3)]
            return cv2.merge(planes)
        pixels = _decode(_repacked(data, tiff, None), (*tiff.size, 3), name)
    except (struct.error, LookupError) as error:
        raise ImageError(f"{name}: its header is damaged ({error}); copy it again") from error
    except EOFError as error:
        raise ImageError(f"{name}: damaged or cut short ({error}); copy it again") from error
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def to_8_bits(deep: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """16 bits a channel as 8: 65535 becomes 255 and everything between is rounded, 255 / 65535 = 1 / 257."""
    return cv2.convertScaleAbs(deep, alpha=1 / 257)


def _directory(data: bytes) -> Tiff:
    order = "<" if data[:1] == b"I" else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == _BIG
    # How the offset of the first directory, its number of entries and an offset in it are written.
    start, count_form, offset_form, entry_bytes = (8, "Q", "Q", 20) if is_big else (4, "H", "I", 12)
    (at,) = struct.unpack_from(order + offset_form, data, start)
    (count,) = struct.unpack_from(order + count_form, data, at)
    at += struct.calcsize(count_form)
    tags: dict[int, tuple[int, ...]] = {}
    room = struct.calcsize(offset_form)
    for entry in range(at, at + count * entry_bytes, entry_bytes):
        tag, kind, length = struct.unpack_from(f"{order}HH{offset_form}", data, entry)
        if tag in _WANTED and kind in _TYPES and tag not in tags:
            if length > _MAX_VALUES:
                raise LookupError(f"tag {tag} of {length} values")
            form = f"{order}{length}{_TYPES[kind]}"
            place = entry + 4 + room
            if struct.calcsize(form) > room:
                (place,) = struct.unpack_from(order + offset_form, data, place)
            tags[tag] = struct.unpack_from(form, data, place)
    (following,) = struct.unpack_from(order + offset_form, data, at + count * entry_bytes)
    return Tiff(order, tags, following != 0)


def _check(tiff: Tiff, name: str) -> None:
    """Raise `ImageError` where the tags name a form that is not known to be read rightly."""
    if not all(tiff.size):
        raise LookupError("no size")
    save = "save it as RGB with 8 or 16 bits a channel"
    if tiff.pages:
        raise ImageError(f"{name}: holds several pages or frames; export each as an image of its own")
    if tiff.one(_SUBFILE) & _REDUCED:
        raise ImageError(f"{name}: begins with a small copy of another picture, as raw files do; {save}")
    colour, samples = tiff.one(_PHOTOMETRIC), tiff.one(_SAMPLES)
    if colour in (_GREY, _WHITE_IS_ZERO):
        if samples <= 2:  # one, or with transparency: what it looks like is left to Pillow
            return
        raise ImageError(f"{name}: {samples} grey channels of which nobody says the colours; {save}")
    if colour not in (_RGB, _PALETTE, _YCBCR):
        raise ImageError(f"{name}: colour mode {_COLOURS.get(colour, colour)} is not read; {save}")
    numbers = {*tiff.tags.get(_SAMPLE_FORMAT, ())} & {*_NUMBERS}
    if numbers:
        raise ImageError(f"{name}: {_NUMBERS[min(numbers)]} for levels are not read; {save}")
    bits = tiff.tags.get(_BITS, (1,))
    if colour == _PALETTE:
        return
    if set(bits) not in ({8}, {16}) or samples < 3 or len(bits) not in (1, samples):
        said = " and ".join(str(number) for number in sorted(set(bits)))
        raise ImageError(f"{name}: {samples} channels of {said} bits are not read; {save}")
    if tiff.one(_FILL_ORDER) != 1:
        raise ImageError(f"{name}: the bits of its bytes are reversed, which is not read; {save}")
    deep = bits[0] == 16
    compression = tiff.one(_COMPRESSION)
    if compression not in (_COMPRESSIONS_16 if deep else _COMPRESSIONS_8):
        raise ImageError(f"{name}: compressed in a way that is not read (number {compression}); {save}, LZW")
    if compression in _WITHOUT_PREDICTOR and tiff.tags.get(_PREDICTOR, ())[:1] == (_DIFFERENCES,):
        raise ImageError(f"{name}: differences of levels in a form that is not read; {save}, LZW")
    if deep and (
        colour != _RGB
        or tiff.tags.get(_EXTRA_SAMPLES, ())[:1] == (_ASSOCIATED_ALPHA,)
        or (samples > _MAX_INTERLEAVED and tiff.one(_PLANAR) != _CHANNELS_APART)
    ):
        raise ImageError(f"{name}: 16 bits a channel in a form that is not read; save it as plain RGB")


def _repacked(data: bytes, tiff: Tiff, plane: int | None) -> bytes:
    """One plane, or the whole of interleaved channels, as a file of its own with nothing else in it."""
    tags = tiff.tags
    offsets_tag, counts_tag = _TILES if _TILE_WIDTH in tags else _STRIPS
    offsets, counts = tags[offsets_tag], tags[counts_tag]
    if plane is not None:
        each = len(offsets) // tiff.one(_SAMPLES)
        offsets, counts = (one[plane * each : (plane + 1) * each] for one in (offsets, counts))
    if len(offsets) != len(counts) or sum(counts) > len(data):  # also where a part is given many times
        raise EOFError("it ends before its last part")
    pieces = [data[offset : offset + count] for offset, count in zip(offsets, counts, strict=True)]
    if [len(piece) for piece in pieces] != list(counts):
        raise EOFError("it ends before its last part")
    kept = (_WIDTH, _HEIGHT, _COMPRESSION, _PREDICTOR, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT)
    samples = tiff.one(_SAMPLES) if plane is None else 1
    entries = {tag: tags[tag][:1] for tag in kept if tag in tags}
    entries |= {_BITS: (16,) * samples, _PHOTOMETRIC: (_GREY if plane is not None else _RGB,)}
    entries |= {_SAMPLES: (samples,), offsets_tag: offsets, counts_tag: counts}
    if samples > 3:
        entries[_EXTRA_SAMPLES] = (0,) * (samples - 3)
    # All values as 32 bits, one after another behind the directory, and then the pieces.
    after = 8 + 2 + 12 * len(entries) + 4
    begin = after + 4 * sum(len(values) for values in entries.values())
    entries[offsets_tag] = tuple(begin + int(before) for before in np.cumsum([0, *counts[:-1]]))
    directory, values_behind = b"", b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{tiff.order}{len(values)}I", *values)
        if len(values) > 1:
            place = struct.pack(tiff.order + "I", after + len(values_behind))
            values_behind += packed
        else:
            place = packed
        directory += struct.pack(f"{tiff.order}HHI", tag, _LONG, len(values)) + place
    header = (b"II*\0" if tiff.order == "<" else b"MM\0*") + struct.pack(tiff.order + "I", 8)
    head = header + struct.pack(tiff.order + "H", len(entries)) + directory + bytes(4) + values_behind
    return b"".join((head.ljust(begin, b"\0"), *pieces))


def _decode(data: bytes, shape: tuple[int, int, int], name: str) -> NDArray[np.uint8]:
    width, height, channels = shape
    mode = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_ANYDEPTH)
    if deep is None or deep.dtype != np.uint16 or deep.shape[:2] != (height, width):
        raise ImageError(
            f"{name}: damaged, or 16 bits a channel in a form that is not read; save it with 8 bits a channel"
        )
    return to_8_bits(deep)
