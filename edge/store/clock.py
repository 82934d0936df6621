"""The time of day, whether it is known to be right, and a time beside it that nobody sets.

A Raspberry Pi has no clock that runs while it is off, or one with a battery that fails without a word:
until the network sets it, its time of day may be any, and then it jumps. So a time of day counts as known
only where the network set it.
"""

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# The kernel's largest error, which it reaches some hours after the clock was last set by the network, and
# has from the start. systemd and timedatectl judge by it too: the kernel's flag STA_UNSYNC does not tell.
_NEVER_SET_US = 16_000_000
_START = Path("/proc/sys/kernel/random/boot_id")
# Of the time since the machine started, its sleep included; elsewhere than on Linux, the next best.
_SINCE_START = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class Reading:
    """The clock at a moment.

    ``at``: time of day, UTC. ``is_set``: whether the network set it; None where the system does not tell.
    ``since_start_s``: seconds since the machine started. ``start``: names that start; empty where the system
    does not tell.
    """

    at: datetime
    is_set: bool | None
    since_start_s: float
    start: str = ""


def read_clock() -> Reading:
    """Read the clock."""
    return Reading(datetime.now(UTC), is_synchronised(), time.clock_gettime(_SINCE_START), _start())


def _start() -> str:
    try:
        return _START.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class _Timex(ctypes.Structure):
    """The beginning of adjtimex(2)'s structure; the rest only has to have room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("rest", ctypes.c_long * 64),
    )


def is_synchronised() -> bool | None:
    """Whether the network set the time of day; None where the system does not tell."""
    state = _Timex()  # its modes are zero: only asked
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.byref(state))
    except (AttributeError, OSError):
        return None
    return None if answer < 0 else state.maxerror_us < _NEVER_SET_US
