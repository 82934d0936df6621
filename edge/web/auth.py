"""Who may look and who may change something: hosts, sign-in, tokens, forged requests.

- The page is asked for by an address, by the name of this machine or by a name of the settings; any other
  name is that of a foreign site that had its name point here (DNS rebinding), and is refused.
- A page of another site may lead here, and do nothing else: not even show the live picture.
- Reading is open to this machine where the page listens on its loopback address, and to all where the
  settings say so. All else takes the token, in ``Authorization: Bearer`` or given once at the sign-in.
- A sign-in is a signed cookie with the name of who signed in. It ends after `SIGN_IN_LASTS`, with the token
  that it was made with, and when they sign out, wherever the cookie was copied to.
- What comes with the cookie and changes something also carries the value that only our own pages know.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from math import inf
from pathlib import Path
from socket import gethostname
from threading import Lock
from time import monotonic
from urllib.parse import urlsplit

from flask import Blueprint, Flask, g, redirect, render_template, request, session, url_for
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)
from werkzeug.wrappers import Response

from edge.config import WebSettings
from edge.private_file import read_private_file, write_private_file
from edge.store import Store
from edge.token import check_token, has_token, stored_hash
from edge.web.proxies import came_by_proxy
from edge.web.sign_ins import SignIns
from edge.web.uploads import max_request_bytes
from hematovision.errors import SettingError, reason_of
from hematovision.images import shown_path

SIGN_IN_LASTS = timedelta(hours=12)
#: Wrong tokens from one address before it is told to wait; the right one is always let in.
WRONG_TOKENS, WRONG_TOKENS_S = 10, 60.0
#: Longest name of a person.
MAX_WHO = 100
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ADDRESSES_KEPT = 1000
_KEY_BYTES = 32
_API = "API"


@dataclass(frozen=True)
class Visitor:
    """Who asks: ``who`` is a name for the records, None of somebody not signed in."""

    who: str | None
    by_cookie: bool = False


class WrongTokens:
    """Wrong tokens of late, by address."""

    def __init__(self) -> None:
        self._told_at = -inf
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    def is_news(self) -> bool:
        """Whether there was none to be recorded for a while: records are not to be flooded."""
        now = monotonic()
        with self._lock:
            is_news = now - self._told_at > WRONG_TOKENS_S
            self._told_at = now if is_news else self._told_at
            return is_news

    def add(self, address: str) -> int:
        """Count one more, and return how many there were of late, this one included."""
        now = monotonic()
        with self._lock:
            times = self._times.setdefault(address, deque(maxlen=WRONG_TOKENS + 1))
            self._times.move_to_end(address)
            while times and times[0] < now - WRONG_TOKENS_S:
                times.popleft()
            times.append(now)
            if len(self._times) > _ADDRESSES_KEPT:
                self._times.popitem(last=False)
            return len(times)


class Gate:
    """Decides on every request before anything else is done with it."""

    def __init__(self, folder: Path, settings: WebSettings, store: Store) -> None:
        """Args: the state folder, which holds the token's hash; the settings; where refusals are recorded."""
        self._folder = folder
        self._store = store
        self._wrong = WrongTokens()
        self._sign_ins = SignIns(folder, SIGN_IN_LASTS.total_seconds())
        host = gethostname().lower()
        self._names = {"localhost", host, f"{host.partition('.')[0]}.local"}
        self._names |= {name.lower() for name in settings.names}
        self._is_here = is_loopback(settings.host)
        self._is_open = settings.read_without_token

    def may_read(self) -> bool:
        """Whether whoever asks may look without being signed in."""
        # What a proxy on this machine passes on comes from elsewhere.
        return self._is_open or (self._is_here and not came_by_proxy(request.headers.keys()))

    def check_host(self) -> None:
        """Raise `BadRequest` where the page is asked for by a name that is not its own."""
        name = _host_name(request.headers.get("Host", ""))
        if name is None or not (name in self._names or _is_address(name)):
            raise BadRequest(
                "this device is not called by that name; use its address, or add the name to web.names in "
                "its settings"
            )

    def check_origin(self) -> None:
        """Raise `Forbidden` where a page of another site asks: for a picture to show, or to send a form."""
        sent = request.headers
        if sent.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not (
            sent.get("Sec-Fetch-Mode") == "navigate" and request.method in _SAFE_METHODS
        ):
            raise Forbidden("this was asked for by a page of another site")

    def visitor(self) -> Visitor:
        """Who asks. Raises `Unauthorized` or `TooManyRequests` where a token is given and is wrong."""
        known = self._known()
        if known is None:
            raise self._refusal()
        return known

    def lets_upload(self) -> bool:
        """Whether whoever asks may send a picture, by the headers alone; a wrong token is not counted yet."""
        try:
            self.check_host()
            self.check_origin()
            known = self._known()
        except HTTPException:
            return False
        return known is not None and known.who is not None

    def _known(self) -> Visitor | None:
        """Who asks, by token or cookie; None where a token is given and is wrong."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":  # a password for a proxy is not for us
            return Visitor(_API) if self._is_right(token.strip()) else None
        # Not by the cookie's own age: every message to whoever signed in makes it anew.
        if self._sign_ins.lasts(str(session.get("id"))) and hmac.compare_digest(
            str(session.get("token", "")), self._token_mark()
        ):
            return Visitor(str(session["who"]), by_cookie=True)
        return Visitor(None)

    def sign_in(self, who: str, token: str) -> None:
        """Sign somebody in, from now on known by the cookie.

        Raises:
            BadRequest: there is no name, or one too long.
            Unauthorized, TooManyRequests: the token is wrong.
        """
        who = who.strip()
        if not who or len(who) > MAX_WHO or not who.isprintable():
            raise BadRequest(f"write a name of 1 to {MAX_WHO} characters: it is kept with what you change")
        if not self._is_right(token.strip()):
            raise self._refusal()
        self.sign_out()  # else nobody could end the one before, whose cookie this one takes the place of
        session.permanent = True
        session["who"], session["token"] = who, self._token_mark()
        session["id"] = self._sign_ins.begin()
        self._store.add_event("sign-in", f"{who} signed in from {request.remote_addr}")

    def sign_out(self) -> None:
        """End the sign-in that the cookie is of, also for whoever has a copy of it."""
        self._sign_ins.end(str(session.get("id")))
        session.clear()

    def _is_right(self, token: str) -> bool:
        try:
            return check_token(self._folder, token)
        except SettingError as error:
            raise ServiceUnavailable(reason_of(error)) from error

    def _refusal(self) -> Unauthorized | TooManyRequests:
        address = str(request.remote_addr)
        count = self._wrong.add(address)
        if self._wrong.is_news():
            self._store.add_event("sign-in", f"wrong token from {address}")
        if count > WRONG_TOKENS:
            return TooManyRequests("too many wrong tokens; wait a minute", retry_after=round(WRONG_TOKENS_S))
        return _unauthorized("this is not the device's token; hematovision token new makes another")

    def _token_mark(self) -> str:
        """What a cookie keeps of the token that it was made with; another token has another mark."""
        try:
            stored = stored_hash(self._folder) or ""
        except SettingError as error:
            raise ServiceUnavailable(reason_of(error)) from error
        return hashlib.sha256(b"page" + stored.encode()).hexdigest()


def install(app: Flask, gate: Gate, settings: WebSettings) -> None:
    """Put the gate before every request of an application, and its sign-in beside the pages."""

    @app.before_request
    def check() -> Response | None:
        request.max_content_length = max_request_bytes(settings, request.path)
        gate.check_host()
        gate.check_origin()
        if request.endpoint == "static":
            return None
        g.visitor = visitor = gate.visitor()
        if request.endpoint in ("auth.sign_in", "auth.signed_in"):
            if request.method not in _SAFE_METHODS:
                _check_form()
            return None
        if visitor.who is None and not (request.method in _SAFE_METHODS and gate.may_read()):
            if request.method in _SAFE_METHODS and wants_page():
                return redirect(url_for("auth.sign_in", next=request.full_path.rstrip("?")))
            raise _unauthorized("sign in, or send the device's token as Authorization: Bearer TOKEN")
        if request.method not in _SAFE_METHODS and visitor.by_cookie:
            _check_form()
        return None

    app.jinja_env.globals["csrf_token"] = csrf_token
    app.jinja_env.globals["visitor"] = visitor
    app.register_blueprint(_sign_in_pages(gate))


def visitor() -> Visitor:
    """Who makes the present request; nobody where it was refused before that was known."""
    known = g.get("visitor")
    return known if isinstance(known, Visitor) else Visitor(None)


def csrf_token() -> str:
    """What a form of ours carries in `CSRF_FIELD`, and a script in `CSRF_HEADER`."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(_KEY_BYTES)
    return str(session["csrf"])


