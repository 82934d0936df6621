"""Labelled images made into the crops that the network sees, by the device's own optics, finder and crops."""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize, cut_crop
from hematovision.errors import ImageError
from hematovision.finder import SINGLE_THRESHOLD, CellRegion, Finder, load_finder, most_prominent
from hematovision.images import RGBImage, read_image
from hematovision.model_file import Manifest
from hematovision.optics import Field, measure_field
from train.augment import vary_field
from train.datasets import DataSet, LabelledImage
from train.drawn import DRAWN_UM_PER_PIXEL, draw, drawn_cells
from train.selection import Selection, select_again

#: Label of a cell that is none of the four classes: it teaches and tests declining.
OTHER = -1

#: A training cell of which less is in the frame teaches nothing but guessing.
MIN_VISIBLE = 0.3

_VARIED_CELLS = 4000
_VARIATIONS = (3, 12)
_SAME_UM = 6.0
_THREADS = 2

Progress = Callable[[int, int], None]
#: Gives the picture of an image, (height, width, 3) uint8 RGB.
View = Callable[[LabelledImage], RGBImage]
_Crop = NDArray[np.uint8]
_of_thread = threading.local()


@dataclass(frozen=True)
class CellSet:
    """The labelled cells of a set of images.

    ``crops``: (n, side, side, 3) uint8, as `hematovision.crops.cut_crop` gives them; ``labels``: (n,) int64,
    the place in `CLASS_NAMES`, or `OTHER`; ``found``: (n,) bool, False where the finder saw no cell and the
    crop is the middle of the image; ``unreadable``: images left out, with the reason.
    """

    images: tuple[LabelledImage, ...]
    crops: NDArray[np.uint8]
    labels: NDArray[np.int64]
    found: NDArray[np.bool_]
    unreadable: tuple[tuple[LabelledImage, str], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def select(self, keep: NDArray[np.bool_]) -> "CellSet":
        """The cells where ``keep`` (n,) is true."""
        images = tuple(image for image, wanted in zip(self.images, keep, strict=True) if wanted)
        return CellSet(images, self.crops[keep], self.labels[keep], self.found[keep], self.unreadable)

    @property
    def collection_weights(self) -> NDArray[np.float64]:
        """(n,) weights with the sum 1, under which every collection counts alike, however large it is."""
        collections = [image.collection for image in self.images]
        _, owner, counts = np.unique(collections, return_inverse=True, return_counts=True)
        return 1 / (counts[owner] * len(counts))

    @property
    def in_classes(self) -> NDArray[np.bool_]:
        """(n,) bool: cells of one of the four classes."""
        return self.labels != OTHER


def read_cells(
    images: Sequence[LabelledImage], um_per_pixel: float, size: CropSize, progress: Progress | None = None
) -> CellSet:
    """Find and cut the most prominent cell of every image.

    Args:
        images: what to read; unreadable ones are left out and listed.
        um_per_pixel: scale of all the images.
        size: of the crops.
        progress: called with how many are done and how many there are.
    """

    def cut(_: int, image: LabelledImage) -> tuple[list[_Crop], bool]:
        field = measure_field(read_image(image.path), um_per_pixel)
        region = most_prominent(_find(field), field)
        height, width = field.image.shape[:2]
        center = region.center if region else ((width - 1) / 2, (height - 1) / 2)
        return [cut_crop(field, center, size)], region is not None

    return _gather(images, cut, size, progress)


def read_varied_cells(
    images: Sequence[LabelledImage],
    um_per_pixel: float,
    size: CropSize,
    seed: int,
    progress: Progress | None = None,
    view: View | None = None,
) -> CellSet:
    """Cells of training images, each as it is and in several other photographs of its field.

    A small collection is varied more. Left out is what the finder does not find, and a variation in which
    less than `MIN_VISIBLE` of the nucleus is left. ``view`` gives an image's picture where it is no file.
    Otherwise as `read_cells`.
    """
    variations = int(np.clip(np.ceil(_VARIED_CELLS / max(len(images), 1)), *_VARIATIONS))

    def cut(number: int, image: LabelledImage) -> tuple[list[_Crop], bool]:
        field = measure_field(view(image) if view else read_image(image.path), um_per_pixel)
        region = most_prominent(_find(field), field)
        if region is None:
            return [], False
        crops = [cut_crop(field, region.center, size)]
        rng = np.random.default_rng((seed, number))
        for _ in range(variations):
            varied, expected, scale = vary_field(field.image, region.center, um_per_pixel, rng)
            other = measure_field(varied, scale)
            near = [seen for seen in _find(other) if math.dist(seen.center, expected) * scale < _SAME_UM]
            if near and near[0].nucleus_area_um2 >= MIN_VISIBLE * region.nucleus_area_um2:
                crops.append(cut_crop(other, near[0].center, size))
        return crops, True

    return _gather(images, cut, size, progress)


def _gather(
    images: Sequence[LabelledImage],
    cut: Callable[[int, LabelledImage], tuple[list[_Crop], bool]],
    size: CropSize,
    progress: Progress | None,
) -> CellSet:
    """What ``cut`` makes of every image: its crops, and whether the cell was found."""

    def crops_of(numbered: tuple[int, LabelledImage]) -> tuple[list[_Crop], bool] | str:
        try:
            return cut(*numbered)
        except ImageError as error:
            return str(error)

    kept: list[LabelledImage] = []
    crops: list[_Crop] = []
    found: list[bool] = []
    unreadable: list[tuple[LabelledImage, str]] = []
    # OpenCV and Pillow let go of the interpreter lock while they work.
    with ThreadPoolExecutor(_THREADS) as pool:
        results = zip(images, pool.map(crops_of, enumerate(images)), strict=True)
        for done, (image, result) in enumerate(results, 1):
            if isinstance(result, str):
                unreadable.append((image, result))
            else:
                of_image, is_found = result
                kept += [image] * len(of_image)
                crops += of_image
                found += [is_found] * len(of_image)
            if progress:
                progress(done, len(images))
    labels = np.array([label_index(image.label) for image in kept], np.int64)
    stacked = np.stack(crops) if crops else np.empty((0, size.side_px, size.side_px, 3), np.uint8)
    return CellSet(tuple(kept), stacked, labels, np.array(found, bool), tuple(unreadable))


def join_cells(sets: Sequence[CellSet]) -> CellSet:
    """Several sets of crops of one size as one."""
    return CellSet(
        tuple(image for cells in sets for image in cells.images),
        np.concatenate([cells.crops for cells in sets]),
        np.concatenate([cells.labels for cells in sets]),
        np.concatenate([cells.found for cells in sets]),
        tuple(pair for cells in sets for pair in cells.unreadable),
    )


def label_index(label: str) -> int:
    """Place of a label in `CLASS_NAMES`, or `OTHER`."""
    return CLASS_NAMES.index(label) if label in CLASS_NAMES else OTHER


def load_training_cells(
    sources: Sequence[str], manifest: Manifest, progress: Progress | None = None
) -> tuple[CellSet, CellSet]:
    """Training and development cells that a model was made with, as crops of the model's size.

    Raises:
        DataSetError: these are not the data that the model was made with.
    """
    selection = select_again(sources, manifest)
    return (
        read_side(selection, selection.training, manifest.crop, progress),
        read_side(selection, selection.development, manifest.crop, progress),
    )


def read_side(
    selection: Selection,
    images_of: Callable[[DataSet], Sequence[LabelledImage]],
    size: CropSize,
    progress: Progress | None = None,
) -> CellSet:
    """Cells of one side of a selection: ``images_of`` is its ``training`` or ``development``."""
    return join_cells([read_cells(images_of(one), _scale(one), size, progress) for one in selection.datasets])


def read_varied_training(
    selection: Selection, size: CropSize, drawn_per_class: int = 0, progress: Progress | None = None
) -> CellSet:
    """Training cells of a selection, varied, and so many drawn cells of each class beside them."""
    sets = [
        read_varied_cells(selection.training(one), _scale(one), size, selection.seed, progress)
        for one in selection.datasets
    ]
    if drawn_per_class:
        cells = drawn_cells(drawn_per_class)
        sets.append(read_varied_cells(cells, DRAWN_UM_PER_PIXEL, size, selection.seed, progress, draw))
    return join_cells(sets)


def _find(field: Field) -> list[CellRegion]:
    """Find the cells of a picture of one labelled cell with this thread's own finder."""
    finder: Finder | None = getattr(_of_thread, "finder", None)
    if finder is None:
        finder = _of_thread.finder = load_finder()
    return finder.find(field, SINGLE_THRESHOLD)


def _scale(dataset: DataSet) -> float:
    assert dataset.um_per_pixel is not None, "a selection is made of data sets with a scale"
    return dataset.um_per_pixel
