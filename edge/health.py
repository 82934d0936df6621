"""How the machine is: heat, power, clock, space, memory. A sensor that it lacks is None, never a guess."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge.device import DeviceStatus, State
from edge.store.clock import is_synchronised

#: From here on a Raspberry Pi slows down, in °C.
HOT_C = 80.0
#: A picture older than this, in seconds, is none of what is under the microscope now.
OLD_FRAME_S = 10.0
LOW_SPACE_MB, FULL_MB = 200.0, 1.0
LOW_MEMORY_MB = 50.0

UNDERVOLTAGE_NOW, THROTTLED_NOW = "undervoltage now", "throttled now"
# Of the firmware's get_throttled; its documentation numbers them so.
_THROTTLED_BITS = {
    0: UNDERVOLTAGE_NOW,
    1: "clock capped now",
    2: THROTTLED_NOW,
    3: "soft temperature limit now",
    16: "undervoltage since the start",
    17: "clock capped since the start",
    18: "throttled since the start",
    19: "soft temperature limit since the start",
}
#: All that `Health.throttled` may say.
THROTTLED_WORDS = tuple(_THROTTLED_BITS.values())
# The processor's own zones: that of a Raspberry Pi, of other boards, of PCs. What else is warm is not asked.
_PROCESSOR_ZONES = ("cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp")
_VCGENCMD_LIMIT_S = 2.0


@dataclass(frozen=True)
class Health:
    """The machine at a moment; None where it has no such sensor, or does not let this user read it.

    ``temperature_c``: of the processor. ``throttled``: what a Raspberry Pi's firmware says about power and
    heat, now and since it started, in words; empty where all is well. ``clock_mhz``: what the kernel asked
    the fastest core for; where the firmware throttles, it runs slower than that.
    ``clock_synchronised``: whether the time of day was set by the network, without which a Pi's is wrong.
    ``free_mb``: what the store's folder may still take, in 10^6 bytes. ``memory_used_mb``: of this process,
    resident. ``memory_free_mb``: what programs may still ask for. ``load``: runnable threads, over a minute.
    """

    temperature_c: float | None
    throttled: tuple[str, ...] | None
    clock_mhz: float | None
    clock_synchronised: bool | None
    free_mb: float | None
    memory_used_mb: float | None
    memory_free_mb: float | None
    load: float | None


def read_health(folder: Path, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Health:
    """Read every sensor there is, in well under a millisecond.

    Only where the kernel does not show the firmware's word on power and heat but ``vcgencmd`` is installed,
    that is asked, which takes some milliseconds.

    Args:
        folder: the store's; where it is not there yet, its free space is not known.
        sys: where sysfs is.
        proc: where procfs is.
    """
    return Health(
        temperature_c=_temperature_c(sys),
        throttled=_throttled(sys),
        clock_mhz=_clock_mhz(sys),
        clock_synchronised=is_synchronised(),
        free_mb=_free_mb(folder),
        memory_used_mb=_memory_mb(proc / "self/status", "VmRSS:"),
        memory_free_mb=_memory_mb(proc / "meminfo", "MemAvailable:"),
        load=_first_number(proc / "loadavg"),
    )


def problems(status: DeviceStatus, health: Health) -> list[str]:
    """Why the device does not do what it is there for, a sentence each; none where it does."""
    found = []
    if status.state is not State.RUNNING:
        reason = f": {status.reason}" if status.reason else ""
        found.append(f"The camera is {status.state}{reason}.")
    elif status.frame_age_s is None:
        found.append("There has been no frame yet.")
    elif status.frame_age_s > OLD_FRAME_S:
        found.append(f"The last frame is {status.frame_age_s:.0f} s old.")
    if status.store.error is not None:
        found.append(f"Nothing can be stored: {status.store.error}.")
    if health.free_mb is not None and health.free_mb < FULL_MB:
        found.append("The disk is full.")
    return found


def warnings(status: DeviceStatus, health: Health) -> list[str]:
    """What will or may go wrong while the device still works, a sentence each."""
    found = []
    if status.condition.line:
        found.append(f"{status.condition.state.capitalize()}: {status.condition.line}.")
    found += [
        f"{note[0].upper()}{note[1:]}." for note in (*status.condition.notes, status.unfamiliar) if note
    ]
    if status.store.not_stored:
        found.append(f"Cells that could not be stored: {status.store.not_stored}.")
    if status.store.warning is not None:
        found.append(status.store.warning)
    if status.messages is not None and status.messages.error is not None:
        found.append(f"Messages are not sent: {status.messages.error}.")
    if health.free_mb is not None and FULL_MB <= health.free_mb < LOW_SPACE_MB:
        found.append(f"The disk is nearly full: {health.free_mb:.0f} MB are free.")
    if health.memory_free_mb is not None and health.memory_free_mb < LOW_MEMORY_MB:
        found.append(f"Memory is short: {health.memory_free_mb:.0f} MB are free.")
    throttled = health.throttled or ()
    if UNDERVOLTAGE_NOW in throttled:
        found.append("The power supply is too weak: its voltage is low now.")
    if health.temperature_c is not None and health.temperature_c >= HOT_C:
        found.append(f"The processor is too hot: {health.temperature_c:.0f} °C.")
    elif THROTTLED_NOW in throttled:
        found.append("The processor is slowed down by its firmware.")
    if health.clock_synchronised is False:
        found.append("The time of day is not set by the network: dates of cells may be wrong.")
    return found


def _temperature_c(sys: Path) -> float | None:
    for kind in _PROCESSOR_ZONES:
        for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
            if _text(zone / "type") == kind and (milli := _first_number(zone / "temp")) is not None:
                return milli / 1000
    return None


def _throttled(sys: Path) -> tuple[str, ...] | None:
    # A Raspberry Pi 4 calls the folder soc/soc:firmware; newer ones put an address into both names.
    for file in sorted(sys.glob("devices/platform/soc*/*firmware/get_throttled")):
        if (bits := _bits(_text(file))) is not None:
            return bits
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 (no part of it comes from outside)
            [program, "get_throttled"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_VCGENCMD_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None  # it may not talk to the firmware, as in a container
    return _bits(answer.stdout.strip().removeprefix("throttled="))


def _bits(text: str | None) -> tuple[str, ...] | None:
    try:
        bits = int(text or "", 16)
    except ValueError:
        return None
    return tuple(words for bit, words in _THROTTLED_BITS.items() if bits >> bit & 1)


def _clock_mhz(sys: Path) -> float | None:
    files = sys.glob("devices/system/cpu/cpufreq/policy*/scaling_cur_freq")
    speeds = [khz for file in files if (khz := _first_number(file)) is not None]
    return max(speeds) / 1000 if speeds else None


def _free_mb(folder: Path) -> float | None:
    try:
        space = os.statvfs(folder)
    except OSError:
        return None
    return space.f_bavail * space.f_frsize / 1e6


def _memory_mb(file: Path, name: str) -> float | None:
    for line in (_text(file) or "").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6  # the kernel's kB are 1024 bytes
    return None


def _first_number(file: Path) -> float | None:
    words = (_text(file) or "").split()
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None


def _text(file: Path) -> str | None:
    """What a sensor says; None where it is not there, or does not answer now."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
