"""The white cells of a stranger's picture, found in a child process: whatever it holds, only the child pays.

`find_in_child` is the parent's side; run as a program, this module is the child. What passes between them:
to the child a line of JSON and the file; back a line of JSON, the picture in small, and the crops one by one.
"""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.child_process import Limits, serve_parent, stream_from_child
from hematovision.crops import CropSize, cut_crop
from hematovision.errors import (
    CalibrationError,
    ChildEnding,
    ChildError,
    HematoVisionError,
    ImageError,
    SettingError,
)
from hematovision.finder import CellRegion, Finder, default_finder_path, find_single
from hematovision.images import RGBImage, decode_image, shrink
from hematovision.model_file import read_finder_file
from hematovision.optics import measure_field
from hematovision.own_pictures import refuse_own_picture
from hematovision.plausibility import dark_object_note, look_at, why_no_monolayer, why_no_smear
from hematovision.red_cells import measure_red_cells, measure_scale, scale_warning
from hematovision.runtime import load_interpreter

#: A field of 12 megapixels at 0.4 µm per pixel, where it is searched as it is, takes 3 s of a PC's time and
#: 470 MB of address space; a Raspberry Pi takes some ten times as long.
LIMITS = Limits(wall_s=150, cpu_s=60, memory_bytes=640 * 2**20, output_bytes=2**30)

_NAME = "the picture"
_REFUSALS: dict[str, type[HematoVisionError]] = {
    kind.__name__: kind for kind in (ImageError, CalibrationError, SettingError)
}
_WHY = {
    ChildEnding.TIMED_OUT: "takes too long to look at; send a smaller part of it, or save it anew",
    ChildEnding.OUT_OF_MEMORY: "takes too much memory at this scale; check the scale, or send a smaller part",
    ChildEnding.TOO_MUCH_OUTPUT: "holds too many cells; send a smaller part of it",
    ChildEnding.KILLED: "ends the program that looks at it; save it anew, or send a smaller part of it",
    ChildEnding.FAILED: "cannot be looked at; save it anew",
}


@dataclass(frozen=True)
class Wanted:
    """What to find: all white cells or a ``single`` one, at a scale or at what the red cells tell; crops of a
    side in µm and pixels; a picture in small, ``shown_px`` wide at most. ``finder``: its
    file, empty for the one that comes with the program."""

    single: bool
    um_per_pixel: float | None
    crop_um: float
    crop_px: int
    max_pixels: int
    shown_px: int
    finder: str = ""


@dataclass(frozen=True)
class FoundCells:
    """What was found in a picture of ``width`` and ``height`` pixels.

    ``found``: whether there was a nucleus, where a single cell was wanted. ``warning``: that the red cells
    disagree with the scale given, that it is too thick, or that something dark is in view. ``shown``: the
    picture in small, (h, w, 3) uint8 RGB. ``crops``: one for each region, (crop_px, crop_px, 3) uint8, cut by
    the child as they are taken.
    """

    width: int
    height: int
    um_per_pixel: float
    warning: str | None
    regions: tuple[CellRegion, ...]
    found: bool
    shown: RGBImage
    crops: Iterator[NDArray[np.uint8]]


@contextmanager
def find_in_child(
    data: bytes, wanted: Wanted, is_wanted: Callable[[], bool] = lambda: True, limits: Limits = LIMITS
) -> Iterator[FoundCells]:
    """Find the white cells of an image file in a child process, which ends with the context.

    Args:
        data: the file.
        wanted: what to find.
        is_wanted: asked ten times a second; the child is ended as soon as it says no.
        limits: what the child is held to.

    Raises:
        ImageError: it is no picture that can be used, or takes too much time or memory.
        CalibrationError: no scale was given, and the red cells do not tell it.
        SettingError: the scale cannot be.
        ChildError: no child can be started, or nobody wants the result any more.
    """
    request = json.dumps(asdict(wanted)).encode() + b"\n" + data
    with closing(_with_reasons(stream_from_child(__name__, request, limits, is_wanted))) as pieces:
        answer = _Answer(pieces)
        head: dict[str, Any] = json.loads(answer.line())
        if "refused" in head:
            raise _REFUSALS[head["refused"]](head["because"])
        height, width = head.pop("shown")
        shown = answer.picture(height, width)
        regions = tuple(
            CellRegion(**region | {key: tuple(region[key]) for key in ("center", "box")})
            for region in head.pop("regions")
        )
        crops = (answer.picture(wanted.crop_px, wanted.crop_px) for _ in regions)
        yield FoundCells(regions=regions, shown=shown, crops=crops, **head)


