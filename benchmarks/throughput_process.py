"""The process that throughput is measured in: it imports what the device imports, and plays fields to it.

Its one argument is JSON: ``fields`` (an ``.npy`` file, (n, height, width, 3) uint8 RGB), ``um_per_pixel``,
``frames``, ``model`` (a file) and ``started`` (when, by the monotonic clock). It answers with an empty line
for each frame that is done, then with one of figures as JSON; what libraries write to standard output goes
to standard error.
"""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

import edge  # noqa: F401 (before NumPy: it settles how many threads NumPy takes)

import cv2  # isort: skip
import numpy as np
from numpy.typing import NDArray

from edge.cameras import Camera, Frame, LostFrame
from edge.pipeline import LiveLine, Pipeline, SeenFrame, live_threads
from edge.timing import STEPS
from edge.tracker import AGREEING_LOOKS
from hematovision.classifier import Classifier, Prediction
from hematovision.errors import HematoVisionError
from hematovision.images import RGBImage
from hematovision.model_file import read_model_file

#: Frames for which a field is held: the first, by which the slide has moved, is skipped; in each of the
#: others all cells are named, and with the last of them they are counted.
HELD = 1 + AGREEING_LOOKS
#: Frames a second of the camera that is played, and for how many at most: ten seconds.
CAMERA_FPS, OFFERED = 30.0, 300

# From here on every field was seen and every cache is full.
_SETTLED_AFTER = 1000
_SAMPLES = 50
_MIB = 2**20


@dataclass(frozen=True)
class Unpaced:
    """What playing the fields as fast as they are taken gave; see `results.Throughput`."""

    frames: int
    looked_at: int
    cells_in_view: int
    named: int
    counted: int
    frames_per_s: float
    named_per_frame: float
    cells_per_min: float
    step_ms: dict[str, float]
    outside_ms: float
    memory_mib: tuple[tuple[int, float], ...]
    growth_mib: float
    first_s: float


@dataclass(frozen=True)
class Paced:
    """What playing them like a camera gave: every frame offered was taken, dropped or lost."""

    camera_fps: float
    offered: int
    taken: int
    dropped: int
    lost: int


class TimedClassifier(Classifier):
    """Sums the processor time of naming cells, that of the interpreter's helper threads with it."""

    processor_s = 0.0

    def predict(self, crops: NDArray[np.uint8]) -> list[Prediction]:
        """Name cells; as any classifier."""
        begun = time.process_time()  # the other threads of a run do next to nothing meanwhile
        predictions = super().predict(crops)
        self.processor_s += time.process_time() - begun
        return predictions


