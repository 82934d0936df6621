"""The description of the API, OpenAPI 3.1: what `edge.web.api` and its neighbours take and answer."""

from typing import Any

from edge.device import State
from edge.differential import TARGETS
from edge.web.auth import CSRF_HEADER, MAX_WHO
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.plausibility import FieldState

JSON = dict[str, Any]

#: Of this description: the first number rises where a field goes or means something else.
API_VERSION = "2.0"
#: What a cell may be called.
LABELS = (*CLASS_NAMES, UNCLASSIFIED)
#: Rows of one answer, sessions side by side.
MOST_ROWS, MOST_COMPARED = 500, 10
#: Ids in an address are no larger; the store takes some more.
MOST_ID = 2**53

_ERRORS = {
    400: "What was asked for cannot be meant",
    401: "Not signed in, or the token is wrong",
    403: "Asked for by a page of another site, or changed without the value that our pages carry",
    404: "There is no such thing",
    409: "Not in the state that it is in",
    413: "Larger than is taken",
    415: "In another form than is taken",
    422: "A picture that cannot be used",
    429: "Too many wrong tokens",
    500: "The device failed",
    503: "The device or its store cannot at the moment",
}
_ANY = (400, 401, 403, 429, 500, 503)
#: Ways to be known.
_KNOWN: list[JSON] = [{"token": []}, {"sign_in": []}]

_TEXT: JSON = {"type": "string"}
_WHOLE: JSON = {"type": "integer"}
_COUNT: JSON = {"type": "integer", "minimum": 0}
_NUMBER: JSON = {"type": "number"}
_PERCENT: JSON = {"type": "number", "minimum": 0, "maximum": 100}
_SHARE_OF_ONE: JSON = {"type": "number", "minimum": 0, "maximum": 1}
_YES_OR_NO: JSON = {"type": "boolean"}
_TIME: JSON = {"type": "string", "format": "date-time"}
_OPEN: JSON = {"type": "object"}
_LABEL: JSON = {"enum": list(LABELS)}
_PAIR: JSON = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_TEXTS: JSON = {"type": "array", "items": _TEXT}


