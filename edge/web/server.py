"""The page's server: waitress, with limits of its own.

Waitress takes requests in on one thread, which no slow client holds up, and gives whole requests to others.
Cheroot was tried: a connection has one of its threads as soon as it sends something, so that four clients
that sent a byte a second kept its four threads from everybody else; twenty live pictures cost both the same.
Waitress by default has 4 threads, so that a fifth live picture stops everything; keeps 16 MB for a client
that does not read; takes bodies of 1 GB; waits for ever for a client that does not take its answer; and
measures by the time of day, which on a Pi jumps when the network sets it. Hence:

- a thread for every live picture, and `SPARE_THREADS`;
- of a stream no more than one part is kept here, and little in the kernel; a client that does not take it
  within `SEND_S` is cut off;
- headers and bodies are limited by size, before they are read, and by time; few large bodies come at a time;
- what is refused before it was read is refused so that the client gets to know why;
- `PageServer.close` ends what is under way within a second.
"""

import errno
import json
import logging
import select
import socket
from collections.abc import Callable
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from flask import Flask, request
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error, RequestEntityTooLarge

from edge.config import WebSettings
from edge.threads import STOP_LIMIT_S
from edge.web.context import Web
from edge.web.proxies import is_of_proxy
from edge.web.uploads import UPLOAD_PATHS, is_picture_form, max_request_bytes
from hematovision.errors import SettingError, StuckThreadError

#: Threads for all but live pictures.
SPARE_THREADS = 8
#: Pictures under way at a time, from their first byte to their answer.
UPLOADS = 4
CONNECTIONS = 256
MAX_HEADER_BYTES = 16 * 1024
#: Seconds: for the next request and its headers; to take one part of a stream; to take any other answer.
HEADER_S, SEND_S, ANSWER_S = 10.0, 10.0, 60.0
#: Bytes a second that a body comes with at least.
BODY_RATE = 50_000

# While so much of a stream was not taken yet, its next part waits.
_HIGH_WATERMARK = 64 * 1024
_KERNEL_BUFFER = 64 * 1024
_LOOP_S, _LINGER_S, _STOP_S = 0.5, 2.0, 0.4
_MISTAKES = {
    errno.EADDRINUSE: "another program uses it already; set another web.port",
    errno.EADDRNOTAVAIL: "this machine has no such address; set web.host to one of its own, or to 127.0.0.1",
    errno.EACCES: "only root may listen on a port below 1024; set a higher web.port",
}


class _Limits(Adjustments):
    """What every connection is held to; ``large`` is for requests that bring a picture.

    ``lets_upload`` tells by the headers of such a request whether its body is taken.
    """

    def __init__(
        self, threads: int, body_bytes: int, lets_upload: Callable[["_Request"], bool], **more: Any
    ) -> None:
        super().__init__(
            threads=threads,
            ident=None,
            connection_limit=CONNECTIONS,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=body_bytes,
            outbuf_high_watermark=_HIGH_WATERMARK,
            log_socket_errors=False,
            # A proxy on this machine may say that it was asked by TLS, and nothing else.
            trusted_proxy="127.0.0.1",
            trusted_proxy_headers={"x-forwarded-proto"},
            # Else waitress would take out what tells the application that a proxy was between.
            clear_untrusted_proxy_headers=False,
            **more,
        )
        self.lets_upload = lets_upload
        self.uploading: WeakSet[_Request] = WeakSet()
        self.large: _Limits | None = None


class _BusyError(Error):
    code = 503
    reason = "Service Unavailable"


class _TooSlowError(Error):
    code = 408
    reason = "Request Timeout"


class _Request(HTTPRequestParser):
    """A request on its way in; ``is_cut``: it is answered without its body."""

    adj: _Limits
    body_rcv: Any
    content_length: int
    expect_continue: bool
    is_cut = False

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except TransferEncodingNotImplemented as error:
            raise ParsingError(str(error)) from error  # a client's mistake as any other
        except ValueError as error:  # more digits than int() takes
            raise ParsingError("Content-Length is invalid") from error
        # Waitress passes over names with underscores. What a proxy sends is a mark of it in any spelling.
        names = (line.partition(b":")[0].decode("latin-1") for line in header_plus.split(b"\r\n")[1:])
        if any("_" in name and is_of_proxy(name) for name in names):
            self.headers.setdefault("VIA", "")
        if self.path not in UPLOAD_PATHS or self.body_rcv is None or self.command != "POST":
            return
        large = self.adj.large or self.adj
        if self.content_length < large.max_request_body_size and not self.adj.lets_upload(self):
            # The application refuses it, and says why, without having seen its body.
            self.body_rcv, self.content_length, self.is_cut = None, 0, True
            self.headers["CONNECTION"], self.headers["CONTENT_LENGTH"] = "close", "0"
        elif len(self.adj.uploading) < UPLOADS:
            self.adj.uploading.add(self)
        else:
            self.error = _BusyError(f"{UPLOADS} pictures are on their way already; try again")
            self.completed = True
        self.expect_continue = self.expect_continue and not (self.is_cut or self.error)
        self.adj = large


