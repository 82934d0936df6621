"""Recording an empty field: what it is the mean of, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.blank_field import check_empty, read_blank, record_blank, write_blank
from hematovision.blank_field import STEPS
from hematovision.errors import CalibrationError, ImageError, ModelFileError, SettingError
from hematovision.image_folder import read_folder
from hematovision.images import read_image
from hematovision.phantom import draw_field

WIDTH, HEIGHT = 320, 240


def lamp(color: tuple[float, ...] = (238, 226, 196), loss: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return (1 - loss * (x**2 + y**2) / 2)[..., None] * np.array(color)


def photograph(levels: np.ndarray, seed: int = 0, noise: float = 1.5) -> np.ndarray:
    noisy = levels + np.random.default_rng(seed).normal(0, noise, levels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def disc(column: int, row: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.clip(radius - np.hypot(x - column, y - row) + 0.5, 0, 1)[..., None]


def dust() -> np.ndarray:
    shade = np.ones((HEIGHT, WIDTH, 1))
    for column, row, radius in ((40, 60, 3), (200, 30, 8), (260, 200, 14)):
        shade *= 1 - 0.4 * disc(column, row, radius)
    return shade


def test_the_mean_of_the_frames_is_recorded_finer_than_their_levels() -> None:
    frames = [(f"{seed}.png", photograph(lamp(), seed)) for seed in range(16)]
    blank, count = record_blank(frames, "blank.png")
    assert count == 16
    assert blank.name == "blank.png"
    error = blank.levels / STEPS - lamp()
    assert error.std() == pytest.approx(1.5 / 4, rel=0.1)  # the noise of 16 frames
    assert abs(error.mean()) < 0.01


def test_it_is_written_as_a_picture_and_read_as_it_was(tmp_path: Path) -> None:
    blank, _ = record_blank([("a", photograph(lamp() * dust()))], "blank.png")
    path = tmp_path / "new" / "blank.png"
    write_blank(blank, path)
    again = read_blank(path)
    np.testing.assert_array_equal(again.levels, blank.levels)
    assert again.name == str(path)
    seen = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_allclose(seen, blank.levels / STEPS, atol=1)


@pytest.mark.parametrize(
    "levels",
    [
        lamp(loss=0.6),
        lamp() * dust(),
        lamp((210, 210, 210)),  # white balance made it neutral
        lamp((60, 58, 52)),
        lamp() * disc(160, 120, 110),  # a telephone on an eyepiece
    ],
    ids=["vignetted", "dusty", "neutral", "dim", "round"],
)
def test_an_empty_field_is_taken_whatever_its_lamp_and_its_dust(levels: np.ndarray) -> None:
    check_empty(photograph(levels), "a.png")


def chequered() -> np.ndarray:
    fields = np.random.default_rng(0).choice([0.7, 1.0], (24, 32))
    return fields.repeat(10, axis=0).repeat(10, axis=1)[..., None]


@pytest.mark.parametrize(
    ("levels", "what"),
    [
        (lamp((8, 8, 8)), "too dark"),
        (lamp((290, 240, 200)), "saturated"),
        (lamp() * (1 - disc(100, 100, 10) * (0.05, 0.35, 0.3)), "not an empty field"),  # one red cell
        (lamp() * (1 - disc(100, 100, 14) * (0.6, 0.8, 0.4)), "not an empty field"),  # one nucleus
        (lamp() * chequered(), "not an empty field"),
    ],
    ids=["black", "saturated", "red cell", "nucleus", "chequered"],
)
def test_what_shows_no_empty_field_is_refused_with_the_reason(levels: np.ndarray, what: str) -> None:
    with pytest.raises(CalibrationError, match=rf"a\.png: .*{what}"):
        record_blank([("a.png", photograph(levels))], "blank.png")


@pytest.mark.parametrize("um_per_pixel", [0.07, 0.1, 0.2])
def test_a_smear_is_no_empty_field(um_per_pixel: float) -> None:
    with pytest.raises(CalibrationError, match="stained"):
        check_empty(draw_field(1, 640, 480, um_per_pixel).image, "smear.png")


@pytest.mark.data
def test_no_field_of_the_collections_is_taken_for_an_empty_one(data_dir: Path) -> None:
    for folder, step in (("kaggle-blood-cells/Original_Images", 12), ("pbc", 150), ("tecom/images", 10)):
        for path in read_folder(data_dir / folder).images[::step]:
            with pytest.raises(CalibrationError):
                check_empty(read_image(path), path.name)


def test_frames_of_two_sizes_are_refused_with_both() -> None:
    frames = [("a.png", photograph(lamp())), ("b.png", photograph(lamp())[:, 20:])]
    with pytest.raises(SettingError, match=r"b\.png: 300x240 .* 320x240"):
        record_blank(frames, "blank.png")


def test_light_that_changes_while_it_is_recorded_is_refused() -> None:
    frames = [("a.png", photograph(lamp())), ("b.png", photograph(0.9 * lamp()))]
    with pytest.raises(CalibrationError, match=r"b\.png: .*10% .*lock"):
        record_blank(frames, "blank.png")


def test_no_frame_at_all_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no frame"):
        record_blank([], "blank.png")


@pytest.mark.parametrize("content", [b"", b"hello", "8 bits", "grey"])
def test_a_file_that_is_no_blank_field_is_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "blank.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        grey = np.full((HEIGHT, WIDTH), 50000, np.uint16)
        cv2.imwrite(str(path), photograph(lamp()) if content == "8 bits" else grey)
    with pytest.raises(ImageError, match=r"blank\.png: no blank field; record one"):
        read_blank(path)


def test_a_picture_with_16_bits_that_shows_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "smear.png"
    cv2.imwrite(str(path), draw_field(1, 640, 480).image[..., ::-1].astype(np.uint16) * STEPS)
    with pytest.raises(CalibrationError, match=r"smear\.png: not an empty field"):
        read_blank(path)


def test_a_file_that_is_missing_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: cannot be read"):
        read_blank(tmp_path / "none.png")
    (tmp_path / "file").write_text("in the way")
    blank, _ = record_blank([("a", photograph(lamp()))], "blank.png")
    with pytest.raises(ModelFileError, match=r"blank\.png: cannot be written"):
        write_blank(blank, tmp_path / "file" / "blank.png")
