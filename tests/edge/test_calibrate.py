import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hematovision.cli import root
from hematovision.phantom import draw_field


def calibrate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["calibrate", *map(str, arguments)])


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two drawn fields at 0.1 µm per pixel."""
    folder = tmp_path_factory.mktemp("smear")
    for seed in range(2):
        Image.fromarray(draw_field(seed, 800, 600, 0.1).image).save(folder / f"{seed}.png")
    return folder


def test_it_says_the_scale_its_interval_how_many_cells_and_how_to_use_it(smear: Path) -> None:
    result = calibrate(smear)
    assert result.exit_code == 0
    pattern = (
        r"(0\.\d{4}) µm per pixel, 95 % interval (0\.\d{4}) to (0\.\d{4})\n"
        r"measured on (\d+) red cells in 2 of 2 images: their median diameter, [\d.]+ pixels, is 7.5 µm\n"
        r"use it with --um-per-pixel (0\.\d{4})\n"
    )
    match = re.fullmatch(pattern, result.stdout)
    assert match is not None
    scale, low, high, cells, used = match.groups()
    assert float(scale) == pytest.approx(0.1, rel=0.05)
    assert float(low) < float(scale) < float(high)
    assert int(cells) >= 10
    assert used == scale


def test_files_and_folders_may_be_mixed(smear: Path) -> None:
    assert calibrate(smear / "0.png", smear / "1.png").stdout == calibrate(smear).stdout
    assert "in 3 of 3 images" in calibrate(smear, smear / "0.png").stdout


def test_an_unreadable_image_is_named_and_counted_and_the_others_are_used(
    smear: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no image")
    result = calibrate(smear, text)
    assert result.exit_code == 1
    assert result.stdout == calibrate(smear).stdout
    assert str(text) in result.stderr
    assert "1 of the images and folders given could not be used" in result.stderr


def test_a_black_image_is_named(smear: Path, tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    Image.new("RGB", (320, 240), (6, 0, 0)).save(black)  # not grey, which would be refused on reading
    result = calibrate(smear, black)
    assert result.exit_code == 1
    assert f"{black}: the field is black" in result.stderr


def test_a_folder_without_images_is_named(smear: Path, tmp_path: Path) -> None:
    result = calibrate(smear, tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}: no images" in result.stderr
    assert "µm per pixel" in result.stdout


def test_too_few_red_cells_are_refused_with_the_reason(tmp_path: Path) -> None:
    field = draw_field(0, 300, 300, 0.1)
    Image.fromarray(field.image).save(tmp_path / "small.png")
    result = calibrate(tmp_path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.search(r"\d whole single red cells in 1 image are too few", result.stderr)


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    result = calibrate(tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert calibrate().exit_code == 2


def test_its_help_says_what_is_assumed() -> None:
    assert "7.5 µm" in calibrate("-h").stdout
