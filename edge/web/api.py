"""``/api/v1``: all that the pages show and do, as JSON. `edge.web.openapi` describes it."""

from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Response, current_app, jsonify, request, url_for
from werkzeug.exceptions import BadRequest, Conflict, NotFound, UnsupportedMediaType

from edge.differential import TARGETS
from edge.health import read_health
from edge.store import Reader, Session
from edge.web import representations as shown
from edge.web.auth import MAX_WHO, visitor
from edge.web.context import web
from edge.web.openapi import LABELS, MOST_COMPARED, MOST_ID, MOST_ROWS, description
from edge.web.representations import JSON
from edge.web.uploads import sent_file

_Number = TypeVar("_Number", int, float)
_Default = TypeVar("_Default")

api = Blueprint("api", __name__, url_prefix="/api/v1")


@api.get("/openapi.json")
def openapi() -> Response:
    """The description of all this."""
    return jsonify(description(current_app.config["SESSION_COOKIE_NAME"]))


@api.get("/status")
def status() -> Response:
    """The device at this moment."""
    device = web().device
    return jsonify(shown.of_status(device.status(), device.manifest))


@api.get("/model")
def model() -> Response:
    """What names the cells."""
    return jsonify(shown.of_model(web().device.model))


@api.get("/settings")
def settings() -> Response:
    """The settings in force, without secrets."""
    return jsonify(shown.of_settings(web().settings, web().device.camera))


@api.get("/events")
def events() -> Response:
    """Newest first."""
    limit, before = _limit(), _number("before_id", int, None, 1, MOST_ID)
    session_id = _number("session_id", int, None, 1, MOST_ID)
    with web().store.read() as reader:
        found = reader.events(limit=limit, before_id=before, session_id=session_id)
    return jsonify(events=[shown.of_event(event) for event in found])


@api.get("/sessions")
def sessions() -> Response:
    """Newest first."""
    limit, before = _limit(), _number("before_id", int, None, 1, MOST_ID)
    with web().store.read() as reader:
        found = reader.sessions(limit=limit, before_id=before)
    return jsonify(sessions=[shown.of_session(session) for session in found])


@api.post("/sessions")
def start_session() -> tuple[Response, int]:
    """Begin a session; the open one ends."""
    content = _json("sample", "operator", "target")
    target = content.get("target")
    if target is not None and not (type(target) is int and target in TARGETS):
        raise BadRequest(f"target: one of {', '.join(map(str, TARGETS))}, or null for no end")
    session = web().device.start_session(_text(content, "sample"), _text(content, "operator"), target)
    return jsonify(shown.of_session(session)), 201


@api.get("/sessions/<int:session_id>")
def session(session_id: int) -> Response:
    """One session."""
    with web().store.read() as reader:
        return jsonify(shown.of_session(reader.session(session_id)))


@api.post("/sessions/<int:session_id>/stop")
def stop_session(session_id: int) -> Response:
    """End a session, if it is the open one."""
    device = web().device
    open_session = device.status().session
    if open_session is None or open_session.id != session_id:
        with web().store.read() as reader:
            reader.session(session_id)
        raise Conflict(f"session {session_id} is not open")
    ended = device.stop_session(f"stopped by {visitor().who}")
    if ended is None:
        raise Conflict(f"session {session_id} is not open any more")
    return jsonify(shown.of_session(ended))


@api.delete("/sessions/<int:session_id>")
def delete_session(session_id: int) -> tuple[str, int]:
    """Delete an ended session with its cells."""
    open_session = web().device.status().session
    if open_session is not None and open_session.id == session_id:
        raise Conflict(f"session {session_id} is open; stop it first")
    web().store.delete_session(session_id)
    return "", 204


@api.get("/sessions/<int:session_id>/differential")
def differential(session_id: int) -> Response:
    """As classified and as corrected."""
    with web().store.read() as reader:
        return jsonify(_both_differentials(reader, reader.session(session_id)))


@api.get("/sessions/compare")
def compare() -> Response:
    """Two or more sessions side by side."""
    ids = [_in_range("id", text, int, 1, MOST_ID) for text in request.args.getlist("id")]
    if not 2 <= len(set(ids)) == len(ids) <= MOST_COMPARED:
        raise BadRequest(f"id: give 2 to {MOST_COMPARED} different sessions, as ?id=1&id=2")
    with web().store.read() as reader:
        found = [reader.session(session_id) for session_id in ids]
        return jsonify(
            sessions=[{"session": shown.of_session(one), **_both_differentials(reader, one)} for one in found]
        )