class _Refusal(ErrorTask):
    """The answer to what no application gets to see, in the form of the API's errors."""

    def execute(self) -> None:
        error = self.request.error
        text = " ".join(str(error.body).split()) or error.reason
        if isinstance(error, RequestEntityTooLarge):  # waitress counts in bytes
            limit = self.request.adj.max_request_body_size
            text = f"more than the {limit / 1e6:.2g} MB that are taken; send less"
        body = json.dumps({"error": text}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    """A connection that is held to time."""

    parser_class = _Request
    error_task_class = _Refusal

    request: _Request | None
    _sending_since: float | None = None
    #: Whether it was refused, and is only read from until the client has gone.
    lingers = False
    _serves = _refused = _answered = False

    def __init__(self, *args: Any, **more: Any) -> None:
        #: When it began to wait for what it waits for.
        self.since = monotonic()
        super().__init__(*args, **more)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is made or on its way out."""
        return bool(self.requests or self._serves or self.total_outbufs_len)

    @property
    def is_idle(self) -> bool:
        """Whether nothing whole was asked for yet, or not again."""
        return not self.is_busy and (self.request is None or not self.request.headers_finished)

    def is_overdue(self, now: float) -> bool:
        """Whether the client let its time pass."""
        waited = now - self.since
        if self.lingers:
            return waited > _LINGER_S
        if self.requests or self._serves:
            sending_since = self._sending_since
            return sending_since is not None and now - sending_since > SEND_S
        if self.total_outbufs_len:
            return waited > ANSWER_S
        request = self.request
        came = request.body_bytes_received if request is not None else 0
        return waited > HEADER_S + came / BODY_RATE

    def end(self) -> bool:
        """Tell a client that let its time pass so, if it has asked for something at all; else cut it off.

        Returns:
            Whether it is to blame: not where it has its answers, and only kept the connection for later.
        """
        if self._answered and self.is_idle and self.request is None and not self.lingers:
            self.handle_close()
            return False
        with self.requests_lock:
            request, self.request = self.request, None
            if request is not None and not self.requests:
                request.error, request.completed = _TooSlowError("the request did not come in time"), True
                self.requests.append(request)
                self.server.add_task(self)
                return True
        self.cut_off()
        return True

    def received(self, data: bytes) -> bool:
        if self.request is None and not self.requests:
            self.since = monotonic()
        return bool(super().received(data))

    def check_client_disconnected(self) -> bool:
        """Whether the client has gone, or at least sends no more; also while its request is served.

        Waitress knows only of a connection that it reads from, and until the answer is there it does not.
        """
        try:
            poll = select.poll()
            poll.register(self.socket, select.POLLRDHUP)
            return not self.connected or bool(poll.poll(0))
        except (OSError, ValueError):  # closed meanwhile
            return True

    def service(self) -> None:
        self._refused = self.requests[0].error is not None or self.requests[0].is_cut
        self._serves = True
        try:
            super().service()
        finally:
            self.since = monotonic()
            self._answered = True
            self._serves = False  # only now: before, it would have waited since the request came

    def write_soon(self, data: bytes) -> int:
        self._sending_since = monotonic()
        try:
            return int(super().write_soon(data))
        finally:
            self._sending_since = None

    # A request that is refused may still be coming. Closed now, the client would get a reset in place of the
    # answer: so only our side is closed, and what comes is thrown away for a moment.

    def readable(self) -> bool:
        return self.lingers or bool(super().readable())

    def writable(self) -> bool:
        return not self.lingers and bool(super().writable())

    def handle_read(self) -> None:
        if not self.lingers:
            super().handle_read()
            return
        try:
            self.recv(_KERNEL_BUFFER)  # closes at the end
        except OSError:
            self.handle_close()

    def handle_write(self) -> None:
        if not (self._refused and self.close_when_flushed):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.handle_close()
            self.since, self.lingers = monotonic(), True

    def cut_off(self) -> None:
        """Close now, and let the kernel forget what was not taken."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.handle_close()


class _Server(TcpWSGIServer):
    channel_class = _Channel

    def readable(self) -> bool:
        return self.accepting and len(self._map) < CONNECTIONS


class PageServer:
    """Serves an application of `edge.web.create_app`, and closes what it owns: ``with PageServer(…):``.

    Args:
        app: the application.
        settings: where it listens, and its limits.
        any_port: listen on a port that the system chooses; ``address`` tells which.
    """

    def __init__(self, app: Flask, settings: WebSettings, any_port: bool = False) -> None:
        self._app = app
        self._settings = settings
        self._port = 0 if any_port else settings.port
        self._stopping = False
        self._error: BaseException | None = None
        web = app.extensions["hematovision"]
        assert isinstance(web, Web)
        self._web = web
        #: What a person opens, once it listens.
        self.address = ""

    def __enter__(self) -> Self:
        """Listen, and serve from a thread.

        Raises:
            SettingError: it cannot listen there.
        """
        try:
            listening = self._listen()
        except SettingError:
            self._web.live.close()
            raise
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a full queue is no news
        threads = self._settings.viewers + SPARE_THREADS
        small, large = (max_request_bytes(self._settings, path) for path in ("/", min(UPLOAD_PATHS)))
        self._limits = limits = _Limits(threads, small, self._lets_upload)
        limits.large = _Limits(threads, large, self._lets_upload)
        self._tasks = ThreadedTaskDispatcher()
        self._tasks.set_thread_count(threads)
        self._map: dict[int, wasyncore.dispatcher] = {}
        host, port = listening.getsockname()[:2]
        self._server = _Server(
            self._app.wsgi_app,
            self._map,
            _sock=listening,
            dispatcher=self._tasks,
            adj=limits,
            bind_socket=False,
            sockinfo=(listening.family, listening.type, listening.proto, (host, port)),
        )
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104
        self.address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        self._thread = Thread(target=self._run, name="page", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; see `close`."""
        self.close()

    @property
    def error(self) -> BaseException | None:
        """What ended the server or its live picture early; None while both work."""
        return self._error or self._web.live.error

    def close(self) -> None:
        """End the streams, let short answers go out, cut off the rest; may be called more than once.

        Raises:
            StuckThreadError: the server's thread does not end.
        """
        self._web.live.close()
        if self._stopping:
            return
        self._stopping = True
        self._server.pull_trigger()
        self._thread.join(STOP_LIMIT_S)
        if self._thread.is_alive():
            raise StuckThreadError(f"the thread '{self._thread.name}' did not stop; end the process")
        self._tasks.shutdown(timeout=_STOP_S)
        if not self._tasks.threads:
            self._server.trigger.close()  # else whoever ends later would write to what has its number then

    def _lets_upload(self, asked: _Request) -> bool:
        """Whether the body of an upload is taken: who sends it, and what it is, stands before it."""
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": asked.path,
            "SERVER_NAME": "",
            "SERVER_PORT": "",
            "wsgi.url_scheme": "http",
            "CONTENT_TYPE": asked.headers.get("CONTENT_TYPE", ""),
            **{f"HTTP_{name}": value for name, value in asked.headers.items()},
        }
        with self._app.request_context(environ):
            return is_picture_form(request) and self._web.gate.lets_upload()

    def _listen(self) -> socket.socket:
        host, port = self._settings.host.strip("[]"), self._port
        where = f"web.host = {host}, web.port = {port}"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise SettingError(
                f"{where}: the host is not known ({error.strerror}); set web.host to an address of "
                "this machine"
            ) from error
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit it; else the kernel takes up to megabytes for a client that does not read.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
            listening.bind(address)
            listening.listen(CONNECTIONS)
        except OSError as error:
            listening.close()
            why = _MISTAKES.get(error.errno or 0, f"the system says: {error.strerror}")
            raise SettingError(f"{where}: the page cannot listen there: {why}") from error
        return listening

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._serve_once(_LOOP_S)
            self._server.accepting = False
            end = monotonic() + _STOP_S
            while monotonic() < end and any(one.is_busy for one in self._channels()):
                self._serve_once(0.02)
        except Exception as error:
            self._error = error
            raise  # to the log
        finally:
            for channel in self._channels():
                if channel.is_busy:
                    channel.cut_off()
                else:
                    channel.handle_close()
            wasyncore.dispatcher.close(self._server)

    def _serve_once(self, wait_s: float) -> None:
        wasyncore.poll2(wait_s, self._map)
        now = monotonic()
        overdue = [one for one in self._channels() if one.is_overdue(now)]
        if not overdue and len(self._map) >= CONNECTIONS:
            # Full: whoever was refused, then whoever has waited longest without asking, makes room.
            idle = (one for one in self._channels() if one.is_idle)
            overdue = sorted(idle, key=lambda one: (not one.lingers, one.since))[:1]
        for channel in overdue:
            self._web.traffic.cut_off += channel.end()

    def _channels(self) -> list[_Channel]:
        return list(self._server.active_channels.values())
