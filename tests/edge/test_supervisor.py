"""The supervisor: what fails is opened again, what is absent is waited for, and no cell is counted twice."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from edge.cameras import Camera, Frame, LostFrame
from edge.config import Settings
from edge.device import Device, DeviceStatus, State
from edge.pipeline import LiveLine, Pipeline
from edge.store import Store
from edge.supervisor import Supervisor
from edge.threads import Handover
from hematovision.classifier import Classifier
from hematovision.errors import (
    CameraError,
    HematoVisionError,
    ModelFileError,
    NoCameraError,
    RecoveryError,
    SettingError,
    StuckThreadError,
)
from hematovision.phantom import draw_field

UM_PER_PIXEL = 0.2
FIELD = draw_field(5, 640, 480, UM_PER_PIXEL).image
NO_PAUSES = (0.0,) * 4

#: What a camera does, one after the other: an error is raised, a number is so many frames, a text a lost one.
Script = list[HematoVisionError | int | str]


class Scripted(Camera):
    """Plays its part, and then is silent until it is closed."""

    name = "scripted"
    places_apart = False

    def __init__(self, script: Script, live: bool = True) -> None:
        self.script = script
        self.live = live
        self.closed = Event()

    def open(self) -> None:
        if self.script and isinstance(self.script[0], NoCameraError | SettingError):
            raise self.script[0]

    def frames(self) -> Iterator[Frame | LostFrame]:
        number = 0
        for part in self.script:
            if isinstance(part, HematoVisionError):
                raise part
            if isinstance(part, str):
                yield LostFrame(number, self.name, part)
                continue
            for _ in range(part):
                yield Frame.now(FIELD, number, UM_PER_PIXEL, self.name)
                number += 1
        if self.live:
            self.closed.wait(10)

    def close(self) -> None:
        self.closed.set()


class Trial:
    """A supervised device whose camera plays one script after the other; it is stopped after the last."""

    def __init__(self, store: Store, classifier: Classifier, live: bool = True) -> None:
        self.line = LiveLine(classifier)
        self.device = Device(Settings(), classifier.model, store, self.line, "scripted", UM_PER_PIXEL)
        self.device.start_session_with_first_frame(None)
        self.live = live
        self.stop = Event()
        self.progress = 0
        self.states: list[tuple[State, str]] = []
        self.pauses_s: tuple[float, ...] = NO_PAUSES
        self.load: Callable[[], Classifier] = lambda: classifier

    def run(self, *scripts: Script, until: Callable[[DeviceStatus], bool]) -> DeviceStatus:
        left = list(scripts)

        def connect() -> Camera:
            return Scripted(left.pop(0) if left else [], self.live)

        def check(*_: object) -> None:
            if until(self.device.status()):
                self.stop.set()

        enter = self.device.enter

        def note(state: State, reason: str = "", failures: int = 0) -> None:
            if not self.states or self.states[-1][0] is not state:
                self.states.append((state, reason))
            enter(state, reason, failures)

        self.device.enter = note  # type: ignore[method-assign]
        supervisor = Supervisor(
            self.device, self.line, connect, self.load, self.stop, check, self._count, self.pauses_s, 0.0
        )
        supervisor.run()
        return self.device.status()

    def _count(self) -> None:
        self.progress += 1


@pytest.fixture(autouse=True)
def _none_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a live camera, so that it is certain which frames are seen."""
    monkeypatch.setattr("edge.pipeline.Handover", lambda size, newest_only=False: Handover(size))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    before = set(threading.enumerate())
    with Store(tmp_path) as store:
        yield store
    assert set(threading.enumerate()) <= before


@pytest.fixture
def trial(store: Store, classifier: Classifier) -> Trial:
    return Trial(store, classifier)


def after(frames: int) -> Callable[[DeviceStatus], bool]:
    return lambda status: status.frames >= frames


def stalled(text: str = "no picture for 2.5 s") -> CameraError:
    return CameraError(f"scripted: {text}")


def broken() -> Script:
    return [stalled()]


def test_a_stalled_camera_is_opened_again_and_no_cell_is_counted_twice(trial: Trial) -> None:
    status = trial.run([12, stalled()], [stalled("busy")], [12], until=after(24))
    assert [state for state, _ in trial.states] == [
        State.RUNNING,
        State.STALLED,
        State.RECOVERING,
        State.STALLED,
        State.RECOVERING,
        State.RUNNING,
        State.STOPPING,
    ]
    assert status.recoveries == 1
    once = trial.device.tally.differential.total
    assert once > 0
    alone = LiveLine(trial.line.classifier)
    for number in range(24):
        alone.see(Frame.now(FIELD, number, UM_PER_PIXEL, ""))
    assert once == alone.tracker.figures.confirmed


def test_after_five_failures_in_a_row_a_new_process_is_asked_for_and_the_session_stays_open(
    trial: Trial, store: Store
) -> None:
    with pytest.raises(RecoveryError, match=r"5 failures in a row.*no picture") as raised:
        trial.run([3, stalled()], *[broken()] * 4, until=after(99))
    assert raised.value.exit_status == 75
    status = trial.device.status()
    assert (status.state, status.failures) == (State.FAILED, 5)
    with store.read() as reader:
        assert reader.open_session() is not None