class _Answer:
    """What comes from the child, taken in parts of a known length."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._came = bytearray()

    def line(self) -> bytes:
        while (end := self._came.find(b"\n")) < 0:
            self._came += self._more()
        return bytes(self._take(end + 1))

    def picture(self, height: int, width: int) -> RGBImage:
        return np.frombuffer(self._take(height * width * 3), np.uint8).reshape(height, width, 3)

    def _take(self, count: int) -> bytearray:
        while len(self._came) < count:
            self._came += self._more()
        taken = self._came[:count]
        del self._came[:count]
        return taken

    def _more(self) -> bytes:
        piece = next(self._pieces, b"")
        if not piece:
            raise ChildError(__name__, ChildEnding.FAILED, stderr="its answer is cut short")
        return piece


def _with_reasons(pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same pieces; a child that breaks over them is the picture's fault."""
    try:
        yield from pieces
    except ChildError as error:
        if error.ending not in _WHY:
            raise
        raise ImageError(f"{_NAME} {_WHY[error.ending]}") from error


def _find(request: bytes) -> Iterator[bytes]:
    """The child's side: decode, measure, find, cut."""
    end = request.index(b"\n")
    wanted = Wanted(**json.loads(request[:end]))
    data = request[end + 1 :]
    del request
    try:
        yield from _found(data, wanted)
    except tuple(_REFUSALS.values()) as error:
        yield _line({"refused": type(error).__name__, "because": str(error)})
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem or "bad_alloc" in str(error):
            raise MemoryError from error
        raise


def _found(data: bytes, wanted: Wanted) -> Iterator[bytes]:
    refuse_own_picture(data, _NAME)
    image = decode_image(data, _NAME, max_pixels=wanted.max_pixels)
    diameters = [measure_red_cells(image)]
    um_per_pixel = wanted.um_per_pixel
    if um_per_pixel is None:
        try:
            um_per_pixel = measure_scale(diameters).um_per_pixel
        except CalibrationError as error:
            # It asks for more images; here there is one.
            what = str(error).split("; ")[0]
            raise CalibrationError(
                f"{what}; fill in µm per pixel (um_per_pixel), as it was calibrated"
            ) from error
    field = measure_field(image, um_per_pixel)
    seen = look_at(field)
    if (refused := why_no_smear(seen)) is not None:
        raise ImageError(f"{_NAME}: {refused}")
    warnings = scale_warning(um_per_pixel, diameters), why_no_monolayer(seen), dark_object_note(seen)
    model = read_finder_file(wanted.finder or default_finder_path())
    # Not tried in a child of its own first: this is one, which may start no other.
    finder = Finder(model, loaded=load_interpreter(model.flatbuffer, threads=1))
    found = True
    if wanted.single:
        region, found = find_single(finder, field, wanted.crop_um)
        regions = [region]
    else:
        regions = finder.find(field)
    height, width = image.shape[:2]
    shown = shrink(image, wanted.shown_px)
    yield _line(
        {
            "width": width,
            "height": height,
            "um_per_pixel": float(um_per_pixel),
            "warning": "; ".join(filter(None, warnings)) or None,
            "regions": [asdict(region) for region in regions],
            "found": found,
            "shown": shown.shape[:2],
        }
    )
    yield shown.tobytes()
    size = CropSize(wanted.crop_um, wanted.crop_px)
    for region in regions:
        yield cut_crop(field, region.center, size).tobytes()


def _line(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"


if __name__ == "__main__":
    cv2.setNumThreads(1)  # each of more would map memory of its own
    # NumPy's library takes its buffer at the first product, and where it gets none, tries for ever.
    np.ones((64, 64), np.float32) @ np.ones((64, 64), np.float32)
    serve_parent(_find)
