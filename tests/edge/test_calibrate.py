import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edge.blank_field import read_blank
from edge.cameras.phantom import PhantomCamera
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


@pytest.fixture(scope="module")
def glass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nine pictures of an empty field in a warm lamp."""
    folder = tmp_path_factory.mktemp("glass")
    for seed in range(9):
        levels = np.random.default_rng(seed).normal((230, 215, 190), 1.5, (120, 160, 3))
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"{seed}.png")
    return folder


def test_a_blank_field_is_recorded_from_images_and_folders_and_said_how_to_be_used(
    glass: Path, tmp_path: Path
) -> None:
    out = tmp_path / "empty.png"
    result = calibrate("--blank", glass, "--out", out)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"{out}: the light of 160x120 pixels, the mean of 9 frames" in result.stdout
    assert "green: 21" in result.stdout
    assert f"use it with --blank {out}" in result.stdout
    assert read_blank(out).levels.shape == (120, 160, 3)


def test_of_a_camera_25_frames_are_enough(tmp_path: Path) -> None:
    video = tmp_path / "glass.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for seed in range(40):
        levels = np.random.default_rng(seed).normal((190, 215, 230), 1.5, (120, 160, 3))
        writer.write(levels.astype(np.uint8))
    writer.release()
    result = calibrate("--blank", "--camera", f"file:{video}", "--out", tmp_path / "blank.png")
    assert result.exit_code == 0
    assert "the mean of 25 frames" in result.stdout


def test_few_frames_are_said_to_be_noisy(glass: Path, tmp_path: Path) -> None:
    result = calibrate("--blank", glass / "0.png", "--out", tmp_path / "blank.png")
    assert result.exit_code == 0
    assert "the mean of 1 frame\n" in result.stdout
    assert "noise of so few" in result.stderr


def test_a_blank_field_with_cells_or_a_broken_file_is_refused_and_nothing_is_written(
    smear: Path, glass: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((glass / "0.png").read_bytes()[:300])
    for path in (smear / "0.png", broken, tmp_path):
        result = calibrate("--blank", glass / "0.png", path, "--out", tmp_path / "blank.png")
        assert result.exit_code == 1
        assert str(path) in result.stderr
        assert not (tmp_path / "blank.png").exists()


def test_a_camera_that_gives_nothing_usable_is_not_waited_for(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number:02}.png").write_text("no image")
    result = calibrate("--blank", "--camera", f"folder:{tmp_path}", "--out", tmp_path / "blank.png")
    assert result.exit_code == 1
    assert "25 frames that cannot be used" in result.stderr
    assert "26.png" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--blank"], "either images"),
        (["--blank", "--camera", "phantom", "."], "either images"),
        (["--camera", "phantom", "."], "either images"),
        (["--out", "x.png", "."], "goes with --blank"),
        ([], "either images"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: list[str], what: str) -> None:
    result = calibrate(*arguments)
    assert result.exit_code == 2
    assert what in result.stderr


def test_the_scale_is_measured_with_a_camera_too() -> None:
    result = calibrate("--camera", "phantom:path=selftest,width=960,height=720,um_per_pixel=0.15")
    assert result.exit_code == 0, result.output
    measured = float(result.output.split(" µm per pixel")[0])
    assert measured == pytest.approx(0.15, rel=0.03)


def test_a_camera_is_closed_before_the_command_ends_also_where_cells_are_in_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[PhantomCamera] = []
    monkeypatch.setattr(PhantomCamera, "__exit__", lambda camera, *_: closed.append(camera))
    camera = "phantom:path=selftest,width=640,height=480,um_per_pixel=0.2"
    result = calibrate("--blank", "--camera", camera, "--out", tmp_path / "blank.png")
    assert result.exit_code == 1
    assert "not an empty field" in result.stderr
    assert len(closed) == 1


def test_of_a_folder_every_image_is_measured_as_each_shows_other_cells(smear: Path) -> None:
    result = calibrate("--camera", f"folder:{smear}")
    assert result.exit_code == 0, result.output
    assert "in 2 of 2 images" in result.output


def test_a_camera_that_does_not_open_says_so(tmp_path: Path) -> None:
    result = calibrate("--camera", f"file:{tmp_path}/nothing.avi")
    assert result.exit_code == 1
    assert "nothing.avi: no such file" in result.output


def test_an_unreadable_image_among_a_cameras_is_said_and_the_status_is_1_after_the_rest(
    smear: Path, tmp_path: Path
) -> None:
    folder, blank = tmp_path / "images", tmp_path / "blank.png"
    shutil.copytree(smear, folder)
    (folder / "2.png").write_text("no image")
    result = calibrate("--camera", f"folder:{folder}")
    assert result.exit_code == 1
    assert "in 2 of 2 images" in result.stdout
    assert f"{folder}/2.png" in result.stderr

    glass = tmp_path / "glass"
    glass.mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48), (230, 220, 200)).save(glass / f"{number}.png")
    (glass / "2.png").write_text("no image")
    result = calibrate("--blank", "--camera", f"folder:{glass}", "--out", blank)
    assert result.exit_code == 1
    assert "the mean of 2 frames" in result.stdout
    assert blank.is_file()