def _object(**fields: JSON) -> JSON:
    """An object with these fields, all of them and no other."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _or_null(schema: JSON) -> JSON:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: JSON) -> JSON:
    return {"type": "array", "items": schema}


def _of(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


_SHARE = {"count": _COUNT, "percent": _or_null(_PERCENT), "low": _PERCENT, "high": _PERCENT}
_PROBABILITIES = {
    "probability": _SHARE_OF_ONE,
    "probabilities": _object(**dict.fromkeys(CLASS_NAMES, _SHARE_OF_ONE)),
}
_CELL = {
    "id": _WHOLE,
    "session_id": _WHOLE,
    "number": _WHOLE,
    "area": _WHOLE,
    # What cannot be read in a damaged store is null, or -1; "unreadable" names it.
    "position_um": _or_null(_PAIR),
    "label": _or_null(_LABEL),
    "classified_as": _or_null(_LABEL),
    "corrected": _or_null(_LABEL),
    **{name: _or_null(schema) for name, schema in _PROBABILITIES.items()},
    "looks": _WHOLE,
    "focus": _or_null(_NUMBER),
    "first_seen": _or_null(_TIME),
    "confirmed_at": _or_null(_TIME),
    "model_hash": _TEXT,
    "unreadable": _TEXTS,
}
_BOTH = {"as_classified": _of("Differential"), "as_corrected": _of("Differential")}
_HEALTH_SENSORS = {
    "temperature_c": _or_null(_NUMBER),
    "throttled": _or_null(_TEXTS),
    "clock_mhz": _or_null(_NUMBER),
    "clock_synchronised": _or_null(_YES_OR_NO),
    "free_mb": _or_null(_NUMBER),
    "memory_used_mb": _or_null(_NUMBER),
    "memory_free_mb": _or_null(_NUMBER),
    "load": _or_null(_NUMBER),
}

_SCHEMAS: JSON = {
    "Error": _object(error=_TEXT),
    "Status": _object(
        started_at=_TIME,
        state={"enum": [str(state) for state in State]},
        since=_TIME,
        reason=_TEXT,
        camera=_TEXT,
        um_per_pixel=_NUMBER,
        failures=_COUNT,
        recoveries=_COUNT,
        frames=_COUNT,
        skipped=_COUNT,
        dropped=_COUNT,
        lost=_COUNT,
        frames_per_second=_NUMBER,
        frame_age_s=_or_null(_NUMBER),
        focus=_or_null(_NUMBER),
        cells_in_view=_COUNT,
        session=_or_null(_of("Session")),
        differential=_of("Differential"),
        condition=_object(
            state={"enum": [str(state) for state in FieldState]},
            line=_TEXT,
            notes=_TEXTS,
            counts=_YES_OR_NO,
            unfamiliar=_or_null(_TEXT),
        ),
        target_reached=_YES_OR_NO,
        store=_object(
            pending=_COUNT,
            stored=_COUNT,
            not_stored=_COUNT,
            error=_or_null(_TEXT),
            warning=_or_null(_TEXT),
        ),
        messages=_or_null(_object(connected=_YES_OR_NO, error=_or_null(_TEXT), queued=_COUNT, sent=_COUNT)),
        notes=_TEXTS,
        said=_TEXTS,
    ),
    "Differential": _object(
        total=_COUNT,
        named=_COUNT,
        classes=_list(
            _object(
                name={"enum": list(CLASS_NAMES)},
                **_SHARE,
                reference=_PAIR,
                beyond_reference={"enum": ["high", "low", None]},
                misclassification=_or_null(_PAIR),
                loinc=_TEXT,
            )
        ),
        unclassified=_object(**_SHARE),
        classifier_error=_TEXT,
        reference_source=_TEXT,
    ),
    "Differentials": _object(**_BOTH),
    "Session": _object(
        id=_WHOLE,
        sample=_TEXT,
        operator=_TEXT,
        started_at=_or_null(_TIME),
        ended_at=_or_null(_TIME),
        ended_because=_or_null(_TEXT),
        camera=_TEXT,
        model_name=_TEXT,
        model_hash=_TEXT,
        um_per_pixel=_or_null(_NUMBER),
        target=_or_null(_WHOLE),
        settings=_OPEN,
        continued=_COUNT,
        crop_um=_or_null(_NUMBER),
        start_clock_set=_or_null(_YES_OR_NO),
        end_clock_set=_or_null(_YES_OR_NO),
        goes_because=_or_null(_TEXT),
        goes_in_h=_or_null(_NUMBER),
        unreadable=_TEXTS,
    ),
    "Sessions": _object(sessions=_list(_of("Session"))),
    "Comparison": _object(sessions=_list(_object(session=_of("Session"), **_BOTH))),
    "Cell": _object(**_CELL),
    "Cells": _object(cells=_list(_of("Cell"))),
    "CellWithHistory": _object(**_CELL, corrections=_list(_of("Correction"))),
    "Correction": _object(
        cell_id=_WHOLE, at=_or_null(_TIME), who=_TEXT, before=_or_null(_LABEL), after=_or_null(_LABEL)
    ),
    "Events": _object(
        events=_list(
            _object(id=_WHOLE, at=_or_null(_TIME), session_id=_or_null(_WHOLE), kind=_TEXT, text=_TEXT)
        )
    ),
    "Health": _object(
        healthy=_YES_OR_NO, problems=_TEXTS, warnings=_TEXTS, sensors=_object(**_HEALTH_SENSORS)
    ),
    "Model": _object(name=_TEXT, hash=_TEXT, manifest=_OPEN),
    "Settings": _object(camera=_OPEN, model=_OPEN, session=_OPEN, store=_OPEN, web=_OPEN, mqtt=_OPEN),
    "Classified": _object(
        kind={"enum": ["field", "single"]},
        width=_COUNT,
        height=_COUNT,
        um_per_pixel=_NUMBER,
        um_per_pixel_measured=_YES_OR_NO,
        warning=_or_null(_TEXT),
        cells=_list(
            _object(
                **{"class": _LABEL},
                **_PROBABILITIES,
                declined_because=_or_null(_TEXT),
                box={"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
                center=_PAIR,
                nucleus_area_um2=_NUMBER,
                touches_border=_YES_OR_NO,
                found=_YES_OR_NO,
            )
        ),
        milliseconds=_NUMBER,
        picture=_TEXT,
    ),
}


def _query(name: str, schema: JSON, words: str, required: bool = False) -> JSON:
    return {"name": name, "in": "query", "schema": schema, "description": words, "required": required}


def _asks(summary: str, answer: str | tuple[str, ...], *query: JSON, errors: tuple[int, ...] = ()) -> JSON:
    """A question. ``answer``: a schema's name, or media types."""
    return _operation(summary, answer, 200, (*_ANY, *errors)) | {"parameters": list(query)}


