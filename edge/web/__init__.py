"""The web page and the API of a device: an application for a WSGI server, `edge.web.server` its server."""

from hashlib import sha256
from typing import Any

from flask import Flask, Response, jsonify, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSessionInterface
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.routing import IntegerConverter, Map

from edge.config import Settings, state_folder
from edge.device import Device
from edge.store import Store
from edge.web.api import api
from edge.web.auth import SIGN_IN_LASTS, Gate, check_listening, install, page_key, wants_page
from edge.web.context import Web
from edge.web.exports import Exports
from edge.web.live import LivePicture, live_pages
from edge.web.metrics import metrics_pages
from edge.web.openapi import MOST_ID
from edge.web.pages import pages
from edge.web.uploads import MAX_FORM_BYTES, Uploads
from hematovision.errors import (
    CalibrationError,
    ChildError,
    HematoVisionError,
    ImageError,
    ModelFileError,
    NotStoredError,
    SettingError,
    StoreError,
    reason_of,
)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# What a request is answered with where this went wrong.
_STATUS_OF: dict[type[HematoVisionError], int] = {
    SettingError: 400,
    ImageError: 422,
    CalibrationError: 422,
    NotStoredError: 404,
    StoreError: 503,
    ModelFileError: 503,
    ChildError: 503,
}


class _Cookies(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 (Flask's signature)
        """Only sent back by TLS where it came by TLS, from a proxy."""
        return request.is_secure


class _Number(IntegerConverter):
    """Numbers in paths, none larger than the store knows."""

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, max=MOST_ID)


def create_app(device: Device, store: Store, settings: Settings) -> Flask:
    """The application; `edge.web.server` serves it, and closes what it owns.

    Raises:
        SettingError: it is to be reached from elsewhere and there is no token; or the key of its cookies
            cannot be kept in the state folder.
    """
    folder = state_folder(settings)
    check_listening(folder, settings.web)
    app = Flask(__name__)
    app.session_interface = _Cookies()
    app.url_map.converters["int"] = _Number
    key = page_key(folder)
    app.config.update(
        SECRET_KEY=key,
        # Its own on every device: a browser sends cookies to all ports of a machine.
        SESSION_COOKIE_NAME=f"hematovision-{sha256(b'name' + key).hexdigest()[:8]}",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=SIGN_IN_LASTS,
        SESSION_REFRESH_EACH_REQUEST=False,
        # Of a file, too, 64 KiB and the rest of the part before are in memory at a time.
        MAX_FORM_MEMORY_SIZE=4 * MAX_FORM_BYTES,
        MAX_FORM_PARTS=20,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.sort_keys = False
    gate = Gate(folder, settings.web, store)
    live = LivePicture(device, settings.web.viewers)
    web = Web(device, store, settings, folder, gate, live, Uploads(device.model, settings), Exports(store))
    app.extensions["hematovision"] = web
    install(app, gate, settings.web)
    for blueprint in (api, pages, live_pages(live), metrics_pages(web)):
        app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _say)
    app.register_error_handler(HematoVisionError, _say_own)
    app.after_request(_finish)
    return app


def _say(error: HTTPException) -> Any:
    """An error in the form that was asked for: a line of JSON, or a page."""
    if error.response is not None or error.code is None or error.code < 400:
        return error  # a redirect
    text = " ".join((error.description or error.name).split())
    body = (
        render_template("error.html", status=error.code, text=text) if wants_page() else jsonify(error=text)
    )
    response = Response(body) if isinstance(body, str) else body
    response.status_code = error.code
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _say_own(error: HematoVisionError) -> Any:
    status = next((code for kind, code in _STATUS_OF.items() if isinstance(error, kind)), 500)
    said = InternalServerError(reason_of(error))
    said.code = status
    return _say(said)


def _finish(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
