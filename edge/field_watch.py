"""Watching what lies under the microscope: whether it can be counted, and what is to be said of it."""

from collections import deque
from dataclasses import dataclass, replace

from edge.cameras import Frame
from edge.scale import Batch, ScaleWatch
from hematovision.optics import Field
from hematovision.plausibility import (
    Appearance,
    FieldState,
    dark_object_note,
    is_empty,
    look_at,
    typical,
    why_no_monolayer,
    why_no_smear,
)

#: A frame of so many is looked at where they follow each other; looking takes some 10 ms of a PC's time.
LOOK_STEP = 5
#: Looks that are judged together, so that one odd frame changes nothing.
WINDOW = 5
#: Another state must be seen so often in a row before it is told.
AGREEING_LOOKS = 2


@dataclass(frozen=True)
class FieldCondition:
    """What is under the microscope: its ``state``, and why, in a ``line``, empty for a smear.

    ``refused``: it is no smear, or its colours are swapped. ``notes``: what is to be said beside.
    ``unconfirmed``: that the red cells cannot show whether the scale is right.
    """

    state: FieldState = FieldState.SMEAR
    line: str = ""
    refused: bool = False
    notes: tuple[str, ...] = ()
    unconfirmed: str | None = None

    @property
    def counts(self) -> bool:
        """Return whether the cells in view count towards the differential and its target."""
        return self.state in (FieldState.SMEAR, FieldState.EMPTY)

    @property
    def trusted(self) -> bool:
        """Return whether a class may be called high or low."""
        return self.state is not FieldState.CHECK_MICROSCOPE


#: A smear, of which nothing is to be said.
PLAIN_SMEAR = FieldCondition()


class FieldWatch:
    """Judges the fields of a batch or a camera as they come.

    Images that each show another place are judged one by one; only the order of their colours, which they
    share, also by the last `WINDOW` of them. Frames that follow each other share a state, which a few odd
    ones among them do not change.

    Args:
        um_per_pixel: the scale given; that red cells contradict it is a state too.
    """

    def __init__(self, um_per_pixel: float) -> None:
        #: What is newly to be said of the scale with the last frame; see `ScaleWatch.see`.
        self.scale_line: str | None = None
        self._scale = ScaleWatch(um_per_pixel)
        self._batch: Batch | None = None
        self._looks: deque[Appearance] = deque(maxlen=WINDOW)
        self._wait = 0
        self._seen = self._told = PLAIN_SMEAR
        self._agreeing = 0

    def see(self, frame: Frame, field: Field, batch: Batch) -> FieldCondition:
        """Look at the next frame, which is one of a batch; return what holds now."""
        if batch is not self._batch:
            self._batch, self._wait = batch, 0
            self._looks.clear()
        self.scale_line = self._scale.see(frame, batch)
        if self._wait:
            self._wait -= 1
            return self._told
        look = look_at(field)
        self._looks.append(look)
        if batch.places_apart:
            self._told = self._condition(self._with_its_neighbours(look))
            return self._told
        self._wait = LOOK_STEP - 1 if len(self._looks) == WINDOW else 0
        now = self._condition(typical(self._looks))
        self._agreeing = self._agreeing + 1 if now.state is self._seen.state else 1
        self._seen = now
        # A camera that has just begun has nothing to flicker from.
        if len(self._looks) < WINDOW or self._agreeing >= AGREEING_LOOKS or now.state is self._told.state:
            self._told = now
        return self._told

    def end(self) -> str | None:
        """A line where, to the end, nothing showed whether the scale is right."""
        return self._scale.end()

    def _with_its_neighbours(self, look: Appearance) -> Appearance:
        """An image's look; in doubt over the order of its colours those before it tell more."""
        if look.red_before_blue >= 0 or len(self._looks) < WINDOW:
            return look
        together = typical(self._looks).red_before_blue
        return replace(look, red_before_blue=min(look.red_before_blue, together))

    def _condition(self, look: Appearance) -> FieldCondition:
        state, line = FieldState.SMEAR, ""
        refused = why_no_smear(look)
        if (why := refused or self._scale.contradiction) is not None:
            state, line = FieldState.CHECK_MICROSCOPE, why
        elif is_empty(look):
            state, line = FieldState.EMPTY, "nothing but empty glass is in view"
        elif (elsewhere := why_no_monolayer(look)) is not None:
            state, line = FieldState.NOT_MONOLAYER, elsewhere
        note = dark_object_note(look)
        notes = () if note is None or refused is not None else (note,)
        return FieldCondition(state, line, refused is not None, notes, self._scale.unconfirmed)
