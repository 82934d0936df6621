"""Processor time of optics and finder together, finders in turns, and the memory that each adds."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.finder.finders import BASELINE, FINDER, Find
from benchmarks.fresh_process import FreshProcess
from benchmarks.real_fields import FIELD_SIZE, FIELD_UM_PER_PIXEL
from hematovision.images import RGBImage, read_image
from train.finder.boxed_fields import BoxedField

_WARM_UP = 5
_NO_FINDER = "none"
_MEMORY_LIMIT_S = 120.0
_ORIGINALS = 20


@dataclass(frozen=True)
class FinderTiming:
    """Milliseconds of processor time for one field, on one core: median of optics and finder together."""

    ms: float
    repetitions: int


@contextmanager
def one_core() -> Iterator[None]:
    """Have OpenCV compute in the caller's thread alone, whose processor time is then all that it takes."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def time_finders(
    finders: Mapping[str, Find], mosaics: Sequence[RGBImage], repetitions: int
) -> dict[str, FinderTiming]:
    """Time finders in turns on the same fields, on one core.

    Processor time of this thread, so that what else the machine does counts little. A finder's own threads
    would not be counted: it must compute in the caller's.
    """
    took: dict[str, list[float]] = {name: [] for name in finders}
    with one_core():
        for repetition in range(repetitions + _WARM_UP):
            mosaic = mosaics[repetition % len(mosaics)]
            for name, find in finders.items():
                started = time.thread_time()
                find(mosaic, FIELD_UM_PER_PIXEL)
                took[name].append(time.thread_time() - started)
    return {
        name: FinderTiming(1000 * float(np.median(times[_WARM_UP:])), repetitions)
        for name, times in took.items()
    }


def measure_memory(finder_file: Path | None, mosaic: RGBImage) -> dict[str, float]:
    """Return the MiB of memory that each finder adds to a process that holds a classifier: peak resident set.

    Raises:
        HematoVisionError: a process failed.
    """
    peaks = {}
    with TemporaryDirectory() as folder:
        field = Path(folder) / "field.npy"
        np.save(field, mosaic)
        for name in (_NO_FINDER, FINDER, BASELINE):
            file = str(finder_file.resolve()) if finder_file else ""
            with FreshProcess("benchmarks.finder.memory_process", name, file, str(field)) as process:
                peaks[name] = float(process.read_line(_MEMORY_LIMIT_S))
    return {name: peaks[name] - peaks[_NO_FINDER] for name in (FINDER, BASELINE)}


def make_mosaics(fields: Sequence[BoxedField]) -> list[RGBImage]:
    """Put fields of `FIELD_SIZE` together from the first images of one size, at `FIELD_UM_PER_PIXEL`.

    As many cells to a field as there are, and some that a seam cuts. Each image is begun with once.

    Raises:
        ImageError: an image cannot be read.
    """
    tiles: list[RGBImage] = []
    for boxed in fields:
        image = read_image(boxed.path)
        shrink = boxed.um_per_pixel / FIELD_UM_PER_PIXEL
        tile = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        if not tiles or tile.shape == tiles[0].shape:
            tiles.append(tile)
        if len(tiles) == _ORIGINALS:
            break
    height, width = tiles[0].shape[:2]
    columns, rows = -(-FIELD_SIZE[0] // width), -(-FIELD_SIZE[1] // height)
    mosaics = []
    for first in range(len(tiles)):
        tile_of = itertools.cycle(tiles[first:] + tiles[:first])
        whole = np.vstack([np.hstack([next(tile_of) for _ in range(columns)]) for _ in range(rows)])
        mosaics.append(np.ascontiguousarray(whole[: FIELD_SIZE[1], : FIELD_SIZE[0]]))
    return mosaics
