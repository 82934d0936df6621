"""The machine as the kernel's files tell it: made-up ones of boards and PCs, and whatever is here."""

import math
import os
import platform
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.machine import Watch, available_memory_mib, describe, observe, watch
from benchmarks.results import Machine

TICKS = os.sysconf("SC_CLK_TCK")

PI_4 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
PI_5 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
PC = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz
cpu MHz\t\t: 800.012
flags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2 avx f16c avx2 fma
"""
MEMINFO = "MemTotal:        1894532 kB\nMemFree:          812345 kB\nMemAvailable:    1234944 kB\n"


class Root:
    """Files of a kernel that a test makes up."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def clocks(self, *mhz: int, governor: str = "ondemand") -> None:
        for core, speed in enumerate(mhz):
            folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
            self.write(f"{folder}/scaling_cur_freq", f"{1000 * speed}\n")
            self.write(f"{folder}/scaling_governor", f"{governor}\n")

    def times(self, user: float = 0, steal: float = 0, own: float = 0, cores: int = 4) -> None:
        """Seconds so far."""
        line = f"{user * TICKS:.0f} 0 0 99999 0 0 0 {steal * TICKS:.0f} 0 0"
        cpus = "".join(f"cpu{core} 1 0 0 1 0 0 0 0 0 0\n" for core in range(cores))
        self.write("proc/stat", f"cpu  {line}\n{cpus}intr 5 0\nctxt 7\n")
        self.write(
            "proc/self/stat", f"1 (a) b (c)) S 1 1 1 0 -1 4 5 0 0 0 {own * TICKS:.0f} 0 0 0 20 0 1 0 99 0 0\n"
        )


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    made.path.mkdir()
    return made


@pytest.fixture
def pi_4(root: Root) -> Root:
    root.write(
        "proc/cpuinfo", 4 * (PI_4 + "\n") + "Revision\t: b03111\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n"
    )
    root.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.1\0")
    root.write("proc/meminfo", MEMINFO)
    root.write("proc/loadavg", "0.52 0.58 0.59 1/189 1234\n")
    root.write("proc/sys/kernel/osrelease", "6.6.31+rpt-rpi-v8\n")
    root.write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    root.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    root.write("sys/class/thermal/thermal_zone0/temp", "48312\n")
    root.write("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n")
    root.clocks(1500, 1500, 1500, 600)
    root.times()
    return root


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock by which a watch tells how long it has watched; the last entry is the time."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[-1])
    return clock


def described(root: Root) -> Machine:
    state = observe(root.path)
    return describe(state, state, {"numpy": "1"}, ["a cloud"], root.path)


# --- what it is ---


def test_a_raspberry_pi_4(pi_4: Root) -> None:
    found = described(pi_4)
    assert found.processor == "Cortex-A72"
    assert found.board == "Raspberry Pi 4 Model B Rev 1.1"
    assert found.features == ("asimd",)  # no dot product, so int8 gains less than on a Pi 5
    assert found.cores == 4
    assert found.memory_mib == pytest.approx(1894532 / 1024)
    assert not found.virtual
    assert found.system == "Debian GNU/Linux 12 (bookworm), Linux 6.6.31+rpt-rpi-v8"
    assert found.versions == {"numpy": "1"}
    assert found.disturbed == ("a cloud",)
    state = found.before
    assert state.load_average == (0.52, 0.58, 0.59)
    assert state.governors == 4 * ("ondemand",)
    assert state.clock_mhz == (1500.0, 1500.0, 1500.0, 600.0)
    assert state.temperature_c == pytest.approx(48.312)
    assert state.throttled == ()
    assert state.time.endswith("+00:00")


