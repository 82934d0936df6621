"""How many annotated leukocytes the finder finds, what else it takes for one, and how long it takes."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.real_fields import (
    FIELD_SIZE,
    FIELD_UM_PER_PIXEL,
    annotated_original,
    find_annotations,
    is_inside,
    leukocyte_boxes,
)
from edge.differential import Share, share
from hematovision.finder import find_cells
from hematovision.images import RGBImage, read_image
from hematovision.optics import Field, measure_field
from train.datasets import KAGGLE_ORIGINAL_UM_PER_PIXEL, read_dataset


@dataclass(frozen=True)
class FinderResult:
    """The finder against annotations, over the fields of one side.

    A box labelled WBC is found when the centre of a region lies in it; a region whose centre lies in no such
    box is false, also where it shows a leukocyte that nobody annotated.
    """

    side: str
    fields: int
    boxes: int
    found: int
    false_regions: int
    missed: tuple[str, ...]

    @property
    def recall(self) -> Share:
        """Boxes found, with exact 95 % limits."""
        return share(self.found, self.boxes)


@dataclass(frozen=True)
class FinderTiming:
    """Milliseconds of processor time for one field, on one core: median of each step and of both together."""

    optics_ms: float
    find_ms: float
    total_ms: float
    repetitions: int


def measure_finder(collection: Path) -> list[FinderResult]:
    """Run the finder over the annotated originals of the Kaggle collection, its sides apart.

    Raises:
        DataSetError: there are no annotations.
    """
    annotations = find_annotations(collection)
    side_of = {image.path.stem: image.side for image in read_dataset(str(collection)).images}
    results = {side: FinderResult(side, 0, 0, 0, 0, ()) for side in ("test", "train", "no single label")}
    for annotation in annotations:
        path = annotated_original(annotation)
        boxes = leukocyte_boxes(annotation)
        regions = find_cells(measure_field(read_image(path), KAGGLE_ORIGINAL_UM_PER_PIXEL))
        missed = [box for box in boxes if not any(is_inside(region, box) for region in regions)]
        false = [region for region in regions if not any(is_inside(region, box) for box in boxes)]
        side = side_of.get(annotation.stem) or "no single label"
        so_far = results[side]
        results[side] = FinderResult(
            side,
            so_far.fields + 1,
            so_far.boxes + len(boxes),
            so_far.found + len(boxes) - len(missed),
            so_far.false_regions + len(false),
            so_far.missed + tuple(f"{path.name} at {box}" for box in missed),
        )
    return list(results.values())


def time_finder(images: Sequence[Path], repetitions: int) -> FinderTiming:
    """Time optics and finder on fields of `FIELD_SIZE`, on one core.

    Each is a mosaic of real fields, at their own scale made that of `FIELD_UM_PER_PIXEL`: as many cells to a
    field as there are, and some that a seam cuts. Processor time of this thread, so that what else the
    machine does counts little.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        fields = _mosaics([read_image(path) for path in images])
        optics, find = [], []
        for repetition in range(repetitions + 5):
            started = time.thread_time()
            field: Field = measure_field(fields[repetition % len(fields)], FIELD_UM_PER_PIXEL)
            measured = time.thread_time()
            find_cells(field)
            done = time.thread_time()
            if repetition >= 5:  # the first few warm the caches
                optics.append(measured - started)
                find.append(done - measured)
    finally:
        cv2.setNumThreads(threads)
    total = np.add(optics, find)
    optics_ms, find_ms, total_ms = (1000 * float(np.median(step)) for step in (optics, find, total))
    return FinderTiming(optics_ms, find_ms, total_ms, repetitions)


def _mosaics(originals: Sequence[RGBImage]) -> list[RGBImage]:
    """Fields of `FIELD_SIZE` put together from Kaggle originals, each original begun with once."""
    shrink = KAGGLE_ORIGINAL_UM_PER_PIXEL / FIELD_UM_PER_PIXEL
    tiles = [
        cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) for image in originals
    ]
    height, width = tiles[0].shape[:2]
    columns, rows = -(-FIELD_SIZE[0] // width), -(-FIELD_SIZE[1] // height)
    mosaics = []
    for first in range(len(tiles)):
        tile = itertools.cycle(tiles[first:] + tiles[:first])
        whole = np.vstack([np.hstack([next(tile) for _ in range(columns)]) for _ in range(rows)])
        mosaics.append(np.ascontiguousarray(whole[: FIELD_SIZE[1], : FIELD_SIZE[0]]))
    return mosaics
