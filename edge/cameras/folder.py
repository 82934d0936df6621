"""A folder of images, each of them a place of its own."""

from collections.abc import Iterator
from pathlib import Path

from edge.cameras import Camera, Frame, LostFrame
from hematovision.errors import CameraError, ImageError
from hematovision.images import IMAGE_SUFFIXES, list_images, read_image


class FolderCamera(Camera):
    """The images below a folder in the order of their names, or a single image file."""

    places_apart = True

    def __init__(self, path: str, um_per_pixel: float) -> None:
        self._path = path
        self._um_per_pixel = um_per_pixel
        self._images: list[str] = []

    def open(self) -> None:
        """List the images. Raises `CameraError` where there are none."""
        path = Path(self._path)
        if not path.exists():
            raise CameraError(f"{self._path}: no such folder or file; check the path")
        self._images = [self._path]
        if path.is_dir():
            # A path is shown as it was given, so what is below it is appended to that text.
            start = self._path.rstrip("/")
            self._images = [f"{start}/{image.relative_to(path)}" for image in list_images(path)]
        if not self._images:
            raise CameraError(f"{self._path}: no images in it ({' '.join(sorted(IMAGE_SUFFIXES))})")

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Every image once; an unreadable one comes as a `LostFrame`."""
        for sequence, path in enumerate(self._images):
            try:
                yield Frame.now(read_image(path), sequence, self._um_per_pixel, path)
            except ImageError as error:
                yield LostFrame(sequence, path, str(error))

    def close(self) -> None:
        """Forget the list."""
        self._images = []
