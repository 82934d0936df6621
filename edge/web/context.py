"""What every page and every route of the API is made from."""

from dataclasses import dataclass, field
from pathlib import Path

from flask import current_app

from edge.config import Settings
from edge.device import Device
from edge.store import Store
from edge.web.auth import Gate
from edge.web.exports import Exports
from edge.web.live import LivePicture
from edge.web.uploads import Uploads


@dataclass
class Traffic:
    """What the server counts. ``cut_off``: clients that let their time pass."""

    cut_off: int = 0


@dataclass(frozen=True)
class Web:
    """The device and its store, its settings and state folder; the page's gate, live picture, uploads and
    exports."""

    device: Device
    store: Store
    settings: Settings
    folder: Path
    gate: Gate
    live: LivePicture
    uploads: Uploads
    exports: Exports
    traffic: Traffic = field(default_factory=Traffic)


def web() -> Web:
    """Of the application that answers the present request."""
    parts = current_app.extensions["hematovision"]
    assert isinstance(parts, Web)
    return parts