@api.get("/cells")
def cells() -> Response:
    """Confirmed cells in the order of their ids, a page at a time."""
    class_name = request.args.get("class")
    if class_name is not None and class_name not in LABELS:
        raise BadRequest(f"class: one of {', '.join(LABELS)}")
    corrected = request.args.get("corrected", "false")
    if corrected not in ("true", "false"):
        raise BadRequest("corrected: true or false")
    with web().store.read() as reader:
        found = reader.cells(
            session_id=_number("session_id", int, None, 1, MOST_ID),
            class_name=class_name,
            min_probability=_number("min_probability", float, 0.0, 0, 1),
            max_probability=_number("max_probability", float, 1.0, 0, 1),
            corrected_only=corrected == "true",
            limit=_limit(),
            after_id=_number("after_id", int, None, 0, MOST_ID),
        )
    return jsonify(cells=[shown.of_cell(cell) for cell in found])


@api.get("/cells/<int:cell_id>")
def cell(cell_id: int) -> Response:
    """One cell, and who corrected it when."""
    with web().store.read() as reader:
        found = reader.cell(cell_id)
        corrections = reader.corrections(cell_id=cell_id)
    return jsonify(**shown.of_cell(found), corrections=[shown.of_correction(one) for one in corrections])


@api.get("/cells/<int:cell_id>/crop.jpg")
def crop(cell_id: int) -> Response:
    """What the network saw of it."""
    with web().store.read() as reader:
        return Response(reader.crop(cell_id), mimetype="image/jpeg")


@api.post("/cells/<int:cell_id>/correction")
def correct(cell_id: int) -> Response:
    """Give a cell another label; what it was before is kept."""
    content = _json("class", "who")
    class_name = content.get("class")
    if class_name not in LABELS:
        raise BadRequest(f"class: one of {', '.join(LABELS)}")
    correction = web().store.correct(cell_id, class_name, _who(content))
    return jsonify(shown.of_correction(correction))


def _both_differentials(reader: Reader, session: Session) -> JSON:
    """A session's differential as classified and as corrected."""
    # Of the model that counted: the device may have another by now.
    accuracy = session.settings.get("accuracy", {})
    classified, corrected = reader.differential(session.id)
    return {
        "as_classified": shown.of_differential(classified, accuracy),
        "as_corrected": shown.of_differential(corrected, accuracy),
    }


@api.get("/health")
def health() -> Response:
    """What the machine's sensors say, and whether all is well."""
    return jsonify(shown.of_health(web().device.status(), read_health(web().folder)))


@api.get("/sessions/<int:session_id>/export")
def export(session_id: int) -> Response:
    """A session as CSV, as JSON, or its crops as a zip."""
    return web().exports.response(session_id, request.args.get("format"))


@api.post("/classify")
def classify() -> Response:
    """Name the cells of a picture."""
    found = web().uploads.classify_form(request, sent_file(request))
    return jsonify(shown.of_classified(found, url_for(".classified", name=found.picture)))


@api.get("/classified/<name>.jpg")
def classified(name: str) -> Response:
    """A copy of a picture that was sent, its cells boxed and named."""
    data = web().uploads.picture(name)
    if data is None:
        raise NotFound("this picture is no longer kept; send it again")
    return Response(data, mimetype="image/jpeg")


def _who(content: JSON) -> str:
    """Who is recorded with a change: who signed in, or whom the holder of the token names."""
    known = visitor()
    who = content.get("who")
    if known.by_cookie or who is None:
        return str(known.who)
    if not isinstance(who, str) or not who.strip() or len(who) > MAX_WHO or not who.isprintable():
        raise BadRequest(f"who: a name of 1 to {MAX_WHO} characters")
    return who.strip()


def _json(*known: str) -> JSON:
    """The fields of the request. Raises 400 or 415 where it is no JSON object, or has other fields."""
    if not request.is_json:
        raise UnsupportedMediaType("send JSON, as Content-Type: application/json")
    try:
        content = request.get_json()
    except (BadRequest, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(content, dict):
        raise BadRequest("send a JSON object")
    if unknown := sorted(set(content) - set(known)):
        raise BadRequest(f"there is no field {unknown[0][:40]!r}; known are {', '.join(known)}")
    return content


def _text(content: JSON, field: str) -> str:
    text = content.get(field, "")
    if not isinstance(text, str):
        raise BadRequest(f"{field}: a text in quotes")
    return text


def _limit() -> int:
    return _number("limit", int, 100, 1, MOST_ROWS)


def _number(
    field: str, kind: Callable[[str], _Number], default: _Default, low: float, high: float
) -> _Number | _Default:
    """A number of the query. Raises `BadRequest` where it is none, or out of range."""
    text = request.args.get(field)
    return default if text is None else _in_range(field, text, kind, low, high)


def _in_range(field: str, text: str, kind: Callable[[str], _Number], low: float, high: float) -> _Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:  # also refuses not-a-number
        raise BadRequest(f"{field}: a number from {low:g} to {high:g}")
    return value
