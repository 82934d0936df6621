"""Frames to counted cells: frames a second, where the time goes, frames dropped, memory over time.

Measured in a process of its own that imports what the device imports, so that memory and start are the
device's, but for the fields. These, twelve, were made beforehand (42 MiB) and are played again and again.
Each is held until its cells are counted, and is a new slide whenever it is shown: no look is spent on a cell
that was counted before. So what is found is the full load of so many cells a frame, which a person at the
microscope makes for moments only.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.fresh_process import FreshProcess
from benchmarks.real_fields import (
    FIELD_SIZE,
    FIELD_UM_PER_PIXEL,
    check_leukocytes,
    default_collection,
    find_annotations,
    make_fields,
)
from benchmarks.results import Throughput, Unmeasured
from benchmarks.throughput_process import HELD
from hematovision.cell_classes import CLASS_NAMES
from hematovision.classifier import default_model_path
from hematovision.errors import HematoVisionError, SettingError, StoreError
from hematovision.images import RGBImage
from hematovision.model_file import read_model_file
from hematovision.phantom import ADULT_PERCENT, Microscope, PhantomFrame, Pose, Slide, Smear
from hematovision.phantom.layout import LEUKOCYTES_APART_UM, scatter

#: Where fields come from: the phantom, or real smears.
SOURCES = DRAWN, REAL = "drawn", "real"
CELLS_PER_FRAME = 0, 1, 3, 10
#: Memory is settled after 1000 of them.
FRAMES = 1500

_FIELDS = 12
#: With fewer frames some field would not be counted.
MIN_FRAMES = _FIELDS * HELD
# So far from the border a leukocyte and the square that is cut around it are whole.
_MARGIN_UM = 12.0
_SECTION = "throughput"
_NO_COLLECTION = (
    "HEMATOVISION_DATA names no folder with an annotated Kaggle collection; set it, or give --data"
)
_PROCESS = "benchmarks.throughput_process"
_SILENCE_S = 60.0


def measure_all(
    sources: Sequence[str],
    cells_per_frame: Sequence[int],
    frames: int,
    model: Path | None,
    data: Path | None,
    say: Callable[[str], None],
) -> tuple[list[Throughput], list[Unmeasured]]:
    """Measure every source at every number of cells a frame; the arguments are those of `measure_throughput`.

    Returns:
        The figures, and what failed. Where no source is named both are meant, and real fields that are not
        there are left out.

    Raises:
        SettingError: there are too few frames, or real fields are asked for and no collection is named.
        DataSetError: the collection has no annotations.
        ModelFileError: the model file cannot be used.
    """
    _check(frames, model)
    data = data or default_collection()
    measured, unmeasured = [], []
    if data is not None and REAL in (sources or SOURCES):
        find_annotations(data)
    elif REAL in sources:
        raise SettingError(f"real fields are asked for: {_NO_COLLECTION}")
    elif not sources:
        sources = (DRAWN,)
        unmeasured.append(Unmeasured(_SECTION, "real fields", _NO_COLLECTION, failed=False))
    for source in dict.fromkeys(sources or SOURCES):
        for cells in dict.fromkeys(cells_per_frame):
            what = _scene(source, cells)
            say(what)
            try:
                measured.append(measure_throughput(source, cells, frames, model, data))
            except HematoVisionError as error:
                unmeasured.append(Unmeasured(_SECTION, what, str(error), failed=True))
    return measured, unmeasured


def measure_throughput(
    source: str, cells_per_frame: int, frames: int, model: Path | None, data: Path | None
) -> Throughput:
    """Measure with fields that show so many leukocytes each.

    Every field is held for `throughput_process.HELD` frames. The first is skipped, as one by which the slide
    has moved; in the others every leukocyte that is found is named, so ``named_per_frame`` of the frames
    looked at is the number of leukocytes, but for those that the finder misses or takes for two. With the
    last they are counted, unless the classifier declined: that takes one look more than there is.

    Args:
        source: one of `SOURCES`.
        cells_per_frame: leukocytes in each field, whole and apart.
        frames: so many are played as fast as they are taken, and up to `throughput_process.OFFERED` of
            them again as from a camera.
        model: a ``.tflite`` model file, or None for the one that comes with the device.
        data: the Kaggle collection with its annotations, for real fields; None where HEMATOVISION_DATA
            names its folder.

    Raises:
        SettingError: an argument cannot be right.
        ModelFileError: the model file cannot be used.
        DataSetError, ImageError: real fields cannot be made of the data.
        StoreError: there is no room for the fields.
        HematoVisionError: the process that is measured fails or hangs.
    """
    path = _check(frames, model)
    with tempfile.TemporaryDirectory() as folder:
        fields = Path(folder) / "fields.npy"
        images = np.stack(_images(source, cells_per_frame, data))
        try:
            np.save(fields, images)
        except OSError as error:
            raise StoreError(
                f"{fields}: the fields cannot be written ({error.strerror or error}); free some space, or "
                "name another folder in TMPDIR"
            ) from error
        arguments = {
            "fields": str(fields),
            "um_per_pixel": FIELD_UM_PER_PIXEL,
            "frames": frames,
            "model": str(path),
            "started": time.monotonic(),
        }
        with FreshProcess(_PROCESS, json.dumps(arguments)) as process:
            while not (line := process.read_line(_SILENCE_S)):
                pass  # a frame is done
            figures = json.loads(line)
    unpaced, paced = figures["unpaced"], figures["paced"]
    unpaced["memory_mib"] = tuple((number, mib) for number, mib in unpaced["memory_mib"])
    del paced["taken"]  # what is neither dropped nor lost
    return Throughput(source, cells_per_frame, **unpaced, **paced)


def draw_fields(leukocytes: int, fields: int) -> list[PhantomFrame]:
    """Draw fields with exactly so many leukocytes in each, whole and apart, of an adult's classes.

    Raises:
        SettingError: so many have no room in a field.
    """
    check_leukocytes(leukocytes)
    return [_draw_field(leukocytes, seed) for seed in range(fields)]


def _draw_field(leukocytes: int, seed: int) -> PhantomFrame:
    rng = np.random.default_rng((seed, 8))
    size_um = np.array(FIELD_SIZE) * FIELD_UM_PER_PIXEL
    places = scatter(rng, (size_um - 2 * _MARGIN_UM).tolist(), LEUKOCYTES_APART_UM)
    chosen = _MARGIN_UM + rng.permutation(places)[:leukocytes]
    shares = np.array([ADULT_PERCENT[name] for name in CLASS_NAMES]) / sum(ADULT_PERCENT.values())
    names = rng.choice(CLASS_NAMES, leukocytes, p=shares)
    smear = Smear(seed, size_um[0] / 1000, size_um[1] / 1000, FIELD_UM_PER_PIXEL)
    slide = Slide(
        smear, [(str(name), (float(x), float(y))) for name, (x, y) in zip(names, chosen, strict=True)]
    )
    return Microscope(slide, *FIELD_SIZE, seed=seed).look(Pose(size_um[0] / 2, size_um[1] / 2))


def _scene(source: str, cells: int) -> str:
    return f"{source} fields, {cells} {'cell' if cells == 1 else 'cells'} a frame"


def _images(source: str, leukocytes: int, data: Path | None) -> list[RGBImage]:
    if source == DRAWN:
        return [field.image for field in draw_fields(leukocytes, _FIELDS)]
    if source != REAL:
        raise SettingError(f"no fields are called '{source}'; give {' or '.join(SOURCES)}")
    data = data or default_collection()
    if data is None:
        raise SettingError(_NO_COLLECTION)
    return make_fields(data, leukocytes, _FIELDS)


def _check(frames: int, model: Path | None) -> Path:
    if frames < MIN_FRAMES:
        raise SettingError(
            f"{frames} frames; give {MIN_FRAMES} or more, so that each of {_FIELDS} fields is held for {HELD}"
        )
    path = model or default_model_path()
    read_model_file(path)
    return path
