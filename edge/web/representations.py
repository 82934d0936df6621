"""What the device is and has seen as plain values: what the API answers, and what the pages show.

Every function returns what `json.dumps` takes. Times are ISO 8601 in UTC, shares are in per cent, lengths in
µm. Nothing secret is in any of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from edge.config import Settings
from edge.device import DeviceStatus
from edge.differential import Differential, Share, beyond_reference, classifier_error
from edge.health import Health, problems, warnings
from edge.misclassification import Misclassification
from edge.stills import NamedCell
from edge.store import Correction, Event, Session, StoredCell
from edge.web.uploads import Classified
from hematovision.cell_classes import CELL_CLASSES, CLASS_NAMES, REFERENCE_SOURCE
from hematovision.classifier import Prediction
from hematovision.model_file import Manifest, ModelFile

JSON = dict[str, Any]


def of_status(status: DeviceStatus, manifest: Manifest) -> JSON:
    """The device at a moment."""
    return {
        "started_at": of_time(status.started_at),
        "state": str(status.state),
        "since": of_time(status.since),
        "reason": status.reason,
        "camera": status.camera,
        "um_per_pixel": status.um_per_pixel,
        "failures": status.failures,
        "recoveries": status.recoveries,
        "frames": status.frames,
        "skipped": status.skipped,
        "dropped": status.dropped,
        "lost": status.lost,
        "frames_per_second": round(status.frames_per_second, 2),
        "frame_age_s": _rounded(status.frame_age_s, 3),
        "focus": _rounded(status.focus, 3),
        "cells_in_view": status.cells_in_view,
        "session": None if status.session is None else of_session(status.session),
        "differential": of_differential(status.differential, manifest.accuracy, status.condition.trusted),
        "condition": {
            "state": str(status.condition.state),
            "line": status.condition.line,
            "notes": list(status.condition.notes),
            "counts": status.condition.counts,
            "unfamiliar": status.unfamiliar,
        },
        "target_reached": status.target_reached,
        "store": asdict(status.store),
        "messages": None if status.messages is None else asdict(status.messages),
        "notes": list(status.notes),
        "said": list(status.said),
    }


def of_differential(differential: Differential, accuracy: Mapping[str, Any], trusted: bool = True) -> JSON:
    """Counts, shares with exact 95 % limits and the adults' reference intervals beside them.

    ``accuracy``: of the model that counted, as its manifest has it. ``misclassification`` of a class: lowest
    and highest share that its count could come from by those measured errors alone; None where they were not
    measured, or nothing is counted. Where what was looked at is not ``trusted``, nothing is high or low.
    """
    measured = Misclassification.of(accuracy).behind(differential.counts)
    classes = []
    for index, one in enumerate(CELL_CLASSES):
        share = differential.share(one.name)
        classes.append(
            {
                "name": one.name,
                **_of_share(share),
                "reference": list(one.reference_percent),
                "beyond_reference": beyond_reference(share, one.reference_percent) if trusted else None,
                "misclassification": None if measured is None else [round(x, 2) for x in measured[index]],
                "loinc": one.loinc,
            }
        )
    return {
        "total": differential.total,
        "named": differential.named,
        "classes": classes,
        "unclassified": _of_share(differential.unclassified_share),
        "classifier_error": classifier_error(accuracy),
        "reference_source": REFERENCE_SOURCE,
    }


def of_session(session: Session) -> JSON:
    """A session, open or ended."""
    return {
        "id": session.id,
        "sample": session.sample,
        "operator": session.operator,
        "started_at": of_time(session.started_at),
        "ended_at": of_time(session.ended_at),
        "ended_because": session.ended_because,
        "camera": session.camera,
        "model_name": session.model_name,
        "model_hash": session.model_hash,
        "um_per_pixel": session.um_per_pixel,
        "target": session.target,
        # Less what was measured of the model, which comes with the differential.
        "settings": {name: value for name, value in session.settings.items() if name != "accuracy"},
        "continued": session.continued,
        "crop_um": session.crop_um,
        "start_clock_set": session.start_clock_set,
        "end_clock_set": session.end_clock_set,
        "goes_because": session.goes_because,
        "goes_in_h": _rounded(session.goes_in_h, 2),
        "unreadable": session.unreadable,
    }


def of_cell(cell: StoredCell) -> JSON:
    """A confirmed cell. ``label`` is what it counts as: the correction, or else what it was classified as."""
    return {
        "id": cell.id,
        "session_id": cell.session_id,
        "number": cell.number,
        "area": cell.area,
        "position_um": None if cell.position_um is None else [round(x, 1) for x in cell.position_um],
        "label": cell.label,
        "classified_as": cell.class_name,
        "corrected": cell.corrected,
        **_of_probabilities(cell.probabilities),
        "looks": cell.looks,
        "focus": _rounded(cell.focus, 3),
        "first_seen": of_time(cell.first_seen),
        "confirmed_at": of_time(cell.confirmed_at),
        "model_hash": cell.model_hash,
        "unreadable": cell.unreadable,
    }


def of_correction(correction: Correction) -> JSON:
    """Who changed a cell's label, when, and what it was before."""
    return {
        "cell_id": correction.cell_id,
        "at": of_time(correction.at),
        "who": correction.who,
        "before": correction.before,
        "after": correction.after,
    }


