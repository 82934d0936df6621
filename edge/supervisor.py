"""The supervisor: keeps frames coming, opens a stalled camera again, and gives up where that is better."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

from edge.cameras import Camera, LostFrame
from edge.device import Device, State
from edge.pipeline import Line, Pipeline, SeenFrame
from edge.threads import Closed
from hematovision.classifier import Classifier
from hematovision.errors import (
    CameraError,
    ModelFileError,
    NoCameraError,
    RecoveryError,
    StuckThreadError,
    reason_of,
)

#: Pauses before a camera is opened again after its first, second … failure in a row, in seconds. One failure
#: more than there are pauses, and the process ends: libcamera sometimes recovers only in a new one.
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
#: How often an absent camera is looked for, in seconds.
ABSENT_PAUSE_S = 2.0
#: A frame that is looked at for longer, in seconds, never ends; on a Pi Zero one takes about a second.
LOOK_LIMIT_S = 20.0
#: A camera that gives neither frames nor errors for longer, in seconds, hangs where it cannot tell itself.
SILENT_LIMIT_S = 15.0
# The threads of a pipeline end within this, or the process does, which has five seconds for all of it.
_STOP_LIMIT_S = 3.0
_LOOK_UP_S = 0.2


class Supervisor:
    """Runs pipelines, one after the other, until it is stopped or a source that has an end has ended.

    Args:
        device: is told what happens.
        line: what the frames go through; it knows the cells counted, also when the camera is opened again.
        connect: makes the camera, closed.
        load: makes the classifier anew, after the model failed.
        stop: set by whoever wants it to end, a signal for instance.
        check: looks at every result beside the count, in the supervisor's thread.
        progress: called with every frame finished and every step of a recovery: all that is worth being
            called alive.
        pauses_s: see `PAUSES_S`.
        absent_pause_s: see `ABSENT_PAUSE_S`.
    """

    def __init__(
        self,
        device: Device,
        line: Line,
        connect: Callable[[], Camera],
        load: Callable[[], Classifier],
        stop: Event,
        check: Callable[[SeenFrame | LostFrame, Camera], None],
        progress: Callable[[], None],
        pauses_s: tuple[float, ...] = PAUSES_S,
        absent_pause_s: float = ABSENT_PAUSE_S,
    ) -> None:
        self._device = device
        self._line = line
        self._connect = connect
        self._load = load
        self._stop = stop
        self._check = check
        self._progress = progress
        self._pauses_s = pauses_s
        self._absent_pause_s = absent_pause_s
        self._failures = self._model_failures = 0
        self._camera: Camera | None = None

    def run(self) -> None:
        """Run until the end; a live camera is opened again when it fails.

        The open session ends with the run, but where a new process is to go on with it.

        Raises:
            RecoveryError: the camera or the model could not be recovered, or a thread hangs.
            CameraError: a source that is not live failed.
            ModelFileError: the model failed on a source that is not live.
            SettingError: the camera does not have what was asked of it, or the blank field does not fit.
        """
        with self._closing_at_stop():
            self._run_until_stopped()

    def _run_until_stopped(self) -> None:
        while not self._stop.is_set():
            self._look_after_parts()
            self._camera = camera = self._connect()
            try:
                if self._model_failures:
                    self._line.classifier = self._load()
                self._run_once(camera)
                return
            except (CameraError, ModelFileError, StuckThreadError) as error:
                if self._stop.is_set():
                    break  # nobody waits for the camera any more
                if isinstance(error, StuckThreadError):
                    self._device.enter(State.FAILED, str(error), self._failures)
                    raise RecoveryError(str(error)) from error
                if not camera.live:
                    self._device.finish("the source failed")
                    raise
                if isinstance(error, NoCameraError):
                    self._failures = 0
                    self._device.enter(State.ABSENT, str(error))
                    self._wait(self._absent_pause_s)
                else:
                    self._recover(error)
            except RecoveryError:
                raise
            except Exception as error:
                # A wrong setting, or a fault of ours: the page of the next run shows why this one ended.
                self._device.enter(State.FAILED, reason_of(error), self._failures)
                raise
            finally:
                self._device.use(None)
        self._device.finish("switched off")

    @contextmanager
    def _closing_at_stop(self) -> Iterator[None]:
        """A live camera that hangs while it opens is let go of as soon as the supervisor is stopped."""
        ended = Event()

        def close() -> None:
            # Again and again: it may be about to be opened.
            while not ended.wait(_LOOK_UP_S):
                if self._stop.is_set() and self._camera is not None and self._camera.live:
                    # What goes wrong in it is also told to whoever opens or reads the camera.
                    with suppress(CameraError, StuckThreadError):
                        self._camera.close()

        closer = Thread(target=close, name="stop", daemon=True)
        closer.start()
        try:
            yield
        finally:
            ended.set()
            closer.join()

    def _run_once(self, camera: Camera) -> None:
        """One pipeline, until the source ends, it fails or the supervisor is stopped."""
        with Pipeline(camera, self._line, _STOP_LIMIT_S) as pipeline:
            self._device.use(pipeline)
            self._progress()
            heard_at = monotonic()
            while not self._stop.is_set():
                self._look_after_parts()
                try:
                    result = pipeline.take(_LOOK_UP_S)
                except Closed:
                    self._device.finish("switched off" if self._stop.is_set() else "the source ended")
                    return
                except TimeoutError:
                    self._look_after(pipeline, camera, monotonic() - heard_at)
                    continue
                except (CameraError, ModelFileError) as error:
                    # Before the camera is closed, which may take a while.
                    self._device.enter(State.STALLED, str(error), self._failures)
                    raise
                heard_at = monotonic()
                # Also where it is black or torn: no new process would switch the lamp on.
                self._failures = 0
                self._progress()
                if isinstance(result, SeenFrame):
                    self._device.enter(State.RUNNING)
                    if any(cell.prediction for cell in result.cells):
                        self._model_failures = 0
                self._device.saw(result)
                self._check(result, camera)
            # At once: what the camera's threads do when they are to end takes what time it takes.
            self._device.finish("switched off")

    def _look_after_parts(self) -> None:
        self._device.hear_store()
        broken = self._device.broken()
        if broken is not None:
            self._device.enter(State.FAILED, broken, self._failures)
            raise RecoveryError(broken)

    def _look_after(self, pipeline: Pipeline, camera: Camera, silent_s: float) -> None:
        """Judge a pipeline that finishes no frame."""
        if pipeline.looking_s > LOOK_LIMIT_S:
            reason = f"a frame is looked at for more than {LOOK_LIMIT_S:g} s: the interpreter hangs"
            self._device.enter(State.FAILED, reason, self._failures)
            raise RecoveryError(f"{reason}; a new process is needed")
        # While a frame is looked at, it is not the camera that is waited for.
        if camera.live and not pipeline.looking_s and silent_s > SILENT_LIMIT_S:
            raise CameraError(f"{camera.name}: neither a picture nor an error for {SILENT_LIMIT_S:g} s")

    def _recover(self, error: CameraError | ModelFileError) -> None:
        """Prepare another attempt, after a pause; or give up."""
        if isinstance(error, ModelFileError):
            # Counted apart: frames without cells go well whatever has become of the model.
            self._model_failures += 1
            failures = self._model_failures
        else:
            self._failures += 1
            failures = self._failures
        if failures > len(self._pauses_s):
            self._device.enter(State.FAILED, str(error), failures)
            raise RecoveryError(f"given up after {failures} failures in a row, the last: {error}")
        self._device.enter(State.RECOVERING, str(error), failures)
        self._wait(self._pauses_s[failures - 1])

    def _wait(self, pause_s: float) -> None:
        self._progress()
        self._stop.wait(pause_s)
