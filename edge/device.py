"""What the device is doing now: what the supervisor tells, what page, display and messages ask."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from threading import Condition, Lock
from time import monotonic

from edge.cameras import LostFrame
from edge.config import Settings
from edge.device_status import DeviceStatus, PublisherStatus, State
from edge.field_watch import PLAIN_SMEAR, FieldCondition
from edge.pipeline import Line, Pipeline, SeenFrame
from edge.store import NewSession, Session, Store, StoreCounts
from edge.tally import Tally
from edge.tracker import TrackedCell
from hematovision.blank_field import BlankField
from hematovision.errors import SettingError, StoreError
from hematovision.model_file import Manifest, ModelFile
from hematovision.plausibility import FieldState

__all__ = ["Device", "DeviceStatus", "PublisherStatus", "State"]

# Frames of the last so many seconds tell how many there are a second.
_RATE_WINDOW_S = 5.0
# A store that could not begin or end a session is asked again after so long.
_ASK_AGAIN_S = 5.0
_MAX_TEXT = 200


class _Counting:
    """A session that cells are counted into, and where its numbers go on."""

    def __init__(self, session: Session, tally: Tally, number: int = 0, area: int = 0) -> None:
        self.session = session
        self.tally = tally
        self.number, self.area = number, area
        # Numbers of cells of the slide that were confirmed when the target had been met.
        self.beyond: set[int] = set()

    def own(self, cell: TrackedCell) -> TrackedCell:
        """A cell with its number and area in the session, which may have gone on from an earlier run."""
        return replace(cell, number=self.number + cell.number, area=self.area + cell.area)


class Device:
    """The device as everybody sees it. One supervisor tells it what happens; any thread may ask and steer.

    Args:
        settings: what it was started with.
        model: what names the cells.
        store: where sessions are kept.
        line: what the frames go through.
        camera: what a person calls it.
        um_per_pixel: scale of its frames.
        tell: given the kind and the text of every event, for whoever follows the log.
    """

    def __init__(
        self,
        settings: Settings,
        model: ModelFile,
        store: Store,
        line: Line,
        camera: str,
        um_per_pixel: float,
        tell: Callable[[str, str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.store = store
        self.camera = camera
        self.um_per_pixel = um_per_pixel
        self._line = line
        self._tell = tell
        self._pipeline: Pipeline | None = None
        self._started_at = self._since = datetime.now(UTC)
        self._state, self._reason = State.STARTING, ""
        self._failures = self._recoveries = 0
        self._frames = self._skipped = self._lost = self._dropped_before = 0
        self._finished: deque[float] = deque()
        self._latest: SeenFrame | None = None
        self._notes_before: list[str] = []
        self._said: dict[str, str] = {}
        # By slide: what frames still on their way belong to when another session begins.
        self._counting: dict[int, _Counting] = {}
        self._open: _Counting | None = None
        self._last: _Counting | None = None
        # Begins the session that waits for a frame.
        self._waiting: Callable[[], _Counting] | None = None
        self._patient = True
        self._learnt_blank: BlankField | None = None
        self._short_of_room = False
        self._refused = False
        self._ask_again_at = 0.0
        self._publisher: Callable[[], PublisherStatus] | None = None
        self._parts: dict[str, Callable[[], object]] = {}
        self._steering = Lock()
        self._changed = Condition()

    @property
    def manifest(self) -> Manifest:
        """The model's."""
        return self.model.manifest

    @property
    def tally(self) -> Tally:
        """What the open session counted, or the last one that was open; nothing before there was one."""
        counting = self._open or self._last
        return self._tally_of(None) if counting is None else counting.tally

    def status(self) -> DeviceStatus:
        """How things stand."""
        with self._changed:
            pipeline, latest, counting = self._pipeline, self._latest, self._open
            self._forget_old_times()
            times, tally, stored = self._finished, self.tally, self.store.counts()
            return DeviceStatus(
                started_at=self._started_at,
                state=self._state,
                since=self._since,
                reason=self._reason,
                camera=self.camera,
                um_per_pixel=self.um_per_pixel,
                failures=self._failures,
                recoveries=self._recoveries,
                frames=self._frames,
                skipped=self._skipped,
                dropped=self._dropped_before + (pipeline.dropped if pipeline else 0),
                lost=self._lost,
                frames_per_second=(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
                frame_age_s=None if latest is None else monotonic() - latest.frame.monotonic,
                focus=None if latest is None else latest.focus,
                cells_in_view=0 if latest is None else len(latest.cells),
                session=None if counting is None else counting.session,
                differential=tally.differential,
                target_reached=tally.target_reached is not None,
                store=stored,
                messages=None if self._publisher is None else self._publisher(),
                notes=self._notes(stored),
                said=tuple(self._said.values()),
                unfamiliar=tally.unfamiliar,
                condition=PLAIN_SMEAR if latest is None else latest.condition,
            )

    def wait_frame(self, after: int, limit_s: float) -> tuple[int, SeenFrame] | None:
        """The newest frame that was looked at, and its running number, once that is above ``after``.

        None where there is none within so many seconds. While the camera is not running, the newest is old.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._latest is not None and self._frames > after, limit_s)
            if self._latest is None or self._frames <= after:
                return None
            return self._frames, self._latest

    # Steering

    def start_session(self, sample: str, operator: str, target: int | None) -> Session:
        """Begin a session; the open one, if any, ends. From now on it is another slide.

        Raises:
            SettingError: a name is too long or holds control characters.
            StoreError: the store does not take it.
        """
        for name, text in (("sample", sample), ("operator", operator)):
            if len(text) > _MAX_TEXT or not text.isprintable():
                raise SettingError(
                    f"{name}: longer than {_MAX_TEXT} characters or not printable; write another name"
                )
        with self._steering:
            self._end("another session was started")
            slide = self._next_slide()  # first: the session records what its frames are divided by
            session = self._new_session(sample, operator, target)
            self._begin(_Counting(session, Tally(self.manifest, target)), slide)
            return session

    def start_session_with_first_frame(self, target: int | None, patient: bool = True) -> None:
        """Begin a session as the settings name it once there is a frame, unless one is open by then.

        ``patient``: a store that does not take it is asked again, and what is seen until then is not counted;
        else `saw` raises `StoreError`.
        """
        names, self._patient = self.settings.session, patient

        def begin() -> _Counting:
            session = self._new_session(names.sample, names.operator, target)
            return _Counting(session, self._tally_of(target))

        self._waiting = begin

    def continue_session(self, session: Session) -> None:
        """Go on with a session that an earlier run left open, in a new area, unless another is open by now.

        Where the store does not take that, as on a full disk, it is asked again while there are frames.
        """
        with self._steering:
            if self._open is not None:
                return
            try:
                self._begin(self._continued(session), self._line.start_slide())
            except StoreError as error:
                self._waiting = partial(self._continued, session)
                self._refused_by_store(error)

    def can_continue(self, session: Session, target: int | None) -> bool:
        """Whether a session that an earlier run left open can be gone on with: all is as it was then.

        ``target``: what is wanted now; None where nothing is said of it.
        """
        now = self._session_settings()
        return (
            session.camera == self.camera
            and session.model_hash == self.model.model_hash
            and session.um_per_pixel == self.um_per_pixel
            and target in (None, session.target)
            and all(session.settings.get(key) == now[key] for key in ("blank", "names"))
        )

    def offer_blank(self, blank: BlankField) -> None:
        """Divide frames by a blank field that was learnt, from the next session on."""
        self._learnt_blank = blank

    def stop_session(self, because: str = "stopped") -> Session | None:
        """End the open session, and return it; None where there is none. Raises `StoreError`."""
        with self._steering:
            return self._end(because)

    def _new_session(self, sample: str, operator: str, target: int | None) -> Session:
        with self.store.read() as reader:
            unknown = reader.open_session()
        if unknown is not None:  # begun by a disk that answered too late, or not gone on with
            self.store.end_session(unknown.id, "interrupted")
        return self.store.start_session(
            NewSession(
                sample=sample,
                operator=operator,
                camera=self.camera,
                model_name=self.model.path.name,
                model_hash=self.model.model_hash,
                um_per_pixel=self.um_per_pixel,
                target=target,
                settings=self._session_settings(),
                crop_um=self.manifest.crop.side_um,
            )
        )

    def _session_settings(self) -> dict[str, object]:
        blank = self._line.blank
        return _settings_of(self.settings, self.manifest) | {
            "blank_sha256": None if blank is None else blank.sha256()
        }

    def _next_slide(self) -> int:
        """Begin another slide, and say where its frames are divided by another blank field."""
        before = self._line.blank
        slide = self._line.start_slide(self._learnt_blank)
        blank = self._line.blank
        if blank is not None and blank is not before:
            self.say("blank", f"From now on frames are divided by {blank.name}.")
        return slide

    def _continued(self, session: Session) -> _Counting:
        session = self.store.continue_session(session.id)
        blank = self._session_settings()["blank_sha256"]
        if session.settings.get("blank_sha256", blank) != blank:
            self.say("blank", "The session goes on, but without the blank field that it was begun with.")
        with self.store.read() as reader:
            number, area = reader.last_place(session.id)
            counted, _ = reader.differential(session.id)
        tally = Tally(self.manifest, session.target)
        tally.differential = counted
        return _Counting(session, tally, number, area)

    def _tally_of(self, target: int | None) -> Tally:
        """Of a session that begins with the first frame that can be used."""
        tally = Tally(self.manifest, target)
        tally.lost = self._lost
        return tally

    def _begin(self, counting: _Counting, slide: int) -> None:
        self._waiting = None
        self.unsay("store")
        with self._changed:
            self._counting[slide] = counting
            self._open = self._last = counting

    def _begin_waiting(self, slide: int) -> None:
        """Begin the session that waits for a frame; this one is of the slide of that number."""
        if monotonic() < self._ask_again_at:
            return
        with self._steering:
            if self._waiting is None or self._open is not None:
                self._waiting = None
                return
            try:
                counting = self._waiting()
            except StoreError as error:
                if not self._patient:
                    raise
                self._refused_by_store(error)
                return
            if self._refused:
                slide = self._line.start_slide()  # or cells seen meanwhile would count for nobody
            self._begin(counting, slide)

    def _refused_by_store(self, error: StoreError) -> None:
        self._refused = True
        self._ask_again_at = monotonic() + _ASK_AGAIN_S
        self.say("store", f"no session can be begun, nothing is counted: {error}")

    def _end(self, because: str) -> Session | None:
        counting = self._open
        if counting is None:
            return None
        session = self.store.end_session(counting.session.id, because)
        self.unsay("store")
        self._next_slide()  # what is seen from now on is nobody's
        with self._changed:
            counting.session = session
            self._open = None
        return session

    # What the supervisor tells

    def enter(self, state: State, reason: str = "", failures: int = 0) -> None:
        """Another state of the camera; it is an event where it differs from the one before."""
        with self._changed:
            same = (state, reason) == (self._state, self._reason)
            if state is State.RUNNING and self._frames and self._state in (State.RECOVERING, State.ABSENT):
                self._recoveries += 1
            self._state, self._reason, self._failures = state, reason, failures
            if same:
                return
            self._since = datetime.now(UTC)
            self._changed.notify_all()
        self._record("camera", f"{state}: {reason}" if reason else str(state))

    def depends_on(self, part: str, error: Callable[[], object]) -> None:
        """A part that the device needs; ``error`` gives what ended it, None while it works."""
        self._parts[part] = error

    def reports_messages(self, status: Callable[[], PublisherStatus]) -> None:
        """Messages are sent; ``status`` gives how they get on."""
        self._publisher = status

    def hear_store(self) -> None:
        """Pass on what happened to the store's file, or its room, to the page and whoever follows the log."""
        for text in self.store.take_notices():
            with self._changed:
                self._said["file"] = f"The store: {text}."
            if self._tell is not None:
                self._tell("store", text)
        warning = self.store.counts().warning
        # Its figures change, and the page has them; the log is told once.
        if warning is not None and not self._short_of_room and self._tell is not None:
            self._tell("store", warning)
        self._short_of_room = warning is not None

    def broken(self) -> str | None:
        """A part that has ended, in a line; None while all are there."""
        for part, error in self._parts.items():
            if (ended := error()) is not None:
                return f"{part} has ended: {ended}"
        return None

    def use(self, pipeline: Pipeline | None) -> None:
        """The pipeline that runs, or None while there is none."""
        with self._changed:
            if self._pipeline is not None:
                self._dropped_before += self._pipeline.dropped
                self._notes_before = self._pipeline.notes()
            self._pipeline = pipeline

    def say(self, kind: str, line: str) -> None:
        """Something that a person should know: kept as an event, and shown until the same kind says more."""
        with self._changed:
            self._said[kind] = line
        self._record(kind, line)

    def unsay(self, kind: str) -> None:
        """What was said of this kind does not hold any more."""
        with self._changed:
            self._said.pop(kind, None)

    def finish(self, because: str) -> None:
        """The run ends, and with it the open session, if any. May be called more than once."""
        self.enter(State.STOPPING)
        try:
            self.stop_session(because)
        except StoreError as error:
            self.say("store", f"the session stays open, the next run goes on with it: {error}")

    def saw(self, result: SeenFrame | LostFrame) -> None:
        """What became of a frame: its new cells are counted, and given to the store.

        Raises:
            StoreError: a session that does not wait cannot be begun, see `start_session_with_first_frame`.
        """
        if isinstance(result, LostFrame):
            with self._changed:
                self._lost += 1
            counting = self._open
            if counting is not None:
                counting.tally.add(result)
            return
        if self._waiting is not None:
            self._begin_waiting(result.slide)
        counting = self._counting.get(result.slide)
        if counting is not None:
            result = self._count(counting, result)
        self._tell_condition(result.condition, counting)
        with self._changed:
            for slide in [slide for slide in self._counting if slide < result.slide]:
                del self._counting[slide]  # the line is done with it
            self._frames += 1
            self._skipped += result.skipped is not None
            self._latest = _as_numbered(result, counting)
            self._finished.append(monotonic())
            self._forget_old_times()
            self._changed.notify_all()
        if counting is not None and counting is self._open and counting.tally.target_reached:
            self._end_at_target(counting)

    def _tell_condition(self, condition: FieldCondition, counting: _Counting | None) -> None:
        """Say what has changed under the microscope, and in how familiar the cells are."""
        state = "" if condition.state is FieldState.SMEAR else f"{condition.state}: {condition.line}"
        if not condition.trusted and not condition.refused:  # what is said of the scale has the figures
            state = f"{condition.state}: the red cells contradict the scale"
        lines = {
            "field": state,
            "view": "; ".join(condition.notes),
            "confirm": condition.unconfirmed,
            "stain": None if counting is None else counting.tally.unfamiliar,
        }
        for kind, line in lines.items():
            if not line:
                self.unsay(kind)
            elif self._said.get(kind, "").split(":")[:2] != line.split(":")[:2]:
                self.say(kind, line)  # not again for every figure in it

    def _count(self, counting: _Counting, result: SeenFrame) -> SeenFrame:
        """Count what is new with a frame; return the frame without what goes beyond the target."""
        counted = counting.tally.add(result)
        for cell in counted:
            self.store.add_cell(counting.session.id, counting.own(cell), self.model.model_hash)
        if beyond := result.counted[len(counted) :]:
            if not counting.beyond:
                many = "1 cell" if len(beyond) == 1 else f"{len(beyond)} cells"
                text = f"{many} confirmed beyond the target of {counting.session.target}: not counted"
                self.store.add_event("target", text, counting.session.id)
            counting.beyond |= {cell.number for cell in beyond}
        if not counting.beyond:
            return result
        cells = (
            replace(cell, number=None) if cell.number in counting.beyond else cell for cell in result.cells
        )
        return replace(result, cells=tuple(cells), counted=counted)

    def _end_at_target(self, counting: _Counting) -> None:
        if monotonic() < self._ask_again_at:
            return
        with self._steering:
            if counting is not self._open:
                return
            try:
                self._end(f"target of {counting.session.target} reached")
            except StoreError as error:
                self._ask_again_at = monotonic() + _ASK_AGAIN_S
                self.say("store", f"the session reached its target and cannot be ended: {error}")

    def _record(self, kind: str, text: str) -> None:
        counting = self._open
        self.store.add_event(kind, text, counting.session.id if counting else None)
        if self._tell is not None:
            self._tell(kind, text)

    def _forget_old_times(self) -> None:
        while self._finished and self._finished[0] < monotonic() - _RATE_WINDOW_S:
            self._finished.popleft()

    def _notes(self, stored: StoreCounts) -> tuple[str, ...]:
        lines = list(self._notes_before if self._pipeline is None else self._pipeline.notes())
        counting = self._open or self._last
        if counting is not None and (continued := counting.session.continued):
            times = "once" if continued == 1 else f"{continued} times"
            lines.append(f"The run was interrupted {times}: cells seen before may be counted again.")
        if stored.not_stored:
            lines.append(f"Cells that could not be stored: {stored.not_stored}.")
        if stored.error is not None:
            lines.append(f"The store: {stored.error}.")
        if stored.warning is not None:
            lines.append(stored.warning)
        return tuple(lines)


def _as_numbered(result: SeenFrame, counting: _Counting | None) -> SeenFrame:
    """A frame with its cells numbered as in the session; without one, none is counted."""
    if counting is not None and not counting.number:
        return result
    cells = [
        replace(
            cell, number=None if counting is None or cell.number is None else counting.number + cell.number
        )
        for cell in result.cells
    ]
    return replace(result, cells=tuple(cells))


def _settings_of(settings: Settings, manifest: Manifest) -> dict[str, object]:
    """What a session records: what its cells depend on, how often the model was right, and nothing secret.

    ``names``: what the settings call a session, whatever this one was called by hand.
    """
    return {
        "model": asdict(settings.model),
        "blank": settings.camera.blank,
        "names": asdict(settings.session),
        "accuracy": dict(manifest.accuracy),
    }
