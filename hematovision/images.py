"""Reading an image file from anywhere: what is refused, and why, is decided before anything is computed."""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hematovision.errors import ImageError
from hematovision.regular_file import read_regular_file
from hematovision.tiff import decode_deep, is_tiff, read_tags, to_8_bits

RGBImage = NDArray[np.uint8]

#: A crop of 20 µm at a coarse 0.6 µm per pixel; nothing smaller shows a cell.
MIN_SIDE_PX = 32
#: A strip of a smear is not longer than this many times its width; and OpenCV takes no side above 32,767.
MAX_PROPORTION = 20
#: Four times what a Raspberry Pi's 12-megapixel camera gives; 150 MB decoded.
MAX_PIXELS = 50_000_000
#: More than `MAX_PIXELS` take in any format, 16 bits a channel included.
MAX_FILE_BYTES = 512 * 1024 * 1024
#: A stained smear differs by far more than this between its channels; JPEG's rounding does not.
GREY_TOLERANCE = 3
# Of the light: a red cell takes ten times as much. And what is darker is no light.
_EVEN = 0.02
_LIT = 40

# A progressive JPEG has ten or so. Each, of thirty bytes, takes as long to decode as the whole picture.
_MAX_JPEG_SCANS = 100
_START_OF_SCAN = b"\xff\xda"  # which nothing but a scan begins with: in a scan's data, 0 follows 0xff
_END_OF_JPEG, _SCAN = 0xD9, 0xDA
_START_OF_JPEG = b"\xff\xd8\xff"
_FOLLOWING_JPEG = re.compile(rb"\x00*\xff\xd8\xff")
_PICTURE_LIST = b"http://ns.google.com/photos/1.0/container/"  # of telephones, beside that of an MPO
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_MARKERS_ALONE = frozenset({0x01, 0xC8, 0xD8, _END_OF_JPEG, *range(0xF0, 0xFE)})  # no length follows
# A telephone's JPEG may carry some hundred, of 64 KiB. Pillow joins some kinds as they come, each time anew.
_MAX_JPEG_SEGMENTS = 1000
_MAX_JPEG_JUNK = 64 * 1024  # Pillow reads it byte by byte
_PNG_BIT_DEPTH = 24  # where its byte stands
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
# What Pillow was seen to raise where a header or a file's EXIF is damaged.
_DAMAGED = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, SyntaxError),
    *(EOFError, struct.error),
)
# Line breaks and whatever else a terminal does not print but obeys.
_CONTROL_CHARACTERS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")

# Pixels are judged below, from the header, against a limit of our own; Pillow's warning would come beside it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Of tags that Pillow passes over; where they matter, the image is refused.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


def read_image(path: Path | str, may_be_neutral: bool = False) -> RGBImage:
    """Read an image file.

    Alpha is dropped, 16 bits a channel are scaled to 8, the orientation stored by a camera is applied. A
    picture in colour that shows none is refused, unless it ``may_be_neutral``, as empty glass is.

    Returns:
        (height, width, 3) uint8, RGB, C-contiguous.

    Raises:
        ImageError: the file is missing, empty, not an image, cut short, too small, too large, too narrow,
            without colour, or holds several pictures.
    """
    path, name = Path(path), shown_path(path)
    try:
        data = read_regular_file(path, MAX_FILE_BYTES)
    except IsADirectoryError as error:
        raise ImageError(f"{name}: cannot be read as image or listed as folder; check the path") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    return decode_image(data, name, may_be_neutral)


def decode_image(
    data: bytes, name: str, may_be_neutral: bool = False, max_pixels: int = MAX_PIXELS
) -> RGBImage:
    """Decode the bytes of an image file; ``name`` is what messages call it. Otherwise as `read_image`."""
    if not data:
        raise ImageError(f"{name}: the file is empty; copy it again")
    tags = read_tags(data, name) if is_tiff(data) else None
    if tags is not None and tags.is_deep:
        check_size(*tags.size, name, max_pixels)
        pixels = _turned(decode_deep(data, tags, name), tags.orientation)
    else:
        pixels = _decode(data, name, max_pixels)
    if is_grey(pixels) and not (may_be_neutral or _is_even(pixels)):
        raise _no_colour(name)
    return np.ascontiguousarray(pixels)


def _decode(data: bytes, name: str, max_pixels: int) -> RGBImage:
    if data.startswith(b"\xff\xd8") and data.count(_START_OF_SCAN) > _MAX_JPEG_SCANS:
        data = _without_film(data)
    if data.startswith(b"\xff\xd8") and _has_endless_header(data):
        raise ImageError(
            f"{name}: a JPEG with more than {_MAX_JPEG_SEGMENTS} segments, or much that is none, before its "
            "picture; save it anew"
        )
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        if is_tiff(data):
            what = "a TIFF of a form that is not read; save it anew as plain RGB"
        else:
            what = f"not an image in a known format ({', '.join(_FORMATS)})"
        raise ImageError(f"{name}: {what}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: claims far more than {MAX_PIXELS // 1_000_000} megapixels; not opened"
        ) from error
    except _DAMAGED as error:
        raise ImageError(f"{name}: its header is damaged ({error}); copy it again") from error
    with image:
        check_size(*image.size, name, max_pixels)
        # A telephone's JPEG may carry previews behind the picture; their format is MPO.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise ImageError(f"{name}: holds several pages or frames; export each as an image of its own")
        if image.format == "JPEG" and "mpoffset" not in image.info and _is_jpeg_after_jpeg(data):
            raise ImageError(
                f"{name}: several JPEGs one after another, as in a raw video; name it .mjpeg, or give each "
                "as a file of its own"
            )
        if image.format in ("JPEG", "MPO") and data.count(_START_OF_SCAN) > _MAX_JPEG_SCANS:
            raise ImageError(f"{name}: a JPEG of too many scans, which takes hours to decode; save it anew")
        if image.mode in _GREY_MODES:
            raise _no_colour(name)
        if image.mode not in {"RGB", "RGBA", "RGBX", "P", "PA"}:
            raise ImageError(f"{name}: colour mode {image.mode} is not read; save it as RGB")
        # Pillow opens 16 bits a channel as 8 by cutting the low ones off.
        deep = image.format == "PNG" and data[_PNG_BIT_DEPTH] == 16
        try:
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            # Neither turning nor converting makes a copy where there is nothing to turn or to convert.
            ImageOps.exif_transpose(image, in_place=True)
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            if not deep:
                return np.asarray(rgb)
        except MemoryError as error:
            raise ImageError(f"{name}: takes more memory to decode than there is; save it smaller") from error
        except _DAMAGED as error:
            raise ImageError(f"{name}: damaged or cut short ({error}); copy it again") from error
    del image, rgb
    return _turned(_decode_16_bits(data, name), orientation)


