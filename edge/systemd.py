"""Telling systemd how a service does: started, alive, stopping, and a line on what it is at.

The protocol of sd_notify(3): datagrams to the socket that ``$NOTIFY_SOCKET`` names. Not under systemd, or in
a unit that asks for none of it, nothing is sent.
"""

import os
import socket
from collections.abc import Mapping
from time import monotonic

from hematovision.errors import SettingError
from hematovision.images import shown_path

# systemd asks for twice as often as its limit; more often than that it costs something and brings nothing.
_SHARE_OF_WATCHDOG = 0.25
# systemd reads at once unless the machine is about to hang.
_SEND_LIMIT_S = 1.0


class Notifier:
    """What a service says to systemd. Each method may be called from any thread.

    ``unsent`` counts what could not be said: systemd ends a service that it hears nothing from.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Find out whom to tell, and how often.

        Raises:
            SettingError: the environment says what systemd never would.
        """
        self.unsent = 0
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        #: How long systemd waits for a sign of life before it ends the service, in seconds; None: for ever.
        self.watchdog_s = _watchdog_s(environment)
        self._alive_at = float("-inf")
        self._told = ""

    def ready(self) -> None:
        """The service has started."""
        self._send("READY=1")

    def starting(self, seconds: float) -> None:
        """The start takes up to so many seconds more, whatever the unit allows."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(1e6 * seconds)}")

    def progress(self) -> None:
        """It got on with its work. Costs nothing to call often: systemd is told as often as it asks for."""
        if self.watchdog_s is None:
            return
        now = monotonic()
        if now - self._alive_at >= self.watchdog_s * _SHARE_OF_WATCHDOG:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def status(self, line: str) -> None:
        """What it is at, as ``systemctl status`` shows it; sent where it differs from the line before."""
        if line != self._told:
            self._told = line
            # A line break would begin an assignment of its own.
            self._send(f"STATUS={shown_path(line)}")

    def stopping(self) -> None:
        """It was told to end, and does."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_SEND_LIMIT_S)
                sender.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            self.unsent += 1  # a service that works is not ended because nobody listens


def _address(name: str) -> str | None:
    if not name:
        return None
    if name[0] not in "@/":
        raise SettingError(f"NOTIFY_SOCKET is {shown_path(name)}, no path; start the service through systemd")
    # @ stands for the zero byte that an abstract socket's name begins with.
    return f"\0{name[1:]}" if name[0] == "@" else name


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    interval, of_process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not interval or of_process not in ("", str(os.getpid())):  # a child inherits what is not for it
        return None
    if not interval.isdecimal() or int(interval) == 0:
        raise SettingError(
            f"WATCHDOG_USEC is {shown_path(interval)}, no time; start the service through systemd"
        )
    return int(interval) / 1e6
