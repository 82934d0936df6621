import threading
import time
from collections.abc import Iterator
from threading import Event

import numpy as np
import pytest

from edge.cameras import Camera, Frame, LostFrame
from edge.pipeline import LiveLine, Pipeline, SeenFrame, StillLine
from hematovision.blank_field import BlankField
from hematovision.classifier import Classifier, Prediction
from hematovision.errors import CameraError, ModelFileError, SettingError, StuckThreadError
from hematovision.images import RGBImage
from hematovision.phantom import Microscope, Pose, Slide, Smear, draw_field

UM_PER_PIXEL = 0.2
FIELD = draw_field(5, 640, 480, UM_PER_PIXEL)
CELLS = [("lymphocyte", (90.0, 95.0)), ("neutrophil", (120.0, 80.0)), ("monocyte", (140.0, 120.0))]
SLIDE = Slide(Smear(7, 0.3, 0.2, UM_PER_PIXEL), CELLS)
WHOLE = len(FIELD.cells)


class Played(Camera):
    """Plays pictures, numbered; what is no picture is done in its place."""

    name = "played"

    def __init__(
        self, *pictures: RGBImage | Exception, live: bool = False, places_apart: bool = False
    ) -> None:
        self.live, self.places_apart = live, places_apart
        self.pictures = pictures
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def frames(self) -> Iterator[Frame | LostFrame]:
        for number, picture in enumerate(self.pictures):
            if isinstance(picture, Exception):
                raise picture
            yield Frame.now(picture, number, UM_PER_PIXEL, self.name)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def seen(results: list[SeenFrame | LostFrame]) -> list[SeenFrame]:
    assert not any(isinstance(result, LostFrame) for result in results)
    return [result for result in results if isinstance(result, SeenFrame)]


def test_a_cell_that_stays_in_view_counts_once(classifier: Classifier) -> None:
    microscope = Microscope(SLIDE, 640, 480)
    pictures = [microscope.look(Pose(100 + 1.0 * step, 100)).image for step in range(20)]
    with Pipeline(Played(*pictures), LiveLine(classifier)) as pipeline:
        results = seen(list(pipeline.results()))
    counted = [cell for result in results for cell in result.counted]
    assert [cell.number for cell in counted] == [1, 2, 3]
    assert sorted(cell.number or 0 for cell in results[-1].cells) == [1, 2, 3]
    assert not any(cell.counted for cell in results[0].cells)


def test_a_counted_cell_keeps_the_name_it_was_counted_by(classifier: Classifier) -> None:
    microscope = Microscope(SLIDE, 640, 480)
    line = LiveLine(classifier)
    results = seen(
        [line.see(Frame.now(microscope.look(Pose(100, 100)).image, n, UM_PER_PIXEL, "")) for n in range(9)]
    )
    counted = [cell for cell in results[-1].cells if cell.counted]
    assert counted
    names = sorted(cell.class_name for result in results for cell in result.counted)
    assert sorted(cell.prediction.class_name for cell in counted if cell.prediction) == names


def test_images_of_places_apart_count_each_whole_cell_of_each(classifier: Classifier) -> None:
    cut = FIELD.image[:, : round(FIELD.cells[0].center[0])]
    line = StillLine(classifier)
    with Pipeline(Played(FIELD.image, FIELD.image, cut, places_apart=True), line) as pipeline:
        results = seen(list(pipeline.results()))
    assert [len(result.counted) for result in results[:2]] == [WHOLE, WHOLE]
    at_border = sum(cell.region.touches_border for cell in results[2].cells)
    assert at_border >= 1
    assert len(results[2].counted) == len(results[2].cells) - at_border
    assert f"{at_border} cut by the border" in line.notes()[0]


def test_of_a_file_no_frame_is_lost_however_slow_the_user(classifier: Classifier) -> None:
    with Pipeline(Played(*[FIELD.image] * 12), LiveLine(classifier)) as pipeline:
        time.sleep(0.1)
        results = seen(list(pipeline.results()))
    assert [result.frame.sequence for result in results] == list(range(12))
    assert pipeline.dropped == 0


