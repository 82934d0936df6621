"""The daemon as a process: started, cut off, continued, stopped by signals."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.faults.page import free_port
from edge.cameras.phantom import PhantomCamera
from edge.config import MqttSettings, Settings, StoreSettings, WebSettings
from edge.daemon import started
from edge.device import Device
from edge.pipeline import LiveLine
from edge.store import FILE_NAME, Reader, open_reader
from edge.web.server import PageServer
from hematovision.classifier import Classifier
from hematovision.errors import StoreError

SLIDE = "path=selftest,width=640,height=480,um_per_pixel=0.2"
_Value = TypeVar("_Value")


class Run:
    """``hematovision run`` in a process of its own, its standard error in a file."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        stderr: Path | None = None,
    ) -> None:
        self.folder = folder
        self.log = folder / "log"
        command = [sys.executable, "-m", "hematovision", "run", "--set", f"store.folder={folder}", *arguments]
        with self.log.open("ab") as log, (stderr or self.log).open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=errors, env=os.environ | (environment or {})
            )

    def wait_for(self, what: Callable[[Reader], _Value], limit_s: float = 60) -> _Value:
        """What the store has, once it has it."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            # Not before the run has made it.
            with suppress(StoreError), open_reader(self.folder) as reader:
                if found := what(reader):
                    return found
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*arguments: str, **options: Any) -> Run:
        runs.append(Run(tmp_path, *arguments, **options))
        return runs[-1]

    yield start
    for run in runs:
        run.process.kill()
        run.process.wait()


def counted(reader: Reader) -> int:
    session = reader.open_session()
    return 0 if session is None else len(reader.cells(session.id, limit=1000))


PHANTOM = ("--camera", f"phantom:rate=20,{SLIDE}", "--set", "web.port=0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_session_and_the_process(start: Callable[..., Run], number: int) -> None:
    run = start(*PHANTOM, "--sample", "S1", "--operator", "Ada")
    run.wait_for(counted)
    assert run.stop(number) == 0, run.log.read_text()
    with open_reader(run.folder) as reader:
        (session,) = reader.sessions(9)
    assert (session.sample, session.operator, session.ended_because) == ("S1", "Ada", "switched off")
    assert "given a class" in run.log.read_text()


def test_a_run_that_was_killed_is_continued_in_a_new_area(start: Callable[..., Run]) -> None:
    run = start(*PHANTOM)
    run.wait_for(counted)
    run.stop(signal.SIGKILL)
    with open_reader(run.folder) as reader:
        session = reader.open_session()
        assert session is not None
        before = reader.cells(session.id, limit=1000)
    again = start(*PHANTOM)
    again.wait_for(lambda reader: counted(reader) > len(before))
    assert again.stop() == 0
    with open_reader(run.folder) as reader:
        (one,) = reader.sessions(9)
        cells = reader.cells(one.id, limit=1000)
    assert (one.id, one.continued) == (session.id, 1)
    assert [cell for cell in cells if cell in before] == before
    assert {cell.area for cell in cells if cell not in before}.isdisjoint(cell.area for cell in before)
    assert len({cell.number for cell in cells}) == len(cells)
    assert "interrupted once" in again.log.read_text()


def test_a_run_that_cannot_start_has_not_gone_on_with_a_session(start: Callable[..., Run]) -> None:
    run = start(*PHANTOM)
    run.wait_for(counted)
    run.stop(signal.SIGKILL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        again = start(*PHANTOM, "--set", f"web.port={port}")
        assert again.process.wait(30) == 2, again.log.read_text()
    with open_reader(run.folder) as reader:
        session = reader.open_session()
    assert session is not None
    assert session.continued == 0


def test_a_run_of_another_scale_does_not_go_on_with_what_was_cut_off(start: Callable[..., Run]) -> None:
    run = start(*PHANTOM)
    run.wait_for(counted)
    run.stop(signal.SIGKILL)
    again = start("--camera", "phantom:rate=20,width=640,height=480,um_per_pixel=0.15", "--set", "web.port=0")
    again.wait_for(lambda reader: len(reader.sessions(9)) == 2)
    again.stop()
    with open_reader(run.folder) as reader:
        later, earlier = reader.sessions(9)
    assert (earlier.ended_because, later.ended_because) == ("interrupted", "switched off")


def test_a_log_that_cannot_be_written_ends_no_run(start: Callable[..., Run]) -> None:
    run = start(*PHANTOM, stderr=Path("/dev/full"))
    run.wait_for(counted)
    assert run.stop() == 0


def test_two_runs_do_not_write_to_one_store(start: Callable[..., Run]) -> None:
    run = start(*PHANTOM)
    run.wait_for(counted)
    other = start(*PHANTOM)
    assert other.process.wait(30) == 1
    assert str(run.process.pid) in re.findall(r"Error: .*", other.log.read_text())[0]


def test_with_no_camera_at_all_it_waits_and_says_so(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("--camera", f"v4l2:{tmp_path}/video9", "--um-per-pixel", "0.1", "--set", "web.port=0")
    (event,) = run.wait_for(lambda reader: reader.events(9))
    assert event.text.startswith("absent: ")
    assert "video9" in event.text
    assert run.stop() == 0


def test_a_camera_that_never_opens_ends_the_process_with_75(start: Callable[..., Run]) -> None:
    run = start("--camera", "v4l2:/dev/null", "--um-per-pixel", "0.1", "--set", "web.port=0")
    assert run.process.wait(60) == 75
    assert "given up after 5 failures in a row" in run.log.read_text()


def test_systemd_hears_of_the_start_of_progress_and_of_the_end(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        run = start(
            *PHANTOM, environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        )
        heard = [systemd.recv(200).decode()]
        while heard.count("WATCHDOG=1") < 3:
            heard.append(systemd.recv(200).decode())
        run.stop()
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(200).decode())
    assert "READY=1" in heard
    assert "STATUS=running" in heard


def test_what_does_not_stop_is_ended_by_force_with_75() -> None:
    program = """