def test_a_raspberry_pi_5_that_was_throttled(root: Root) -> None:
    root.write("proc/cpuinfo", 4 * (PI_5 + "\n"))
    root.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    root.write("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "50005\n")
    found = described(root)
    assert found.processor == "Cortex-A76"
    assert found.features == ("asimd", "asimdhp", "fphp", "asimddp")
    assert found.before.throttled == (
        "undervoltage now",
        "throttled now",
        "undervoltage since the start",
        "throttled since the start",
    )


def test_a_32_bit_system_names_board_and_features_as_well(root: Root) -> None:
    root.write(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nFeatures\t: half thumb neon vfpv4\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd03\n\nModel\t\t: Raspberry Pi 3 Model B\n",
    )
    found = described(root)
    assert (found.processor, found.board) == ("Cortex-A53", "Raspberry Pi 3 Model B")
    assert found.features == ("neon", "vfpv4")


def test_fast_and_slow_cores_are_both_named_and_an_unknown_one_by_its_number(root: Root) -> None:
    other = PI_5.replace("0xd0b", "0xfff").replace("processor\t: 0", "processor\t: 1")
    root.write("proc/cpuinfo", f"{PI_5}\n{other}\n{PI_5}")
    assert described(root).processor == "Cortex-A76 and Arm part 0xfff"
    root.write("proc/cpuinfo", PI_5.replace("0x41", "0x61"))
    assert described(root).processor == "processor of implementer 0x61, part 0xd0b"


def test_a_laptop_with_the_powersave_governor(root: Root) -> None:
    root.write("proc/cpuinfo", PC + "\n" + PC.replace("processor\t: 0", "processor\t: 1"))
    root.write("sys/class/thermal/thermal_zone0/type", "acpitz\n")
    root.write("sys/class/thermal/thermal_zone0/temp", "25000\n")
    root.write("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp\n")
    root.write("sys/class/thermal/thermal_zone1/temp", "51000\n")
    root.clocks(800, 812, governor="powersave")
    found = described(root)
    assert found.processor == "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"
    assert found.board is None
    assert found.features == ("sse4_1", "ssse3", "avx", "avx2", "fma", "f16c")
    assert found.cores == 2
    assert not found.virtual
    assert found.before.governors == ("powersave", "powersave")
    assert found.before.temperature_c == 51
    assert any("powersave" in sentence for sentence in Watch(root.path).disturbances())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/cpuinfo", PC.replace("fpu", "fpu hypervisor")),
        ("sys/hypervisor/type", "xen\n"),
        ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ("proc/device-tree/model", "linux,dummy-virt\0"),
    ],
)
def test_a_virtual_machine_is_told_by_its_processor_or_its_firmware(root: Root, name: str, text: str) -> None:
    root.write(name, text)
    assert described(root).virtual


def test_without_cpufreq_the_clock_is_what_cpuinfo_says(root: Root) -> None:
    root.write("proc/cpuinfo", PC)
    assert observe(root.path).clock_mhz == (800.012,)


def test_a_container_with_nothing_there_is_described_without_guesses(root: Root) -> None:
    found = described(root)
    assert found.processor
    assert found.board is None
    assert found.features == ()
    assert math.isnan(found.memory_mib)
    assert found.system == f"Linux {platform.release()}"
    state = found.before
    assert all(math.isnan(average) for average in state.load_average)
    assert state.governors == ()
    assert state.clock_mhz == ()
    assert state.temperature_c is None
    assert Watch(root.path).disturbances() == ()
    assert math.isnan(available_memory_mib(root.path))


def test_cores_are_in_order_also_beyond_ten(root: Root) -> None:
    root.clocks(*range(1000, 1012))
    assert observe(root.path).clock_mhz == tuple(range(1000, 1012))


def test_this_machine_is_described() -> None:
    state = observe()
    found = describe(state, observe(), {}, ())
    assert found.architecture.startswith(platform.machine())
    assert found.cores == os.cpu_count()
    assert found.memory_mib == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() / 2**20, rel=0.01
    )
    assert platform.release() in found.system
    assert state.load_average == pytest.approx(os.getloadavg(), abs=1)


# --- memory ---


def test_available_memory_is_within_the_limit_of_a_container(pi_4: Root) -> None:
    free = 1234944 / 1024
    assert available_memory_mib(pi_4.path) == pytest.approx(free)
    pi_4.write("sys/fs/cgroup/memory.max", "max\n")
    pi_4.write("sys/fs/cgroup/memory.current", f"{300 * 2**20}\n")
    assert available_memory_mib(pi_4.path) == pytest.approx(free)
    pi_4.write("sys/fs/cgroup/memory.max", f"{512 * 2**20}\n")
    assert available_memory_mib(pi_4.path) == pytest.approx(212)
    pi_4.write("sys/fs/cgroup/memory.stat", f"anon 5\ninactive_file {50 * 2**20}\n")
    assert available_memory_mib(pi_4.path) == pytest.approx(262)


# --- what disturbs it ---


def test_a_quiet_run_is_not_disturbed_by_what_it_computes_itself(pi_4: Root, ticking: list[float]) -> None:
    watching = Watch(pi_4.path)
    ticking.append(100)
    pi_4.times(user=110, own=100)
    assert watching.disturbances() == ()


def test_other_processes_are_told_by_how_many_cores_they_took(pi_4: Root, ticking: list[float]) -> None:
    pi_4.times(user=1000, own=50)
    watching = Watch(pi_4.path)
    ticking.append(100)
    pi_4.times(user=1175, own=100)
    assert watching.disturbances() == ("Other processes took 1.25 of 4 cores on average.",)


