"""Cameras that read files: none is lost, and what cannot be used is told."""

import errno
import math
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge.cameras import CAMERA_KINDS, Camera, Frame, LostFrame, open_camera
from edge.cameras.capture import CaptureCamera, to_rgb
from edge.cameras.folder import FolderCamera
from edge.cameras.live import UNATTENDED
from edge.cameras.video import VideoCamera
from hematovision.errors import CameraError, SettingError
from hematovision.images import check_size

PINK = (230, 150, 170)


def write_image(path: Path, color: tuple[int, int, int] = PINK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), color).save(path)
    return path


def write_video(
    path: Path, colors: list[tuple[int, int, int]], code: str = "MJPG", size: tuple[int, int] = (64, 48)
) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, size)
    noise = np.random.default_rng(1).integers(-20, 20, (size[1], size[0], 1))
    for color in colors:
        rgb = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
        writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def look(camera: Camera) -> list[Frame | LostFrame]:
    with camera:
        return list(camera.frames())


def mean_color(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image.mean(axis=(0, 1))


def test_a_folder_gives_each_image_below_it_once_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "deep/c.PNG"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    frames = look(FolderCamera(str(tmp_path), 0.1))
    assert [frame.source for frame in frames] == [
        f"{tmp_path}/{name}" for name in ("a.png", "b.png", "deep/c.PNG")
    ]
    assert [frame.sequence for frame in frames] == [0, 1, 2]


def test_a_frame_says_what_it_is(tmp_path: Path) -> None:
    (frame,) = look(FolderCamera(str(write_image(tmp_path / "a.png")), 0.083))
    assert isinstance(frame, Frame)
    assert frame.image.shape == (48, 64, 3)
    assert frame.image.dtype == np.uint8
    assert tuple(frame.image[0, 0]) == PINK
    assert frame.um_per_pixel == 0.083
    assert frame.captured_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - frame.captured_at) < timedelta(minutes=1)


def test_paths_are_shown_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "few" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert look(FolderCamera("./few//", 0.1))[0].source == "./few/a.png"
    assert look(FolderCamera("./few/../few/a.png", 0.1))[0].source == "./few/../few/a.png"


def test_an_unreadable_image_comes_as_a_lost_frame_and_the_rest_follows(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("hello")
    write_image(tmp_path / "c.png")
    first, second, third = look(FolderCamera(str(tmp_path), 0.1))
    assert isinstance(first, Frame)
    assert isinstance(second, LostFrame)
    assert isinstance(third, Frame)
    assert second.source.endswith("b.jpg")
    assert "b.jpg: not an image" in second.error


@pytest.mark.parametrize(("name", "complaint"), [("nowhere", "no such folder"), ("empty", "no images in it")])
def test_a_missing_or_empty_folder_does_not_open(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraError, match=f"{name}: {complaint}"):
        FolderCamera(str(tmp_path / name), 0.1).open()


def test_a_dangling_link_below_a_folder_is_a_lost_frame(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("nowhere.png")
    lost, frame = look(FolderCamera(str(write_image(tmp_path / "b.png").parent), 0.1))
    assert isinstance(lost, LostFrame)
    assert "a.png: cannot be read (No such file or directory)" in lost.error
    assert isinstance(frame, Frame)


@pytest.mark.parametrize(("camera", "suffix"), [(FolderCamera, ".png"), (VideoCamera, ".mp4")])
def test_a_path_that_no_file_can_have_does_not_open(camera: type[FolderCamera], suffix: str) -> None:
    with pytest.raises(CameraError, match=r"File name too long.*check the path"):
        camera("a" * 300 + suffix, 0.1).open()


def test_a_folder_on_the_way_that_may_not_be_entered_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path, *, follow_symlinks: bool = True) -> None:  # the superuser may enter every folder
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    for camera in (FolderCamera(str(tmp_path / "a.png"), 0.1), VideoCamera(str(tmp_path / "a.mp4"), 0.1)):
        with pytest.raises(CameraError, match=r"Permission denied.*check the path"):
            camera.open()


@pytest.mark.timeout(20)
def test_a_pipe_that_is_called_a_video_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.mp4")
    with pytest.raises(CameraError, match=r"v\.mp4: no such file \(a pipe or device\)"):
        VideoCamera(str(tmp_path / "v.mp4"), 0.1).open()


def test_a_line_break_in_a_name_does_not_break_the_message(tmp_path: Path) -> None:
    (tmp_path / "a\nb").mkdir()
    for camera in (FolderCamera(str(tmp_path / "a\nb"), 0.1), VideoCamera(str(tmp_path / "a\nb.avi"), 0.1)):
        with pytest.raises(CameraError, match=r"a\\nb") as caught:
            camera.open()
        assert "\n" not in str(caught.value)


def test_a_video_of_frames_that_as_images_are_refused_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_video(tmp_path / "small.avi", [PINK], size=(16, 16)))
    with pytest.raises(CameraError, match=r"small\.avi: 16x16 pixels is too small to show a cell"):
        VideoCamera(path, 0.1).open()
    monkeypatch.setattr("edge.cameras.video.check_size", partial(check_size, max_pixels=64 * 48 - 1))
    with pytest.raises(CameraError, match=r"large\.avi: 64x48 is .* megapixels, more than"):
        VideoCamera(str(write_video(tmp_path / "large.avi", [PINK])), 0.1).open()