def check_size(width: int, height: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Raise `ImageError` where a picture of so many pixels is too small to show a cell, too large or too
    narrow.
    """
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} megapixels, more than the "
            f"{max_pixels // 1_000_000} that are opened; save it smaller"
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{name}: {width}x{height} pixels is too small to show a cell (at least {MIN_SIDE_PX} a side)"
        )
    if max(width, height) > MAX_PROPORTION * min(width, height):
        how = "wide" if width > height else "high"
        raise ImageError(
            f"{name}: {width}x{height} pixels is too {how}: one side is more than {MAX_PROPORTION} times the "
            "other; cut it into parts"
        )


def shown_path(path: Path | str) -> str:
    """A path as messages show it: on one line, a control character in it as its escape."""
    return _CONTROL_CHARACTERS.sub(lambda found: repr(found[0])[1:-1], str(path))


def _without_film(data: bytes) -> bytes:
    """A JPEG up to its end: behind it a telephone may put a film, some bytes of which look like scans."""
    for code, _, end in islice(_jpeg_segments(data), _MAX_JPEG_SEGMENTS):
        if code == _END_OF_JPEG:
            return data[:end]
    return data


def _is_jpeg_after_jpeg(data: bytes) -> bool:
    """Whether a further JPEG follows that no list of a file's pictures names: frames of a stream."""
    if data.count(_START_OF_JPEG) < 2 or _PICTURE_LIST in data[: data.find(_START_OF_SCAN)]:
        return False
    for code, _, end in islice(_jpeg_segments(data), _MAX_JPEG_SEGMENTS):
        if code == _END_OF_JPEG:
            return _FOLLOWING_JPEG.match(data, end) is not None
    return False


def _has_endless_header(data: bytes) -> bool:
    """Whether Pillow would take long over what stands before the first scan of a JPEG."""
    at, junk = 2, 0
    for count, (code, start, end) in enumerate(_jpeg_segments(data)):
        junk += start - at
        if count > _MAX_JPEG_SEGMENTS or junk > _MAX_JPEG_JUNK:
            return True
        if code == _SCAN:
            return False
        at = end
    return len(data) - at > _MAX_JPEG_JUNK


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The markers of a JPEG: the code of each, where it stands, and where its segment ends."""
    end = 2
    while found := _JPEG_MARKER.search(data, end):
        code, end = found[1][0], found.end()
        if code not in _MARKERS_ALONE:
            end += int.from_bytes(data[end : end + 2])  # this length included
        yield code, found.start(), end


def _no_colour(name: str) -> ImageError:
    return ImageError(f"{name}: a grey image; the stain is told by its colour, so give the colour original")


def _decode_16_bits(data: bytes, name: str) -> RGBImage:
    mode = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    if deep is None or deep.dtype != np.uint16:
        raise ImageError(
            f"{name}: 16 bits a channel in a form that is not read; save it with 8 bits a channel"
        )
    return cv2.cvtColor(to_8_bits(deep), cv2.COLOR_BGR2RGB)


def _turned(pixels: RGBImage, orientation: int) -> RGBImage:
    """A picture as it is to be seen, from how it lies and the number that EXIF has for that."""
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def shrink(image: RGBImage, width: int) -> RGBImage:
    """A picture, (height, width, 3) uint8, made at most so many pixels wide; itself where it is no wider."""
    old_height, old_width = image.shape[:2]
    if old_width <= width:
        return image
    # Averaging to a whole part of the size first: averaging to any size takes five times as long.
    part = old_width // width
    if part > 1:
        image = cv2.resize(image, (old_width // part, old_height // part), interpolation=cv2.INTER_AREA)
    size = width, max(1, round(old_height * width / old_width))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _is_even(pixels: RGBImage) -> bool:
    """Tell whether a grey picture shows nothing but light, as glass does: no place differs from the next."""
    green = shrink(pixels, 256)[..., 1].astype(np.float32)
    light = float(np.median(green))
    if light < _LIT:
        return False
    differs = np.abs(cv2.GaussianBlur(green, (3, 3), 0) - cv2.blur(green, (25, 25)))
    return float(np.percentile(differs, 99.5)) < _EVEN * light


def is_grey(pixels: RGBImage) -> bool:
    """Whether a picture, (height, width, 3) uint8, has no colour: its stain could not be told."""
    if pixels.size > 1_000_000 and not is_grey(pixels[::16, ::16]):
        return False  # nearly every image: a sample settles it
    red, green, blue = (pixels[..., channel].astype(np.int16) for channel in range(3))
    return int(max(np.abs(red - green).max(), np.abs(green - blue).max())) <= GREY_TOLERANCE
