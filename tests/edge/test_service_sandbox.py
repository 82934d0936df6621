"""What the unit forbids, the device does not need: memory of the interpreters, system calls of a run."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from edge.service_unit import Program, unit_text
from hematovision.runtime import available_runtimes

DIRECTIVES = unit_text(Program(Path(sys.executable), ()), Path("/etc/hematovision.toml")).splitlines()

_NO_WRITABLE_CODE = """
import ctypes, mmap, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    from hematovision.cli import main
    main(["selftest", "--runtime", sys.argv[1]])
sys.exit("memory may still be written and run")
"""


@pytest.mark.parametrize("runtime", available_runtimes())
def test_the_interpreters_run_where_no_memory_may_be_written_and_run(runtime: str) -> None:
    assert "MemoryDenyWriteExecute=yes" in DIRECTIVES
    result = subprocess.run(
        [sys.executable, "-c", _NO_WRITABLE_CODE, runtime], capture_output=True, text=True, check=False
    )
    if result.returncode == 77:
        pytest.skip("this kernel (before 6.3) cannot forbid it without systemd")
    assert result.returncode == 0, result.stderr


def calls_of(group: str) -> set[str]:
    """The system calls of a group such as ``@system-service``, or the call itself."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return {call for word in words if word and not word.startswith("#") for call in calls_of(word)}


def allowed_calls() -> set[str]:
    """What the unit's filters leave, read as systemd reads them: one after the other."""
    allowed: set[str] = set()
    for line in DIRECTIVES:
        name, _, value = line.partition("=")
        if name == "SystemCallFilter":
            calls = {call for group in value.lstrip("~").split() for call in calls_of(group)}
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def traced_run(folder: Path) -> list[str]:
    """Lines of a trace: a live camera counted, the page asked for its health, and an orderly end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "settings.toml"
    settings.write_text(
        f'[camera]\nsource = "phantom:rate=10"\n[store]\nfolder = "state"\n[web]\nport = {port}\n'
    )
    trace = folder / "trace"
    command = (sys.executable, "-P", "-m", "hematovision", "run", "--config", str(settings))
    process = subprocess.Popen(
        ["strace", "--follow-forks", "--quiet=all", f"--output={trace}", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/healthz", process)
        (traced,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[:1]
        os.kill(int(traced), signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        # Without its tracer, the device would go on.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, said
    return trace.read_text(errors="replace").splitlines()


def wait_until_healthy(address: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail("the page does not say that the device is healthy")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_run_makes_no_call_that_the_unit_forbids(tmp_path: Path) -> None:
    used: set[str] = set()
    families: set[str] = set()
    for line in traced_run(tmp_path):
        call = re.match(r"\d+ +(\w+)\(", line)
        if call:
            used.add(call[1])
        families.update(re.findall(r" socket\((AF_\w+)", line))
        # As systemd forbids it: nothing becomes code later, and no code can be written.
        assert not re.search(r"mprotect\(.*PROT_EXEC|mmap\(.*PROT_WRITE\|PROT_EXEC", line), line
    assert {"fdatasync", "futex", "accept4", "clock_adjtime"} <= used  # the trace shows a whole run
    if os.geteuid() == 0:
        used.discard("fchown")  # SQLite gives its files to the folder's owner, where root runs it
    assert used - allowed_calls() == set()
    (allowed,) = (line for line in DIRECTIVES if line.startswith("RestrictAddressFamilies="))
    assert families <= set(allowed.partition("=")[2].split())
