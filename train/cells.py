"""Labelled images made into the crops that the network sees, by the device's own optics, finder and crops."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize, cut_crop
from hematovision.errors import ImageError
from hematovision.finder import find_cells, most_prominent
from hematovision.images import read_image
from hematovision.model_file import Manifest
from hematovision.optics import measure_field
from train.datasets import LabelledImage
from train.selection import Selection, select_again

#: Label of a cell that is none of the four classes: it teaches and tests declining.
OTHER = -1

_THREADS = 2

Progress = Callable[[int, int], None]


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

    def read(image: LabelledImage) -> tuple[NDArray[np.uint8], bool] | str:
        try:
            field = measure_field(read_image(image.path), um_per_pixel)
        except ImageError as error:
            return str(error)
        region = most_prominent(find_cells(field), field)
        height, width = field.image.shape[:2]
        center = region.center if region else ((width - 1) / 2, (height - 1) / 2)
        return cut_crop(field, center, size), region is not None

    crops = np.empty((len(images), size.side_px, size.side_px, 3), np.uint8)
    found = np.zeros(len(images), bool)
    kept: list[LabelledImage] = []
    unreadable: list[tuple[LabelledImage, str]] = []
    # OpenCV and Pillow let go of the interpreter lock while they work.
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, (image, result) in enumerate(zip(images, pool.map(read, images), strict=True), 1):
            if isinstance(result, str):
                unreadable.append((image, result))
            else:
                crops[len(kept)], found[len(kept)] = result
                kept.append(image)
            if progress:
                progress(done, len(images))
    labels = np.array([label_index(image.label) for image in kept], np.int64)
    return CellSet(tuple(kept), crops[: len(kept)], labels, found[: len(kept)], tuple(unreadable))


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


def read_selection(
    selection: Selection,
    training_size: CropSize,
    development_size: CropSize,
    progress: Progress | None = None,
) -> tuple[CellSet, CellSet]:
    """Training and development cells of a selection.

    A training cell that the finder missed is left out: its crop would show something else.
    """
    sides = []
    for images_of, size in (
        (selection.training, training_size),
        (selection.development, development_size),
    ):
        sets = []
        for dataset in selection.datasets:
            assert dataset.um_per_pixel is not None
            sets.append(read_cells(images_of(dataset), dataset.um_per_pixel, size, progress))
        sides.append(join_cells(sets))
    training, development = sides
    return training.select(training.found), development


def load_training_cells(
    sources: Sequence[str], manifest: Manifest, progress: Progress | None = None
) -> tuple[CellSet, CellSet]:
    """Training and development cells that a model was made with, as crops of the model's size.

    Raises:
        DataSetError: these are not the data that the model was made with.
    """
    return read_selection(select_again(sources, manifest), manifest.crop, manifest.crop, progress)
