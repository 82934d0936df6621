"""What can be a stained smear, and what cannot."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.plausible_fields import LABORATORIES, fields_of
from hematovision.images import RGBImage
from hematovision.optics import measure_field
from hematovision.phantom import Microscope, Pose, Slide, Smear, draw_field
from hematovision.plausibility import (
    Appearance,
    dark_object_note,
    is_empty,
    look_at,
    typical,
    why_no_smear,
)
from tests.hematovision.test_red_cells import HAEMOGLOBIN, draw

#: Fields a laboratory that a test looks at; `python -m benchmarks.plausible_fields` looks at all.
SAMPLE = 15
WORDS = ("haemoglobin", "12.4 g/dl", "of the patient,", "white cells", "seen; see", "figure", "smear:")


def appearance(image: RGBImage, um_per_pixel: float = 0.1) -> Appearance:
    return look_at(measure_field(np.ascontiguousarray(image), um_per_pixel))


def refusal(image: RGBImage, um_per_pixel: float = 0.1) -> str | None:
    return why_no_smear(appearance(image, um_per_pixel))


def swapped(image: RGBImage) -> RGBImage:
    return np.ascontiguousarray(image[..., ::-1])


def photographed(picture: Image.Image | RGBImage, seed: int = 0) -> RGBImage:
    """A picture through a lens that darkens the corners a little, and a sensor."""
    pixels = np.asarray(picture, np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    pixels = cv2.GaussianBlur(pixels, (0, 0), 1.0) * (1 - 0.1 * (x**2 + y**2))[..., None]
    noise = np.random.default_rng(seed).normal(0, 2, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def page(ink: tuple[int, int, int], paper: tuple[int, int, int], size: int) -> RGBImage:
    picture = Image.new("RGB", (1280, 960), paper)
    drawing, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    rng = np.random.default_rng(size)
    for y in range(size, 960 - size, size * 3 // 2):
        drawing.text((size, y), " ".join(rng.choice(WORDS, 30)), fill=ink, font=font)
    return np.asarray(picture)


def flower(petal: tuple[int, int, int], around: tuple[int, int, int]) -> RGBImage:
    picture = Image.new("RGB", (900, 700), around)
    drawing = ImageDraw.Draw(picture)
    for angle in np.arange(8) * np.pi / 4:
        x, y = 450 + 150 * np.cos(angle), 350 + 150 * np.sin(angle)
        drawing.ellipse((x - 100, y - 100, x + 100, y + 100), fill=petal)
    drawing.ellipse((370, 270, 530, 430), fill=(230, 190, 40))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(2)))


def pale_field() -> RGBImage:
    """A field of a pale stain, in which every nucleus is hardly darker than a red cell elsewhere."""
    cells = [
        ("neutrophil", (25.0, 25.0)),
        ("lymphocyte", (62.0, 22.0)),
        ("monocyte", (100.0, 28.0)),
        ("eosinophil", (30.0, 70.0)),
    ]
    smear = Smear(3, 0.13, 0.1, 0.1, stain=(0.275, 0.5, 0.5), red_cells_per_mm2=5000, platelets_per_mm2=0)
    return Microscope(Slide(smear, cells), 1280, 960).look(Pose(64, 48)).image


def with_bar(image: RGBImage, colour: str) -> RGBImage:
    picture = Image.fromarray(image)
    drawing = ImageDraw.Draw(picture)
    drawing.rectangle((980, 890, 1230, 918), fill=colour)
    drawing.text((1040, 840), "25 µm", fill=colour, font=ImageFont.load_default(40))
    return np.asarray(picture)


def with_dirt(image: RGBImage) -> RGBImage:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    share = np.clip((62 - np.hypot(x - 640, y - 860)) / 8 + 0.5, 0, 1)[..., None]
    return (image * (1 - share) + np.array((35, 30, 30)) * share).astype(np.uint8)


def with_pointer(image: RGBImage) -> RGBImage:
    line = cv2.line(np.zeros(image.shape[:2], np.float32), (640, 0), (560, 420), 1.0, 20)
    share = cv2.GaussianBlur(line, (0, 0), 3)[..., None] * 0.8
    return (image * (1 - share) + np.array((20, 18, 18)) * share).astype(np.uint8)


def with_surround(image: RGBImage) -> RGBImage:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    share = np.clip((600 - np.hypot(x - 640, y - 480)) / 14, 0, 1)[..., None]
    return (image * share + 40 * (1 - share)).astype(np.uint8)


def sample(data_dir: Path, laboratory: str) -> list[tuple[RGBImage, float]]:
    folder, pattern, _ = LABORATORIES[laboratory]
    count = len(list((data_dir / folder).glob(pattern)))
    assert count, f"no fields of {laboratory}"
    return list(fields_of(data_dir, laboratory, max(count // SAMPLE, 1)))


@pytest.mark.parametrize("laboratory", LABORATORIES)
def test_no_field_of_a_laboratory_is_refused_or_called_empty(data_dir: Path, laboratory: str) -> None:
    for image, um_per_pixel in sample(data_dir, laboratory):
        seen = appearance(image, um_per_pixel)
        assert why_no_smear(seen) is None
        assert not is_empty(seen)


@pytest.mark.parametrize("laboratory", LABORATORIES)
def test_no_field_of_a_laboratory_has_a_large_dark_object(data_dir: Path, laboratory: str) -> None:
    noted = [dark_object_note(appearance(*field)) is not None for field in sample(data_dir, laboratory)]
    assert sum(noted) <= 1


@pytest.mark.parametrize("stain", [(1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (1.4, 1.2, 0.8), (1.3, 1.3, 1.3)])
def test_drawn_smears_are_plausible_in_any_stain(stain: tuple[float, float, float]) -> None:
    slide = Slide(Smear(1, 0.3, 0.3, 0.1, stain=stain))
    for place in (80, 150, 220):
        assert refusal(Microscope(slide, 1280, 960).look(Pose(place, place)).image) is None


@pytest.mark.parametrize("seed", range(4))
def test_red_and_blue_swapped_is_refused_by_name(seed: int) -> None:
    image = draw_field(seed, 1280, 960, 0.1).image
    assert refusal(image) is None
    assert "red and blue seem to be swapped" in (refusal(swapped(image)) or "")


def test_most_fields_of_a_slide_that_are_swapped_are_refused(data_dir: Path) -> None:
    """One field alone is refused on strong evidence only; the fields of a run speak together."""
    for laboratory in ("kaggle-blood-cells", "pbc"):
        seen = [appearance(swapped(image), scale) for image, scale in sample(data_dir, laboratory)]
        assert why_no_smear(typical(seen)) is not None


@pytest.mark.parametrize("ink", [(0, 0, 0), (30, 25, 60), (20, 20, 160), (140, 20, 20)])
@pytest.mark.parametrize("paper", [(255, 255, 255), (250, 246, 235)])
@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize("seen_as", [np.asarray, photographed])
def test_a_written_page_is_no_smear(
    ink: tuple[int, int, int],
    paper: tuple[int, int, int],
    size: int,
    seen_as: Callable[[RGBImage], RGBImage],
) -> None:
    assert "no stained blood smear" in (refusal(seen_as(page(ink, paper, size))) or "")


@pytest.mark.parametrize("petal", [(220, 40, 60), (240, 200, 30)])
@pytest.mark.parametrize("around", [(40, 90, 30), (120, 160, 90), (240, 240, 240)])
def test_a_flower_is_no_smear(petal: tuple[int, int, int], around: tuple[int, int, int]) -> None:
    assert refusal(photographed(flower(petal, around))) is not None


@pytest.mark.parametrize("um_per_pixel", [0.06, 0.1, 0.2])
def test_photographs_are_no_smears(um_per_pixel: float) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    for image in datasets.load_sample_images().images:
        assert "no stained blood smear" in (refusal(image, um_per_pixel) or "")


@pytest.mark.parametrize("quality", [None, 95, 60])
@pytest.mark.parametrize("glass", [(232, 228, 224), (180, 200, 225), (120, 118, 100)])
def test_empty_glass_is_empty_and_no_refusal(glass: tuple[int, int, int], quality: int | None) -> None:
    image = photographed(np.full((960, 1280, 3), glass, np.uint8))
    if quality is not None:
        _, data = cv2.imencode(".jpg", swapped(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = swapped(cv2.imdecode(data, cv2.IMREAD_COLOR))
    seen = appearance(image)
    assert is_empty(seen)
    assert why_no_smear(seen) is None


@pytest.mark.parametrize("field", [pale_field, lambda: draw_field(2, 1280, 960, 0.1).image])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: with_bar(image, "black"),
        lambda image: with_bar(image, "blue"),
        with_dirt,
        with_pointer,
        with_surround,
    ],
)
def test_a_large_dark_object_is_noted_and_refuses_nothing(
    field: Callable[[], RGBImage], spoil: Callable[[RGBImage], RGBImage]
) -> None:
    plain = field()
    assert dark_object_note(appearance(plain)) is None
    seen = appearance(spoil(plain))
    assert dark_object_note(seen) is not None
    assert why_no_smear(seen) is None


def test_one_odd_field_does_not_move_what_is_typical() -> None:
    smear, leaf = (
        appearance(draw_field(0).image),
        appearance(photographed(flower((220, 40, 60), (40, 90, 30)))),
    )
    assert why_no_smear(typical([smear, leaf, smear])) is None
    assert why_no_smear(typical([leaf, smear, leaf])) is not None


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("stain", [HAEMOGLOBIN, (0.18, 0.20, 0.12), (0.15, 0.15, 0.15)])
def test_red_cells_alone_are_a_smear_whatever_their_hue(
    stain: tuple[float, float, float], overlapping: bool
) -> None:
    """On a normal smear most fields show no nucleus; nor need red cells be red to every camera."""
    places = np.random.default_rng(0).uniform(0, 1, (200, 2)) * (1280, 960)
    apart = [(float(x), float(y)) for x in range(80, 1220, 110) for y in range(80, 900, 110)]
    discs = [(float(x), float(y), 75.0, 75.0) for x, y in (places if overlapping else apart)]
    seen = appearance(draw(discs, (1280, 960), stain=stain))
    assert why_no_smear(seen) is None
    assert not is_empty(seen)