def of_event(event: Event) -> JSON:
    """Something that happened."""
    return {
        "id": event.id,
        "at": of_time(event.at),
        "session_id": event.session_id,
        "kind": event.kind,
        "text": event.text,
    }


def of_named_cells(cells: Iterable[NamedCell]) -> list[JSON]:
    """The cells of a picture, most prominent first; boxes are x, y, width and height in its pixels."""
    return [
        {
            **_of_prediction(cell.prediction),
            "box": [round(value, 1) for value in cell.region.box],
            "center": [round(value, 1) for value in cell.region.center],
            "nucleus_area_um2": round(cell.region.nucleus_area_um2, 1),
            "touches_border": cell.region.touches_border,
            "found": cell.found,
        }
        for cell in cells
    ]


def of_classified(found: Classified, picture: str) -> JSON:
    """What was seen in a picture; ``picture``: where a copy is, the cells boxed and named."""
    return {
        "kind": "single" if found.single else "field",
        "width": found.width,
        "height": found.height,
        "um_per_pixel": round(found.um_per_pixel, 5),
        "um_per_pixel_measured": found.measured,
        "warning": found.warning,
        "cells": of_named_cells(found.cells),
        "milliseconds": round(found.milliseconds, 1),
        "picture": picture,
    }


def of_health(status: DeviceStatus, health: Health) -> JSON:
    """Whether the device does its work, why not, what soon may go wrong, and what its sensors say.

    A sensor that the machine lacks is None.
    """
    found = problems(status, health)
    return {
        "healthy": not found,
        "problems": found,
        "warnings": warnings(status, health),
        "sensors": asdict(health),
    }


def of_model(model: ModelFile) -> JSON:
    """What names the cells: its file, and all that its manifest says."""
    return {"name": model.path.name, "hash": model.model_hash, "manifest": asdict(model.manifest)}


def of_settings(settings: Settings, camera: str) -> JSON:
    """The settings in force; the camera as a person calls it, since its address may hold a password."""
    shown = asdict(settings)
    shown["camera"]["source"] = camera
    return shown


def of_time(moment: datetime | None) -> str | None:
    """A moment as text; None where it is not known."""
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _of_share(share: Share) -> JSON:
    return {
        "count": share.count,
        "percent": _rounded(share.percent, 2),
        "low": round(share.low, 2),
        "high": round(share.high, 2),
    }


def _of_prediction(prediction: Prediction) -> JSON:
    return {
        "class": prediction.class_name,
        **_of_probabilities(prediction.probabilities),
        "declined_because": prediction.declined_because,
    }


def _of_probabilities(probabilities: tuple[float, ...] | None) -> JSON:
    if probabilities is None:
        return {"probability": None, "probabilities": None}
    return {
        "probability": round(max(probabilities), 4),
        "probabilities": {
            name: round(value, 4) for name, value in zip(CLASS_NAMES, probabilities, strict=True)
        },
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
