"""Video files of every kind: each frame once, at its own time; one that was cut short is noticed.

The files in ``videos`` were drawn and written by its ``make.sh``: eight frames each, four in ``trimmed.mp4``.
"""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.folder import FolderCamera
from edge.cameras.video import VIDEO_SUFFIXES, VideoCamera
from edge.cameras.video_end import ends_early
from hematovision.cli import root
from hematovision.errors import CameraError
from hematovision.phantom import draw_field
from hematovision.regular_file import open_regular_file

VIDEOS = sorted(path for path in Path(__file__).with_name("videos").iterdir() if path.suffix != ".sh")
# What neither states its own length nor is made of parts of one size.
WITHOUT_AN_END = {".h264", ".hevc", ".vob"}


def look(camera: Camera) -> list[Frame | LostFrame]:
    with camera:
        return list(camera.frames())


def with_name(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def name_of(path: Path) -> str:
    return path.name


def ends_early_at(path: Path) -> bool:
    with open_regular_file(path) as file:
        return ends_early(file)


@pytest.mark.parametrize("path", VIDEOS, ids=name_of)
def test_every_frame_of_an_undamaged_video_is_given(path: Path) -> None:
    frames = look(VideoCamera(str(path), 0.1))
    assert all(isinstance(frame, Frame) for frame in frames), frames
    assert [frame.sequence for frame in frames] == list(range(4 if path.stem == "trimmed" else 8))
    reds = [frame.image[..., 0].mean() for frame in frames if isinstance(frame, Frame)]
    assert reds == sorted(reds)  # the last one too is the last one


@pytest.mark.parametrize("path", VIDEOS, ids=name_of)
def test_time_begins_when_the_video_is_opened_and_goes_as_in_the_video(path: Path) -> None:
    camera = VideoCamera(str(path), 0.1)
    with camera:
        times = [frame.monotonic - camera._opened_at for frame in camera.frames() if isinstance(frame, Frame)]
    gaps = np.diff(times)
    assert times[0] == pytest.approx(0)
    if path.stem.startswith("vfr"):
        assert gaps[3] == pytest.approx(3.1, abs=0.02)
        gaps = np.delete(gaps, 3)
    assert (gaps > 0.03).all()
    assert (gaps < 0.12).all()


@pytest.mark.parametrize(("name", "stated"), [("trimmed.mp4", "4 of the 8"), ("vfr-avi.avi", "8 of the 38")])
def test_frames_that_a_whole_video_states_and_does_not_show_are_said_and_no_failure(
    name: str, stated: str, model_path: Path
) -> None:
    path = Path(__file__).with_name("videos") / name
    for command in (("classify", path), ("run", "--camera", f"file:{path}")):
        arguments = [*map(str, command), "--model", str(model_path), "--um-per-pixel", "0.3"]
        result = CliRunner().invoke(root, arguments)
        assert result.exit_code == 0, result.output
        assert f"{path}: {stated} frames that it states are shown" in result.stderr


def test_what_states_no_number_of_frames_lacks_none() -> None:
    for name in ("vfr-mkv.mkv", "vfr-webm.webm", "vfr-flv.flv", "vfr-mp4.mp4", "raw.mjpeg"):
        camera = VideoCamera(str(Path(__file__).with_name("videos") / name), 0.1)
        look(camera)
        assert camera.remark is None


@pytest.mark.parametrize("kept", [0.5, 0.75, 0.9, 0.97])
@pytest.mark.parametrize("path", [path for path in VIDEOS if path.suffix not in WITHOUT_AN_END], ids=name_of)
def test_a_video_that_was_cut_short_is_noticed(tmp_path: Path, path: Path, kept: float) -> None:
    whole = path.read_bytes()
    # Not between two packets, boxes or frames, where a stream's end cannot be told from its being cut.
    cut = with_name(tmp_path / path.name, whole[: int(len(whole) * kept) - 11])
    try:
        results = look(VideoCamera(str(cut), 0.1))
    except CameraError as error:
        assert f"{cut}: " in str(error)
        assert "copy it again" in str(error)
        return
    assert isinstance(results[-1], LostFrame)
    assert f"{cut}: cut short: ends after {len(results) - 1}" in results[-1].error
    assert all(isinstance(frame, Frame) for frame in results[:-1])


@pytest.mark.parametrize("path", VIDEOS, ids=name_of)
def test_a_whole_file_is_never_called_cut_short_by_its_bytes(path: Path) -> None:
    assert not ends_early_at(path)


@pytest.mark.parametrize("kind", ["mkv", "webm", "flv", "mp4", "avi"])
def test_videos_that_opencv_writes_are_whole_and_cut_are_not(tmp_path: Path, kind: str) -> None:
    code = {"mkv": "mp4v", "webm": "VP80", "flv": "FLV1", "mp4": "mp4v", "avi": "MJPG"}[kind]
    path = tmp_path / f"v.{kind}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, (64, 48))
    for level in range(20):
        writer.write(np.full((48, 64, 3), (140, 100, 150 + level), np.uint8))
    writer.release()
    assert not ends_early_at(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert ends_early_at(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0AVI LIST" + bytes(50),  # its writer never came to its end
        b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(50),
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(50),  # of unknown size
        b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\0mdat" + bytes(50),  # to the end of the file
        b"\0\0\0\x10ftypisom\0\0\0\0" + bytes(100),  # filled up
        b"FLV\1\5\0\0\0\x09" + bytes(50),
        b"G" + bytes(300),
    ],
)
def test_what_states_no_length_is_not_called_cut_short(tmp_path: Path, content: bytes) -> None:
    assert not ends_early_at(with_name(tmp_path / "a", content)) or content == b"RIFF"


@pytest.mark.parametrize("path", VIDEOS, ids=name_of)
@pytest.mark.parametrize("count", [500, 10_000])
def test_a_file_filled_up_with_zeros_is_whole(tmp_path: Path, path: Path, count: int) -> None:
    assert not ends_early_at(with_name(tmp_path / "a", path.read_bytes() + bytes(count)))


@pytest.mark.parametrize("path", VIDEOS, ids=name_of)
def test_a_file_cut_anywhere_in_its_header_can_be_looked_at(tmp_path: Path, path: Path) -> None:
    for count in range(64):
        ends_early_at(with_name(tmp_path / "a", path.read_bytes()[:count]))


@pytest.mark.parametrize("suffix", [".DV", ".ivf", ".lrv", ".m1v", ".MOD", ".mxf", ".nut", ".ogm", ".TOD"])
def test_what_the_video_reader_opens_is_a_video_for_classify_too(
    tmp_path: Path, suffix: str, model_path: Path
) -> None:
    path = with_name(tmp_path / f"a{suffix}", (Path(__file__).with_name("videos") / "video.mov").read_bytes())
    arguments = ["classify", str(path), "--model", str(model_path), "--um-per-pixel", "0.3"]
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == 0, result.output
    assert "Looked at: 8." in result.stderr


def test_the_end_of_a_large_file_is_found_by_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    picture = struct.pack(">I4sQ", 1, b"mdat", 1_000_016) + bytes(10**6)
    part = struct.pack(">I4s", 16, b"moof") + bytes(8) + picture
    path.write_bytes(struct.pack(">I4s", 8, b"ftyp") + 3 * part)
    assert not ends_early_at(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert ends_early_at(path)
    riff = b"RIFF" + struct.pack("<I", 10**6) + bytes(10**6)
    path.write_bytes(2 * riff)
    assert not ends_early_at(path)
    path.write_bytes((2 * riff)[:-20])
    assert ends_early_at(path)


def test_classify_takes_every_video_for_one(model_path: Path) -> None:
    arguments = ["classify", *map(str, VIDEOS), "--model", str(model_path), "--um-per-pixel", "0.3"]
    result = CliRunner().invoke(root, [*arguments, "--format", "csv"])
    assert result.exit_code == 0, result.output
    assert f"Looked at: {8 * len(VIDEOS) - 4}." in result.stderr
    assert "Failed: 0." in result.stderr


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_a_video_given_as_a_folder_is_told_how_to_be_given(tmp_path: Path, suffix: str) -> None:
    path = with_name(tmp_path / f"a{suffix}", b"")
    with pytest.raises(CameraError, match="a video, not a folder of images; write file:"):
        FolderCamera(str(path), 0.1).open()


def test_jpeg_after_jpeg_is_not_one_picture(tmp_path: Path, model_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(draw_field(seed, 320, 240, 0.2).image).save(folder / f"{seed}.jpg", quality=90)
    stream = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    path = with_name(tmp_path / "a.jpg", stream)
    arguments = ["--model", str(model_path), "--um-per-pixel", "0.2"]
    result = CliRunner().invoke(root, ["classify", str(path), *arguments])
    assert result.exit_code == 1
    assert "a.jpg: several JPEGs one after another" in result.stderr
    assert "name it .mjpeg" in result.stderr
    result = CliRunner().invoke(root, ["classify", str(path.rename(tmp_path / "a.mjpeg")), *arguments])
    assert result.exit_code == 0, result.output
    assert "Looked at: 2." in result.stderr


def test_a_file_of_no_known_ending_is_told_how_a_video_is_given(tmp_path: Path) -> None:
    path = with_name(tmp_path / "video.bin", VIDEOS[0].read_bytes())
    (lost,) = look(FolderCamera(str(path), 0.1))
    assert isinstance(lost, LostFrame)
    assert "not an image in a known format" in lost.error
    assert "a video is known by its ending: give it .mp4, whatever it holds, or .h264" in lost.error
    assert isinstance(look(VideoCamera(str(path.rename(path.with_suffix(".mp4"))), 0.1))[-1], Frame)
