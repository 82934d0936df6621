"""A real device with store, model and page, fed by the test with frames of the phantom."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from flask import Flask

from edge.cameras import Frame, open_camera
from edge.config import Settings, StoreSettings, WebSettings
from edge.device import Device, State
from edge.pipeline import Line, StillLine
from edge.store import Store
from edge.store.writer import MessagesOf
from edge.token import new_token
from edge.web import create_app
from edge.web.server import PageServer
from hematovision.classifier import Classifier, default_model_path
from hematovision.model_file import read_model_file

CAMERA = "phantom:width=960,height=720"
UM_PER_PIXEL = 0.1
PLACES = 6


class FedDevice:
    """The device, its page, and the token to sign in with."""

    def __init__(self, device: Device, line: Line, token: str) -> None:
        self.device = device
        self.store = device.store
        self.token = token
        self._line = line

    def app(self) -> Flask:
        """The application, which a `PageServer` closes."""
        return create_app(self.device, self.store, self.device.settings)

    def feed(self, frames: int) -> None:
        """So many frames, up to `PLACES`, each of another place, as a supervisor gives them."""
        for frame in places()[:frames]:
            self.device.saw(self._line.see(dataclasses.replace(frame, monotonic=monotonic())))
        assert self.store.flush(10)

    @contextmanager
    def feeding(self, pause_s: float) -> Iterator[Event]:
        """Frames from another thread, one after each pause, as from a camera; none while the event is set."""
        stop, paused = Event(), Event()

        def feed() -> None:
            for frame in phantom_frames():
                if stop.wait(pause_s):
                    return
                if not paused.is_set():
                    self.device.saw(self._line.see(frame))

        thread = Thread(target=feed)
        thread.start()
        try:
            yield paused
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def serving(self, port: int | None = None) -> Iterator[str]:
        """The page, on a port of its own if none is given; gives its address, without the last slash."""
        settings = dataclasses.replace(self.device.settings.web, port=port or 1)
        with PageServer(self.app(), settings, any_port=port is None) as server:
            yield server.address.rstrip("/")


def phantom_frames() -> Iterator[Frame]:
    """Frames of the phantom, without end."""
    with open_camera(f"{CAMERA},frames=1000000", UM_PER_PIXEL) as camera:
        for frame in camera.frames():
            assert isinstance(frame, Frame)
            yield frame


@cache
def places() -> Sequence[Frame]:
    """Frames of places that are apart."""
    return [*islice(phantom_frames(), 0, 3 * PLACES, 3)]


@contextmanager
def fed_device(
    folder: Path,
    line_class: type[Line] = StillLine,
    host: str = "127.0.0.1",
    messages: MessagesOf | None = None,
) -> Iterator[FedDevice]:
    """A running device that keeps its state in a folder; no session is open."""
    settings = Settings(store=StoreSettings(folder=str(folder)), web=WebSettings(host=host))
    model = read_model_file(default_model_path())
    line = line_class(Classifier(model, threads=1))
    with Store(folder, messages=messages) as store:
        device = Device(settings, model, store, line, "phantom", UM_PER_PIXEL)
        device.enter(State.RUNNING)
        yield FedDevice(device, line, new_token(folder))