@pytest.mark.parametrize(("suffix", "code"), [(".avi", "MJPG"), (".mp4", "mp4v")])
def test_a_video_gives_every_frame_in_rgb(tmp_path: Path, suffix: str, code: str) -> None:
    colors = [(200, 60 + 5 * n, 120) for n in range(12)]
    frames = look(VideoCamera(str(write_video(tmp_path / f"v{suffix}", colors, code)), 0.1))
    assert [frame.sequence for frame in frames] == list(range(12))
    for frame, color in zip(frames, colors, strict=True):
        assert isinstance(frame, Frame)
        np.testing.assert_allclose(mean_color(frame.image), color, atol=12)


def test_frames_kept_from_a_video_are_not_overwritten_by_later_ones(tmp_path: Path) -> None:
    first, last = look(VideoCamera(str(write_video(tmp_path / "v.avi", [(200, 60, 60), (60, 60, 200)])), 0.1))
    assert isinstance(first, Frame)
    assert isinstance(last, Frame)
    assert mean_color(first.image)[0] > 150 > mean_color(last.image)[0]


def test_a_video_cut_short_says_how_many_frames_are_lacking(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", [PINK] * 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = look(VideoCamera(str(path), 0.1))
    assert 0 < len(frames) < 20
    assert isinstance(last, LostFrame)
    assert f"ends after {len(frames)} of the 20 frames" in last.error


def test_a_frame_that_a_video_ends_in_the_middle_of_is_not_shown(tmp_path: Path) -> None:
    colors = [(200, 60 + 5 * n, 120) for n in range(20)]
    path = write_video(tmp_path / "v.avi", colors)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = look(VideoCamera(str(path), 0.1))
    assert isinstance(last, LostFrame)
    assert last.sequence == len(frames)
    for frame, color in zip(frames, colors, strict=False):
        assert isinstance(frame, Frame)
        # The decoder would fill the lower part with the frame before.
        np.testing.assert_allclose(mean_color(frame.image[-8:]), color, atol=12)


def test_time_between_the_frames_of_a_video_is_the_videos_own(tmp_path: Path) -> None:
    frames = look(VideoCamera(str(write_video(tmp_path / "v.avi", [PINK] * 10)), 0.1))
    times = [frame.monotonic for frame in frames if isinstance(frame, Frame)]
    np.testing.assert_allclose(np.diff(times), 0.1, atol=0.001)


def test_a_video_is_decoded_without_threads_of_its_own(tmp_path: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    video = write_video(tmp_path / "v.mp4", [PINK] * 10, "mp4v", (640, 480))
    before = threads()
    with VideoCamera(str(video), 0.1) as camera:
        assert threads() == before
        assert len(list(camera.frames())) == 10


def test_a_grey_frame_is_lost_and_a_coloured_one_after_it_is_not(tmp_path: Path) -> None:
    grey, coloured = look(VideoCamera(str(write_video(tmp_path / "v.avi", [(150, 150, 150), PINK])), 0.1))
    assert isinstance(grey, LostFrame)
    assert "frame 0 has no colour" in grey.error
    assert isinstance(coloured, Frame)


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    camera = VideoCamera(str(write_video(tmp_path / "v.avi", [])), 0.1)
    with pytest.raises(CameraError, match=r"v\.avi: (a video without frames|not a video)"):
        look(camera)


@pytest.mark.parametrize("content", [None, "hello"])
def test_a_missing_file_or_one_that_is_no_video_does_not_open(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "v.mp4"
    if content:
        path.write_text(content)
    with pytest.raises(CameraError, match=r"v\.mp4: (no such file|not a video)"):
        VideoCamera(str(path), 0.1).open()


def test_a_video_that_was_closed_gives_no_frames(tmp_path: Path) -> None:
    camera = VideoCamera(str(write_video(tmp_path / "v.avi", [PINK])), 0.1)
    with camera:
        pass
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        next(camera.frames())


def test_a_camera_is_closed_also_when_looking_fails(tmp_path: Path) -> None:
    camera = VideoCamera(str(write_video(tmp_path / "v.avi", [PINK])), 0.1)
    with pytest.raises(ZeroDivisionError), camera:
        raise ZeroDivisionError
    with pytest.raises(CameraError, match="not open"):
        next(camera.frames())


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("file:{}", "a folder; write folder:"),
        ("file:{}/a.png", "an image, not a video; write folder:"),
        ("folder:{}/v.avi", "a video, not a folder of images; write file:"),
    ],
)
def test_what_belongs_to_another_camera_is_told_which(tmp_path: Path, spec: str, complaint: str) -> None:
    write_image(tmp_path / "a.png")
    write_video(tmp_path / "v.avi", [PINK])
    with pytest.raises(CameraError, match=complaint):
        open_camera(spec.format(tmp_path), 0.1).open()


def test_files_are_not_live_and_devices_and_networks_are() -> None:
    live = {
        spec: open_camera(spec, 0.1).live
        for spec in ("folder:a", "file:a.avi", "v4l2:/dev/video0", "http://a")
    }
    assert live == {"folder:a": False, "file:a.avi": False, "v4l2:/dev/video0": True, "http://a": True}


def test_only_a_folder_shows_another_place_in_every_frame() -> None:
    assert open_camera("folder:smear", 0.1).places_apart
    assert not open_camera("file:smear.mp4", 0.1).places_apart


@pytest.mark.parametrize("spec", ["webcam:0", "", ":x", "rtps://user:secret@host/live"])
def test_an_unknown_camera_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(SettingError, match="no camera is called") as caught:
        open_camera(spec, 0.1)
    assert "secret" not in str(caught.value)
    for kind in CAMERA_KINDS:
        assert kind.usage in str(caught.value)


@pytest.mark.parametrize("spec", ["folder", "folder:", "file:", "v4l2", "rtsp:", "http"])
def test_a_camera_that_is_not_said_is_asked_for(spec: str) -> None:
    with pytest.raises(
        SettingError, match=f"camera '{spec}' says not which; write {spec.partition(':')[0]}:"
    ):
        open_camera(spec, 0.1)


@pytest.mark.parametrize("spec", ["v4l2:/dev/video0", "rtsp://10.0.0.5/live", "http://10.0.0.5/live"])
def test_left_alone_a_device_waits_less_long_in_its_library_than_it_may_be_waited_for(spec: str) -> None:
    camera = open_camera(spec, 0.1, UNATTENDED)
    assert isinstance(camera, CaptureCamera)
    assert camera._patience_s < UNATTENDED.frame_s
    # That of a USB camera is made of waits of a second each.
    assert spec.startswith("v4l2") or camera._patience_s < UNATTENDED.stop_s


def test_limits_are_for_devices_and_files_need_none() -> None:
    for spec in ("folder:a", "file:a.avi", "phantom"):
        assert open_camera(spec, math.nan, UNATTENDED).name


@pytest.mark.parametrize("level", [0, 200])
def test_a_jpeg_without_colour_is_passed_on_for_the_camera_to_judge(level: int) -> None:
    # It tells a lamp that is off from empty glass and from a grey camera.
    even = np.full((480, 640, 3), level, np.uint8)
    _, jpeg = cv2.imencode(".jpg", even)
    assert np.array_equal(to_rgb(jpeg.reshape(1, -1)), even)
