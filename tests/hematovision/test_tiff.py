"""TIFF files in every form: read rightly, or refused in one line; never as another picture."""

import io
from collections.abc import Iterator
from itertools import product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hematovision.errors import ImageError
from hematovision.images import decode_image
from tests.hematovision.tiff_writer import DEFLATE, LZW, PACKBITS, UNCOMPRESSED, Form, write_tiff

HEIGHT, WIDTH = 35, 45
_UNASSOCIATED_ALPHA, _ASSOCIATED_ALPHA = 2, 1


def field() -> NDArray[np.uint8]:
    """Every level, and no two rows, columns or channels alike."""
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def deep_field(samples: int = 3) -> NDArray[np.uint16]:
    """16 bits that are not 8 bits doubled; rounded to 8 bits they are `field`."""
    levels = field().astype(np.int64) * 257 + np.random.default_rng(2).integers(-128, 129, (HEIGHT, WIDTH, 3))
    beyond = np.random.default_rng(3).integers(0, 2**16, (HEIGHT, WIDTH, samples - 3))
    return np.concatenate([np.clip(levels, 0, 65535), beyond], axis=2).astype(np.uint16)


def forms(compression: int) -> Iterator[Form]:
    extras = ((), (0,), (_UNASSOCIATED_ALPHA,), (0, 0))
    for apart, tiled, order, big, predictor, extra in product(
        (False, True), (False, True), "<>", (False, True), (1, 2), extras
    ):
        yield Form(apart, compression, tiled, order, big, predictor, extra)


