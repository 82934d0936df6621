"""What an image file may be, and what is refused before anything is computed."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hematovision.errors import ImageError
from hematovision.images import (
    GREY_TOLERANCE,
    MAX_FILE_BYTES,
    MAX_PIXELS,
    decode_image,
    is_grey,
    read_image,
)


def smear(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Something pink with structure that compresses badly, so that a file can be cut anywhere."""
    noise = np.random.default_rng(1).integers(-40, 40, (height, width, 3))
    return np.clip(np.array((220, 160, 180)) + noise, 0, 255).astype(np.uint8)


def encoded(pixels: NDArray[np.uint8], form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int, color_type: int = 2) -> bytes:
    """A PNG that claims a size in its header and has next to nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_a_lossless_file_is_read_exactly(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(encoded(smear(), form))
    image = read_image(path)
    np.testing.assert_array_equal(image, smear())
    assert image.flags.c_contiguous


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_lossy_file_is_read_nearly(form: str) -> None:
    image = decode_image(encoded(smear(), form, quality=95), "a")
    assert np.abs(image.astype(int) - smear()).mean() < 20
    assert image[..., 0].mean() > image[..., 2].mean() > image[..., 1].mean()  # RGB, not BGR


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped_and_the_colour_under_it_kept(form: str) -> None:
    alpha = np.zeros((60, 80, 1), np.uint8)
    alpha[:, 40:] = 255
    data = encoded(np.concatenate([smear(), alpha], axis=2), form, lossless=True, exact=True)
    np.testing.assert_array_equal(decode_image(data, "a"), smear())


def test_a_palette_image_is_read_in_its_colours() -> None:
    buffer = io.BytesIO()
    Image.fromarray(smear()).quantize(64).save(buffer, "PNG")
    assert np.abs(decode_image(buffer.getvalue(), "a").astype(int) - smear()).mean() < 25


@pytest.mark.parametrize("form", [".png", ".tiff"])
def test_16_bits_a_channel_are_scaled_and_rounded_not_cut(form: str) -> None:
    values = smear(64, 64).astype(np.uint16) * 257
    # 100.4 and 100.6 of 255: cutting the low byte would make both 100.
    values[0, 0] = (round(100.4 * 257), round(100.6 * 257), 65535)
    written, data = cv2.imencode(form, values[..., ::-1])
    assert written
    image = decode_image(data.tobytes(), "a")
    assert tuple(image[0, 0]) == (100, 101, 255)
    np.testing.assert_array_equal(image[1:], smear(64, 64)[1:])


def test_the_cameras_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(smear(), "JPEG", exif=exif)
    assert decode_image(data, "a").shape == (80, 60, 3)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_short_is_refused(form: str, kept: float) -> None:
    data = encoded(smear(200, 300), form)
    with pytest.raises(ImageError, match=r"^x\.img: .*(copy it again|not an image)"):
        decode_image(data[: int(len(data) * kept)], "x.img")


def test_a_damaged_png_is_refused() -> None:
    data = bytearray(encoded(smear(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode_image(bytes(data), "a")


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (200, 31)])
def test_an_image_too_small_to_show_a_cell_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="too small to show a cell"):
        decode_image(encoded(smear(*size), "PNG"), "a")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "size", [(10_000, 10_000), (100_000, 1_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]
)
def test_too_many_pixels_are_refused_by_the_header_alone(size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(ImageError, match=r"^bomb\.png: .*megapixels"):
        decode_image(png_header(*size), "bomb.png")


def test_a_bomb_that_compresses_to_little_is_not_decoded() -> None:
    data = encoded(np.zeros((7200, 7200, 3), np.uint8), "PNG")
    assert len(data) < 1_000_000
    with pytest.raises(ImageError, match="7200x7200 is 52 megapixels"):
        decode_image(data, "a")


@pytest.mark.parametrize(("size", "how"), [((32, 641), "wide"), ((641, 32), "high"), ((300, 40_000), "wide")])
def test_a_picture_much_longer_than_wide_is_refused_by_its_header(size: tuple[int, int], how: str) -> None:
    with pytest.raises(
        ImageError, match=rf"^strip\.png: {size[1]}x{size[0]} pixels is too {how}: .*20 times"
    ):
        decode_image(png_header(size[1], size[0]), "strip.png")
    assert decode_image(encoded(smear(32, 640), "PNG"), "strip.png").shape == (32, 640, 3)


def segment(code: int, content: bytes) -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "before",
    [
        *(segment(code, b"Exif\0\0ab") * 2000 for code in (0xE0, 0xE1, 0xE2, 0xED, 0xFE, 0xDD)),
        segment(0xE1, b"") * 2000,
        b"\xff\xd8" * 2000,
        *(filling * 100_000 for filling in (b"\xff", b"\0", b"\xff\0", b"\xff\xd0")),
    ],
    ids=lambda before: before[:4].hex(),
)
def test_what_pillow_would_take_minutes_over_is_refused_before(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.open", None)
    data = encoded(smear(), "JPEG")
    with pytest.raises(ImageError, match="more than 1000 segments"):
        decode_image(data[:2] + before + data[2:], "a")


def test_what_telephones_put_into_a_jpeg_is_no_reason_to_refuse_it() -> None:
    data = encoded(smear(), "JPEG")
    depth = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 300
    expected = decode_image(data, "a")
    np.testing.assert_array_equal(decode_image(data[:2] + depth + data[2:], "a"), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_a_grey_image_is_refused_by_its_mode(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(smear()).convert("L").convert(mode).save(buffer, "PNG")
    with pytest.raises(ImageError, match="a grey image"):
        decode_image(buffer.getvalue(), "a")


@pytest.mark.parametrize("size", [(60, 80), (1000, 1200)])
def test_grey_saved_as_colour_is_refused_too(size: tuple[int, int]) -> None:
    grey = np.repeat(smear(*size)[..., :1], 3, axis=2)
    with pytest.raises(ImageError, match="a grey image"):
        decode_image(encoded(grey, "JPEG"), "a")


def test_little_colour_in_one_place_is_colour() -> None:
    image = np.full((1000, 1200, 3), 200, np.uint8)
    image[501:530, 703:730, 1] = 200 - GREY_TOLERANCE - 1
    assert not is_grey(image)
    assert decode_image(encoded(image, "PNG"), "a").shape == image.shape


def test_a_colour_mode_that_is_not_read_says_what_to_save() -> None:
    buffer = io.BytesIO()
    Image.fromarray(smear()).convert("CMYK").save(buffer, "JPEG")
    with pytest.raises(ImageError, match="colour mode CMYK is not read; save it as RGB"):
        decode_image(buffer.getvalue(), "a")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text\n" * 50, "not an image in a known format"),
        (os.urandom(2000), "not an image|header is damaged"),
        (b"GIF89a" + bytes(200), "not an image in a known format"),
        (b"\xff\xd8\xff\xe0", "not an image|damaged"),
    ],
    ids=["empty", "text", "noise", "gif", "jpeg-start"],
)
def test_what_is_no_image_is_refused_whatever_its_name(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=complaint) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.png", tmp_path):
        with pytest.raises(ImageError, match=r"cannot be read.*check the path") as caught:
            read_image(path)
        assert str(path) in str(caught.value)


@pytest.mark.timeout(20)
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match=r"not a file but a (pipe|device)"):
            read_image(path)


def test_fewer_pixels_may_be_asked_for() -> None:
    data = encoded(smear(60, 80), "PNG")
    assert decode_image(data, "a", max_pixels=4800).shape == (60, 80, 3)
    with pytest.raises(ImageError, match="80x60 is"):
        decode_image(data, "a", max_pixels=4799)


def test_a_jpeg_of_endless_scans_is_refused_and_a_progressive_one_read() -> None:
    data = encoded(smear(), "JPEG", progressive=True)
    assert decode_image(data, "a").shape == (60, 80, 3)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="too many scans"):
        decode_image(data[:-2] + 100 * scan + data[-2:], "a")


def test_a_film_behind_a_telephones_picture_is_no_scans() -> None:
    data = encoded(smear(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xd9")
    film = b"\xff\xda\0" * 200
    assert (decode_image(data + film, "a") == decode_image(data, "a")).all()


def test_a_jpeg_of_endless_segments_is_not_searched_for_its_end() -> None:
    data = encoded(smear(), "JPEG")
    with pytest.raises(ImageError, match="more than 1000 segments"):
        decode_image(data[:2] + b"\xff\xfe\0\2" * 2000 + data[2:] + b"\xff\xda\0" * 200, "a")


def test_16_bits_cut_short_are_noticed() -> None:
    deep = smear(64, 64).astype(np.uint16) * 257
    _, data = cv2.imencode(".png", deep)
    with pytest.raises(ImageError, match="cut short"):
        decode_image(data.tobytes()[: data.size // 2], "a")


def test_a_file_larger_than_any_image_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ImageError, match=r"huge\.png: .*536,\d+,\d+ bytes, more than"):
        read_image(tmp_path / "huge.png")


def test_a_path_that_no_file_can_have_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.png: cannot be read \(File name too long\)"):
        read_image(tmp_path / f"{'a' * 300}.png")


def test_a_line_break_in_a_path_does_not_break_the_message(tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b.png").write_text("hello")
    with pytest.raises(ImageError, match=r"a\\n\\x1b\.png: not an image"):
        read_image(tmp_path / "a\n\x1b.png")


@pytest.mark.parametrize("form", ["TIFF", "WEBP", "PNG"])
def test_several_pages_or_frames_are_refused(form: str) -> None:
    buffer = io.BytesIO()
    pages = [Image.fromarray(smear()), Image.fromarray(smear()[::-1])]
    pages[0].save(buffer, form, save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="holds several pages or frames"):
        decode_image(buffer.getvalue(), "a")


def test_a_telephones_preview_behind_the_picture_does_not_matter() -> None:
    buffer = io.BytesIO()
    Image.fromarray(smear()).save(
        buffer, "MPO", save_all=True, append_images=[Image.fromarray(smear()[:40, :40])]
    )
    assert decode_image(buffer.getvalue(), "a").shape == (60, 80, 3)


def with_exif(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x0132] = 6, "Make", 72.0, "2020:01:01"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    return encoded(smear(), form, exif=exif)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of tags that it passes over
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_damaged_exif_gives_an_image_or_an_error_of_ours(form: str) -> None:
    whole = with_exif(form)
    where = whole.index(b"Make" if form == "TIFF" else b"MM\0*" if b"MM\0*" in whole else b"II*\0")
    refused = 0
    # The type and the count of a tag are in single bytes: each byte of the block is given each type's number.
    for place in range(max(where - 100, 8), min(where + 100, len(whole))):
        for value in range(13):
            damaged = bytearray(whole)
            damaged[place] = value
            try:
                image = decode_image(bytes(damaged), "a")
            except ImageError:
                refused += 1
            else:
                assert image.ndim == 3
    assert refused
