"""A run: frames from a camera through a line that counts cells, on threads of their own."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edge.cameras import Camera, Frame, LostFrame
from edge.field_watch import PLAIN_SMEAR, FieldCondition, FieldWatch
from edge.threads import STOP_LIMIT_S, Closed, Handover, Worker
from edge.timing import StepTimes
from edge.tracker import Place, Skipped, TrackedCell, Tracker
from hematovision.blank_field import BlankField
from hematovision.classifier import Classifier, Prediction
from hematovision.crops import cut_crops
from hematovision.errors import ImageError
from hematovision.finder import CellRegion, Finder, load_finder
from hematovision.images import shown_path
from hematovision.optics import Field, measure_field
from hematovision.runtime import default_threads

# Frames waiting between two threads: enough to even out a slow one, few enough to stay current.
_AHEAD = 2
# What was looked at is reckoned in squares of this side.
_SQUARE_UM = 10.0


@dataclass(frozen=True)
class SeenCell:
    """A cell in a frame of a run.

    ``number``: of the cell, by which it was counted; None where it was not, or not yet. ``prediction``: what
    it was counted as, or else what this look says; None where it was not looked at.
    """

    region: CellRegion
    number: int | None
    prediction: Prediction | None

    @property
    def counted(self) -> bool:
        """Whether the cell is among those counted."""
        return self.number is not None


@dataclass(frozen=True)
class SeenFrame:
    """What became of a frame of a run.

    ``skipped`` says why nothing was looked for in it. ``cells``: in view, most prominent first. ``counted``:
    what is counted now, this frame having given the last look that was needed. ``focus``: its sharpness as a
    share of the best that this slide has shown; None where it was not measured. ``slide``: number of the
    slide that it belongs to, from 1. ``place``: where on that it was taken; None where that is not known.
    ``condition``: what lies under the microscope; in one that does not count no cell is counted.
    ``scale_line``: what is newly to be said of the scale.
    """

    frame: Frame
    field: Field
    skipped: str | None
    cells: tuple[SeenCell, ...]
    counted: tuple[TrackedCell, ...]
    focus: float | None = None
    slide: int = 1
    place: Place | None = None
    condition: FieldCondition = PLAIN_SMEAR
    scale_line: str | None = None


class Line(ABC):
    """What the frames of a run go through, one after the other, in one thread."""

    #: Whether each frame shows another place.
    places_apart: bool

    def __init__(
        self, classifier: Classifier, blank: BlankField | None = None, finder: Finder | None = None
    ) -> None:
        """Begin with no cell seen; ``finder``: the one that comes with this program unless given."""
        self.times = StepTimes()
        self._finder = finder or load_finder()
        #: Names the cells; another of the same model may take its place while no frame is looked at.
        self.classifier = classifier
        self._crop = classifier.model.manifest.crop
        self._blank = self._wanted_blank = blank
        self._said: list[str] = []
        self._watch: FieldWatch | None = None
        self._slide = self._wanted_slide = 1
        self._forget()

    def start_slide(self, blank: BlankField | None = None) -> int:
        """Forget the cells seen so far: the next frame is of another slide, whose number this returns.

        From there on frames are divided by another blank field, where one is given. Any thread may ask, one
        at a time.
        """
        self._wanted_blank = blank or self._wanted_blank
        self._wanted_slide += 1
        return self._wanted_slide

    @property
    def blank(self) -> BlankField | None:
        """Return what frames of the slide are divided by that was started last."""
        return self._wanted_blank

    def see(self, frame: Frame) -> SeenFrame | LostFrame:
        """Look at the next frame.

        Raises:
            ModelFileError: a model fails.
            SettingError: the blank field is of another size than the frame.
        """
        if self._slide != self._wanted_slide:
            self._slide, self._blank = self._wanted_slide, self._wanted_blank
            self._forget()
        try:
            with self.times.step("optics"):
                field = measure_field(frame.image, frame.um_per_pixel, self._blank, frame.small)
        except ImageError as error:
            return LostFrame(frame.sequence, frame.source, f"{shown_path(frame.source)}: {error}")
        with self.times.step("judge"):
            self._watch = self._watch or FieldWatch(frame.um_per_pixel)
            condition, scale_line = self._watch.see(frame, field, self), self._watch.scale_line
        seen = replace(
            self._count(frame, field, condition.counts), condition=condition, scale_line=scale_line
        )
        self._said = self._notes()
        return seen

    def scale_doubt(self) -> str | None:
        """A line where, to the end, nothing showed whether the scale is right."""
        return None if self._watch is None else self._watch.end()

    def notes(self) -> list[str]:
        """What is to be said beside the count as of the last frame, a line each. Any thread may ask."""
        return self._said.copy()

    @abstractmethod
    def _forget(self) -> None:
        """Begin another slide."""

    @abstractmethod
    def _count(self, frame: Frame, field: Field, counts: bool) -> SeenFrame:
        """Find and name the cells of a frame, and count them where they count."""

    @abstractmethod
    def _notes(self) -> list[str]:
        """What is to be said beside the count, a line each."""

    def _find(self, field: Field) -> list[CellRegion]:
        with self.times.step("find"):
            return self._finder.find(field)

    def _name(
        self, field: Field, regions: Sequence[CellRegion]
    ) -> tuple[NDArray[np.uint8], list[Prediction]]:
        with self.times.step("crop"):
            crops = cut_crops(field, [region.center for region in regions], self._crop)
        with self.times.step("invoke"):
            return crops, self.classifier.predict(crops)


class LiveLine(Line):
    """Frames of a slide that is moved by and by: every cell counts once, however often it is in view."""

    places_apart = False

    def _forget(self) -> None:
        manifest = self.classifier.model.manifest
        self.tracker = Tracker(manifest.crop.side_um, manifest.decline_below)
        self._counted: dict[int, tuple[int, Prediction]] = {}  # by the number of the track
        self._squares: set[tuple[int, int, int]] = set()  # shown by frames that count

    def _count(self, frame: Frame, field: Field, counts: bool) -> SeenFrame:
        step, tracker = self.times.step, self.tracker
        with step("track"):
            place = tracker.locate(frame, field)
        if isinstance(place, Skipped):
            return SeenFrame(frame, field, str(place.reason), (), (), tracker.focus, self._slide)
        regions = self._find(field)
        with step("track", more=True):
            tracks = tracker.follow(place, regions)
        # A cell that was counted is followed, lest it be counted again, but needs no name any more.
        wanted = [index for index, track in enumerate(tracks) if track.wants_look]
        crops, predictions = self._name(field, [regions[index] for index in wanted])
        looks = {
            tracks[index].number: prediction for index, prediction in zip(wanted, predictions, strict=True)
        }
        if counts:
            left, top, right, bottom = place.window_um
            self._squares.update(
                (place.position.area, column, row)
                for column in range(math.ceil(left / _SQUARE_UM), int(right // _SQUARE_UM))
                for row in range(math.ceil(top / _SQUARE_UM), int(bottom // _SQUARE_UM))
            )
        else:
            # The looks are shown and forgotten: a cell is counted by what is seen of it while it counts.
            wanted, predictions, crops = [], [], crops[:0]
        with step("track", more=True):
            counted = tracker.vote([tracks[index] for index in wanted], predictions, crops)
        newly = (tracks[index].number for index in wanted if tracks[index].counted)
        for number, cell in zip(newly, counted, strict=True):
            self._counted[number] = cell.number, Prediction(cell.probabilities, cell.class_name)
        cells = tuple(
            SeenCell(region, *self._counted.get(track.number, (None, looks.get(track.number))))
            for region, track in zip(regions, tracks, strict=True)
        )
        return SeenFrame(frame, field, None, cells, tuple(counted), tracker.focus, self._slide, place)

    def _notes(self) -> list[str]:
        tracker = self.tracker
        figures = tracker.figures
        lines = []
        if skipped := tracker.skipped.copy():
            reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
            lines.append(f"Frames skipped: {reasons}.")
        lines.append(
            f"Cells not counted: {figures.cut} seen only at a border, {figures.unconfirmed} not looked at "
            "often enough."
        )
        if self._squares:
            lines.append(f"Monolayer looked at: {len(self._squares) * (_SQUARE_UM / 1000) ** 2:.2f} mm².")
        if tracker.areas_note is not None:
            lines.append(tracker.areas_note)
        return lines


class StillLine(Line):
    """Frames that each show another place: every whole cell of each counts, by the one look that there is."""

    places_apart = True

    def _forget(self) -> None:
        self._counted = self._cut = 0

    def _count(self, frame: Frame, field: Field, counts: bool) -> SeenFrame:
        regions = self._find(field)
        crops, predictions = self._name(field, regions)
        cells, counted = [], []
        for region, crop, prediction in zip(regions, crops, predictions, strict=True):
            whole = not region.touches_border
            counted_now = whole and counts
            self._counted, self._cut = self._counted + counted_now, self._cut + (not whole)
            cells.append(SeenCell(region, self._counted if counted_now else None, prediction))
            if counted_now:
                counted.append(
                    TrackedCell(
                        number=self._counted,
                        area=frame.sequence + 1,
                        position_um=(
                            region.center[0] * field.um_per_pixel,
                            region.center[1] * field.um_per_pixel,
                        ),
                        class_name=prediction.class_name,
                        probabilities=prediction.probabilities,
                        looks=1,
                        focus=region.focus,
                        first_seen=frame.captured_at,
                        confirmed_at=frame.captured_at,
                        crop=crop,
                    )
                )
        return SeenFrame(frame, field, None, tuple(cells), tuple(counted), slide=self._slide)

    def _notes(self) -> list[str]:
        return [f"Cells not counted: {self._cut} cut by the border of an image."]


class ThreadCounts(NamedTuple):
    """How many threads OpenCV and the interpreter compute with."""

    opencv: int
    interpreter: int


def live_threads() -> ThreadCounts:
    """Thread counts for a run, where capture and inference go on side by side.

    OpenCV's steps are so short that handing them to other threads costs more than it brings. The interpreter
    leaves a core to the capture.
    """
    return ThreadCounts(opencv=1, interpreter=max(1, default_threads() - 1))


class Pipeline:
    """A camera, and the line that its frames go through, each on a thread of its own.

    Of a live camera only the newest frame is looked at, and those that it overtook are counted; of files none
    is lost. Results are taken in the caller's thread::

        with Pipeline(camera, line) as pipeline:
            for result in pipeline.results(): ...
    """

    def __init__(self, camera: Camera, line: Line, stop_limit_s: float = STOP_LIMIT_S) -> None:
        self._looking_since: float | None = None
        self._camera = camera
        self._line = line
        self._stop_limit_s = stop_limit_s
        self._frames: Handover[Frame | LostFrame] = Handover(_AHEAD, newest_only=camera.live)
        self._results: Handover[SeenFrame | LostFrame] = Handover(_AHEAD)
        self._undo = ExitStack()

    @property
    def dropped(self) -> int:
        """Frames of a live camera that a newer one overtook."""
        return self._frames.dropped

    @property
    def looking_s(self) -> float:
        """For how long the frame that is being looked at is: what hangs there is not the camera."""
        since = self._looking_since
        return 0.0 if since is None else monotonic() - since

    def notes(self) -> list[str]:
        """What the line and the camera have to say beside the count, a line each."""
        lines = self._line.notes()
        if self._camera.live:
            lines.append(
                f"Frames of the camera: {self.dropped} overtaken by a newer one, {self._camera.repeats} "
                "repeated."
            )
        return lines

    def __enter__(self) -> Self:
        """Open the camera and start. Raises `CameraError` where it does not open."""
        with ExitStack() as undo:
            undo.enter_context(self._camera)
            frames = self._camera.frames()  # not by the thread: the camera may be closed before that begins
            for worker in (
                Worker("capture", lambda: self._capture(frames), self._frames),
                Worker("inference", self._infer, self._results),
            ):
                worker.start()
                undo.callback(worker.finish, self._stop_limit_s)
            if self._camera.live:
                # Before the thread that waits for its next frame is waited for.
                undo.callback(self._camera.close)
            # First of all when leaving, so that neither thread waits for the other.
            undo.callback(self._results.close)
            undo.callback(self._frames.close)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and close the camera. Raises `StuckThreadError` where a thread does not stop."""
        self._undo.close()

    def results(self) -> Iterator[SeenFrame | LostFrame]:
        """What became of each frame, in order, until the source ends.

        Raises:
            CameraError: the camera stopped.
            ModelFileError: the model fails.
            SettingError: the blank field does not fit the frames.
        """
        while True:
            try:
                result = self.take()
            except Closed:
                return
            yield result

    def take(self, limit_s: float | None = None) -> SeenFrame | LostFrame:
        """What became of the next frame, waited for so many seconds; else as `results`.

        Raises:
            Closed: the source has ended.
            TimeoutError: no frame was finished within the limit.
        """
        return self._results.take(limit_s)

    def _capture(self, frames: Iterator[Frame | LostFrame]) -> None:
        while True:
            with self._line.times.step("capture"):
                frame = next(frames, None)
            if frame is None:
                return
            self._frames.put(frame)

    def _infer(self) -> None:
        while True:
            frame = self._frames.take()
            self._looking_since = monotonic()
            result = self._line.see(frame) if isinstance(frame, Frame) else frame
            self._looking_since = None
            self._results.put(result)