def _changes(
    summary: str,
    answer: str | tuple[str, ...],
    code: int = 200,
    body: JSON | None = None,
    errors: tuple[int, ...] = (),
) -> JSON:
    """What changes something, and so takes a sign-in or the token. ``answer``: empty where nothing comes."""
    operation = _operation(summary, answer, code, (*_ANY, 413, *errors)) | {"security": _KNOWN}
    return operation if body is None else operation | {"requestBody": {"required": True, "content": body}}


def _operation(summary: str, answer: str | tuple[str, ...], code: int, errors: tuple[int, ...]) -> JSON:
    right: JSON = {"description": summary}
    if isinstance(answer, str):
        right["content"] = {"application/json": {"schema": _of(answer)}}
    elif answer:
        right["content"] = {kind: {} for kind in answer}
    problem = {"application/json": {"schema": _of("Error")}}
    wrong = {str(one): {"description": _ERRORS[one], "content": problem} for one in sorted(set(errors))}
    return {"summary": summary, "responses": {str(code): right, **wrong}}


def _number_in_path(name: str) -> JSON:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}


def _json_body(**fields: JSON) -> JSON:
    return {
        "application/json": {
            "schema": {"type": "object", "properties": fields, "additionalProperties": False}
        }
    }


_LIMIT = _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}, "Rows; 100 unless given.")
_BEFORE = _query("before_id", {"type": "integer", "minimum": 1}, "Only those before this one.")
_OF_SESSION = _query("session_id", {"type": "integer", "minimum": 1}, "Only of this session.")
_SESSION_ID, _CELL_ID = _number_in_path("session_id"), _number_in_path("cell_id")