class FieldByField(LiveLine):
    """Takes each field for a slide of its own, so that its cells are to be named whenever it is shown."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        #: Fields held for long enough; the stage may move on.
        self.done = 0
        self._picture: RGBImage | None = None
        self._seen = 0

    def see(self, frame: Frame) -> SeenFrame | LostFrame:
        """Look at the next frame; as any line."""
        if frame.image is not self._picture:
            self._picture, self._seen = frame.image, 0
            self.start_slide()
        result = super().see(frame)
        self._seen += 1
        self.done += self._seen == HELD
        return result


class FieldPlayer(Camera):
    """Shows fields, the first again after the last.

    Args:
        fields: (height, width, 3) uint8 RGB each, two or more.
        um_per_pixel: their scale.
        frames: how many it gives.
        line: what looks at them.
        fps: frames a second, whoever takes them: a live camera, whose stage is moved on when ``line`` has
            held a field for long enough, as a person would who watches it. Without, each field is shown
            `HELD` times, as fast as the frames are taken.
    """

    name = "fields"
    places_apart = False

    def __init__(
        self,
        fields: Sequence[RGBImage],
        um_per_pixel: float,
        frames: int,
        line: FieldByField,
        fps: float | None = None,
    ) -> None:
        self.live = fps is not None
        self.offered = 0
        self._fields = fields
        self._um_per_pixel = um_per_pixel
        self._count = frames
        self._line = line
        self._fps = fps
        self._closed = Event()

    def open(self) -> None:
        """Nothing to open."""

    def frames(self) -> Iterator[Frame]:
        """The frames, until there were so many or it is closed."""
        begun = time.monotonic()
        for number in range(self._count):
            if self._fps is None:
                place = number // HELD
            else:
                if self._closed.wait(max(0.0, begun + number / self._fps - time.monotonic())):
                    return
                place = self._line.done
            self.offered += 1
            yield Frame.now(self._fields[place % len(self._fields)], number, self._um_per_pixel, self.name)

    def close(self) -> None:
        """End the frames."""
        self._closed.set()


def play_unpaced(
    fields: Sequence[RGBImage],
    um_per_pixel: float,
    frames: int,
    classifier: TimedClassifier,
    started: float,
    progress: Callable[[], None],
) -> Unpaced:
    """Play fields as fast as they are taken.

    Raises:
        HematoVisionError: a frame is lost, or none is looked at.
    """
    line = FieldByField(classifier)
    looked_at = cells = named = counted = 0
    first_s = settled = math.nan
    settled_after = min(_SETTLED_AFTER, frames // 2)
    sampled = {settled_after, *np.linspace(0, frames - 1, min(_SAMPLES, frames), dtype=int).tolist()}
    memory: list[tuple[int, float]] = []
    wall, processor, invoke = time.perf_counter(), time.process_time(), classifier.processor_s
    with Pipeline(FieldPlayer(fields, um_per_pixel, frames, line), line) as pipeline:
        for number, result in enumerate(pipeline.results()):
            if isinstance(result, LostFrame):
                raise HematoVisionError(result.error)
            looked_at += result.skipped is None
            cells += len(result.cells)
            named += sum(cell.prediction is not None and not cell.counted for cell in result.cells)
            counted += len(result.counted)
            if math.isnan(first_s) and any(cell.prediction for cell in result.cells):
                first_s = time.monotonic() - started
            if number in sampled:
                memory.append((number, _resident_mib()))
                if number == settled_after:
                    settled = memory[-1][1]
            progress()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    invoke = classifier.processor_s - invoke
    if not looked_at:
        raise HematoVisionError(f"of {frames} frames none was looked at; {' '.join(line.notes())}")
    named += counted  # what a last look counts was named in it
    step_s = line.times.processor_s | {"invoke": invoke}
    return Unpaced(
        frames=frames,
        looked_at=looked_at,
        cells_in_view=cells,
        named=named,
        counted=counted,
        frames_per_s=frames / wall,
        named_per_frame=named / looked_at,
        cells_per_min=60 * counted / wall,
        step_ms={name: 1000 * step_s[name] / frames for name in STEPS if line.times.count[name]},
        outside_ms=1000 * (processor - step_s["capture"] - step_s["invoke"]) / frames,
        memory_mib=tuple(memory),
        growth_mib=memory[-1][1] - settled,
        first_s=first_s,
    )


def play_paced(
    fields: Sequence[RGBImage],
    um_per_pixel: float,
    frames: int,
    line: FieldByField,
    fps: float,
    progress: Callable[[], None],
) -> Paced:
    """Play fields as a camera of so many frames a second would. Raises as the line does."""
    camera = FieldPlayer(fields, um_per_pixel, frames, line, fps)
    taken = lost = 0
    with Pipeline(camera, line) as pipeline:
        for result in pipeline.results():
            lost += isinstance(result, LostFrame)
            taken += isinstance(result, SeenFrame)
            progress()
    return Paced(fps, camera.offered, taken, pipeline.dropped, lost)


def main() -> None:
    """Measure what the command line asks for."""
    asked = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def progress() -> None:
        answers.write("\n")
        answers.flush()

    try:
        threads = live_threads()
        cv2.setNumThreads(threads.opencv)
        fields = list(np.load(asked["fields"]))
        classifier = TimedClassifier(read_model_file(asked["model"]), threads=threads.interpreter)
        frames, um_per_pixel = asked["frames"], asked["um_per_pixel"]
        unpaced = play_unpaced(fields, um_per_pixel, frames, classifier, asked["started"], progress)
        line = FieldByField(classifier)
        paced = play_paced(fields, um_per_pixel, min(frames, OFFERED), line, CAMERA_FPS, progress)
    except HematoVisionError as error:
        raise SystemExit(str(error)) from None
    answers.write(json.dumps({"unpaced": asdict(unpaced), "paced": asdict(paced)}) + "\n")
    answers.flush()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / _MIB


if __name__ == "__main__":
    main()
