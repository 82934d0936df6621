"""A folder of images, each of them a place of its own."""

import stat
from collections.abc import Iterator
from pathlib import Path

from edge.cameras import Camera, Frame, LostFrame
from edge.cameras.video import VIDEO_SUFFIXES
from hematovision.errors import CameraError, ImageError
from hematovision.image_folder import IMAGE_SUFFIXES, read_folder, require_no_own_picture
from hematovision.images import read_image, shown_path

_HINT = (
    "; save an image as JPEG or PNG; a video is known by its ending: give it .mp4, whatever it holds, or "
    ".h264, .hevc, .mjpeg if it is no more than that"
)


class FolderCamera(Camera):
    """The images below a folder in the order of their names, or a single image file."""

    places_apart = True
    live = False

    def __init__(self, path: str, um_per_pixel: float) -> None:
        self._path = path
        self.name = shown_path(path)
        self._um_per_pixel = um_per_pixel
        self._images: list[str] = []

    def open(self) -> None:
        """List the images. Raises `CameraError` where there are none."""
        path, name = Path(self._path), self.name
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError as error:
            raise CameraError(f"{name}: no such folder or file; check the path") from error
        except OSError as error:  # a name too long, a folder on the way that may not be entered
            raise CameraError(f"{name}: cannot be opened ({error.strerror}); check the path") from error
        if not is_folder and path.suffix.lower() in VIDEO_SUFFIXES:
            raise CameraError(f"{name}: a video, not a folder of images; write file:{name}")
        self._images = [self._path]
        if not is_folder:
            try:
                require_no_own_picture(path)
            except ImageError as error:
                raise CameraError(str(error)) from error
        if is_folder:
            # A path is shown as it was given, so what is below it is appended to that text.
            start = self._path.rstrip("/")
            found = read_folder(path)
            self._images = [f"{start}/{image.relative_to(path)}" for image in found.images]
            hint = "" if VIDEO_SUFFIXES.isdisjoint(found.left_out) else "; give a video by its own name"
            if not self._images:
                raise CameraError(f"{name}: {found.without_images}{hint}")
            self.remark = found.remark and f"{name}: {found.remark}{hint}"
        self.expected = len(self._images)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Every image once; an unreadable one comes as a `LostFrame`."""
        for sequence, path in enumerate(self._images):
            try:
                yield Frame.now(read_image(path), sequence, self._um_per_pixel, path)
            except ImageError as error:
                # What has an image's ending is meant as one.
                hint = "" if Path(path).suffix.lower() in IMAGE_SUFFIXES else _HINT
                yield LostFrame(sequence, path, f"{error}{hint}")

    def close(self) -> None:
        """Forget the list."""
        self._images = []
