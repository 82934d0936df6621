"""The machine that figures come from, its state, and what disturbed it while they were taken.

Everything is read from files of the kernel, below a root that tests can make up. What a machine does not tell
is None or empty, never a guess.
"""

import math
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import Machine, MachineState
from edge.health import HOT_C, read_health

ROOT = Path("/")

# Of the flags in /proc/cpuinfo, those that the runtimes choose their kernels by.
_FEATURES = (
    *("sse4_1", "ssse3", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16"),
    *(
        "neon",
        "vfpv4",
        "asimd",
        "asimdhp",
        "fphp",
        "asimddp",
        "i8mm",
        "bf16",
        "sve",
        "sve2",
        "svei8mm",
        "sme",
    ),
)
# ARM processors do not give their name, only a number of their maker's (0x41 is Arm itself); linux/cputype.h.
_ARM_PARTS = {
    0xB76: "ARM1176",
    0xC07: "Cortex-A7",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}
_ARM_IMPLEMENTER = 0x41
_VIRTUAL_VENDORS = (
    "QEMU",
    "Amazon EC2",
    "Google",
    "Microsoft Corporation",
    "VMware, Inc.",
    "innotek GmbH",
    "Xen",
)

#: A run is disturbed where others take more than this share of all cores, or the hypervisor this one.
OTHERS_SHARE, STOLEN_SHARE = 0.05, 0.01
#: Or where the clock of a busy machine falls below this share of the highest that was seen.
CLOCK_SHARE = 0.9
#: How often a watch looks; what it does then takes a millisecond or so.
LOOK_EVERY_S = 2.0

_NOW = " now"
_BUSY_CORES = 0.5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MIB = 2**20


def observe(root: Path = ROOT) -> MachineState:
    """The state of the machine now."""
    health = read_health(root, root / "sys", root / "proc")
    one, five, fifteen, *_ = *_numbers(root / "proc/loadavg")[:3], math.nan, math.nan, math.nan
    return MachineState(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        load_average=(one, five, fifteen),
        governors=tuple(_text(file) for file in _of_cores(root, "scaling_governor")),
        clock_mhz=_clock_mhz(root),
        temperature_c=health.temperature_c,
        throttled=health.throttled,
    )


def describe(
    before: MachineState,
    after: MachineState,
    versions: Mapping[str, str],
    disturbed: Sequence[str],
    root: Path = ROOT,
) -> Machine:
    """The machine, with its state before and after a run and what disturbed that, as a `Watch` tells."""
    cpuinfo = _fields(root / "proc/cpuinfo")
    flags = set(" ".join(cpuinfo.get("flags", []) + cpuinfo.get("Features", [])).split())
    bits = "" if sys.maxsize > 2**32 or not platform.machine().endswith("64") else ", 32-bit programs"
    return Machine(
        processor=_processor(cpuinfo),
        board=_text(root / "proc/device-tree/model").strip("\0") or "".join(cpuinfo.get("Model", [])) or None,
        architecture=platform.machine() + bits,
        features=tuple(feature for feature in _FEATURES if feature in flags),
        cores=len(cpuinfo.get("processor", [])) or os.cpu_count() or 1,
        memory_mib=_memory_mib(root, "MemTotal"),
        virtual="hypervisor" in flags or _is_virtual_board(root),
        system=_system(root),
        versions=dict(versions),
        before=before,
        after=after,
        disturbed=tuple(disturbed),
    )


def available_memory_mib(root: Path = ROOT) -> float:
    """What processes may still take, also within a container's limit."""
    available = _memory_mib(root, "MemAvailable")
    group = root / "sys/fs/cgroup"
    limit, used = _numbers(group / "memory.max"), _numbers(group / "memory.current")
    if limit and used:  # memory.max is the word max where there is no limit
        reclaimable = _table(group / "memory.stat").get("inactive_file", 0.0)
        within = (limit[0] - used[0] + reclaimable) / _MIB
        return within if math.isnan(available) else min(available, within)
    return available


@contextmanager
def watch(root: Path = ROOT) -> Iterator["Watch"]:
    """Watch the machine until the end of the block, from a thread that mostly sleeps."""
    watching, ended = Watch(root), threading.Event()

    def look_again_and_again() -> None:
        while not ended.wait(LOOK_EVERY_S):
            watching.look()

    thread = threading.Thread(target=look_again_and_again, name="watch of the machine", daemon=True)
    thread.start()
    try:
        yield watching
    finally:
        ended.set()
        thread.join()


class Watch:
    """Notices what disturbs the measurements of this process and its children."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._first = self._last = _Counters.read(root)
        health = read_health(root, root / "sys", root / "proc")
        self._throttled_before = set(health.throttled or ())
        self._throttled: set[str] = {word for word in self._throttled_before if word.endswith(_NOW)}
        self._hottest_c = health.temperature_c
        self._clocks_mhz: list[float] = []

    def look(self) -> None:
        """Look at the machine once; what lasts shorter than the time between two looks may be missed."""
        health = read_health(self._root, self._root / "sys", self._root / "proc")
        words = set(health.throttled or ())
        self._throttled |= {
            word for word in words if word.endswith(_NOW) or word not in self._throttled_before
        }
        if health.temperature_c is not None:
            self._hottest_c = max(health.temperature_c, self._hottest_c or -math.inf)
        counters = _Counters.read(self._root)
        # An idle machine may clock as low as it likes.
        if counters.computed - self._last.computed > _BUSY_CORES * (counters.clock - self._last.clock):
            self._clocks_mhz += [max(clocks)] if (clocks := _clock_mhz(self._root)) else []
        self._last = counters

    def disturbances(self) -> tuple[str, ...]:
        """What spoiled the figures so far, a sentence each; children must have ended to count as ours."""
        self.look()
        since, cores = self._last.since(self._first), self._last.cores
        processors = since.clock * cores
        found = []
        others = since.computed - since.own
        if others > OTHERS_SHARE * processors:
            found.append(f"Other processes took {others / since.clock:.2f} of {cores} cores on average.")
        if since.stolen > STOLEN_SHARE * processors:
            found.append(f"The hypervisor kept {since.stolen / processors:.1%} of the processors' time.")
        if since.stopped > STOLEN_SHARE * since.clock:
            found.append(f"The container's limit on processor time stopped it for {since.stopped:.1f} s.")
        if since.swapped:
            found.append(f"Memory was short: {since.swapped:.0f} pages went to or came from swap.")
        if self._throttled:
            found.append(f"The firmware reported: {', '.join(sorted(self._throttled))}.")
        if since.throttled:
            found.append("The processor slowed itself down for heat.")
        if self._hottest_c is not None and self._hottest_c >= HOT_C:
            found.append(f"The processor was up to {self._hottest_c:.0f} °C hot.")
        if self._clocks_mhz and min(self._clocks_mhz) < CLOCK_SHARE * max(self._clocks_mhz):
            low, high = min(self._clocks_mhz), max(self._clocks_mhz)
            found.append(f"The clock of the fastest core changed between {low:.0f} and {high:.0f} MHz.")
        if "powersave" in observe(self._root).governors:
            found.append("The clock's governor is powersave: with performance it may be faster.")
        return tuple(found)


@dataclass(frozen=True)
class _Counters:
    """Seconds up to now: by the clock, that all processes computed and this one with its ended children, that
    the hypervisor kept, that a container's limit stopped it; pages swapped; how often cores of a PC slowed
    themselves down for heat."""

    clock: float
    cores: int
    computed: float
    own: float
    stolen: float
    stopped: float
    swapped: float
    throttled: float

    @classmethod
    def read(cls, root: Path) -> "_Counters":
        lines = _text(root / "proc/stat").splitlines()
        processors = [line.split() for line in lines if line.startswith("cpu")]
        total = [int(field) / _TICKS_PER_S for field in processors[0][1:]] if processors else [0.0] * 8
        # Behind the name in brackets, which may hold blanks, utime is the 12th field; its children's follow.
        own = _text(root / "proc/self/stat").rpartition(")")[2].split()[11:15]
        swapping = _table(root / "proc/vmstat")
        slowed = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        return cls(
            clock=time.monotonic(),
            cores=max(1, len(processors) - 1),
            computed=sum(total[:3]) + sum(total[5:7]),
            own=sum(map(int, own)) / _TICKS_PER_S,
            stolen=total[7],
            stopped=_table(root / "sys/fs/cgroup/cpu.stat").get("throttled_usec", 0.0) / 1e6,
            swapped=swapping.get("pswpin", 0.0) + swapping.get("pswpout", 0.0),
            throttled=sum(sum(_numbers(file)) for file in slowed),
        )

    def since(self, first: "_Counters") -> "_Counters":
        return _Counters(
            self.clock - first.clock,
            self.cores,
            self.computed - first.computed,
            self.own - first.own,
            self.stolen - first.stolen,
            self.stopped - first.stopped,
            self.swapped - first.swapped,
            self.throttled - first.throttled,
        )


def _processor(cpuinfo: Mapping[str, list[str]]) -> str:
    parts = dict.fromkeys(zip(cpuinfo.get("CPU implementer", []), cpuinfo.get("CPU part", []), strict=False))
    names = [
        _ARM_PARTS.get(int(part, 16), f"Arm part {part}")
        if int(implementer, 16) == _ARM_IMPLEMENTER
        else f"processor of implementer {implementer}, part {part}"
        for implementer, part in parts
    ] or list(dict.fromkeys(cpuinfo.get("model name", [])))
    return " and ".join(names) or platform.processor() or platform.machine()


def _is_virtual_board(root: Path) -> bool:
    """Of ARM, whose processors have no flag for it."""
    return (
        bool(_text(root / "sys/hypervisor/type"))
        or _text(root / "proc/device-tree/model").strip("\0") == "linux,dummy-virt"
        or _text(root / "sys/class/dmi/id/sys_vendor") in _VIRTUAL_VENDORS
    )


def _system(root: Path) -> str:
    release = _text(root / "etc/os-release")
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    kernel = _text(root / "proc/sys/kernel/osrelease") or platform.release()
    return f"{name[1]}, Linux {kernel}" if name else f"Linux {kernel}"


def _clock_mhz(root: Path) -> tuple[float, ...]:
    from_cpufreq = [
        number / 1000 for file in _of_cores(root, "scaling_cur_freq") for number in _numbers(file)
    ]
    return tuple(from_cpufreq or map(float, _fields(root / "proc/cpuinfo").get("cpu MHz", [])))


def _of_cores(root: Path, name: str) -> list[Path]:
    """A file of cpufreq of each core, in the order of the cores."""
    files = (root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}")
    return sorted(files, key=lambda file: int(file.parts[-3].removeprefix("cpu")))


def _memory_mib(root: Path, field: str) -> float:
    for value in _fields(root / "proc/meminfo").get(field, []):
        return float(value.split()[0]) / 1024
    return math.nan


def _fields(path: Path) -> dict[str, list[str]]:
    """What a file of lines ``name : value`` says, all values of each name."""
    found: dict[str, list[str]] = {}
    for line in _text(path).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def _table(path: Path) -> dict[str, float]:
    """What a file of lines ``name number`` says."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}


def _numbers(path: Path) -> list[float]:
    return [float(word) for word in _text(path).split() if re.fullmatch(r"\d+(\.\d+)?", word)]


def _text(path: Path) -> str:
    """A file's text without blanks around it; nothing where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
