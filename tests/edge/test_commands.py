"""The commands classify, run and demo, as they are typed."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edge.blank_field import write_blank
from edge.cameras import Frame, LostFrame
from edge.cameras.phantom import PhantomCamera
from edge.pipeline import SeenFrame, StillLine
from edge.stills import NamedField, name_frames
from edge.threads import Handover
from hematovision.blank_field import BlankField
from hematovision.cell_classes import CLASS_NAMES
from hematovision.cli import root
from hematovision.errors import CameraError, StoreError
from hematovision.images import RGBImage
from hematovision.phantom import draw_field

UM_PER_PIXEL = 0.125
SCALE = ("--um-per-pixel", str(UM_PER_PIXEL))
FIELDS = [draw_field(seed, 640, 480, UM_PER_PIXEL) for seed in range(3)]


@pytest.fixture(scope="session")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three drawn fields."""
    folder = tmp_path_factory.mktemp("smear")
    for seed, field in enumerate(FIELDS):
        Image.fromarray(field.image).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "smear.avi", [field.image for field in FIELDS])


def write_video(path: Path, pictures: Sequence[RGBImage]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def records(result: Result) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in JSON")

    return [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]


def test_jsonl_has_one_line_an_image_with_what_was_promised(smear: Path, model_path: Path) -> None:
    result = call("classify", smear, "--model", model_path, *SCALE, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    lines = records(result)
    assert [line["image"] for line in lines] == [f"{smear}/{n}.png" for n in range(3)]
    for line, field in zip(lines, FIELDS, strict=True):
        assert list(line) == ["image", "cells", "ms"]
        assert set(line["ms"]) == {"find", "classify"}
        assert len(line["cells"]) == len(field.cells)
        for cell in line["cells"]:
            assert list(cell) == [
                *("class", "probability", "probabilities", "box", "center", "nucleus_area_um2"),
                *("touches_border", "found"),
            ]
            assert cell["class"] in (*CLASS_NAMES, "unclassified")
            assert tuple(cell["probabilities"]) == CLASS_NAMES
            assert cell["probability"] == max(cell["probabilities"].values())
            assert sum(cell["probabilities"].values()) == pytest.approx(1, abs=1e-3)
            x, y, width, height = cell["box"]
            assert x <= cell["center"][0] <= x + width
            assert y <= cell["center"][1] <= y + height
            assert cell["nucleus_area_um2"] > 10
            assert cell["touches_border"] is False
            assert cell["found"] is True


def test_a_video_has_one_line_a_frame_with_its_number(video: Path, model_path: Path) -> None:
    lines = records(call("classify", video, "--model", model_path, *SCALE, "--format", "jsonl"))
    assert [(line["image"], line["frame"]) for line in lines] == [(str(video), n) for n in range(3)]
    assert all(len(line["cells"]) == len(field.cells) for line, field in zip(lines, FIELDS, strict=True))


def test_csv_has_a_header_and_one_row_a_cell(smear: Path, model_path: Path) -> None:
    jsonl = records(call("classify", smear, "--model", model_path, *SCALE, "--format", "jsonl"))
    result = call("classify", smear, "--model", model_path, *SCALE, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    cells = [(line["image"], cell) for line in jsonl for cell in line["cells"]]
    assert len(rows) == len(cells)
    for row, (image, cell) in zip(rows, cells, strict=True):
        assert (row["image"], row["frame"], row["error"]) == (image, "", "")
        assert row["class"] == cell["class"]
        assert [float(row[name]) for name in CLASS_NAMES] == list(cell["probabilities"].values())
        assert [float(row[name]) for name in ("x", "y", "width", "height")] == cell["box"]
        assert row["found"] == "true"


def test_the_table_shows_each_cell_and_the_runtime_stands_below(smear: Path, model_path: Path) -> None:
    result = call("classify", smear, "--model", model_path, *SCALE, "--runtime", "auto")
    assert result.exit_code == 0
    assert sum(f"{smear}/" in line for line in result.stdout.splitlines()) == sum(
        len(field.cells) for field in FIELDS
    )
    assert "tiny.tflite" in result.stderr
    assert re.search(r" on (litert|tflite-runtime) \S+, \d threads?, 0\.125 µm per pixel", result.stderr)


def test_standard_output_holds_results_only(smear: Path, model_path: Path) -> None:
    result = call("classify", smear, "--model", model_path, "--format", "jsonl")
    assert len(records(result)) == 3
    assert "measured from" in result.stderr


def test_a_scale_that_the_red_cells_contradict_is_warned_of_once(smear: Path, model_path: Path) -> None:
    result = call("classify", smear, "--model", model_path, "--um-per-pixel", 0.2, "--format", "jsonl")
    assert result.exit_code == 0
    assert result.stderr.count("check the magnification") == 1


@pytest.mark.parametrize(("command", "given"), [("classify", ("--um-per-pixel", 0.083)), ("run", ())])
@pytest.mark.data
def test_a_scale_that_changes_in_the_middle_of_a_batch_is_warned_of(
    data_dir: Path, model_path: Path, tmp_path: Path, command: str, given: tuple[object, ...]
) -> None:
    originals = sorted((data_dir / "kaggle-blood-cells" / "Original_Images").iterdir())[:70]
    for index, path in enumerate(originals):
        image = Image.open(path)
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        (image if index < 40 else half).save(tmp_path / f"{index:03d}.png")
    what = (tmp_path,) if command == "classify" else ("--camera", f"folder:{tmp_path}")
    result = call(command, *what, "--model", model_path, *given)
    assert result.exit_code == 0, result.output
    (warning,) = re.findall(r".*check the magnification.*", result.stderr)
    assert re.match(rf"{tmp_path}/0[4-6]\d\.png: µm per pixel is taken as 0\.08", warning)


def test_single_names_one_cell_an_image(smear: Path, model_path: Path) -> None:
    result = call("classify", smear, "--model", model_path, *SCALE, "--single", "--format", "jsonl")
    assert [len(line["cells"]) for line in records(result)] == [1, 1, 1]


def test_single_without_a_cell_gives_the_middle_as_not_found(tmp_path: Path, model_path: Path) -> None:
    glass = np.random.default_rng(1).normal((230, 220, 200), 1, (200, 300, 3)).astype(np.uint8)
    Image.fromarray(glass).save(tmp_path / "glass.png")
    arguments = ("classify", tmp_path / "glass.png", "--model", model_path, *SCALE)
    (line,) = records(call(*arguments, "--single", "--format", "jsonl"))
    assert line["cells"][0]["found"] is False
    assert line["cells"][0]["center"] == [149.5, 99.5]
    assert "no nucleus found" in call(*arguments, "--single").stdout
    assert "no white cell found" in call(*arguments).stdout


def test_what_cannot_be_read_is_reported_and_the_rest_is_classified(
    smear: Path, model_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    whole = io.BytesIO()
    Image.fromarray(FIELDS[0].image).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    Image.fromarray(FIELDS[0].image).convert("L").save(tmp_path / "grey.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.mp4").write_text("hello")
    bad = {
        "text.jpg": "not an image",
        "cut.jpg": "cut short",
        "grey.png": "grey image",
        "empty": "no images in it",
        "no.mp4": "not a video",
        "nowhere.png": "no such folder or file",
        "a" * 300 + ".png": "File name too long",
        "a" * 300 + ".mp4": "File name too long",
    }
    paths = [tmp_path / name for name in bad]
    arguments = ("classify", *paths, smear / "0.png", "--model", model_path)
    result = call(*arguments, "--format", "jsonl")
    assert result.exit_code == 1
    lines = records(result)
    for line, path, complaint in zip(lines, paths, bad.values(), strict=False):
        assert set(line) == {"image", "error"}
        assert line["image"] == str(path)
        assert line["error"].startswith(str(path))
        assert complaint in line["error"]
        assert f"Error: {line['error']}\n" in result.stderr
    assert len(lines[-1]["cells"]) == len(FIELDS[0].cells)
    assert "Failed: 8." in result.stderr
    as_csv = list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv").stdout)))
    assert sum(bool(row["error"]) for row in as_csv) == 8
    assert call(*arguments).stdout.count("failed") == 8


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("--um-per-pixel", "0"), 2, "must lie between 0.02 and 2"),
        (("--um-per-pixel", "nan"), 2, "must lie between 0.02 and 2"),
        (("--um-per-pixel", "wide"), 2, "not a valid float"),
        (("--runtime", "tensorflow"), 2, "is not one of"),
        (("--format", "xml"), 2, "is not one of"),
        (("--model", "nowhere.tflite"), 1, "nowhere.tflite: cannot be read"),
        (("--annotate", "/dev/null"), 2, "/dev/null: cannot be written to"),
    ],
)
def test_a_wrong_option_gets_one_line_and_its_exit_status(
    smear: Path, model_path: Path, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    result = call("classify", smear / "0.png", "--model", model_path, *SCALE, *arguments)
    assert result.exit_code == status
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    assert complaint in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert not result.stdout


def test_a_damaged_model_is_refused_before_anything_is_looked_at(smear: Path, model_path: Path) -> None:
    model_path.write_bytes(model_path.read_bytes()[:-100])
    result = call("classify", smear, "--model", model_path, *SCALE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {model_path}: ")


def test_annotated_copies_are_of_every_image_and_overwrite_none(
    smear: Path, video: Path, model_path: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    before = {path: path.read_bytes() for path in smear.iterdir()}
    for _ in range(2):
        call("classify", smear, video, "--model", model_path, *SCALE, "--annotate", copies)
    assert {path: path.read_bytes() for path in smear.iterdir()} == before
    names = {path.relative_to(copies).as_posix() for path in copies.rglob("*.jpg")}
    assert len(names) == 12
    name = smear.name
    assert {f"{name}/0.png_cells.jpg", f"{name}/0.png_cells-2.jpg", "smear.avi-000002_cells.jpg"} <= names


def test_the_name_of_a_copy_tells_which_image_it_is_of(
    smear: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = (smear / "0.png").read_bytes()
    for name in ("one/a.png", "one/a.PNG", "one/sub/a.png", "two/a.png", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    result = call(
        *("classify", "one/", "./two/../two", "a.png"), "--model", model_path, *SCALE, "--annotate", "copies"
    )
    assert result.exit_code == 0, result.output
    assert {path.relative_to("copies").as_posix() for path in Path("copies").rglob("*.jpg")} == {
        *("one/a.png_cells.jpg", "one/a.PNG_cells.jpg", "one/sub/a.png_cells.jpg"),
        *("two/a.png_cells.jpg", "a.png_cells.jpg"),
    }


def test_a_copy_that_cannot_be_written_fails_and_the_rest_goes_on(
    smear: Path, model_path: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("a" * 250 + ".png")
    long.write_bytes((smear / "0.png").read_bytes())
    result = call(
        *("classify", long, smear / "1.png", "--model", model_path, *SCALE, "--format", "jsonl"),
        *("--annotate", tmp_path / "copies"),
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    looked_at, failed, other = records(result)
    assert looked_at["image"] == failed["image"] == str(long)
    assert looked_at["cells"]
    assert "the copy cannot be written (File name too long)" in failed["error"]
    assert f"Error: {failed['error']}\n" in result.stderr
    assert other["cells"]
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["1.png_cells.jpg"]


def test_what_the_table_holds_is_shown_also_after_ctrl_c(
    smear: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Iterator[NamedField | LostFrame]:
        yield next(name_frames(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr("edge.classify_command.name_frames", interrupted)
    result = call("classify", smear, "--model", model_path, *SCALE)
    assert result.exit_code == 130
    assert result.stdout.count(f"{smear}/0.png") == len(FIELDS[0].cells)
    assert result.stderr.endswith("Stopped by Ctrl-C.\n")


def test_a_line_break_in_a_name_gives_one_line_of_error_and_one_row(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "a\nb.png").write_text("hello")
    result = call("classify", tmp_path / "a\nb.png", "--model", model_path)
    assert [line for line in result.stderr.splitlines() if "b.png" in line] == [
        f"Error: {tmp_path}/a\\nb.png: not an image in a known format (JPEG, PNG, BMP, TIFF, WEBP)"
    ]
    assert sum("b.png" in line for line in result.stdout.splitlines()) == 1


def test_run_counts_every_image_once_and_summarises(smear: Path, model_path: Path) -> None:
    result = call("run", "--camera", f"folder:{smear}", "--model", model_path, *SCALE)
    assert result.exit_code == 0, result.output
    assert f"3 images, {sum(len(field.cells) for field in FIELDS)} cells" in result.stdout
    assert "Images: 3 looked at, 0 could not be used." in result.stdout
    assert "own error comes on top" in result.stdout
    assert "tiny.tflite" in result.stdout.splitlines()[0]


def test_run_ends_where_the_store_takes_nothing_of_files(
    smear: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("hematovision.db: the disk is full")

    monkeypatch.setattr("edge.store.Store.start_session", refuse)
    result = call("run", "--camera", f"folder:{smear}", "--model", model_path, *SCALE)
    assert result.exit_code == 1
    assert "Error: hematovision.db: the disk is full" in result.stderr


def test_run_shows_an_unreadable_image_and_ends_with_status_1(
    smear: Path, model_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    (tmp_path / "b.png").write_bytes((smear / "0.png").read_bytes())
    result = call("run", "--camera", f"folder:{tmp_path}", "--model", model_path, *SCALE)
    assert result.exit_code == 1
    assert f"Error: {tmp_path}/a.jpg: not an image" in result.stderr
    assert "Images: 1 looked at, 1 could not be used." in result.stdout


def everything_on(terminal: int) -> str:
    """What was written to a terminal by the other end, which is closed; one read gives up to 4 KB of it."""
    written = b""
    with suppress(OSError):  # so Linux says that this was all
        while part := os.read(terminal, 100_000):
            written += part
    return written.decode()


@pytest.mark.parametrize("to_a_file", [False, True])
def test_what_goes_wrong_is_said_above_the_live_display_or_in_the_file_that_errors_go_to(
    model_path: Path, tmp_path: Path, to_a_file: bool
) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    arguments = ("run", "--camera", f"folder:{tmp_path}", "--model", str(model_path), *SCALE)
    ours, terminal = os.openpty()
    # A terminal of its own: on the display's, nobody could tell what that paints over.
    _, other_terminal = os.openpty()
    log = tmp_path / "log"
    with log.open("wb") as file:
        errors = file.fileno() if to_a_file else other_terminal
        finished = subprocess.run(
            [sys.executable, "-m", "hematovision", *arguments],
            stdout=terminal,
            stderr=errors,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "500"},
            check=False,
        )
    assert finished.returncode == 1
    os.close(terminal)
    display = everything_on(ours)
    assert "0 images" in display
    assert ("a.jpg: not an image" in display) is not to_a_file
    assert ("a.jpg: not an image" in log.read_text()) is to_a_file


def test_run_in_a_folder_of_nothing_readable_shows_no_made_up_number(
    model_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    result = call("run", "--camera", f"folder:{tmp_path}", "--model", model_path)
    assert result.exit_code == 1
    assert "a.jpg: not an image" in result.stderr
    assert "Images: 0 looked at, 1 could not be used." in result.stdout
    assert "nan µm" not in result.output


def test_ctrl_c_ends_run_cleanly_with_its_summary(
    smear: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see = StillLine.see

    def see_until_interrupted(line: StillLine, frame: Frame) -> SeenFrame | LostFrame:
        if frame.sequence == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # longer than the supervisor waits before it looks up
        return see(line, frame)

    monkeypatch.setattr(StillLine, "see", see_until_interrupted)
    result = call("run", "--camera", f"folder:{smear}", "--model", model_path, *SCALE)
    assert result.exit_code == 0
    assert "Images: 1 looked at" in result.stdout
    assert "Stopped before the last frame." in result.stderr


def test_run_counts_a_cell_once_however_many_frames_of_a_video_show_it(
    tmp_path: Path, model_path: Path
) -> None:
    video = write_video(tmp_path / "still.avi", [FIELDS[0].image] * 12)
    result = call("run", "--camera", f"file:{video}", "--model", model_path, *SCALE, "--timing")
    assert result.exit_code == 0, result.output
    assert f", {len(FIELDS[0].cells)} cells" in result.stdout
    assert "Time per step" in result.stdout


def test_run_ends_when_its_target_is_reached(model_path: Path, tmp_path: Path) -> None:
    field = draw_field(0, 640, 480, 2 * UM_PER_PIXEL)
    for number in range(40):
        Image.fromarray(field.image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "last.png").write_bytes(b"which would be a failure, were it read")
    scale = ("--um-per-pixel", 2 * UM_PER_PIXEL)
    result = call("run", "--camera", f"folder:{tmp_path}", "--model", model_path, *scale, "--target", "100")
    assert result.exit_code == 0, result.output
    assert "Target: 100 cells given a class, reached" in result.stdout
    assert "Images: 40 looked at" not in result.stdout


def test_run_divides_by_a_blank_field_and_refuses_one_of_another_size(
    smear: Path, model_path: Path, tmp_path: Path
) -> None:
    for name, size in (("right.png", (480, 640)), ("wrong.png", (240, 320))):
        blank = BlankField(np.full((*size, 3), 60000, np.uint16), name)
        write_blank(blank, tmp_path / name)
    arguments = ("run", "--camera", f"folder:{smear}", "--model", model_path, *SCALE, "--blank")
    right = call(*arguments, tmp_path / "right.png")
    assert right.exit_code == 0, right.output
    wrong = call(*arguments, tmp_path / "wrong.png")
    assert wrong.exit_code == 2
    assert "wrong.png: a blank field of 320x240 pixels does not fit" in wrong.stderr


def test_the_phantom_is_counted_at_its_own_scale(model_path: Path) -> None:
    camera = "phantom:path=selftest,frames=3,width=640,height=480,um_per_pixel=0.2"
    result = call("run", "--camera", camera, "--model", model_path)
    assert result.exit_code == 0, result.output
    assert ", 0.2 µm per pixel." in result.stdout
    contradicted = call("run", "--camera", camera, "--model", model_path, "--um-per-pixel", "0.3")
    assert contradicted.exit_code == 2
    assert "drawn at 0.2" in contradicted.stderr


def test_what_was_counted_is_shown_also_where_the_camera_stops(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = PhantomCamera.frames

    def stopping(camera: PhantomCamera) -> Iterator[Frame | LostFrame]:
        yield from islice(frames(camera), 5)
        raise CameraError("phantom: the cable is out")

    monkeypatch.setattr(PhantomCamera, "frames", stopping)
    camera = "phantom:path=selftest,width=640,height=480,um_per_pixel=0.2"
    result = call("run", "--camera", camera, "--model", model_path, "--um-per-pixel", 0.2)
    assert result.exit_code == 1
    assert "looked at, 0 could not be used" in result.stdout
    assert "Error: phantom: the cable is out" in result.stderr


def test_frames_that_a_live_camera_loses_are_said_once_until_it_has_recovered_and_are_no_failure(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = PhantomCamera.frames

    def flickering(camera: PhantomCamera) -> Iterator[Frame | LostFrame]:
        for number, frame in enumerate(islice(frames(camera), 30)):
            dark = number in {3, 4, 5, 6, 20}
            yield LostFrame(number, "phantom", f"frame {number} is black") if dark else frame

    monkeypatch.setattr(PhantomCamera, "frames", flickering)
    monkeypatch.setattr("edge.run_command._SAY_LOST_S", 0.0)
    # None is overtaken, so that it is certain which are seen.
    monkeypatch.setattr("edge.pipeline.Handover", lambda size, newest_only=False: Handover(size))
    camera = "phantom:rate=100,path=selftest,width=640,height=480,um_per_pixel=0.2"
    result = call("run", "--camera", camera, "--model", model_path, "--set", "web.port=0")
    assert result.exit_code == 0, result.output
    assert re.findall(r"Error: frame (\d+) is black", result.stderr) == ["3", "20"]
    assert "5 could not be used" in result.stdout


def test_a_live_camera_needs_to_be_told_its_scale(model_path: Path) -> None:
    result = call("run", "--camera", "v4l2:/dev/video0", "--model", model_path)
    assert result.exit_code == 2
    assert "needs --um-per-pixel" in result.stderr


@pytest.mark.parametrize(
    ("camera", "status", "complaint"),
    [
        ("webcam", 2, "no camera is called 'webcam'"),
        ("webcam:0", 2, "known are picamera2"),
        ("folder:nowhere", 1, "nowhere: no such folder"),
        ("phantom:colour=red", 2, "colour"),
    ],
)
def test_run_says_what_is_wrong_with_a_camera(
    model_path: Path, camera: str, status: int, complaint: str
) -> None:
    result = call("run", "--camera", camera, "--model", model_path)
    assert result.exit_code == status
    assert complaint in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_run_needs_a_camera() -> None:
    result = call("run")
    assert result.exit_code == 2
    assert "--camera" in result.stderr


@pytest.fixture
def _small_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = "path=selftest,seed=1,width=640,height=480,um_per_pixel=0.2"
    monkeypatch.setattr("edge.demo_command._SLIDE", slide)


@pytest.mark.usefixtures("_small_slide")
def test_demo_prints_the_truth_beside_the_differential_and_writes_nothing(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    result = call("demo", "--model", model_path)
    assert result.exit_code == 0, result.output
    assert "cells were shown long enough to be counted; of these 0 were not." in result.stdout
    assert "0 counted twice, 0 counts of what is no cell" in result.stdout
    assert "not a medical device" in result.stdout
    assert all(name in result.stdout for name in CLASS_NAMES)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("_small_slide")
def test_demo_writes_a_frame_where_asked(model_path: Path, tmp_path: Path) -> None:
    call("demo", "--model", model_path, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["phantom.jpg", "phantom_cells.jpg"]


def test_classify_loads_nothing_that_a_device_lacks_or_that_is_slow(smear: Path, model_path: Path) -> None:
    arguments = ["classify", str(smear / "0.png"), "--model", str(model_path)]
    code = (
        "import sys; from hematovision.cli import root; "
        "root(sys.argv[1:], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in finished.stderr.splitlines()[-1].split()}
    assert {"edge", "numpy", "cv2"} <= loaded
    assert not loaded & {"tensorflow", "keras", "matplotlib", "sklearn", "scipy", "train", "convert"}


def test_a_command_of_the_device_has_no_threads_that_it_did_not_ask_for() -> None:
    code = (
        "import os; from hematovision.cli import root; root.get_command(None, 'run'); "
        "import numpy; numpy.ones((500, 500)) @ numpy.ones((500, 500)); "
        "print(len(os.listdir('/proc/self/task')))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "1\n"


def test_the_whole_device_imports_no_tensorflow() -> None:
    code = (
        "import importlib, pkgutil, sys, edge; "
        "[importlib.import_module(one.name) for one in pkgutil.walk_packages(edge.__path__, 'edge.')]; "
        "import hematovision; "
        "[importlib.import_module(one.name) for one in pkgutil.walk_packages(hematovision.__path__, "
        "'hematovision.') if not one.name.endswith('__main__')]; "
        "print(*sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(finished.stdout.split())
    assert {"edge.run_command", "edge.tally", "edge.cameras.video", "hematovision.phantom"} <= loaded
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & {"tensorflow", "keras", "matplotlib", "sklearn", "train", "convert"}
    assert "scipy.stats" not in loaded