@pytest.mark.parametrize("compression", [UNCOMPRESSED, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_form_is_read_rightly_or_refused(bits: int, compression: int) -> None:
    refused = []
    for form in forms(compression):
        samples = 3 + len(form.extra)
        pixels = deep_field(samples) if bits == 16 else (deep_field(samples) // 257).astype(np.uint8)
        expected = field() if bits == 16 else pixels[..., :3]
        try:
            image = decode_image(write_tiff(pixels, form), "a.tif")
        except ImageError as error:
            assert str(error).startswith("a.tif: ")
            assert "\n" not in str(error)
            refused.append(form)
        else:
            np.testing.assert_array_equal(image, expected, err_msg=str(form))
            assert image.flags.c_contiguous
    # Nothing common is among what is refused: differences are stored with LZW and deflate.
    refused = [form for form in refused if compression in (LZW, DEFLATE) or form.predictor == 1]
    if bits == 16:
        assert all(len(form.extra) == 2 and not form.apart for form in refused)
    else:
        assert all(form.extra or (form.big and form.order == ">") for form in refused)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_its_tag_says(orientation: int, bits: int, apart: bool) -> None:
    pixels = deep_field() if bits == 16 else field()
    lying = Image.fromarray(field())
    lying.getexif()[0x0112] = orientation
    data = write_tiff(pixels, Form(apart, LZW), {274: (orientation,)})
    np.testing.assert_array_equal(decode_image(data, "a"), np.asarray(ImageOps.exif_transpose(lying)))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("tags", "complaint"),
    [
        ({339: (2, 2, 2)}, "signed numbers"),
        ({339: (3, 3, 3)}, "floating-point numbers"),
        ({339: (1, 1, 3)}, "floating-point numbers"),
        ({258: (12, 12, 12)}, "3 channels of 12 bits"),
        ({258: (10, 10, 10)}, "3 channels of 10 bits"),
        ({258: (32, 32, 32)}, "3 channels of 32 bits"),
        ({258: (16, 16, 8)}, "3 channels of 8 and 16 bits"),
        ({262: (0,)}, "3 grey channels"),
        ({262: (1,)}, "3 grey channels"),
        ({262: (8,)}, "colour mode CIELab"),
        ({262: (32803,)}, "a sensor's mosaic"),
        ({262: (6,)}, "in a form that is not read"),
        ({266: (2,)}, "bits of its bytes are reversed"),
        ({254: (1,)}, "a small copy of another picture"),
        ({259: (50000,)}, "compressed in a way that is not read"),
        ({259: (34887,)}, "compressed in a way that is not read"),
        ({259: (7,)}, "compressed in a way that is not read"),
    ],
)
def test_16_bits_of_another_kind_are_refused(
    tags: dict[int, tuple[int, ...]], complaint: str, apart: bool
) -> None:
    with pytest.raises(ImageError, match=f"^a.tif: .*{complaint}.*; save it"):
        decode_image(write_tiff(deep_field(), Form(apart), tags), "a.tif")


@pytest.mark.parametrize("compression", [UNCOMPRESSED, PACKBITS])
@pytest.mark.parametrize("bits", [8, 16])
def test_differences_in_a_compression_that_has_none_are_refused(bits: int, compression: int) -> None:
    pixels = deep_field() if bits == 16 else field()
    with pytest.raises(ImageError, match=r"^a.tif: .*differences of levels.*; save it"):
        decode_image(write_tiff(pixels, Form(compression=compression, predictor=2)), "a.tif")


@pytest.mark.parametrize("extra", [(), (0,)])
@pytest.mark.parametrize("bits", [8, 16])
def test_inks_are_not_taken_for_light(bits: int, extra: tuple[int, ...]) -> None:
    pixels = deep_field(4 + len(extra))
    pixels = pixels if bits == 16 else (pixels // 257).astype(np.uint8)
    with pytest.raises(ImageError, match="colour mode CMYK is not read"):
        decode_image(write_tiff(pixels, Form(extra=extra), photometric=5), "a")


@pytest.mark.parametrize("apart", [False, True])
def test_colours_that_are_multiplied_by_transparency_are_refused(apart: bool) -> None:
    data = write_tiff(deep_field(4), Form(apart, extra=(_ASSOCIATED_ALPHA,)))
    with pytest.raises(ImageError, match="16 bits a channel in a form that is not read"):
        decode_image(data, "a")


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_tiff_is_called_grey(bits: int, photometric: int) -> None:
    pixels = deep_field()[..., :1] if bits == 16 else field()[..., :1]
    with pytest.raises(ImageError, match="a grey image"):
        decode_image(write_tiff(pixels, Form(), photometric=photometric), "a")


def test_a_palette_of_16_bits_is_not_taken_for_colours() -> None:
    data = write_tiff(deep_field()[..., :1], Form(), {320: (*range(2**16),) * 3}, photometric=3)
    with pytest.raises(ImageError, match="a TIFF of a form that is not read"):
        decode_image(data, "a")


@pytest.mark.parametrize("mode", ["RGB", "YCbCr"])
def test_jpeg_in_a_tiff_is_read_nearly(mode: str) -> None:
    smooth = Image.fromarray(field()[:5, :7]).resize((160, 120), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    smooth.convert(mode).save(buffer, "TIFF", compression="jpeg", quality=95)
    difference = decode_image(buffer.getvalue(), "a").astype(int) - np.asarray(smooth)
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("compression", [UNCOMPRESSED, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("apart", [False, True])
def test_16_bits_cut_short_are_refused_wherever_they_are_cut(apart: bool, compression: int) -> None:
    data = write_tiff(deep_field(), Form(apart, compression))
    for kept in (len(data) - 1, len(data) * 9 // 10, len(data) // 2, 300, 100, 20, 8, 5):
        with pytest.raises(ImageError, match=r"^a: .*copy it again"):
            decode_image(data[:kept], "a")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_damaged_tags_give_a_picture_or_an_error_of_ours(apart: bool, big: bool) -> None:
    whole = write_tiff(deep_field(), Form(apart, big=big))
    for place in range(400):
        for value in (0, 1, 2, 255):
            damaged = bytearray(whole)
            damaged[place] = value
            try:
                image = decode_image(bytes(damaged), "a")
            except ImageError as error:
                assert str(error).startswith("a: ")
            else:
                assert image.ndim == 3


def test_a_piece_that_is_given_many_times_is_not_read_many_times() -> None:
    data = write_tiff(deep_field(), Form(), {273: (8,) * 50_000, 279: (9000,) * 50_000})
    with pytest.raises(ImageError, match="ends before its last part"):
        decode_image(data, "a")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_is_turned_whatever_its_bits(orientation: int, bits: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(field()).save(buffer, "PNG", exif=exif)
    data = buffer.getvalue()
    expected = decode_image(data, "a")
    assert expected.shape[:2] == ((HEIGHT, WIDTH) if orientation == 1 else (WIDTH, HEIGHT))
    if bits == 16:
        _, deep = cv2.imencode(".png", deep_field()[..., ::-1])
        start = data.index(b"eXIf") - 4
        chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4])]
        data = deep.tobytes()[:33] + chunk + deep.tobytes()[33:]  # behind the header's chunk
    np.testing.assert_array_equal(decode_image(data, "a"), expected)
