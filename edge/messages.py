"""What is published: the topics of a device, and what the messages on them say.

Below the setting ``mqtt.topic`` and the name of the device:

- ``cells``: a message for each confirmed cell, and another each time that a person corrects it. ``session``
  and ``number`` say which cell it is, ``label`` what it counts as, ``classified_as`` what the classifier
  said, ``corrected`` what a person said last, null at first;
- ``differential``: the counts of the open session, as classified; retained;
- ``health``: what the camera and the machine are doing; retained;
- ``status``: ``online`` or ``offline``; retained.

Differential and health say with ``field`` what lies under the microscope (``smear``, ``no cells``,
``not the monolayer``, ``check the microscope``), with ``field_counts`` whether its cells count, and with
``field_notes`` why, and what else is to be said of it.

All but the last are JSON objects with an ``id``: a message that comes twice has the same one both times.
Times are UTC in ISO 8601. Who counts is never sent; the name of the sample is, with the differential.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edge.config import MqttSettings
from edge.device import DeviceStatus, State
from edge.differential import Share
from edge.health import Health, problems, warnings
from edge.store import Message, Session, StoredCell
from hematovision.cell_classes import CLASS_NAMES

ONLINE, OFFLINE = b"online", b"offline"


@dataclass(frozen=True)
class Topics:
    """The topics of a device. ``device`` is its name in them: letters, digits, ``-`` and ``_``."""

    base: str
    device: str

    @classmethod
    def of(cls, settings: MqttSettings) -> "Topics":
        """The topics that the settings ask for."""
        return cls(settings.topic, settings.name or re.sub(r"[^A-Za-z0-9_-]+", "_", socket.gethostname()))

    def _below(self, what: str) -> str:
        return f"{self.base}/{self.device}/{what}"

    @property
    def cells(self) -> str:
        """Where confirmed cells go."""
        return self._below("cells")

    @property
    def differential(self) -> str:
        """Where the counts go."""
        return self._below("differential")

    @property
    def health(self) -> str:
        """Where the state of camera and machine goes."""
        return self._below("health")

    @property
    def status(self) -> str:
        """Where it says whether the device is there."""
        return self._below("status")


def cell_messages(settings: MqttSettings) -> Callable[[StoredCell], Sequence[Message]]:
    """What `edge.store.Store` is given to write a cell's message in one transaction with the cell.

    It makes no message where messages are off.
    """
    topics = Topics.of(settings)

    def messages(cell: StoredCell) -> Sequence[Message]:
        return [cell_message(topics, cell)] if settings.host else []

    return messages


def cell_message(topics: Topics, cell: StoredCell) -> Message:
    """A confirmed cell, as it counts now: position in µm within its area, probability of each class."""
    confirmed_at = _iso(cell.confirmed_at)
    # With the time, since a database that is begun anew numbers its sessions from 1 again.
    name = f"{topics.device}/{cell.session_id}/{cell.number}/{confirmed_at}"
    return _message(
        topics.cells,
        {
            "id": name if cell.corrected is None else f"{name}/{_iso(datetime.now(UTC))}",
            "session": cell.session_id,
            "number": cell.number,
            "first_seen": _iso(cell.first_seen),
            "confirmed_at": confirmed_at,
            "label": cell.label,
            "classified_as": cell.class_name,
            "corrected": cell.corrected,
            "probabilities": {
                name: round(probability, 4)
                for name, probability in zip(CLASS_NAMES, cell.probabilities or (), strict=True)
            },
            "area": cell.area,
            "position_um": [round(value, 2) for value in cell.position_um or ()],
            "looks": cell.looks,
            "focus": _rounded(cell.focus, 4),
            "model": cell.model_hash,
        },
        retain=False,
    )


def differential_message(topics: Topics, status: DeviceStatus, session: Session | None, note: str) -> Message:
    """The counts of a session, with their exact 95 % limits in per cent.

    Args:
        topics: the device's.
        status: with the counts.
        session: what was counted: the open session, or the last one that was; None before there was one.
        note: what has to be said beside such limits: `edge.differential.classifier_error`.
    """
    counted, now = status.differential, _iso(datetime.now(UTC))
    return _message(
        topics.differential,
        {
            "id": f"{topics.device}/differential/{now}",
            "at": now,
            "session": None if session is None else session.id,
            "sample": None if session is None else session.sample,
            "open": status.session is not None,
            "target": None if session is None else session.target,
            "target_reached": status.target_reached,
            **_condition(status),
            "cells": counted.total,
            "named": counted.named,
            "classes": {name: _share(counted.share(name)) for name in CLASS_NAMES},
            "unclassified": _share(counted.unclassified_share),
            "model": None if session is None else session.model_hash,
            "note": note,
        },
        retain=True,
    )


def health_message(topics: Topics, status: DeviceStatus, health: Health, version: str) -> Message:
    """What camera and machine are doing; null where the machine has no such sensor."""
    now = _iso(datetime.now(UTC))
    return _message(
        topics.health,
        {
            "id": f"{topics.device}/health/{now}",
            "at": now,
            "version": version,
            "state": status.state,
            "since": _iso(status.since),
            "reason": status.reason,
            **_condition(status),
            "problems": problems(status, health),
            "warnings": warnings(status, health),
            "camera": status.camera,
            "camera_delivers": status.state is State.RUNNING,
            "recoveries": status.recoveries,
            "frames_per_second": round(status.frames_per_second, 1),
            "frame_age_s": _rounded(status.frame_age_s, 1),
            "cells_stored": status.store.stored,
            "cells_not_stored": status.store.not_stored,
            "temperature_c": _rounded(health.temperature_c, 1),
            "throttled": health.throttled,
            "clock_synchronised": health.clock_synchronised,
            "free_mb": _rounded(health.free_mb),
            "memory_used_mb": _rounded(health.memory_used_mb),
            "memory_free_mb": _rounded(health.memory_free_mb),
            "load": _rounded(health.load, 2),
        },
        retain=True,
    )


def _condition(status: DeviceStatus) -> dict[str, Any]:
    """Return what lies under the microscope, whether its cells count, and what is to be said of it."""
    seen = status.condition
    notes = [seen.line, *seen.notes, status.unfamiliar]
    return {"field": seen.state, "field_counts": seen.counts, "field_notes": [note for note in notes if note]}


def _message(topic: str, content: Mapping[str, Any], retain: bool) -> Message:
    # What is retained is a state: of several that nobody has got yet the last is enough.
    return Message(topic, as_json(content), retain=retain, latest_only=retain)


def as_json(content: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON object, without spaces between its parts."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds")


def _rounded(value: float | None, digits: int | None = None) -> float | None:
    return None if value is None else round(value, digits)


def _share(share: Share) -> dict[str, float | int | None]:
    return {
        "count": share.count,
        "percent": _rounded(share.percent, 2),
        "low": round(share.low, 2),
        "high": round(share.high, 2),
    }
