"""Finders alike for whatever measures them: a frame and its scale in, regions out, optics included."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hematovision import plausibility
from hematovision.errors import ImageError
from hematovision.finder import CellRegion, load_finder
from hematovision.images import RGBImage
from hematovision.optics import measure_field

#: Finds cells in a frame, (height, width, 3) uint8 RGB, of a scale in µm per pixel. Raises `ImageError` where
#: it refuses the frame.
Find = Callable[[RGBImage, float], Sequence[CellRegion]]

#: What tables call what is measured, and what is measured beside it.
FINDER = "finder"
BASELINE = "baseline"


def open_finder(path: Path | None = None) -> Find:
    """Return a finder with its optics: of a model file, or the one that comes with this program.

    Raises:
        ModelFileError: it is missing, damaged, of another kind or scale, or cannot be run.
        MissingPartError: no runtime is installed.
    """
    finder = load_finder(path)

    def find(image: RGBImage, um_per_pixel: float) -> Sequence[CellRegion]:
        return finder.find(measure_field(image, um_per_pixel))

    return find


def why_refused(image: RGBImage, um_per_pixel: float) -> str | None:
    """Say why the device shows no cells of a frame, such as that it is no smear; None where it does."""
    try:
        seen = plausibility.look_at(measure_field(image, um_per_pixel))
    except ImageError as error:
        return str(error)
    return "taken for empty glass" if plausibility.is_empty(seen) else plausibility.why_no_smear(seen)
