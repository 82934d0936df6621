"""What lies below a folder of pictures: the images, and what else, which is passed over or counted aloud."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hematovision.images import shown_path
from hematovision.own_pictures import CROP, MARKED_BYTES, kind_of, refuse_own_picture
from hematovision.regular_file import open_regular_file

#: Endings that a folder is searched for.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"}
)

# What systems, network disks and programs put beside people's files: small copies, indexes, bins.
_SIDE_NAMES = frozenset(
    {"@eadir", "@__thumb", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"}
    | {"__macosx", "icon\r", "network trash folder", "temporary items", "__pycache__"}
    | {"desktop.ini", "lost+found", "lost.dir", "thumbs", "thumbs.db", "ehthumbs.db", "thumbnails"}
    | {"$recycle.bin", "recycled", "recycler", "system volume information"}
)
_SHOWN = 8


@dataclass(frozen=True)
class ImageFolder:
    """What lies below a folder.

    ``images``: in the order of their names. ``left_out``: how many other files, by ending or what they are.
    ``passed_over``: hidden and side files and folders, which no person put there.
    """

    images: tuple[Path, ...]
    left_out: Counter[str]
    passed_over: tuple[str, ...]

    @property
    def remark(self) -> str | None:
        """What is left out, in words; None where nothing is."""
        count = self.left_out.total()
        kinds = ", ".join(f"{kind} {number}" for kind, number in self.left_out.most_common(_SHOWN))
        more = ", …" * (len(self.left_out) > _SHOWN)
        return f"{count} other file{'s' * (count != 1)} left out: {kinds}{more}" if count else None

    @property
    def without_images(self) -> str:
        """Why there is nothing to look at, in words."""
        hidden = ", ".join(shown_path(name) for name in self.passed_over[:_SHOWN])
        reasons = (
            f"no images in it ({' '.join(sorted(IMAGE_SUFFIXES))})",
            self.remark,
            f"hidden and side files are passed over: {hidden}" if hidden else None,
        )
        return "; ".join(filter(None, reasons))


def is_side_file(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or put there by a system or program, not a person."""
    return name.startswith(".") or name.lower() in _SIDE_NAMES


def read_folder(folder: Path, crops: bool = False) -> ImageFolder:
    """Look through a folder and all below it.

    Links to folders are not followed. A link that leads nowhere and a folder that cannot be listed stand
    among the images: reading them says what is wrong. Pictures that HematoVision wrote are left out; crops of
    cells only where other images are there too, and never where ``crops`` are wanted.
    """
    unlisted: list[OSError] = []
    images: list[Path] = []
    of_cells: list[Path] = []
    left_out: Counter[str] = Counter()
    passed_over: list[str] = []
    for place, folders, names in os.walk(folder, onerror=unlisted.append):
        passed_over += filter(is_side_file, (*folders, *names))
        folders[:] = [name for name in folders if not is_side_file(name)]
        left_out["link to a folder"] += sum(os.path.islink(f"{place}/{name}") for name in folders)  # noqa: PTH114
        for path in (Path(place, name) for name in names if not is_side_file(name)):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                left_out[shown_path(path.suffix.lower()) or "without ending"] += 1
            elif (kind := kind_of(_start_of(path))) is None:
                images.append(path)
            elif kind == CROP:
                of_cells.append(path)
            else:
                left_out[kind] += 1
    if crops or not images:
        images += of_cells
    else:
        left_out[CROP] += len(of_cells)
    images += [Path(error.filename) for error in unlisted]
    return ImageFolder(tuple(sorted(images)), +left_out, tuple(sorted(passed_over)))


def require_no_own_picture(path: Path) -> None:
    """Raise `ImageError` where HematoVision wrote a file and it shows no cell as the camera saw it."""
    refuse_own_picture(_start_of(path), shown_path(path))


def _start_of(path: Path) -> bytes:
    try:
        with open_regular_file(path) as file:
            return file.read(MARKED_BYTES) or b""
    except OSError:
        return b""  # said when it is read
