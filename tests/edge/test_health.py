"""Health: read from made-up /sys and /proc, and judged."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.device import DeviceStatus, PublisherStatus, State
from edge.differential import Differential
from edge.health import Health, problems, read_health, warnings
from edge.store import StoreCounts

NOTHING = Health(None, None, None, None, None, None, None, None)
GOOD = Health(
    temperature_c=50.0,
    throttled=(),
    clock_mhz=1500.0,
    clock_synchronised=True,
    free_mb=5000.0,
    memory_used_mb=150.0,
    memory_free_mb=600.0,
    load=1.0,
)
NOW = datetime(2024, 5, 1, tzinfo=UTC)
RUNNING = DeviceStatus(
    started_at=NOW,
    state=State.RUNNING,
    since=NOW,
    reason="",
    camera="phantom",
    um_per_pixel=0.1,
    failures=0,
    recoveries=0,
    frames=100,
    skipped=3,
    dropped=0,
    lost=0,
    frames_per_second=20.0,
    frame_age_s=0.05,
    focus=0.9,
    cells_in_view=3,
    session=None,
    differential=Differential(),
    target_reached=False,
    store=StoreCounts(pending=0, stored=5, not_stored=0, error=None),
    messages=None,
    notes=(),
    said=(),
)


class Machine:
    """Made-up /sys and /proc."""

    def __init__(self, root: Path) -> None:
        self.root, self.sys, self.proc = root, root / "sys", root / "proc"
        self.sys.mkdir()
        self.proc.mkdir()

    def say(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def health(self) -> Health:
        return read_health(self.root, self.sys, self.proc)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no vcgencmd
    return Machine(tmp_path)


def test_a_machine_without_sensors_has_none_and_no_guesses(machine: Machine) -> None:
    health = replace(machine.health(), clock_synchronised=None, free_mb=None)  # which every machine has
    assert health == NOTHING
    assert read_health(machine.root / "missing", machine.sys, machine.proc).free_mb is None


def test_a_raspberry_pi_says_all(machine: Machine) -> None:
    machine.say("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    machine.say("sys/class/thermal/thermal_zone0/temp", "48686\n")
    machine.say("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    machine.say("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1500000\n")
    machine.say("proc/self/status", "Name:\tpython\nVmRSS:\t  131072 kB\n")
    machine.say("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable:  500000 kB\n")
    machine.say("proc/loadavg", "0.52 0.58 0.59 1/389 12345\n")
    health = machine.health()
    assert health.temperature_c == 48.686
    assert health.throttled == (
        "undervoltage now",
        "throttled now",
        "undervoltage since the start",
        "throttled since the start",
    )
    assert health.clock_mhz == 1500
    assert health.memory_used_mb == pytest.approx(134.217728)
    assert health.memory_free_mb == pytest.approx(512)
    assert health.load == 0.52


def test_the_temperature_is_the_processors_and_no_other(machine: Machine) -> None:
    machine.say("sys/class/thermal/thermal_zone0/type", "acpitz\n")
    machine.say("sys/class/thermal/thermal_zone0/temp", "27800\n")
    assert machine.health().temperature_c is None
    machine.say("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp\n")
    machine.say("sys/class/thermal/thermal_zone1/temp", "61000\n")
    assert machine.health().temperature_c == 61


def test_a_sensor_that_is_there_and_does_not_answer_is_none(machine: Machine) -> None:
    machine.say("sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    machine.say("sys/class/thermal/thermal_zone0/temp", "")
    machine.say("sys/devices/platform/soc/soc:firmware/get_throttled", "broken")
    machine.say("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "<unknown>")
    (machine.root / "sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq").mkdir(parents=True)
    health = machine.health()
    assert (health.temperature_c, health.throttled, health.clock_mhz) == (None, None, None)


def test_the_firmware_of_a_newer_pi_is_found_under_its_other_name(machine: Machine) -> None:
    machine.say("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "0\n")
    assert machine.health().throttled == ()


def test_vcgencmd_is_asked_where_the_kernel_does_not_tell(machine: Machine) -> None:
    program = machine.root / "bin/vcgencmd"
    machine.say("bin/vcgencmd", '#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x80008\n')
    program.chmod(0o755)
    assert machine.health().throttled == (
        "soft temperature limit now",
        "soft temperature limit since the start",
    )
    machine.say("bin/vcgencmd", "#!/bin/sh\necho VCHI initialization failed; exit 255\n")
    assert machine.health().throttled is None
    machine.say("sys/devices/platform/soc/soc:firmware/get_throttled", "1\n")
    assert machine.health().throttled == ("undervoltage now",)


def test_this_machine_says_what_every_linux_does() -> None:
    health = read_health(Path("/"))
    assert health.memory_used_mb is not None
    assert 10 < health.memory_used_mb < 100_000
    assert health.memory_free_mb is not None
    assert health.load is not None
    space = os.statvfs("/")
    assert health.free_mb == pytest.approx(space.f_bavail * space.f_frsize / 1e6, rel=0.1, abs=100)


@pytest.mark.parametrize(
    ("answer", "error_us", "synchronised"),
    [(0, 1500, True), (5, 1500, True), (0, 16_000_000, False), (5, 16_000_000, False), (-1, 0, None)],
)
def test_the_clock_is_synchronised_while_the_kernel_knows_its_error(
    monkeypatch: pytest.MonkeyPatch, answer: int, error_us: int, synchronised: bool | None
) -> None:
    class Library:
        def adjtimex(self, pointer: object) -> int:
            pointer._obj.maxerror_us = error_us  # type: ignore[attr-defined]
            return answer

    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    assert read_health(Path("/")).clock_synchronised is synchronised


def test_a_device_that_works_on_a_machine_that_is_well_has_neither_problems_nor_warnings() -> None:
    assert problems(RUNNING, GOOD) == []
    assert warnings(RUNNING, GOOD) == []
    # What is not known is no problem.
    assert problems(RUNNING, NOTHING) == []
    assert warnings(RUNNING, NOTHING) == []


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_a_camera_that_does_not_run_is_a_problem_with_its_reason(state: State) -> None:
    status = replace(RUNNING, state=state, reason="the cable is loose")
    assert problems(status, GOOD) == [f"The camera is {state}: the cable is loose."]
    assert problems(replace(status, reason=""), GOOD) == [f"The camera is {state}."]


def test_old_frames_are_a_problem_also_where_the_camera_is_said_to_run() -> None:
    assert problems(replace(RUNNING, frame_age_s=9.9), GOOD) == []
    assert problems(replace(RUNNING, frame_age_s=10.1), GOOD) == ["The last frame is 10 s old."]
    assert problems(replace(RUNNING, frame_age_s=None), GOOD) == ["There has been no frame yet."]


def test_a_store_that_does_not_write_and_a_full_disk_are_problems() -> None:
    failing = replace(RUNNING, store=StoreCounts(3, 5, 0, "No space left on device"))
    assert problems(failing, GOOD) == ["Nothing can be stored: No space left on device."]
    assert problems(RUNNING, replace(GOOD, free_mb=0.5)) == ["The disk is full."]


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"free_mb": 199.0}, "The disk is nearly full: 199 MB are free."),
        ({"memory_free_mb": 49.0}, "Memory is short: 49 MB are free."),
        ({"throttled": ("undervoltage now",)}, "The power supply is too weak: its voltage is low now."),
        ({"temperature_c": 80.0}, "The processor is too hot: 80 °C."),
        ({"throttled": ("throttled now",)}, "The processor is slowed down by its firmware."),
        (
            {"clock_synchronised": False},
            "The time of day is not set by the network: dates of cells may be wrong.",
        ),
    ],
)
def test_what_may_go_wrong_is_a_warning_and_no_problem(change: dict[str, object], warning: str) -> None:
    health = replace(GOOD, **change)  # type: ignore[arg-type]
    assert warnings(RUNNING, health) == [warning]
    assert problems(RUNNING, health) == []


def test_cells_that_were_not_stored_are_a_warning_for_as_long_as_the_process_runs() -> None:
    status = replace(RUNNING, store=StoreCounts(0, 5, 2, None))
    assert warnings(status, GOOD) == ["Cells that could not be stored: 2."]


def test_a_card_that_others_filled_is_a_warning() -> None:
    text = "The card is full, and not by the sessions: make room on it."
    status = replace(RUNNING, store=StoreCounts(0, 5, 0, None, text))
    assert warnings(status, GOOD) == [text]
    assert problems(status, GOOD) == []


def test_a_broker_that_is_away_is_a_warning_and_no_problem() -> None:
    status = replace(RUNNING, messages=PublisherStatus(error="broker:1883: no answer within 5 s"))
    assert warnings(status, GOOD) == ["Messages are not sent: broker:1883: no answer within 5 s."]
    assert problems(status, GOOD) == []
    assert warnings(replace(RUNNING, messages=PublisherStatus()), GOOD) == []


def test_what_was_throttled_once_and_is_no_more_is_no_warning() -> None:
    once = replace(GOOD, throttled=("undervoltage since the start", "throttled since the start"))
    assert warnings(RUNNING, once) == []
