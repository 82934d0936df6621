"""The daemon's parts, started and stopped together: store, device, page, messages."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

from edge.cameras import Camera
from edge.config import Settings, state_folder
from edge.device import Device
from edge.pipeline import Line
from edge.store import Store
from hematovision.errors import RecoveryError
from hematovision.model_file import ModelFile

#: All of it ends within so many seconds of SIGTERM or Ctrl-C.
STOP_LIMIT_S = 5.0


@contextmanager
def started(
    settings: Settings,
    model: ModelFile,
    line: Line,
    camera: Camera,
    um_per_pixel: float,
    target: int | None,
    tell: Callable[[str, str], None],
    slow: Callable[[str, float], None] = lambda _what, _seconds: None,
) -> Iterator[Device]:
    """A device with its store open and a session begun, or continued where the last run was cut off.

    Of a live camera, which goes on until somebody ends it, there is a page, and messages if they are set up.

    Args:
        settings: all of them.
        model: names the cells.
        line: what the frames go through.
        camera: closed.
        um_per_pixel: scale of its frames.
        target: the session ends when so many cells have been given a class; None where nobody said so.
        tell: given the kind and the text of everything that happens.
        slow: told before the start takes long: why, and for how many seconds at most.

    Raises:
        StoreError: the store cannot be opened, or another process has it.
        SettingError: the page cannot listen where it is to.
        MissingPartError: a library is not installed.
    """
    # Each is loaded only where it is wanted.
    with ExitStack() as undo:
        messages = publisher = None
        keep = settings.store
        if camera.live and settings.mqtt.host:
            from edge.publish import Publisher, cell_messages

            messages = cell_messages(settings.mqtt)
        store = undo.enter_context(
            Store(
                state_folder(settings),
                keep.keep_days,
                keep.keep_free_mb,
                keep.keep_sessions,
                messages,
                slow=slow,
            )
        )
        device = Device(settings, model, store, line, camera.name, um_per_pixel, tell)
        with store.read() as reader:
            left_open = reader.open_session()
        device.depends_on("the store", lambda: store.counts().error if store.failed else None)
        if messages is not None:
            publisher = Publisher(settings.mqtt, device, store)
            device.depends_on("sending messages", lambda: publisher.error)
            device.reports_messages(publisher.status)
        if camera.live and settings.web.port:
            from edge.web import create_app
            from edge.web.server import PageServer

            server = undo.enter_context(PageServer(create_app(device, store, settings), settings.web))
            device.depends_on("the page", lambda: server.error)
            tell("page", f"The page: {server.address}")
        # After all that a wrong setting may keep from starting: what never ran did not go on with a session.
        if left_open is not None and not (camera.live and device.can_continue(left_open, target)):
            store.end_session(left_open.id, "interrupted")
            left_open = None
        if left_open is None:
            # Files can be read again once the store is well; what passes a camera is gone, whatever is done.
            device.start_session_with_first_frame(target, patient=camera.live)
        else:
            device.continue_session(left_open)
        if publisher is not None:
            undo.enter_context(publisher)
        yield device


@contextmanager
def stopped_by_signals() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set; then the process ends within `STOP_LIMIT_S`, if need be by force.

    Further signals change nothing: what is stopping is let to stop. To be called in the main thread.
    """
    stop, ended = Event(), Event()
    heard, waker = socket.socketpair()
    waker.setblocking(False)

    def wait() -> None:
        if not heard.recv(1):
            return
        stop.set()
        if not ended.wait(STOP_LIMIT_S - 0.5):
            sys.stderr.write(f"Error: did not stop within {STOP_LIMIT_S:g} s; what is stored is safe\n")
            sys.stderr.flush()
            os._exit(RecoveryError.exit_status)

    # A handler must not set the event itself: it may interrupt the main thread while that holds its lock.
    waiting = Thread(target=wait, name="signals", daemon=True)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    waking_before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    waiting.start()
    try:
        yield stop
    finally:
        ended.set()
        signal.set_wakeup_fd(waking_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        waker.close()
        waiting.join()
        heard.close()
