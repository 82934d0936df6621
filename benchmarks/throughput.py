"""From frame to counted cell: frames a second, where the time goes, memory over time, start to first result.

Measured in a process of its own that imports what the device imports, so that memory and start are the
device's. Its frames were drawn beforehand: twelve overlapping fields of a slide, each held for some frames as
at the microscope. After the last the tracker is given the first as a new slide's, so that there are always
cells to name.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras import Camera, Frame, LostFrame
from edge.classifier import Classifier, default_model_path
from edge.pipeline import LiveLine, Pipeline, SeenFrame, live_threads
from edge.timing import STEPS
from hematovision.errors import HematoVisionError
from hematovision.model_file import read_model_file

FRAME_SIZE = 1280, 960
UM_PER_PIXEL = 0.1

_SEED, _FIELDS, _HELD = 1, 12, 5
_STEP_UM = 80.0
# So that about one cell a frame is named: one that was counted needs no name any more.
_LEUKOCYTES_PER_MM2 = 200.0
# Memory is level from here on: every field was seen, every cache is full.
_SETTLED_AFTER = 1000
_MIB = 2**20


@dataclass(frozen=True)
class Throughput:
    """What one run gave.

    ``step_ms``: processor time of each step per frame of the source; ``outside_ms``: all processor time of
    the process per frame but the steps capture and invoke. Memory is resident, in MiB, at the end, and its
    growth since the 1000th frame. ``first_s``: from the start of the process to the first frame with a cell
    named.
    """

    frames: int
    looked_at: int
    cells_in_view: int
    named: int
    counted: int
    frames_per_s: float
    step_ms: dict[str, float]
    outside_ms: float
    memory_mib: float
    growth_mib: float
    first_s: float


def measure_throughput(frames: int) -> Throughput:
    """Measure with so many frames of the drawn slides, and the model that comes with the device.

    Raises:
        HematoVisionError: the process that is measured fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        np.save(path, _draw_frames())
        # As a command of the device does, it imports edge first, which settles what NumPy computes with.
        code = "import edge; from benchmarks.throughput import measure_here; measure_here()"
        command = [sys.executable, "-c", code, str(path), str(frames), str(time.monotonic())]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        raise HematoVisionError(f"the measured process failed: {result.stderr.strip()}")
    return Throughput(**json.loads(result.stdout))


def _draw_frames() -> NDArray[np.uint8]:
    """(fields, height, width, 3) uint8."""
    from hematovision.phantom import Microscope, Pose, Slide, Smear

    smear = Smear(_SEED, 1.1, 0.2, UM_PER_PIXEL, leukocytes_per_mm2=_LEUKOCYTES_PER_MM2)
    microscope = Microscope(Slide(smear), *FRAME_SIZE)
    poses = [Pose(80 + _STEP_UM * field, 100) for field in range(_FIELDS)]
    return np.stack([microscope.look(pose).image for pose in poses])


class _SlideAfterSlide(LiveLine):
    """Begins a new slide whenever the frames begin again."""

    def see(self, frame: Frame) -> SeenFrame | LostFrame:
        if frame.sequence % (_FIELDS * _HELD) == 0:
            self.start_slide()
        return super().see(frame)


class _Played(Camera):
    """The drawn frames, again and again."""

    name = "drawn frames"
    places_apart = False
    live = False

    def __init__(self, pictures: NDArray[np.uint8], count: int) -> None:
        self._pictures = pictures
        self._count = count

    def open(self) -> None: ...

    def frames(self) -> Iterator[Frame | LostFrame]:
        for number in range(self._count):
            picture = self._pictures[number // _HELD % len(self._pictures)]
            yield Frame.now(picture, number, UM_PER_PIXEL, self.name)

    def close(self) -> None: ...


def measure_here() -> None:
    """What the measured process does; its arguments: the frames' file, how many, when it was started."""
    path, count, started = sys.argv[1:]
    sys.stdout.write(json.dumps(asdict(_measure(np.load(path), int(count), float(started)))))


def _measure(pictures: NDArray[np.uint8], count: int, started: float) -> Throughput:
    threads = live_threads()
    cv2.setNumThreads(threads.opencv)
    classifier = Classifier(read_model_file(default_model_path()), threads=threads.interpreter)
    line = _SlideAfterSlide(classifier)
    looked_at = cells = named = counted = 0
    first_s = settled = math.nan
    wall, processor = time.perf_counter(), time.process_time()
    with Pipeline(_Played(pictures, count), line) as pipeline:
        for number, result in enumerate(pipeline.results()):
            if isinstance(result, LostFrame):
                raise HematoVisionError(result.error)
            looked_at += result.skipped is None
            cells += len(result.cells)
            named += sum(cell.prediction is not None and not cell.counted for cell in result.cells)
            counted += len(result.counted)
            if math.isnan(first_s) and any(cell.prediction for cell in result.cells):
                first_s = time.monotonic() - started
            if number == min(_SETTLED_AFTER, count // 2):
                settled = _resident_mib()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    times = line.times
    apart = times.processor_s["capture"] + times.processor_s["invoke"]
    memory = _resident_mib()
    return Throughput(
        frames=count,
        looked_at=looked_at,
        cells_in_view=cells,
        named=named + counted,
        counted=counted,
        frames_per_s=count / wall,
        step_ms={name: 1000 * times.processor_s[name] / count for name in STEPS if times.count[name]},
        outside_ms=1000 * (processor - apart) / count,
        memory_mib=memory,
        growth_mib=memory - settled,
        first_s=first_s,
    )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / _MIB
