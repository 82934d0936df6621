"""The pages: what a person in the lab sees and steers. Each is whole without scripts."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask import session as browser
from flask.blueprints import BlueprintSetupState
from jinja2 import StrictUndefined
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.wrappers import Response

from edge.differential import TARGETS, Differential, classifier_error
from edge.health import problems, read_health, warnings
from edge.store import Reader, Session
from edge.web.auth import visitor
from edge.web.context import web
from edge.web.kept_files import KEPT_MINUTES, KeptFiles, SentFile
from edge.web.openapi import LABELS, MOST_COMPARED
from edge.web.page_text import (
    FILTERS,
    accuracy_lines,
    health_lines,
    messages_line,
    model_lines,
    old_note,
    session_name,
    setting_lines,
    time_zone,
)
from edge.web.uploads import Classified, sent_file
from hematovision.cell_classes import CELL_CLASSES, REFERENCE_SOURCE
from hematovision.errors import ChildError, HematoVisionError, StoreError
from hematovision.terminal.mistyped import decimal_comma

#: Rows of one page.
CELLS_A_PAGE, SESSIONS_A_PAGE, EVENTS_A_PAGE = 60, 50, 50
_SESSIONS_TO_CHOOSE = 200
_RESULTS_KEPT = 8
_FILTER_KEYS = ("session", "class", "from", "to", "corrected")

pages = Blueprint("pages", __name__)
for _name, _write in FILTERS.items():
    pages.add_app_template_filter(_write, _name)


@pages.record_once
def _prepare(state: BlueprintSetupState) -> None:
    # A page is asked for again every second: without the empty lines that the templates would leave.
    environment = state.app.jinja_env
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.undefined = StrictUndefined
    # What was found in the last pictures, so that reloading a result does not send the picture again.
    state.app.extensions["classified"] = deque(maxlen=_RESULTS_KEPT)
    state.app.extensions["kept_files"] = KeptFiles()


@pages.app_context_processor
def _everywhere() -> dict[str, Any]:
    who = visitor().who
    # A sign-in leads back to what was looked at: not to where a form was sent, nor to the sign-in itself.
    is_page = request.method == "GET" and request.blueprint == pages.name
    return {
        "viewer": who,
        "may_write": who is not None,
        "sign_in_url": url_for("auth.sign_in", next=request.full_path.rstrip("?") if is_page else None),
        "cell_classes": CELL_CLASSES,
        "labels": LABELS,
        "targets": TARGETS,
        "time_zone": time_zone(),
        "reference_source": REFERENCE_SOURCE,
    }


@pages.get("/")
def live() -> str:
    """What is under the microscope now."""
    device = web().device
    status = device.status()
    return render_template(
        "live.html",
        status=status,
        old_note=old_note(status),
        error_note=classifier_error(device.manifest.accuracy),
        summary=device.tally.summary(),
    )


# Cells


@dataclass(frozen=True)
class CellFilter:
    """Which cells are shown; ``session``: a number, or ``all``, or nothing for the open or newest one."""

    session: str
    class_name: str
    low: float
    high: float
    corrected_only: bool

    @classmethod
    def of(cls, given: MultiDict[str, str]) -> "CellFilter":
        """From a page's address. Raises `BadRequest` where it says what cannot be."""
        class_name = given.get("class", "")
        if class_name not in ("", *LABELS):
            raise BadRequest(f"no class of that name; there are {', '.join(LABELS)}")
        low, high = (_number(given, key, default) for key, default in (("from", 0.0), ("to", 1.0)))
        return cls(given.get("session", ""), class_name, low, high, "corrected" in given)

    @property
    def narrow(self) -> bool:
        """Whether cells of a session may be left out."""
        return bool(self.class_name) or self.low > 0 or self.high < 1 or self.corrected_only

    def session_in(self, reader: Reader, sessions: list[Session]) -> Session | None:
        """The session meant; None for all of them, or where there is none yet."""
        if self.session == "all":
            return None
        if not self.session:
            return reader.open_session() or (sessions[0] if sessions else None)
        return reader.session(_whole(self.session))