_PATHS: JSON = {
    "/api/v1/openapi.json": {"get": _asks("This description", ("application/json",))},
    "/api/v1/status": {"get": _asks("The device at this moment", "Status")},
    "/api/v1/health": {"get": _asks("Whether all is well, and what the sensors say", "Health")},
    "/api/v1/model": {"get": _asks("What names the cells, with its manifest", "Model")},
    "/api/v1/settings": {"get": _asks("The settings in force, without secrets", "Settings")},
    "/api/v1/events": {"get": _asks("What happened, newest first", "Events", _LIMIT, _BEFORE, _OF_SESSION)},
    "/api/v1/sessions": {
        "get": _asks("Sessions, newest first", "Sessions", _LIMIT, _BEFORE),
        "post": _changes(
            "Begin a session; the open one ends",
            "Session",
            201,
            _json_body(sample=_TEXT, operator=_TEXT, target={"enum": [*TARGETS, None]}),
            errors=(415,),
        ),
    },
    "/api/v1/sessions/compare": {
        "get": _asks(
            "Sessions side by side",
            "Comparison",
            _query(
                "id",
                {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": MOST_COMPARED},
                "Of each session, as ?id=1&id=2.",
                required=True,
            ),
            errors=(404,),
        )
    },
    "/api/v1/sessions/{session_id}": {
        "parameters": [_SESSION_ID],
        "get": _asks("A session", "Session", errors=(404,)),
        "delete": _changes("Deleted, with its cells; not the open one", (), 204, errors=(404, 409)),
    },
    "/api/v1/sessions/{session_id}/stop": {
        "parameters": [_SESSION_ID],
        "post": _changes("End it, if it is the open one", "Session", errors=(404, 409)),
    },
    "/api/v1/sessions/{session_id}/differential": {
        "parameters": [_SESSION_ID],
        "get": _asks("As classified and as corrected", "Differentials", errors=(404,)),
    },
    "/api/v1/sessions/{session_id}/export": {
        "parameters": [_SESSION_ID],
        "get": _asks(
            "The session as a file: a table, JSON, or crops by class, which train fit reads",
            ("text/csv; charset=utf-8", "application/json", "application/zip"),
            _query("format", {"enum": ["csv", "json", "crops"]}, "Which of them.", required=True),
            errors=(404,),
        ),
    },
    "/api/v1/cells": {
        "get": _asks(
            "Confirmed cells in the order in which they were stored",
            "Cells",
            _LIMIT,
            _query(
                "after_id", {"type": "integer", "minimum": 0}, "Only those after this one: the next page."
            ),
            _OF_SESSION,
            _query("class", _LABEL, "Only what counts as this."),
            _query("min_probability", _SHARE_OF_ONE, "Of the likeliest class."),
            _query("max_probability", _SHARE_OF_ONE, "Of the likeliest class."),
            _query("corrected", _YES_OR_NO, "Only what a person gave another label."),
        )
    },
    "/api/v1/cells/{cell_id}": {
        "parameters": [_CELL_ID],
        "get": _asks("A cell, and who gave it which label when", "CellWithHistory", errors=(404,)),
    },
    "/api/v1/cells/{cell_id}/crop.jpg": {
        "parameters": [_CELL_ID],
        "get": _asks("What the network saw of it", ("image/jpeg",), errors=(404,)),
    },
    "/api/v1/cells/{cell_id}/correction": {
        "parameters": [_CELL_ID],
        "post": _changes(
            "Give it another label; what it was before is kept",
            "Correction",
            200,
            _json_body(
                **{"class": _LABEL},
                who={
                    "type": "string",
                    "maxLength": MAX_WHO,
                    "description": "Who says so, of whoever comes with the token.",
                },
            ),
            errors=(404, 415),
        ),
    },
    "/api/v1/classify": {
        "post": _changes(
            "Name the cells of a picture: JPEG, PNG, BMP, TIFF or WebP",
            "Classified",
            200,
            {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "image": {"type": "string", "contentMediaType": "application/octet-stream"},
                            "kind": {"enum": ["field", "single"], "default": "field"},
                            "um_per_pixel": _NUMBER
                            | {"description": "Measured from red cells if not given."},
                        },
                        "required": ["image"],
                    }
                }
            },
            errors=(415, 422),
        )
    },
    "/api/v1/classified/{name}.jpg": {
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": _TEXT}],
        "get": _asks("The last few pictures sent, their cells boxed", ("image/jpeg",), errors=(404,)),
    },
    "/live.jpg": {"get": _asks("The newest picture, its cells boxed and named", ("image/jpeg",))},
    "/live.mjpg": {"get": _asks("Pictures as they come, up to ten a second", ("multipart/x-mixed-replace",))},
    "/metrics": {"get": _asks("For Prometheus", ("text/plain",))},
    "/healthz": {"get": _asks("Whether the device does its work: 200, or 503", "Health")},
}
_PATHS["/healthz"]["get"]["responses"]["503"]["content"] = {
    "application/json": {"schema": {"anyOf": [_of("Health"), _of("Error")]}}
}


def description(cookie: str) -> JSON:
    """The document that ``/api/v1/openapi.json`` answers; ``cookie``: the name of a sign-in's."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HematoVision",
            "version": API_VERSION,
            "description": "A leukocyte differential, counted live. Research and teaching use; not a medical "
            "device. Times are UTC, shares per cent, lengths µm. What changes something takes a sign-in or "
            f"the token; with a sign-in's cookie also the header {CSRF_HEADER}. A cell's `label` is what it "
            "counts as, `classified_as` what the classifier said; its `class` went with version 2.",
        },
        "security": [*_KNOWN, {}],
        "paths": _PATHS,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "sign_in": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }
