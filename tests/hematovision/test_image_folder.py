"""What lies below a folder of pictures: images, what is passed over, and what is left out and counted."""

import errno
import io
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge.annotate import write_new
from edge.blank_field import read_blank, write_blank
from hematovision.blank_field import BlankField
from hematovision.errors import ImageError
from hematovision.image_folder import IMAGE_SUFFIXES, is_side_file, read_folder, require_no_own_picture
from hematovision.images import read_image
from hematovision.own_pictures import CROP, DRAWN_OVER, PLOT, kind_of, mark_of, marked

SMEAR = np.random.default_rng(1).integers((180, 90, 120), (255, 200, 230), (60, 80, 3)).astype(np.uint8)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, crops: bool = False) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in read_folder(folder, crops).images]


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SMEAR).save(buffer, form)
    return buffer.getvalue()


def test_images_below_a_folder_are_listed_by_name_and_others_counted(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "deep/c.tiff", "notes.txt", "d.jpg.bak")
    (tmp_path / "folder.png").mkdir()
    assert found(tmp_path) == ["a.png", "b.JPG", "deep/c.tiff"]
    assert read_folder(tmp_path).left_out == Counter({".txt": 1, ".bak": 1})


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jif", ".dib", ".JPE", ".Jfif"])
def test_every_ending_of_the_known_formats_is_an_image(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a{suffix}")
    assert found(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize(
    "name",
    [
        *("._a.png", ".a.png", ".hidden/a.png", "@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg", "@EADIR/a.png"),
        *("__MACOSX/._a.png", "__MACOSX/a.png", "lost+found/a.png", ".ipynb_checkpoints/a-checkpoint.png"),
        *(".thumbnails/a.png", ".@__thumb/a.jpg", "Thumbs/a.jpg", "thumbs.db", "Thumbs.db", "desktop.ini"),
        *("$RECYCLE.BIN/a.png", "System Volume Information/a.png", ".Trash-1000/files/a.png", ".DS_Store"),
        *("@Recycle/a.png", "#recycle/a.png", "deep/@eaDir/b.jpg", "deep/._b.jpg"),
    ],
)
def test_hidden_and_side_files_are_passed_over_without_a_word(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "deep/a.png", name)
    folder = read_folder(tmp_path)
    assert found(tmp_path) == ["deep/a.png"]
    assert folder.remark is None


def test_a_folder_of_nothing_but_side_files_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "._a.png", "@eaDir/a.jpg", "a.heic")
    folder = read_folder(tmp_path)
    assert folder.images == ()
    assert ".jfif" in folder.without_images
    assert "1 other file left out: .heic 1" in folder.without_images
    assert "hidden and side files are passed over: ._a.png, @eaDir" in folder.without_images


def test_a_hidden_folder_that_is_named_itself_is_looked_through(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/@eaDir/a.png")
    assert found(tmp_path / ".cache" / "@eaDir") == ["a.png"]


def test_what_a_person_may_call_a_folder_is_no_side_file() -> None:
    for name in ("neutrophil", "slide@0.1", "@home", "#3", "a.b", "trash", "my.thumbs", "lost", "~sketch"):
        assert not is_side_file(name)


def test_what_is_left_out_is_counted_by_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jp2", "c.HEIC", "d.heic", "e", "f.mp4")
    (tmp_path / "g").mkdir()
    (tmp_path / "h").symlink_to(tmp_path / "g")
    remark = read_folder(tmp_path).remark
    assert remark is not None
    assert remark.startswith("6 other files left out: .heic 2, ")
    for kind in (".jp2 1", "without ending 1", ".mp4 1", "link to a folder 1"):
        assert kind in remark


def test_many_endings_make_no_endless_line(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a.{number:03d}" for number in range(100)), "b.\n")
    remark = read_folder(tmp_path).remark
    assert remark is not None
    assert remark.startswith("101 other files left out: ")
    assert remark.endswith(", …")
    assert len(remark) < 150
    assert "\n" not in remark


def test_what_below_a_folder_cannot_be_looked_at_is_listed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").symlink_to("nowhere.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "c.png").touch()
    scandir = os.scandir

    def closed(path: str) -> object:  # as to one who may not read b; the superuser may read everything
        if path.endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    listed = read_folder(tmp_path).images
    assert [path.name for path in listed] == ["a.png", "b", "c.png"]
    for path, complaint in zip(listed, ("No such file", "or listed as folder", "empty"), strict=True):
        with pytest.raises(ImageError, match=complaint):
            read_image(path)


@pytest.mark.timeout(20)
def test_a_pipe_that_is_called_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert found(tmp_path) == ["a.png"]


# --- what hematovision wrote itself ---


@pytest.mark.parametrize("kind", [CROP, DRAWN_OVER, PLOT])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_mark_is_found_again_and_changes_no_pixel(form: str, kind: str) -> None:
    data = marked(encoded(form), kind)
    assert kind_of(data) == kind
    assert kind_of(encoded(form)) is None
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(encoded(form))) as before:
        image.load()
        np.testing.assert_array_equal(np.asarray(image), np.asarray(before))
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
        cv2.imdecode(np.frombuffer(encoded(form), np.uint8), cv2.IMREAD_COLOR),
    )


def test_an_annotated_copy_is_left_out_wherever_it_lies_and_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    copy = write_new(SMEAR, tmp_path, "a_cells")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "renamed.jpeg").write_bytes(copy.read_bytes())
    assert found(tmp_path) == ["a.png"]
    assert read_folder(tmp_path).remark == f"2 other files left out: {DRAWN_OVER} 2"
    assert found(tmp_path, crops=True) == ["a.png"]
    with pytest.raises(ImageError, match=r"a copy with the cells boxed and named, which hematovision wrote"):
        require_no_own_picture(copy)


def test_a_blank_field_is_left_out_and_is_still_a_blank_field(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    write_blank(BlankField(np.full((60, 80, 3), 200 * 257, np.uint16), "b"), tmp_path / "blank.png")
    assert found(tmp_path) == ["a.png"]
    assert read_blank(tmp_path / "blank.png").levels.shape == (60, 80, 3)


def test_a_plot_is_left_out(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    matplotlib.Figure().savefig(tmp_path / "curves.png", metadata={"Comment": mark_of(PLOT)})
    assert found(tmp_path) == []
    with pytest.raises(ImageError, match="a plot, which hematovision wrote"):
        require_no_own_picture(tmp_path / "curves.png")


def test_crops_beside_images_are_left_out_and_alone_or_for_training_are_not(tmp_path: Path) -> None:
    crop = marked(encoded("JPEG"), CROP)
    touch(tmp_path, "crops/monocyte/b.jpg")
    (tmp_path / "crops/monocyte/b.jpg").write_bytes(crop)
    require_no_own_picture(tmp_path / "crops/monocyte/b.jpg")
    assert found(tmp_path) == ["crops/monocyte/b.jpg"]
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    assert found(tmp_path) == ["a.png"]
    assert read_folder(tmp_path).left_out == {CROP: 1}
    assert found(tmp_path, crops=True) == ["a.png", "crops/monocyte/b.jpg"]


def test_all_endings_are_named_with_a_dot_and_in_lower_case() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)
