"""Pixel formats: each gives the colours that were put in, whatever its order, range and padding."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.cameras.pixel_formats import (
    JPEG_COLOUR,
    PACKED_FORMATS,
    YUV_ENCODINGS,
    YUV_FORMATS,
    PixelLayout,
    YuvColour,
)
from hematovision.errors import CameraError, ImageError

# A smear's: empty glass, a red cell, a nucleus, an eosinophil's granules.
SMEAR = ((238, 226, 196), (214, 150, 140), (92, 48, 130), (200, 90, 70))
# Bytes of one pixel in memory, from a (red, green, blue).
IN_MEMORY: dict[str, Callable[[int, int, int], tuple[int, ...]]] = {
    "BGR888": lambda r, g, b: (r, g, b),
    "RGB888": lambda r, g, b: (b, g, r),
    "XBGR8888": lambda r, g, b: (r, g, b, 255),
    "XRGB8888": lambda r, g, b: (b, g, r, 255),
}
# The standards' own tables: Y, U and V of pure red, green and blue, written out rather than computed.
PRIMARIES = {
    YuvColour("Rec601", True): ((76, 85, 255), (150, 44, 21), (29, 255, 107)),
    YuvColour("Rec601", False): ((81, 90, 240), (145, 54, 34), (41, 240, 110)),
    YuvColour("Rec709", True): ((54, 99, 255), (182, 30, 12), (18, 255, 116)),
    YuvColour("Rec709", False): ((63, 102, 240), (173, 42, 26), (32, 240, 118)),
    YuvColour("Rec2020", True): ((67, 92, 255), (173, 36, 11), (15, 255, 118)),
    YuvColour("Rec2020", False): ((74, 97, 240), (164, 47, 25), (29, 240, 119)),
}


def quarters(colors: tuple[tuple[int, ...], ...], width: int, height: int) -> NDArray[np.uint8]:
    """A picture of four colours, one in each quarter: no exchange of rows, columns or channels is hidden."""
    picture = np.empty((height, width, len(colors[0])), np.uint8)
    middle_y, middle_x = height // 4 * 2, width // 4 * 2
    picture[:middle_y, :middle_x], picture[:middle_y, middle_x:] = colors[0], colors[1]
    picture[middle_y:, :middle_x], picture[middle_y:, middle_x:] = colors[2], colors[3]
    return picture


def yuv_array(yuv: NDArray[np.uint8], pixel_format: str, padding: int = 0) -> NDArray[np.uint8]:
    """A (height, width, 3) picture of Y, U, V as the array that picamera2 makes of its stream."""
    height, width = yuv.shape[:2]
    stride = width + padding
    rng = np.random.default_rng(1)
    array = rng.integers(0, 256, (height * 3 // 2, stride), np.uint8)  # what is in the padding is anything
    array[:height, :width] = yuv[..., 0]
    u, v = yuv[::2, ::2, 1], yuv[::2, ::2, 2]
    first, second = (u, v) if pixel_format in {"YUV420", "NV12"} else (v, u)
    if pixel_format.startswith("NV"):
        array[height:, 0:width:2], array[height:, 1:width:2] = first, second
    else:
        planes = array[height:].reshape(-1)  # each plane's rows are half as long, one behind the other
        rows = planes.reshape(height, stride // 2)
        rows[: height // 2, : width // 2], rows[height // 2 :, : width // 2] = first, second
    return array


def yuv_of(rgb: NDArray[np.uint8], colour: YuvColour) -> NDArray[np.uint8]:
    """The definition in ITU-R BT.601, 709 and 2020, rounded."""
    red, green, blue = (rgb[..., channel] / 255 for channel in range(3))
    kr, kb = YUV_ENCODINGS[colour.encoding]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    low, luma, chroma = (0, 255, 255) if colour.full_range else (16, 219, 224)
    return (
        np.rint(np.stack([low + luma * y, 128 + chroma * u, 128 + chroma * v], axis=-1))
        .clip(0, 255)
        .astype(np.uint8)
    )


def test_every_format_in_the_tables_is_tested_here() -> None:
    assert set(IN_MEMORY) == set(PACKED_FORMATS)
    assert {colour.encoding for colour in PRIMARIES} == set(YUV_ENCODINGS)
    assert set(YUV_FORMATS) == {"YUV420", "YVU420", "NV12", "NV21"}


@pytest.mark.parametrize("name", PACKED_FORMATS)
def test_a_packed_format_gives_red_green_and_blue_in_that_order(name: str) -> None:
    array = quarters(tuple(IN_MEMORY[name](*color) for color in SMEAR), 12, 8)
    rgb = PixelLayout(name, 12, 8).to_rgb(array)
    np.testing.assert_array_equal(rgb, quarters(SMEAR, 12, 8))
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("colour", PRIMARIES, ids=str)
@pytest.mark.parametrize("name", YUV_FORMATS)
def test_yuv_gives_the_primaries_of_its_standard(name: str, colour: YuvColour) -> None:
    black = (0 if colour.full_range else 16, 128, 128)
    array = yuv_array(quarters((*PRIMARIES[colour], black), 16, 12), name)
    rgb = PixelLayout(name, 16, 12, colour).to_rgb(array)
    for (y, x), expected in {
        (1, 1): (255, 0, 0),
        (1, 14): (0, 255, 0),
        (10, 1): (0, 0, 255),
        (10, 14): (0, 0, 0),
    }.items():
        np.testing.assert_allclose(rgb[y, x], expected, atol=3)


@pytest.mark.parametrize("padding", [0, 4, 50, 64])
@pytest.mark.parametrize("height", [8, 10])  # of 10 rows, a plane of colour has an odd number
@pytest.mark.parametrize("name", YUV_FORMATS)
def test_padding_at_the_ends_of_rows_is_no_part_of_the_picture(name: str, height: int, padding: int) -> None:
    picture = quarters(SMEAR, 12, height)
    array = yuv_array(yuv_of(picture, JPEG_COLOUR), name, padding)
    half = PixelLayout(name, 12, height, JPEG_COLOUR).to_half_rgb(array)
    np.testing.assert_allclose(half, picture[::2, ::2], atol=2)
    rgb = PixelLayout(name, 12, height, JPEG_COLOUR).to_rgb(array)
    for y, x in ((0, 0), (0, 11), (height - 1, 0), (height - 1, 11)):
        np.testing.assert_allclose(rgb[y, x], picture[y, x], atol=2)


@given(
    color=st.tuples(*[st.integers(0, 255)] * 3),
    name=st.sampled_from(sorted(YUV_FORMATS)),
    colour=st.sampled_from(list(PRIMARIES)),
)
def test_any_colour_comes_back_from_yuv_within_its_rounding(
    color: tuple[int, int, int], name: str, colour: YuvColour
) -> None:
    picture = np.full((4, 4, 3), color, np.uint8)
    array = yuv_array(yuv_of(picture, colour), name)
    for rgb in (
        PixelLayout(name, 4, 4, colour).to_rgb(array),
        PixelLayout(name, 4, 4, colour).to_half_rgb(array),
    ):
        np.testing.assert_allclose(rgb, np.broadcast_to(color, rgb.shape), atol=3)


@pytest.mark.parametrize("name", ["RGB161616", "MJPEG", "YUYV", "SRGGB10", "rgb888", ""])
def test_a_format_that_is_not_in_the_tables_is_refused_by_name(name: str) -> None:
    with pytest.raises(CameraError, match=f"pixel format '{name}' is not read; known are BGR888, .*NV21"):
        PixelLayout(name, 12, 8, JPEG_COLOUR)


@pytest.mark.parametrize("colour", [None, YuvColour("Smpte240m", True)])
def test_yuv_whose_meaning_is_not_known_is_refused(colour: YuvColour | None) -> None:
    with pytest.raises(CameraError, match=r"'NV12' comes with colour encoding '(none|Smpte240m)'"):
        PixelLayout("NV12", 12, 8, colour)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("BGR888", (8, 12, 4)),
        ("XRGB8888", (8, 12, 3)),
        ("RGB888", (8, 11, 3)),
        ("NV12", (8, 12)),
        ("YUV420", (12, 10)),
        ("NV21", (12, 13)),
    ],
)
def test_an_array_of_another_shape_is_a_torn_picture(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=rf"is torn: .* not 12x8 pixels of {name}"):
        PixelLayout(name, 12, 8, JPEG_COLOUR).to_rgb(np.zeros(shape, np.uint8))