import edge.daemon, os, signal, time
edge.daemon.STOP_LIMIT_S = 1.0
with edge.daemon.stopped_by_signals() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert "did not stop within 1 s" in ended.stderr


def test_a_store_whose_thread_has_ended_is_a_broken_part(tmp_path: Path, classifier: Classifier) -> None:
    settings = Settings(store=StoreSettings(folder=str(tmp_path)), web=WebSettings(port=0))
    camera = PhantomCamera(f"rate=20,{SLIDE}", 0.2)
    with (
        pytest.raises(AttributeError),
        started(
            settings, classifier.model, LiveLine(classifier), camera, 0.2, None, lambda *_: None
        ) as device,
    ):
        assert device.broken() is None
        device.store._writer.give("no item")  # type: ignore[arg-type]
        device.store.flush(5)
        assert "the store has ended: " in (device.broken() or "")


def test_a_page_that_has_ended_is_a_broken_part(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(store=StoreSettings(folder=str(tmp_path)), web=WebSettings(port=free_port()))
    camera = PhantomCamera(f"rate=20,{SLIDE}", 0.2)
    line = LiveLine(classifier)
    with started(settings, classifier.model, line, camera, 0.2, None, lambda *_: None) as device:
        assert device.broken() is None
        monkeypatch.setattr(PageServer, "error", OSError("no more sockets"))
        assert device.broken() == "the page has ended: no more sockets"


@pytest.mark.parametrize(("rate", "because"), [("rate=20,", None), ("", "interrupted")])
def test_a_session_of_files_that_was_cut_off_is_not_gone_on_with(
    tmp_path: Path, classifier: Classifier, rate: str, because: str | None
) -> None:
    settings = Settings(store=StoreSettings(folder=str(tmp_path)), web=WebSettings(port=0))

    def begin() -> AbstractContextManager[Device]:
        camera = PhantomCamera(f"{rate}{SLIDE}", 0.2)
        return started(settings, classifier.model, LiveLine(classifier), camera, 0.2, None, lambda *_: None)

    with begin() as device:
        left_open = device.start_session("", "", None)
    with begin() as device, device.store.read() as reader:
        assert reader.session(left_open.id).ended_because == because


@pytest.mark.parametrize(
    "column", ["settings", "started_at", "um_per_pixel", "target", "sample", "model_hash"]
)
def test_a_start_is_not_kept_by_a_value_of_the_open_session_that_cannot_be_read(
    tmp_path: Path, classifier: Classifier, column: str
) -> None:
    settings = Settings(store=StoreSettings(folder=str(tmp_path)), web=WebSettings(port=0))

    def begin() -> AbstractContextManager[Device]:
        camera = PhantomCamera(f"rate=20,{SLIDE}", 0.2)
        return started(settings, classifier.model, LiveLine(classifier), camera, 0.2, None, lambda *_: None)

    nonsense = {"settings": "{", "um_per_pixel": 9e999, "target": -1}.get(column, "\udcff")
    with begin() as device:
        left_open = device.start_session("", "", 100)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        value = nonsense.encode("utf-8", "surrogateescape") if isinstance(nonsense, str) else nonsense
        written = "CAST(? AS TEXT)" if isinstance(nonsense, str) else "?"
        connection.execute(f"UPDATE sessions SET {column} = {written}", (value,))
    with begin() as device:
        with device.store.read() as reader:
            session = reader.session(left_open.id)
            assert column in session.unreadable
        # Gone on with, or ended and to be followed by another: in either case it counts.
        assert session.ended_because == "interrupted" or device.status().session is not None


def test_how_messages_get_on_is_part_of_the_status(tmp_path: Path, classifier: Classifier) -> None:
    settings = Settings(
        store=StoreSettings(folder=str(tmp_path)),
        web=WebSettings(port=0),
        mqtt=MqttSettings(host="127.0.0.1", port=free_port()),
    )
    camera = PhantomCamera(f"rate=20,{SLIDE}", 0.2)
    line = LiveLine(classifier)
    with started(settings, classifier.model, line, camera, 0.2, None, lambda *_: None) as device:
        messages = device.status().messages
        assert messages is not None
        assert not messages.connected
