"""How the device is at a moment, as everybody who watches it is told."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from edge.differential import Differential
from edge.field_watch import PLAIN_SMEAR, FieldCondition
from edge.store import Session, StoreCounts


class State(StrEnum):
    """How it stands with the camera."""

    STARTING = "starting"
    RUNNING = "running"
    #: It gave nothing usable any more, and is being closed.
    STALLED = "stalled"
    #: It is opened again, after a pause.
    RECOVERING = "recovering"
    #: There is no camera; one may be plugged in at any time.
    ABSENT = "absent"
    #: It could not be recovered; a new process tries.
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True)
class PublisherStatus:
    """How messages get on.

    ``error``: what is wrong, in a line, None where nothing is or messages are off. ``queued``: in the outbox
    when it was last counted. ``sent``: acknowledged since the process started.
    """

    connected: bool = False
    error: str | None = None
    queued: int = 0
    sent: int = 0


@dataclass(frozen=True)
class DeviceStatus:
    """The device at a moment.

    ``state`` since when (UTC) and why, a line, empty where there is nothing to say. ``failures``: attempts
    at opening the camera in a row that failed; ``recoveries``: how often it was got back. ``frames``: looked
    at or skipped; ``skipped`` of them; ``dropped``: overtaken by a newer one; ``lost``: could not be used.
    ``frame_age_s``: since the last frame was taken. ``focus``: sharpness of the last frame as a share of the
    best so far. ``session``: the one that cells are counted into; its ``differential`` holds also cells that
    are not on disk yet. ``messages``: None where none are sent. ``notes``: what is to be said beside the
    count, a line each; ``said``: the latest word on scale, lamp, store and so on. ``condition``: what
    lies under the microscope; ``unfamiliar``: that far more cells than usual are of no class.
    """

    started_at: datetime
    state: State
    since: datetime
    reason: str
    camera: str
    um_per_pixel: float
    failures: int
    recoveries: int
    frames: int
    skipped: int
    dropped: int
    lost: int
    frames_per_second: float
    frame_age_s: float | None
    focus: float | None
    cells_in_view: int
    session: Session | None
    differential: Differential
    target_reached: bool
    store: StoreCounts
    messages: PublisherStatus | None
    notes: tuple[str, ...]
    said: tuple[str, ...]
    condition: FieldCondition = PLAIN_SMEAR
    unfamiliar: str | None = None