def wants_page() -> bool:
    """Whether the present request is for a page that a person looks at, and not for data."""
    return not request.path.startswith(("/api/", "/live.", "/healthz", "/metrics"))


def check_listening(folder: Path, settings: WebSettings) -> None:
    """Raise `SettingError` where others are to reach the page and there is no token to keep them out."""
    if not is_loopback(settings.host) and not has_token(folder):
        raise SettingError(
            f"web.host = {settings.host}: others could reach the page, and there is no token in "
            f"{shown_path(folder)}; make one with hematovision token new, with the same --config, or set "
            "web.host to 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def page_key(folder: Path) -> bytes:
    """The key that cookies are signed with: made at the first start, then read from the state folder.

    Raises:
        SettingError: its file cannot be written or read, or others can read it.
    """
    path = folder / "web_key"
    try:
        key = read_private_file(path, "the page's key")
    except FileNotFoundError:
        key = secrets.token_bytes(_KEY_BYTES)
        write_private_file(path, key)
    if len(key) != _KEY_BYTES:
        raise SettingError(f"{shown_path(path)}: damaged; remove it, and everybody signs in anew")
    return key


def _unauthorized(text: str) -> Unauthorized:
    return Unauthorized(text, www_authenticate=WWWAuthenticate("bearer"))


def _check_form() -> None:
    given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode(), str(session.get("csrf", "")).encode()) or not given:
        raise Forbidden("this form is not from a page of this device, or too old; reload the page")