def test_time_that_the_hypervisor_kept_is_told(pi_4: Root, ticking: list[float]) -> None:
    watching = Watch(pi_4.path)
    ticking.append(100)
    pi_4.times(user=100, own=100, steal=3)
    assert watching.disturbances() == ()
    pi_4.times(user=100, own=100, steal=30)
    assert watching.disturbances() == ("The hypervisor kept 7.5% of the processors' time.",)


def test_time_that_a_containers_limit_took_is_told(pi_4: Root, ticking: list[float]) -> None:
    pi_4.write("sys/fs/cgroup/cpu.stat", "usage_usec 5\nthrottled_usec 1000000\n")
    watching = Watch(pi_4.path)
    ticking.append(100)
    pi_4.write("sys/fs/cgroup/cpu.stat", "usage_usec 5\nthrottled_usec 13500000\n")
    assert watching.disturbances() == ("The container's limit on processor time stopped it for 12.5 s.",)


def test_swapping_is_told(pi_4: Root) -> None:
    pi_4.write("proc/vmstat", "nr_free_pages 7\npswpin 100\npswpout 200\n")
    watching = Watch(pi_4.path)
    pi_4.write("proc/vmstat", "nr_free_pages 7\npswpin 150\npswpout 200\n")
    assert watching.disturbances() == ("Memory was short: 50 pages went to or came from swap.",)


def test_throttling_is_told_if_it_is_seen_or_new_but_not_if_it_was_over_before(pi_4: Root) -> None:
    firmware = "sys/devices/platform/soc/soc:firmware/get_throttled"
    pi_4.write(firmware, "10000\n")
    assert Watch(pi_4.path).disturbances() == ()
    watching = Watch(pi_4.path)
    pi_4.write(firmware, "50004\n")
    watching.look()
    pi_4.write(firmware, "50000\n")
    (sentence,) = watching.disturbances()
    assert sentence == "The firmware reported: throttled now, throttled since the start."
    pi_4.write(firmware, "50001\n")
    assert Watch(pi_4.path).disturbances() == ("The firmware reported: undervoltage now.",)


def test_a_pc_that_slows_itself_down_for_heat_is_told(root: Root) -> None:
    count = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    for core in (0, 1):
        root.write(count.format(core), "7\n")
    watching = Watch(root.path)
    assert watching.disturbances() == ()
    root.write(count.format(1), "12\n")
    assert watching.disturbances() == ("The processor slowed itself down for heat.",)


def test_heat_is_told_by_the_hottest_moment(pi_4: Root) -> None:
    watching = Watch(pi_4.path)
    pi_4.write("sys/class/thermal/thermal_zone0/temp", "83500\n")
    watching.look()
    pi_4.write("sys/class/thermal/thermal_zone0/temp", "60000\n")
    assert watching.disturbances() == ("The processor was up to 84 °C hot.",)


def test_a_clock_that_falls_under_load_is_told_and_an_idle_one_is_not(
    pi_4: Root, ticking: list[float]
) -> None:
    watching = Watch(pi_4.path)
    for second, (mhz, computed) in enumerate([(1500, 1), (600, 1), (1500, 2)], start=1):
        ticking.append(second)
        pi_4.clocks(600, mhz, 600, 600)
        pi_4.times(user=computed, own=computed)
        watching.look()
    assert watching.disturbances() == ()
    ticking.append(4)
    pi_4.clocks(600, 1000, 600, 600)
    pi_4.times(user=3, own=3)
    assert watching.disturbances() == ("The clock of the fastest core changed between 1000 and 1500 MHz.",)


def test_what_ended_children_computed_counts_as_ours() -> None:
    busy = "import time\nwhile time.process_time() < {}: pass"
    first = machine._Counters.read(Path("/"))
    subprocess.run([sys.executable, "-c", busy.format(0.5)], check=True)
    since = machine._Counters.read(Path("/")).since(first)
    assert 0.45 <= since.own < since.clock * since.cores + 0.1
    assert since.computed >= 0.4


def test_a_watch_looks_by_itself_and_its_thread_ends_with_the_block(
    pi_4: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LOOK_EVERY_S", 0.01)
    looked = threading.Event()
    look = Watch.look

    def counted(self: Watch) -> None:
        look(self)
        looked.set()

    monkeypatch.setattr(Watch, "look", counted)
    before = threading.active_count()
    with watch(pi_4.path):
        assert looked.wait(30)
    assert threading.active_count() == before
