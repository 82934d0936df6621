"""Folders as people have them, looked at by the commands: side files, other files, copies of our own."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edge.cameras.folder import FolderCamera
from edge.stills import NamedCell
from edge.web.drawing import draw
from hematovision.classifier import Prediction
from hematovision.cli import root
from hematovision.errors import CameraError
from hematovision.finder import CellRegion
from hematovision.own_pictures import CROP, DRAWN_OVER, kind_of, marked
from hematovision.phantom import draw_field

UM_PER_PIXEL = 0.125
SCALE = ("--um-per-pixel", str(UM_PER_PIXEL))
SIDE_FILE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(40)


@pytest.fixture
def smear(tmp_path: Path) -> Path:
    """A folder of two drawn fields."""
    (tmp_path / "smear").mkdir()
    for seed in range(2):
        Image.fromarray(draw_field(seed, 640, 480, UM_PER_PIXEL).image).save(tmp_path / f"smear/{seed}.png")
    return tmp_path / "smear"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def add(folder: Path, names: Sequence[str], content: bytes = b"") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_side_files_are_no_pictures_of_a_smear(smear: Path, model_path: Path) -> None:
    add(smear, ["._0.png", "__MACOSX/._0.png", ".Trashes/0.png"], SIDE_FILE)
    add(smear, ["@eaDir/0.png/SYNOPHOTO_THUMB_XL.png"], (smear / "0.png").read_bytes())
    result = call("classify", smear, "--model", model_path, *SCALE)
    assert result.exit_code == 0, result.output
    assert "Looked at: 2." in result.stderr
    assert "left out" not in result.stderr


def test_a_folder_of_side_files_only_says_why_there_is_nothing(tmp_path: Path) -> None:
    add(tmp_path, ["._0.png", "a.heic", "b.mp4"])
    with pytest.raises(
        CameraError, match=r"no images in it .*2 other files left out: .*; hidden and side files"
    ):
        FolderCamera(str(tmp_path), 0.1).open()


def test_classify_says_what_it_leaves_out(smear: Path, model_path: Path) -> None:
    add(smear, ["a.heic", "b.HEIC", "c.jp2", "d", "e.mp4"])
    (smear / "1.png").rename(smear / "1.jfif")
    result = call("classify", smear, "--model", model_path, *SCALE)
    assert result.exit_code == 0, result.output
    assert "Looked at: 2." in result.stderr
    remark = f"{smear}: 5 other files left out: .heic 2, "
    (line,) = (line for line in result.stderr.splitlines() if line.startswith(remark))
    assert line.endswith("; give a video by its own name")


def test_run_says_what_it_leaves_out(smear: Path, model_path: Path) -> None:
    add(smear, ["a.heic"])
    result = call("run", "--camera", f"folder:{smear}", "--model", model_path, *SCALE)
    assert result.exit_code == 0, result.output
    assert "2 images" in result.stdout
    assert f"{smear}: 1 other file left out: .heic 1" in result.stderr


def test_calibrate_says_what_it_leaves_out(smear: Path) -> None:
    add(smear, ["a.heic"])
    for arguments in ((smear,), ("--camera", f"folder:{smear}")):
        assert f"{smear}: 1 other file left out: .heic 1" in call("calibrate", *arguments).stderr


@pytest.mark.parametrize("place", [".", "copies", "deep/er"])
def test_annotated_copies_below_the_images_are_not_looked_at_again(
    smear: Path, model_path: Path, place: str
) -> None:
    for before in range(3):
        result = call("classify", smear, "--model", model_path, *SCALE, "--annotate", smear / place)
        assert result.exit_code == 0, result.output
        assert "Looked at: 2." in result.stderr
        assert ("left out: copy with the cells boxed and named" in result.stderr) == (before > 0)
    result = call("run", "--camera", f"folder:{smear}", "--model", model_path, *SCALE)
    assert "2 images" in result.stdout


def test_an_annotated_copy_that_is_named_is_refused(smear: Path, model_path: Path) -> None:
    call("classify", smear / "0.png", "--model", model_path, *SCALE, "--annotate", smear)
    result = call("classify", smear / "0.png_cells.jpg", smear / "0.png", "--model", model_path, *SCALE)
    assert result.exit_code == 1
    assert "0.png_cells.jpg: a copy with the cells boxed and named, which hematovision wrote" in result.stderr
    assert "Looked at: 1." in result.stderr
    result = call("calibrate", smear / "0.png_cells.jpg", smear / "0.png", smear / "1.png")
    assert result.exit_code == 1
    assert "which hematovision wrote" in result.stderr


def test_exported_crops_below_the_images_are_not_looked_at(smear: Path, model_path: Path) -> None:
    add(smear, ["crops/monocyte/session1-cell1.jpg"], marked(b"\xff\xd8", CROP))
    result = call("classify", smear, "--model", model_path, *SCALE)
    assert result.exit_code == 0, result.output
    assert "1 other file left out: crop of a counted cell 1" in result.stderr


def test_a_picture_that_is_saved_from_the_page_is_known_as_an_annotated_copy() -> None:
    image = draw_field(0, 640, 480, UM_PER_PIXEL).image
    region = CellRegion((100, 100), (80, 80, 40, 40), 40.0, 5.0, 0.1, touches_border=False)
    cell = NamedCell(region, Prediction((0.1, 0.7, 0.1, 0.1), "eosinophil"))
    assert kind_of(draw(image, [cell])) == DRAWN_OVER
    assert kind_of(draw(image, [])) is None  # as the camera saw it
