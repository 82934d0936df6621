"""What a service says to systemd, heard on a socket in systemd's place."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.systemd import Notifier
from hematovision.errors import SettingError


class Listener:
    """A socket such as systemd's; ``heard`` takes what has arrived."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    yield listener
    listener.socket.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock's time, its only element, to be set."""
    now = [1000.0]
    monkeypatch.setattr("edge.systemd.monotonic", lambda: now[0])
    return now


def test_start_and_end_and_what_it_is_at_are_said(systemd: Listener, address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.status("running, 20 frames a second")
    notifier.stopping()
    assert systemd.heard() == ["READY=1", "STATUS=running, 20 frames a second", "STOPPING=1"]


def test_a_status_is_said_when_it_changes_and_stays_one_assignment(systemd: Listener, address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for line in ("a", "a", "b\nREADY=1", "\udcff"):
        notifier.status(line)
    assert systemd.heard() == ["STATUS=a", "STATUS=b\\nREADY=1", "STATUS=?"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"hematovision-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
    assert listener.heard() == ["READY=1"]
    listener.socket.close()


def test_progress_is_said_four_times_in_the_watchdogs_interval_however_often_there_is_some(
    systemd: Listener, address: str, clock: list[float]
) -> None:
    notifier = Notifier(
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    )
    assert notifier.watchdog_s == 60
    for _ in range(600):  # a minute of ten frames a second
        notifier.progress()
        clock[0] += 0.1
    assert systemd.heard() == ["WATCHDOG=1"] * 4


def test_without_progress_the_watchdog_hears_nothing(systemd: Listener, address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    notifier.ready()
    notifier.status("stalled")
    assert "WATCHDOG=1" not in systemd.heard()


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_not_there_or_not_for_this_process_is_not_fed(
    systemd: Listener, address: str, environment: dict[str, str]
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, **environment})
    notifier.progress()
    assert notifier.watchdog_s is None
    assert systemd.heard() == []


def test_outside_systemd_nothing_is_sent_and_nothing_is_missed() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.status("running")
    notifier.progress()
    notifier.stopping()
    assert notifier.unsent == 0


def test_what_nobody_hears_is_counted_and_ends_nothing(systemd: Listener, address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    systemd.socket.close()
    notifier.ready()
    Path(address).unlink()
    notifier.stopping()
    assert notifier.unsent == 2


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1"}, "NOTIFY_SOCKET is vsock:2:1"),
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC is soon"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC is 0"),
    ],
)
def test_what_systemd_would_never_say_is_refused(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        Notifier(environment)


def test_a_start_that_takes_long_asks_for_the_time(systemd: Listener, address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).starting(90.5)
    assert systemd.heard() == ["EXTEND_TIMEOUT_USEC=90500000"]
