"""A fresh process that something is measured in: what it is given, what it answers and how it ends."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from hematovision.errors import HematoVisionError

# What a process is given of the environment. Not what settles how libraries compute, such as OMP_NUM_THREADS:
# figures must not depend on a shell's settings.
_ENVIRONMENT = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "TMPDIR",
    "VIRTUAL_ENV",
)
_SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "-1",  # the processor is measured, for all alike
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
_PROGRAM = Path(__file__).resolve().parent.parent

_SHOWN_LINES, _SHOWN_CHARACTERS = 3, 400
_ENDING_S = 5.0
_CHUNK = 1 << 16


class FreshProcess:
    """A process that runs one module. A context manager: on leaving it, the process has ended.

    Every method raises `HematoVisionError` where the process ends or is silent for too long. What it was to
    measure, the caller says.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        """Start the process.

        Raises:
            HematoVisionError: the process cannot be started, such as for want of memory.
        """
        self._received = b""
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        places = [*filter(None, [os.environ.get("PYTHONPATH")]), str(_PROGRAM)]
        environment = kept | _SETTINGS | {"PYTHONPATH": os.pathsep.join(places)}
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
            self._process = subprocess.Popen(  # noqa: S603 (no part of it comes from outside)
                # -P: the folder that one happens to be in may have benchmarks of its own.
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us, who end it
            )
        except OSError as error:
            raise HematoVisionError(f"its process cannot be started ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait until it has ended. May be called again."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file is not None
            file.close()

    def write_line(self, line: bytes) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._end() from error

    def read_line(self, limit_s: float) -> bytes:
        """The next line of its standard output, waited for so many seconds."""
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._received:
            ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self.failure(f"gave no answer in {limit_s:.0f} s")
            chunk = os.read(source, _CHUNK)
            if not chunk:
                raise self._end()
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def failure(self, what: str) -> HematoVisionError:
        """What happened, with the last that the process wrote to standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = " / ".join([line.strip() for line in lines if line.strip()][-_SHOWN_LINES:])
        if len(last) > _SHOWN_CHARACTERS:
            last = f"…{last[-_SHOWN_CHARACTERS:]}"
        said = f"; its last words: {last}" if last else ""
        return HematoVisionError(f"its process {what}{said}")

    def _end(self) -> HematoVisionError:
        """Why there will be no more answers: the process has closed its end, so it is ending or was ended."""
        try:
            status = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            return self.failure("closed its output")
        if status >= 0:
            return self.failure(f"ended with status {status}")
        name = signal.Signals(-status).name
        hint = ", as it is when memory is short" if status == -signal.SIGKILL else ""
        return self.failure(f"was ended by {name}{hint}")