def test_failures_that_are_not_in_a_row_end_nothing(trial: Trial) -> None:
    shaky: Script = [1, stalled()]
    status = trial.run(*[shaky] * 6, [1], until=after(7))
    assert status.recoveries == 6
    assert status.failures == 0


def test_a_camera_that_opens_late_was_not_got_back(trial: Trial) -> None:
    assert trial.run(broken(), [1], until=after(1)).recoveries == 0


def test_frames_that_were_overtaken_are_counted_over_all_openings(trial: Trial) -> None:
    pipelines = []

    def overtaken(pipeline: Pipeline) -> int:
        if pipeline not in pipelines:
            pipelines.append(pipeline)
        return 10 * (pipelines.index(pipeline) + 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "dropped", property(overtaken))
        status = trial.run([1, stalled()], [1], until=after(2))
    assert status.dropped == 30


def test_pauses_grow_and_are_over_at_once_when_it_is_stopped(trial: Trial) -> None:
    waited: list[float | None] = []

    class Patient(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return super().wait(0)

    trial.stop, trial.pauses_s = Patient(), (0.5, 1.0, 2.0, 4.0)
    with pytest.raises(RecoveryError):
        trial.run(*[broken()] * 5, until=after(99))
    assert waited == [0.5, 1.0, 2.0, 4.0]


def test_an_absent_camera_is_waited_for_however_long_it_takes(trial: Trial) -> None:
    absent: Script = [NoCameraError("scripted: no such camera; plug it in")]
    status = trial.run(*[absent] * 20, [3], until=after(3))
    assert trial.states[0] == (State.ABSENT, "scripted: no such camera; plug it in")
    assert [state for state, _ in trial.states] == [State.ABSENT, State.RUNNING, State.STOPPING]
    assert status.frames == 3
    assert trial.progress >= 20  # looking for it is what keeps the service alive


def test_a_camera_that_was_away_has_all_its_attempts_again(trial: Trial) -> None:
    absent: Script = [NoCameraError("scripted: no such camera")]
    failures = [broken()] * 4
    status = trial.run(*failures, absent, *failures, [1], until=after(1))
    assert status.state is State.STOPPING


def test_no_session_is_begun_while_there_is_nothing_to_count(trial: Trial, store: Store) -> None:
    absent: Script = [NoCameraError("scripted: no such camera")]
    looked = []

    def give_up(timeout: float | None = None) -> bool:
        looked.append(timeout)
        if len(looked) == 3:
            trial.stop.set()
        return False

    trial.stop.wait = give_up  # type: ignore[method-assign]
    trial.run(*[absent] * 9, until=after(1))
    with store.read() as reader:
        assert reader.sessions(10) == []


def test_pictures_that_cannot_be_used_are_no_reason_to_give_up(trial: Trial) -> None:
    dark: Script = ["frame 0 is black", stalled("no usable picture for 10 s, the last one is black")]
    status = trial.run(*[dark] * 8, [2], until=after(2))
    assert status.lost == 8
    assert trial.states[-2][0] is State.RUNNING


def test_a_model_that_fails_is_loaded_again(trial: Trial, classifier: Classifier) -> None:
    fails = iter([True, False])
    loaded = []

    class Failing:
        model = classifier.model

        def predict(self, crops: object) -> object:
            if next(fails):
                raise ModelFileError("model.tflite: the interpreter failed")
            return classifier.predict(crops)  # type: ignore[arg-type]

    def load() -> Classifier:
        loaded.append(1)
        return classifier

    trial.line.classifier, trial.load = Failing(), load  # type: ignore[assignment]
    trial.run([5], [5], until=after(3))
    assert loaded == [1]
    assert (State.STALLED, "model.tflite: the interpreter failed") in trial.states


def test_a_model_file_that_cannot_be_read_again_is_tried_again_and_then_given_up(trial: Trial) -> None:
    class Failing:
        model = trial.line.classifier.model

        def predict(self, crops: object) -> object:
            raise ModelFileError("model.tflite: the interpreter failed")

    def load() -> Classifier:
        raise ModelFileError("model.tflite: no such file")

    trial.line.classifier, trial.load = Failing(), load  # type: ignore[assignment]
    with pytest.raises(RecoveryError, match=r"5 failures in a row, the last: model\.tflite: no such file"):
        trial.run([9], until=after(99))


def test_a_model_that_fails_whenever_there_is_a_cell_is_given_up(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        model = trial.line.classifier.model

        def predict(self, crops: object) -> object:
            raise ModelFileError("model.tflite: the interpreter failed")

    trial.line.classifier, trial.load = Failing(), Failing  # type: ignore[assignment]
    # Every second frame is skipped, and goes well.
    see = LiveLine.see

    def see_or_skip(line: LiveLine, frame: Frame) -> object:
        return LostFrame(frame.sequence, frame.source, "dark") if frame.sequence % 2 else see(line, frame)

    monkeypatch.setattr(LiveLine, "see", see_or_skip)
    with pytest.raises(RecoveryError, match="5 failures in a row, the last: model"):
        trial.run([30], [30], [30], [30], [30], [30], until=after(999))


def test_an_interpreter_that_hangs_is_noticed(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    released = Event()

    def hang(self: LiveLine, frame: Frame) -> LostFrame:
        released.wait(10)
        return LostFrame(frame.sequence, frame.source, "late")

    monkeypatch.setattr(LiveLine, "see", hang)
    monkeypatch.setattr("edge.supervisor.LOOK_LIMIT_S", 0.3)
    monkeypatch.setattr("edge.supervisor.SILENT_LIMIT_S", 0.0)  # the camera is not to blame
    finish = Pipeline.__exit__

    def release(self: Pipeline, *error: object) -> None:
        released.set()
        finish(self, *error)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "__exit__", release)
    with pytest.raises(RecoveryError, match="interpreter hangs"):
        trial.run([1], until=after(1))
    assert trial.device.status().state is State.FAILED


def test_a_fault_in_the_inference_ends_the_process_and_the_store_keeps_why(
    trial: Trial, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(self: LiveLine, frame: Frame) -> LostFrame:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(LiveLine, "see", fault)
    with pytest.raises(ZeroDivisionError):
        trial.run([1], until=after(1))
    assert store.flush(5)
    with store.read() as reader:
        assert [event.text for event in reader.events(9)] == ["failed: division by zero"]


def test_a_thread_that_does_not_end_is_left_to_a_new_process(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(camera: Scripted) -> None:
        camera.closed.set()
        raise StuckThreadError("the thread 'camera scripted' did not stop within 2 s")

    monkeypatch.setattr(Scripted, "close", stuck)
    with pytest.raises(RecoveryError, match="did not stop"):
        trial.run([3, stalled()], [3], until=after(6))


def test_a_thread_that_does_not_end_when_all_ends_is_no_failure(
    trial: Trial, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(camera: Scripted) -> None:
        camera.closed.set()
        raise StuckThreadError("the thread 'camera scripted' did not stop within 2 s")

    monkeypatch.setattr(Scripted, "close", stuck)
    assert trial.run([3], until=after(3)).state is State.STOPPING
    with store.read() as reader:
        assert [session.ended_because for session in reader.sessions(9)] == ["switched off"]


def test_a_camera_that_is_silent_and_does_not_know_it_is_opened_again(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.supervisor.SILENT_LIMIT_S", 0.1)
    status = trial.run([2], [2], until=after(4))
    assert status.recoveries == 1


def test_a_part_that_ended_on_its_own_ends_the_process(trial: Trial) -> None:
    trial.device.depends_on("the page", lambda: OSError("no more sockets") if trial.progress > 3 else None)
    with pytest.raises(RecoveryError, match="the page has ended: no more sockets"):
        trial.run([20], until=after(20))


def test_a_part_that_ended_is_noticed_while_there_is_no_camera(trial: Trial) -> None:
    absent: Script = [NoCameraError("scripted: no such camera")]
    trial.device.depends_on("the page", lambda: OSError("no more sockets") if trial.progress > 3 else None)
    with pytest.raises(RecoveryError, match="the page has ended"):
        trial.run(*[absent] * 9, [1], until=after(1))


def test_files_are_read_once_and_an_error_in_them_ends_the_run_and_its_session(
    store: Store, classifier: Classifier
) -> None:
    trial = Trial(store, classifier, live=False)
    with pytest.raises(CameraError, match="cut short"):
        trial.run([3, CameraError("a.avi: cut short")], [3], until=after(99))
    with store.read() as reader:
        assert [session.ended_because for session in reader.sessions(9)] == ["the source failed"]


def test_the_end_of_a_file_ends_the_run_and_its_session(store: Store, classifier: Classifier) -> None:
    trial = Trial(store, classifier, live=False)
    assert trial.run([3], until=after(99)).frames == 3
    with store.read() as reader:
        assert [session.ended_because for session in reader.sessions(9)] == ["the source ended"]


def test_a_camera_that_hangs_while_it_opens_does_not_hold_up_a_stop(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(camera: Scripted) -> None:
        trial.stop.set()
        assert camera.closed.wait(10)
        raise CameraError("scripted: was closed while it opened")

    monkeypatch.setattr(Scripted, "open", hang)
    status = trial.run([3], until=after(3))
    assert (status.state, status.frames) == (State.STOPPING, 0)


def test_what_cannot_be_right_is_not_tried_again(trial: Trial) -> None:
    with pytest.raises(SettingError, match="exposure"):
        trial.run([SettingError("scripted: has no exposure")], [3], until=after(3))


def test_a_stop_ends_the_session_and_keeps_what_was_counted(trial: Trial, store: Store) -> None:
    trial.run([12], until=after(12))
    with store.read() as reader:
        (session,) = reader.sessions(9)
        counted, _ = reader.differential(session.id)
    assert session.ended_because == "switched off"
    assert counted == trial.device.tally.differential
    assert counted.total > 0