@pages.get("/cells")
def cells() -> str:
    """The cells that were counted, by what they look like."""
    wanted = CellFilter.of(request.args)
    after = request.args.get("after")
    with web().store.read() as reader:
        sessions = reader.sessions(_SESSIONS_TO_CHOOSE)
        session = wanted.session_in(reader, sessions)
        found = reader.cells(
            session.id if session else None,
            wanted.class_name or None,
            wanted.low,
            wanted.high,
            wanted.corrected_only,
            limit=CELLS_A_PAGE + 1,
            after_id=None if after is None else _whole(after),
            newest_first=True,
        )
        classified, corrected = reader.differential(session.id) if session else (None, None)
    if session is not None and session not in sessions:
        sessions.append(session)
    here = {key: request.args[key] for key in _FILTER_KEYS if key in request.args}
    shown = found[:CELLS_A_PAGE]
    return render_template(
        "cells.html",
        cells=shown,
        wanted=wanted,
        sessions=sessions,
        session=session,
        classified=classified,
        corrected=corrected,
        error_notes=_error_notes(session) if session else [],
        here=request.full_path,
        first_url=None if after is None else _address(".cells", here),
        next_url=_address(".cells", here | {"after": shown[-1].id}) if len(found) > len(shown) else None,
    )


@pages.get("/cells/<int:cell_id>")
def cell(cell_id: int) -> str:
    """One cell, and the history of its label."""
    with web().store.read() as reader:
        found = reader.cell(cell_id)
        session = reader.session(found.session_id)
        corrections = reader.corrections(cell_id=cell_id)
    return render_template(
        "cell.html",
        cell=found,
        session=session,
        corrections=corrections,
        decline_below=web().device.manifest.decline_below,
    )


@pages.post("/cells/<int:cell_id>/label")
def correct(cell_id: int) -> Response:
    """Give a cell another label."""
    name = request.form.get("class", "")
    if name not in LABELS:
        raise BadRequest(f"no class of that name; there are {', '.join(LABELS)}")
    with web().store.read() as reader:
        before = reader.cell(cell_id)
    if name == before.label:
        flash(f"Cell {before.number} is called {name} already.", "info")
    else:
        web().store.correct(cell_id, name, str(visitor().who))
        flash(f"Cell {before.number} was {before.label or 'unreadable'} and is {name} now.", "info")
    back = request.form.get("back", "")
    # Only to the pages that have this form; a browser takes // or a backslash for another site.
    if not back.startswith("/cells") or "\\" in back or not back.isprintable():
        back = url_for(".cell", cell_id=cell_id)
    return redirect(f"{back}#cell-{cell_id}", 303)


# Classify


@pages.get("/classify")
def classify() -> str:
    """Choose an image, and what was found in one."""
    name = request.args.get("result")
    kept: deque[Classified] = current_app.extensions["classified"]
    result = next((one for one in tuple(kept) if one.picture == name), None)
    error = "This result is no longer kept; classify the image again." if name and not result else None
    return _classify_page(error, result)


@pages.post("/classify")
def classify_image() -> Response | tuple[str, int]:
    """Name the cells of the image that was sent, or of the one that an earlier form came back with."""
    file: SentFile | None = None
    try:
        file = _kept_files().take(request.form.get("kept", ""), _owner())
        file = sent_file(request) if file is None or request.files.get("image") else file
        result = web().uploads.classify_form(request, file)
    except HTTPException as error:
        return _classify_page(error.description, None, file), error.code or BadRequest.code
    except HematoVisionError as error:
        return _classify_page(str(error), None, file), 503 if isinstance(error, ChildError) else 422
    current_app.extensions["classified"].append(result)
    return redirect(url_for(".classify", result=result.picture), 303)


def _kept_files() -> KeptFiles:
    kept = current_app.extensions["kept_files"]
    assert isinstance(kept, KeptFiles)
    return kept


def _owner() -> str:
    """Whose files are kept: those of one sign-in."""
    return str(browser.get("id"))


def _classify_page(error: str | None, result: Classified | None, file: SentFile | None = None) -> str:
    scale = f"{web().device.um_per_pixel:.6g}"
    return render_template(
        "classify.html",
        error=error,
        result=result,
        single=request.form.get("kind") == "single",
        um_per_pixel=request.form.get("um_per_pixel", scale),
        kept=_kept_files().keep(file, _owner()) if file and file.data else None,
        kept_name=(file and file.name) or "The image",
        kept_minutes=KEPT_MINUTES,
        upload_mb=web().settings.web.upload_mb,
    )


# Sessions


@pages.get("/sessions")
def sessions() -> str:
    """All sessions, and starting and stopping one."""
    before = request.args.get("before")
    with web().store.read() as reader:
        found = reader.sessions(SESSIONS_A_PAGE + 1, None if before is None else _whole(before))
        shown = found[:SESSIONS_A_PAGE]
        listed = [(one, reader.differential(one.id)[1]) for one in shown]
    status = web().device.status()
    return render_template(
        "sessions.html",
        sessions=listed,
        open_session=status.session,
        status=status,
        next_url=url_for(".sessions", before=shown[-1].id) if len(found) > len(shown) else None,
    )


