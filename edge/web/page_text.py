"""How the pages write what the device knows: times, numbers, shares, names."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime

from edge.config import Settings
from edge.device import DeviceStatus, State
from edge.differential import Differential, Share, beyond_reference
from edge.health import Health
from edge.stills import NamedCell
from edge.store import Session
from edge.web.representations import of_settings
from hematovision.cell_classes import CELL_CLASSES, UNCLASSIFIED, UNCLASSIFIED_COLOR, CellClass
from hematovision.model_file import Manifest, ModelFile

#: A picture older than this is no longer shown as a live one.
OLD_PICTURE_S = 3.0

_COLORS = {one.name: one.color for one in CELL_CLASSES} | {UNCLASSIFIED: UNCLASSIFIED_COLOR}
_NONE = "–"
_UNREADABLE = "unreadable"


def local_time(at: datetime | None) -> str:
    """A moment in the time zone of the device."""
    return _UNREADABLE if at is None else f"{at.astimezone():%d %b %Y, %H:%M:%S}"


def time_zone() -> str:
    """The time zone of the device."""
    return f"{datetime.now().astimezone():%Z}"


def count(number: int) -> str:
    """A whole number, its thousands apart by a narrow space."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def times(number: int) -> str:
    """How often."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{count(number)} times")


def measure(value: float | None, text: str) -> str:
    """A number of a session, as a text with a place for it has it."""
    return _UNREADABLE if value is None else text.format(value)


def probability(value: float | None) -> str:
    """A probability; what is not quite certain never looks so."""
    if value is None:
        return _UNREADABLE
    return "> 0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def share_text(share: Share) -> str:
    """Per cent and its 95 % limits, rounded outward; nothing counted leaves nothing to say."""
    if share.percent is None:
        return _NONE
    return f"{share.percent:.1f} % ({math.floor(share.low)}–{math.ceil(share.high)})"


def flag(share: Share, cell_class: CellClass) -> str:
    """High or low, or nothing."""
    return beyond_reference(share, cell_class.reference_percent) or ""


def caption(differential: Differential) -> str:
    """What a differential is made of."""
    cells = "cell" if differential.total == 1 else "cells"
    return f"{count(differential.total)} {cells}, {count(differential.named)} given a class"


def session_name(session: Session) -> str:
    """What a person calls a session: its sample, or its number where that has no name."""
    return session.sample or f"session {session.id}"


def class_color(name: str | None) -> str:
    """The colour that a class is drawn in everywhere, as SVG takes it."""
    return "#{:02x}{:02x}{:02x}".format(*_COLORS[name or UNCLASSIFIED])


def share_of_best(focus: float | None) -> str:
    """Focus in per cent of the best so far, which the present one may be."""
    return _NONE if focus is None else f"{min(100 * focus, 100):.0f} %"


def duration(seconds: float) -> str:
    """A length of time, as exact as a person wants it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def age(seconds: float | None) -> str:
    """How long ago."""
    return _NONE if seconds is None else f"{duration(seconds)} ago"


def old_note(status: DeviceStatus) -> str:
    """What is written over a picture that is no longer live; nothing over one that is."""
    if status.frame_age_s is None:
        return ""
    if status.state is State.RUNNING and status.frame_age_s < OLD_PICTURE_S:
        return ""
    return f"Not live: the last frame came {duration(status.frame_age_s)} ago."


def health_lines(health: Health) -> list[tuple[str, str]]:
    """Every sensor by its name; one that this machine lacks says so."""

    def said(value: float | None, text: str) -> str:
        return "no such sensor here" if value is None else text.format(value)

    throttled = health.throttled
    synchronised = {None: "not known", True: "set by the network", False: "not set by the network"}
    return [
        ("Temperature", said(health.temperature_c, "{:.1f} °C")),
        (
            "Power and heat",
            "no such sensor here" if throttled is None else "; ".join(throttled) or "all well",
        ),
        ("Processor clock", said(health.clock_mhz, "{:.0f} MHz")),
        ("Time of day", synchronised[health.clock_synchronised]),
        ("Free for the store", said(health.free_mb, "{:.0f} MB")),
        ("Memory of this program", said(health.memory_used_mb, "{:.0f} MB")),
        ("Memory free", said(health.memory_free_mb, "{:.0f} MB")),
        ("Load", said(health.load, "{:.2f}")),
    ]


def messages_line(status: DeviceStatus) -> tuple[str, str]:
    """How messages to the broker get on."""
    messages = status.messages
    if messages is None:
        return "Messages", "off"
    connection = "connected" if messages.connected else "not connected"
    counts = f"{count(messages.sent)} sent, {count(messages.queued)} waiting"
    return "Messages", f"{connection}; {counts}" + (f"; {messages.error}" if messages.error else "")


def model_lines(model: ModelFile) -> list[tuple[str, str]]:
    """The model's card, less its measured accuracy."""
    manifest = model.manifest
    try:
        learnt = [
            f"{one['name']} ({count(sum(one['training'].values()))} cells)"
            for one in manifest.training.get("data", ())
        ]
    except (KeyError, TypeError, AttributeError, ValueError):
        learnt = ["recorded in another form than this program's"]
    return [
        ("File", model.path.name),
        ("SHA-256", model.model_hash),
        ("Classes", ", ".join(manifest.classes)),
        ("Crop", f"{manifest.crop.side_um:g} µm, {manifest.crop.side_px} pixels"),
        ("Unclassified", f"below a probability of {manifest.decline_below:g}"),
        ("Softmax temperature", f"{manifest.temperature:.3f}"),
        ("Recipe", manifest.recipe),
        ("Runs on", ", ".join(manifest.runtimes) or _NONE),
        ("Learnt from", "; ".join(learnt) or "not recorded"),
        ("Made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items()) or _NONE),
    ]


def accuracy_lines(manifest: Manifest) -> list[dict[str, str]]:
    """What was measured of a model, by the images that it was measured on; see `classifier_error`."""
    return [
        {
            "name": one["name"],
            "cells": count(one["cells"]),
            "originals": count(one["originals"]),
            "right": f"{100 * one['accuracy']:.1f} %",
            "limits": f"{100 * one['low']:.1f} to {100 * one['high']:.1f}",
            "given": f"{100 * one['coverage']:.1f} %" if "coverage" in one else _NONE,
        }
        for one in manifest.accuracy.get("sets", ())
    ]


def setting_lines(settings: Settings, camera: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of the settings in force, and their keys."""

    def said(value: object) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) or _NONE
        return _NONE if value is None or value == "" else str(value)

    shown = of_settings(settings, camera)
    return [(name, [(key, said(value)) for key, value in keys.items()]) for name, keys in shown.items()]


def remark(cell: NamedCell) -> str:
    """What is to be said of a cell of a picture beside its name."""
    remarks = (
        cell.prediction.declined_because,
        "cut by the border" if cell.region.touches_border else None,
        None if cell.found else "no nucleus found: the middle of the image",
    )
    return "; ".join(filter(None, remarks))


#: By the names that the templates use.
FILTERS: Mapping[str, Callable[..., str]] = {
    one.__name__: one
    for one in (
        age,
        caption,
        class_color,
        count,
        flag,
        local_time,
        measure,
        probability,
        remark,
        session_name,
        share_of_best,
        share_text,
        times,
    )
}