def _sign_in_pages(gate: Gate) -> Blueprint:
    pages = Blueprint("auth", __name__)

    @pages.get("/sign-in")
    def sign_in() -> str:
        return render_template("sign_in.html", next=request.args.get("next", "/"), error=None)

    @pages.post("/sign-in")
    def signed_in() -> Response | tuple[str, int]:
        target = request.form.get("next", "/")
        try:
            gate.sign_in(request.form.get("who", ""), request.form.get("token", ""))
        except (BadRequest, Unauthorized, TooManyRequests) as error:
            page = render_template("sign_in.html", next=target, error=error.description)
            return page, error.code or BadRequest.code
        return redirect(_own_path(target), 303)

    @pages.post("/sign-out")
    def sign_out() -> Response:
        gate.sign_out()
        return redirect("/", 303)

    return pages


def _own_path(target: str) -> str:
    """Where a sign-in leads: a path of ours, or the first page."""
    # Browsers take a backslash for a slash, and pass over control characters: //evil would be another site.
    parts = urlsplit(target)
    is_ours = target.startswith("/") and not target.startswith("//") and target.isprintable()
    return target if is_ours and "\\" not in target and not (parts.scheme or parts.netloc) else "/"


def _host_name(header: str) -> str | None:
    """The name in a ``Host`` header, without the port; None where it is none."""
    if "@" in header:
        return None
    try:
        parts = urlsplit(f"//{header}")
        return parts.hostname and parts.hostname.rstrip(".") if parts.port != 0 else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
