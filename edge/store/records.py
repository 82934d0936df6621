"""What goes into the store and comes out of it. All times are UTC."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: Side of a crop on the slide, where a model does not say otherwise.
CROP_UM = 20.0


@dataclass(frozen=True)
class NewSession:
    """A session as it is started.

    ``model_hash``: of the model file. ``target``: so many cells given a class are wanted, None for no end.
    ``settings``: what else the count depends on, as JSON has it. ``crop_um``: side of a crop on the slide.
    """

    sample: str
    operator: str
    camera: str
    model_name: str
    model_hash: str
    um_per_pixel: float
    target: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    crop_um: float = CROP_UM


@dataclass(frozen=True)
class Session:
    """One count of one sample; see `NewSession`.

    What cannot be read is None, or as much of it as can; ``unreadable`` names these fields.

    ``ended_at`` and ``ended_because`` are None while it is open. ``continued``: how often it was gone on with
    after the process had ended. ``start_clock_set``, ``end_clock_set``: whether the network had set the clock
    then; None where that is not known. ``goes_because``: why it is to be deleted, None unless it is;
    ``goes_in_h``: after so many more hours in which the device runs.
    """

    id: int
    sample: str
    operator: str
    started_at: datetime | None
    ended_at: datetime | None
    ended_because: str | None
    camera: str
    model_name: str
    model_hash: str
    um_per_pixel: float | None
    target: int | None
    settings: Mapping[str, Any]
    continued: int
    crop_um: float | None
    start_clock_set: bool | None = None
    end_clock_set: bool | None = None
    goes_because: str | None = None
    goes_in_h: float | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None and "ended_at" not in self.unreadable

    @property
    def going(self) -> str:
        """When it is to be deleted, and why; empty where it stays."""
        if self.goes_in_h is None:
            return ""
        return f"after {max(1, math.ceil(self.goes_in_h))} h more of running, {self.goes_because}"


@dataclass(frozen=True)
class StoredCell:
    """A confirmed cell, as `edge.tracker.TrackedCell` has it, without its crop.

    ``class_name``: what the classifier said; ``corrected``: what a person said last, None if nobody did. Each
    is a class or unclassified. What cannot be read is None, a whole number -1; ``unreadable`` names these
    fields.
    """

    id: int
    session_id: int
    number: int
    area: int
    position_um: tuple[float, float] | None
    class_name: str | None
    probabilities: tuple[float, ...] | None
    looks: int
    focus: float | None
    first_seen: datetime | None
    confirmed_at: datetime | None
    model_hash: str
    corrected: str | None
    unreadable: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """What the cell is taken for: a person's word before the classifier's."""
        return self.corrected or self.class_name

    @property
    def probability(self) -> float | None:
        """Of the likeliest class."""
        return None if self.probabilities is None else max(self.probabilities)


@dataclass(frozen=True)
class Correction:
    """That a person gave a cell another label. What cannot be read of it is None."""

    cell_id: int
    at: datetime | None
    who: str
    before: str | None
    after: str | None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """Something that happened to the device. ``kind``: a word to filter by; ``text``: a line for people.

    ``at`` is None where it cannot be read.
    """

    id: int
    at: datetime | None
    session_id: int | None
    kind: str
    text: str
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """A message to a broker, kept until it is acknowledged.

    ``retain``: the broker keeps it for later subscribers. ``latest_only``: it takes the place of an earlier
    one on its topic that was not sent yet.
    """

    topic: str
    payload: bytes
    retain: bool = False
    latest_only: bool = False


@dataclass(frozen=True)
class StoreCounts:
    """What became of the cells given to the store since the process started.

    ``pending``: not on the disk yet. ``stored``: on the disk, whatever happens now. ``not_stored``: lost to
    the store, for want of room in the queue or of their session. Together they are all cells given.
    ``error``: why nothing can be written at the moment, None if it can. ``warning``: why there is too little
    room on the disk, and no session is deleted to make some; None where there is enough.
    """

    pending: int
    stored: int
    not_stored: int
    error: str | None
    warning: str | None = None
