"""The device as it runs for people: ``hematovision run`` with its page, in a process of its own."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from edge.token import new_token
from hematovision.errors import HematoVisionError

HERE = "127.0.0.1"

_START_LIMIT_S, _STOP_LIMIT_S = 60.0, 10.0
_ANSWER_S = 10.0


@dataclass(frozen=True)
class Page:
    """A page that answers: its port, the token that opens it, and the process behind it."""

    port: int
    token: str
    process: "subprocess.Popen[bytes]"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer. Raises `OSError` where there is none."""
        connection = http.client.HTTPConnection(HERE, self.port, timeout=_ANSWER_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """What ``/api/v1/status`` says."""
        return dict(json.loads(self.get("/api/v1/status")[1]))

    def processor_s(self) -> float:
        """Processor time of the process so far, in seconds."""
        numbers = (
            Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def children_mib(self) -> float:
        """Resident memory of all processes that it started."""
        total = 0
        for place in Path("/proc").glob("[0-9]*"):
            try:
                fields = (
                    (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                )
            except OSError:  # it ended meanwhile
                continue
            if int(fields[1]) == self.process.pid:
                total += int(fields[21])
        return total * os.sysconf("SC_PAGE_SIZE") / 2**20

    def peak_mib(self) -> float:
        """The most that it ever had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024


@contextmanager
def page_running(folder: Path, camera: str, cores: frozenset[int] | None = None) -> Iterator[Page]:
    """A device that keeps its state in a folder and looks at a camera, from its first frame on.

    Args:
        folder: its state folder.
        camera: as ``--camera`` takes it.
        cores: that it may run on; all unless given.

    Raises:
        HematoVisionError: it does not start.
    """
    token, port = new_token(folder), free_port()
    command = [sys.executable, "-m", "hematovision", "run", "--camera", camera]
    command += ["--set", f"store.folder={folder}", "--set", f"web.port={port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 (ourselves)
    try:
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        page = Page(port, token, process)
        end = monotonic() + _START_LIMIT_S
        while not _counts(page):
            if process.poll() is not None or monotonic() > end:
                raise HematoVisionError(
                    f"the device does not start:\n{(folder / 'log').read_text(encoding='utf-8')}"
                )
            sleep(0.2)
        yield page
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _counts(page: Page) -> bool:
    try:
        return bool(page.status()["frames"])
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