@pages.post("/sessions/start")
def start() -> Response:
    """Begin to count a sample."""
    wanted = request.form.get("target", "")
    if wanted not in ("", *map(str, TARGETS)):
        raise BadRequest(f"the target is none of {', '.join(map(str, TARGETS))}")
    sample, operator = (request.form.get(key, "").strip() for key in ("sample", "operator"))
    try:
        session = web().device.start_session(sample, operator, int(wanted) if wanted else None)
    except HematoVisionError as error:
        flash(f"No session was started: {error}.", "error")
        return redirect(url_for(".sessions"), 303)
    flash(f"Counting into {session_name(session)}.", "info")
    return redirect(url_for(".live"), 303)


@pages.post("/sessions/stop")
def stop() -> Response:
    """End the open session, if it is still the one that was shown."""
    session = web().device.status().session
    if session is None or str(session.id) != request.form.get("session"):
        flash("That session has ended already.", "info")
        return redirect(url_for(".sessions"), 303)
    try:
        web().device.stop_session(f"stopped by {visitor().who}")
    except HematoVisionError as error:
        flash(f"The session was not stopped: {error}.", "error")
        return redirect(url_for(".sessions"), 303)
    flash(f"{session_name(session)} is stopped.", "info")
    return redirect(url_for(".session", session_id=session.id), 303)


@pages.get("/sessions/<int:session_id>")
def session(session_id: int) -> str:
    """One session: its differential, its exports, its end."""
    with web().store.read() as reader:
        found = reader.session(session_id)
        classified, corrected = reader.differential(session_id)
        events = reader.events(EVENTS_A_PAGE, session_id=session_id)
        unreadable = reader.unreadable
    return render_template(
        "session.html",
        session=found,
        unreadable=unreadable,
        classified=classified,
        corrected=corrected,
        error_notes=_error_notes(found),
        events=events,
    )


@pages.post("/sessions/<int:session_id>/delete")
def delete(session_id: int) -> Response:
    """Delete a session that has ended."""
    with web().store.read() as reader:
        found = reader.session(session_id)
    try:
        web().store.delete_session(session_id)
    except StoreError as error:
        flash(f"Nothing was deleted: {error}.", "error")
        return redirect(url_for(".session", session_id=session_id), 303)
    flash(f"{session_name(found)} is deleted.", "info")
    return redirect(url_for(".sessions"), 303)


@pages.get("/sessions/compare")
def compare() -> str | Response:
    """Two or more sessions side by side."""
    chosen = list(dict.fromkeys(_whole(text) for text in request.args.getlist("id")))
    if not 2 <= len(chosen) <= MOST_COMPARED:
        flash(f"Choose 2 to {MOST_COMPARED} sessions to compare.", "error")
        return redirect(url_for(".sessions"), 303)
    with web().store.read() as reader:
        found: list[tuple[Session, Differential]] = [
            (reader.session(one), reader.differential(one)[1]) for one in chosen
        ]
    methods = {(one.model_hash, round(one.um_per_pixel or 0, 4)) for one, _ in found}
    return render_template(
        "compare.html",
        sessions=found,
        error_notes=_error_notes(*(one for one, _ in found)),
        many_methods=len(methods) > 1,
    )


# Device


@pages.get("/device")
def device() -> str:
    """How it stands with the device: problems first."""
    parts = web()
    before = request.args.get("before")
    status = parts.device.status()
    health = read_health(parts.folder)
    with parts.store.read() as reader:
        found = reader.events(EVENTS_A_PAGE + 1, None if before is None else _whole(before))
    shown = found[:EVENTS_A_PAGE]
    return render_template(
        "device.html",
        status=status,
        problems=problems(status, health),
        warnings=warnings(status, health),
        health=[*health_lines(health), messages_line(status)],
        model=model_lines(parts.device.model),
        accuracy=accuracy_lines(parts.device.manifest),
        settings=setting_lines(parts.settings, status.camera),
        events=shown,
        next_url=url_for(".device", before=shown[-1].id) if len(found) > len(shown) else None,
    )


def _error_notes(*sessions: Session) -> list[str]:
    # Of the models that counted them, which need not be the present one.
    return list(dict.fromkeys(classifier_error(one.settings.get("accuracy", {})) for one in sessions))


def _address(endpoint: str, query: Mapping[str, object]) -> str:
    # Not as keywords of url_for, some of which mean something else.
    return f"{url_for(endpoint)}?{urlencode(query)}"


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest("this address holds no number where one belongs; go back and choose again")
    return int(text)


def _number(given: MultiDict[str, str], key: str, default: Any) -> Any:
    text = given.get(key, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise BadRequest(f"{key} is no number{decimal_comma(text) or '; write one such as 0.1'}")
    return value
