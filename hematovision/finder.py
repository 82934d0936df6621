"""Finding nucleated cells: a small convolutional network marks their centres, wherever they are in a field.

It sees the field as the camera gave it, at `heat_map.FINDER_UM_PER_PIXEL`, piece by piece where it is larger
than the network's input. The nucleus of each is then measured against what lies around it (`nucleus`).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.errors import ModelFileError
from hematovision.heat_map import STRIDE, Peak, find_peaks
from hematovision.images import RGBImage
from hematovision.loaded_network import flip_top_bit, load_network, only_tensor
from hematovision.model_file import FinderFile, read_finder_file, shipped_model
from hematovision.nucleus import MAX_NUCLEUS_UM2, MIN_NUCLEUS_UM2, measure_nucleus
from hematovision.optics import Field
from hematovision.runtime import AUTO, LoadedModel

#: In a picture that is known to show one cell, the hottest place is that cell even where it is no hotter.
SINGLE_THRESHOLD = 0.2
#: Two pieces of a field overlap by twice this: so near to its border a piece lacks what lies beyond.
PIECE_MARGIN_PX = 32

_DEFAULT_FINDER = "hematovision-finder-int8.tflite"
_UNMEASURED_BOX_UM = 8.0
_FOCUS_UM_PER_PIXEL = 0.15


@dataclass(frozen=True)
class CellRegion:
    """A nucleated cell found in a frame.

    ``center`` (x, y) and ``box`` (x, y, width, height) of the nucleus in pixels of the frame; where no
    nucleus could be outlined they are the cell's, and ``nucleus_area_um2`` is 0. ``score``: how sure the
    finder is, 0 to 1; ``focus``: relative contrast at the finest scale, higher is sharper, 0 is featureless;
    ``touches_border``: the nucleus is cut by the frame (or by the black fill of a rotated copy).
    """

    center: tuple[float, float]
    box: tuple[float, float, float, float]
    nucleus_area_um2: float
    score: float
    focus: float
    touches_border: bool


class Finder:
    """A finder's model ready to look at fields. It belongs to one thread, as its interpreter does."""

    def __init__(
        self,
        model: FinderFile,
        runtime: str = AUTO,
        threads: int = 1,
        loaded: LoadedModel | None = None,
    ) -> None:
        """Load a model and check that it keeps the finder's contract.

        Args:
            model: the model file, read and found whole.
            runtime: name of a runtime of `hematovision.runtime`, or ``auto``.
            threads: how many the interpreter computes with; more than one do not pay for so small a network.
            loaded: an interpreter that holds the model already.

        Raises:
            ModelFileError: the runtime cannot load the model, or its tensors are not the contract's.
            MissingPartError: the runtime is not installed.
            SettingError: no such runtime.
        """
        self.model = model
        self.loaded = loaded or load_network(model, runtime, threads)
        width, height = self._width, self._height = model.manifest.width_px, model.manifest.height_px
        interpreter = self._interpreter = self.loaded.interpreter
        heat_shape = (1, height // STRIDE, width // STRIDE, 1)
        source = only_tensor(
            model, "input", interpreter.get_input_details(), (1, height, width, 3), ("int8",)
        )
        result = only_tensor(model, "output", interpreter.get_output_details(), heat_shape, ("int8",))
        scale, zero_point = result["quantization"]
        # Heat of each of the 256 values that the output can have.
        logits = (np.arange(-128, 128, dtype=np.float64) - zero_point) * scale
        self._heat_of = (1 / (1 + np.exp(-logits))).astype(np.float32)
        # These give a view of the tensor on each call. None may be held while the interpreter runs.
        self._input = interpreter.tensor(source["index"])
        self._output = interpreter.tensor(result["index"])

    def find(self, field: Field, threshold: float | None = None) -> list[CellRegion]:
        """Find the nucleated cells of a field, the surest first; an empty list where there is none.

        ``threshold``: a centre is hotter; the manifest's unless given.

        Raises:
            ModelFileError: the runtime fails.
        """
        peaks = self.peaks(field.small, threshold)
        centers = [(peak.x, peak.y) for peak in peaks]
        regions = (_region(field, peak, centers) for peak in peaks)
        return [region for region in regions if region is not None]

    def peaks(self, small: RGBImage, threshold: float | None = None) -> list[Peak]:
        """Find the centres of cells in a picture at working scale, (height, width, 3) uint8 RGB."""
        least = self.model.manifest.threshold if threshold is None else threshold
        return find_peaks(self.heat(small), (small.shape[1], small.shape[0]), least)

    def heat(self, small: RGBImage) -> NDArray[np.float32]:
        """Return the heat map of a picture at working scale: at least a place for each 4x4 pixels, 0 to 1.

        Raises:
            ModelFileError: the runtime fails.
        """
        height, width = small.shape[:2]
        rows, columns = _starts(height, self._height), _starts(width, self._width)
        below = max(rows[-1] + self._height - height, 0)
        right = max(columns[-1] + self._width - width, 0)
        # Mirrored, a border looks like more smear: black or white beyond it would be a thing to find.
        padded = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        heat = np.empty((padded.shape[0] // STRIDE, padded.shape[1] // STRIDE), np.float32)
        for top in rows:
            for left in columns:
                # What the piece before this one has seen with more around it stays.
                skip_y, skip_x = (PIECE_MARGIN_PX if start else 0 for start in (top, left))
                piece = self._run(padded[top : top + self._height, left : left + self._width])
                heat[
                    (top + skip_y) // STRIDE : (top + self._height) // STRIDE,
                    (left + skip_x) // STRIDE : (left + self._width) // STRIDE,
                ] = piece[skip_y // STRIDE :, skip_x // STRIDE :]
        return heat

    def _run(self, piece: RGBImage) -> NDArray[np.float32]:
        flip_top_bit(piece, self._input()[0])
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelFileError(f"{self.model.path}: {self.loaded.runtime} fails on it ({error})") from error
        return self._heat_of[self._output()[0, ..., 0].astype(np.int16) + 128]


def default_finder_path() -> Path:
    """Return the path of the finder that comes with this program.

    Raises:
        ModelFileError: it is not there.
    """
    return shipped_model(_DEFAULT_FINDER, "the finder", "--finder")


def load_finder(path: Path | str | None = None, runtime: str = AUTO) -> Finder:
    """Load a finder, the one that comes with this program unless another is named.

    Raises:
        ModelFileError: it is missing, damaged, of another kind or scale, or cannot be run.
        MissingPartError: the runtime is not installed.
    """
    return Finder(read_finder_file(path or default_finder_path()), runtime)


def most_prominent(regions: list[CellRegion], field: Field) -> CellRegion | None:
    """Return the cell that a single-cell image is of: the surest and largest, less so towards the corners.

    Of two like cells the one in the middle is meant.
    """
    height, width = field.image.shape[:2]

    def prominence(region: CellRegion) -> float:
        x, y = region.center[0] / width - 0.5, region.center[1] / height - 0.5
        return region.score * math.sqrt(region.nucleus_area_um2 + 1) * (1 - min(math.hypot(x, y), 0.5))

    return max(regions, key=prominence, default=None)


def find_single(finder: Finder, field: Field, crop_um: float) -> tuple[CellRegion, bool]:
    """Return the cell that a single-cell image is of, and whether it was found.

    Where none is found it is the middle of the image, as wide as a crop of ``crop_um`` micrometres.
    """
    region = most_prominent(finder.find(field, SINGLE_THRESHOLD), field)
    if region is not None:
        return region, True
    height, width = field.image.shape[:2]
    side = min(crop_um / field.um_per_pixel, width, height)
    middle = CellRegion(
        center=((width - 1) / 2, (height - 1) / 2),
        box=((width - side) / 2, (height - side) / 2, side, side),
        nucleus_area_um2=0.0,
        score=0.0,
        focus=0.0,
        touches_border=False,
    )
    return middle, False


def _starts(side: int, piece: int) -> list[int]:
    """Return where pieces begin that cover a side, each overlapping the one before."""
    step = piece - 2 * PIECE_MARGIN_PX
    return list(range(0, side - piece + step, step)) if side > piece else [0]


def _region(field: Field, peak: Peak, centers: list[tuple[float, float]]) -> CellRegion | None:
    """Return the cell at a peak of the heat map; None where what lies there is of no nucleus' size."""
    scale_x, scale_y = field.scale
    height, width = field.dark.shape
    half = _UNMEASURED_BOX_UM / (field.um_per_pixel * scale_x) / 2
    left, top = peak.x + 0.5 - half, peak.y + 0.5 - half
    right, bottom = left + 2 * half, top + 2 * half
    at_border = left < 0 or top < 0 or right > width or bottom > height
    nucleus = measure_nucleus(field, (peak.x, peak.y), centers)
    if nucleus is not None and not nucleus.cut and nucleus.area_um2 < MIN_NUCLEUS_UM2:
        if not at_border:
            return None
        nucleus = None  # its own lies beyond the border, and what was outlined is something else
    if nucleus is None:
        center, area, cut = (peak.x, peak.y), 0.0, at_border
    else:
        center, area, cut = nucleus.center, nucleus.area_um2, nucleus.cut
        left, top, right, bottom = nucleus.box
    if area > MAX_NUCLEUS_UM2:
        return None
    box = (left * scale_x, top * scale_y, (right - left) * scale_x, (bottom - top) * scale_y)
    return CellRegion(
        # Pixel centres: the middle of working pixel 0 lies half its width into the frame.
        center=((center[0] + 0.5) * scale_x - 0.5, (center[1] + 0.5) * scale_y - 0.5),
        box=box,
        nucleus_area_um2=area,
        score=peak.heat,
        focus=_focus(field, box),
        touches_border=cut,
    )


def _focus(field: Field, box: tuple[float, float, float, float]) -> float:
    """Variance of the Laplacian over the squared mean, of green, at one scale whatever the camera's."""
    x, y, width, height = (round(value) for value in box)
    green = field.image[max(y, 0) : y + max(height, 2), max(x, 0) : x + max(width, 2), 1]
    shrink = field.um_per_pixel / _FOCUS_UM_PER_PIXEL
    size = max(3, round(green.shape[1] * shrink)), max(3, round(green.shape[0] * shrink))
    green = cv2.resize(green, size, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR)
    mean = max(cv2.mean(green)[0], 1.0)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(green, cv2.CV_32F))  # several times NumPy's speed
    return float(deviation[0, 0] / mean) ** 2