def test_of_a_live_camera_the_newest_frame_counts_and_the_rest_is_counted_as_dropped(
    classifier: Classifier,
) -> None:
    with Pipeline(Played(*[FIELD.image] * 40, live=True), LiveLine(classifier)) as pipeline:
        results = seen(list(pipeline.results()))
    numbers = [result.frame.sequence for result in results]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 39
    assert len(numbers) + pipeline.dropped == 40
    assert f"{pipeline.dropped} overtaken" in pipeline.notes()[-1]


def test_what_was_seen_before_a_camera_stops_is_not_lost(classifier: Classifier) -> None:
    camera = Played(FIELD.image, FIELD.image, CameraError("the cable is out"))
    results = []
    with (
        pytest.raises(CameraError, match="the cable is out"),
        Pipeline(camera, LiveLine(classifier)) as pipeline,
    ):
        for result in pipeline.results():
            results.append(result)
    assert len(results) == 2
    assert not camera.is_open


def test_a_black_frame_is_lost_and_the_run_goes_on(classifier: Classifier) -> None:
    black = np.zeros_like(FIELD.image)
    with Pipeline(Played(black, FIELD.image), LiveLine(classifier)) as pipeline:
        lost, after = list(pipeline.results())
    assert isinstance(lost, LostFrame)
    assert "black" in lost.error
    assert isinstance(after, SeenFrame)


def test_a_model_that_fails_ends_the_run(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(crops: np.ndarray) -> None:
        raise ModelFileError("the model fails")

    monkeypatch.setattr(classifier, "predict", fail)
    camera = Played(*[FIELD.image] * 20)
    with (
        pytest.raises(ModelFileError, match="the model fails"),
        Pipeline(camera, LiveLine(classifier)) as pipeline,
    ):
        list(pipeline.results())
    assert not camera.is_open


def test_a_blank_field_of_another_size_ends_the_run(classifier: Classifier) -> None:
    blank = BlankField(np.full((10, 10, 3), 60000, np.uint16), "blank.png")
    line = LiveLine(classifier, blank)
    with pytest.raises(SettingError, match=r"blank\.png"), Pipeline(Played(FIELD.image), line) as pipeline:
        list(pipeline.results())


def test_a_run_may_be_left_at_any_time(classifier: Classifier) -> None:
    camera = Played(*[FIELD.image] * 100)
    with Pipeline(camera, LiveLine(classifier)) as pipeline:
        next(pipeline.results())
    assert not camera.is_open


def test_a_camera_that_hangs_is_an_error_that_names_the_thread(classifier: Classifier) -> None:
    release = Event()

    class Hanging(Played):
        def frames(self) -> Iterator[Frame | LostFrame]:
            release.wait(30)
            yield from super().frames()

    try:
        with (
            pytest.raises(StuckThreadError, match="'capture'"),
            Pipeline(Hanging(FIELD.image), LiveLine(classifier), stop_limit_s=0.1),
        ):
            pass
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "capture":
                thread.join(5)


def test_what_is_said_beside_the_count_waits_for_no_frame(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = StillLine(classifier)
    said: list[list[str]] = []
    predict = classifier.predict

    def predict_while_asked(crops: np.ndarray) -> list[Prediction]:
        asking = threading.Thread(target=lambda: said.append(line.notes()), daemon=True)
        asking.start()
        asking.join(5)
        return predict(crops)

    monkeypatch.setattr(classifier, "predict", predict_while_asked)
    for number in range(2):
        line.see(Frame.now(FIELD.image, number, UM_PER_PIXEL, ""))
    assert said == [[], ["Cells not counted: 0 cut by the border of an image."]]


def test_a_slide_begun_anew_knows_none_of_the_cells(classifier: Classifier) -> None:
    line = LiveLine(classifier)

    def look() -> int:
        results = seen([line.see(Frame.now(FIELD.image, n, UM_PER_PIXEL, "")) for n in range(8)])
        return sum(len(result.counted) for result in results)

    first = look()
    assert first >= 1
    assert look() == 0
    line.start_slide()
    assert look() == first
