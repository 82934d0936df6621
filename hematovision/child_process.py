"""A piece of work in a Python process of its own, held to time and memory: what it breaks, breaks alone.

The parent calls `run_in_child` with a module's name and bytes; that module, run as a program, calls
`serve_parent` with the function that does the work::

    if __name__ == "__main__":
        serve_parent(work)

The child finds what its parent finds (it gets the parent's ``sys.path``), reads no settings of Python from
the environment, inherits no descriptor, and is ended when the parent stops waiting for it.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from hematovision.errors import ChildEnding, ChildError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_START = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""
_PIECE = 1 << 16
# So often it is looked whether the child is still wanted.
_LOOK_S = 0.1
_STDERR_KEPT = 4096
_OUT_OF_MEMORY = 71
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Limits:
    """What a child is held to.

    ``wall_s``: that the parent waits for it. ``cpu_s``: processor time. ``memory_bytes``: address space
    beside what its imports took. ``output_bytes``: of its result.
    """

    wall_s: float
    cpu_s: int
    memory_bytes: int
    output_bytes: int


def run_in_child(
    module: str, data: bytes, limits: Limits, wanted: Callable[[], bool] = lambda: True
) -> bytearray:
    """Run a module of ours in a process of its own, and return its result.

    Args:
        module: its name; run as a program, it calls `serve_parent`.
        data: what it works on.
        limits: what it is held to.
        wanted: asked ten times a second; the child is ended as soon as it says no.

    Raises:
        ChildError: it gave no result; ``ending`` tells why.
    """
    result = bytearray()
    for piece in stream_from_child(module, data, limits, wanted):
        result += piece
    return result


def stream_from_child(
    module: str, data: bytes, limits: Limits, wanted: Callable[[], bool] = lambda: True
) -> Iterator[bytes]:
    """Give the result of a child piece by piece, as it comes; otherwise as `run_in_child`.

    The child waits while its pieces are not taken, and that time is not held against it. Whether it did all
    its work is known at the end only: the error comes after the last piece. Closing the iterator ends it.
    """
    command = [sys.executable, "-I", "-c", _START]
    places = [os.path.abspath(place) for place in sys.path]  # noqa: PTH100 (a link in it is meant)
    command += [json.dumps(places), module, json.dumps(asdict(limits))]
    try:
        process = subprocess.Popen(  # noqa: S603 (ourselves)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the child
        )
    except OSError as error:
        raise ChildError(module, ChildEnding.NOT_STARTED, stderr=str(error)) from error
    said = bytearray()
    try:
        yield from _exchange(module, process, data, limits, wanted, said)
        try:
            number = process.wait(limits.wall_s)
        except subprocess.TimeoutExpired:
            raise ChildError(module, ChildEnding.TIMED_OUT) from None
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if number:
        raise _error(module, number, said.decode(errors="replace"))


def serve_parent(work: Callable[[bytes], "Iterable[Buffer]"]) -> None:
    """Do the work of a child: what stdin brings is worked on, and what comes of it goes to stdout.

    Call it when everything is imported: the limit on memory is what is added from then on.

    Args:
        work: gives its result in pieces.
    """
    limits = Limits(**json.loads(sys.argv[1]))
    result = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no part of the result
    try:
        _hold_to(limits)
        with open(result, "wb") as output:  # noqa: PTH123 (a descriptor)
            for piece in work(sys.stdin.buffer.read()):
                output.write(piece)
                output.flush()
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)  # to write anything takes memory


def _exchange(
    module: str,
    process: "subprocess.Popen[bytes]",
    data: bytes,
    limits: Limits,
    wanted: Callable[[], bool],
    said: bytearray,
) -> Iterator[bytes]:
    """Give the child its data and take its result, until it has closed what it writes to."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    left, waited, taken = memoryview(data), 0.0, 0
    with selectors.DefaultSelector() as pipes:
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        pipes.register(process.stdin, selectors.EVENT_WRITE)
        pipes.register(process.stdout, selectors.EVENT_READ)
        pipes.register(process.stderr, selectors.EVENT_READ)
        while pipes.get_map():
            if not wanted():
                raise ChildError(module, ChildEnding.UNWANTED)
            if waited > limits.wall_s:
                raise ChildError(module, ChildEnding.TIMED_OUT)
            started = monotonic()
            ready = pipes.select(_LOOK_S)
            waited += monotonic() - started
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    left = left[_write(process.stdin.fileno(), left[:_PIECE]) :]
                    if not left:
                        pipes.unregister(process.stdin)
                        process.stdin.close()
                    continue
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    pipes.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    said += piece
                    del said[:-_STDERR_KEPT]
                else:
                    taken += len(piece)
                    if taken > limits.output_bytes:
                        raise ChildError(module, ChildEnding.TOO_MUCH_OUTPUT)
                    yield piece


def _write(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except BrokenPipeError:  # it ended without reading all: its exit tells why
        return len(data)


def _error(module: str, number: int, said: str) -> ChildError:
    if number == -signal.SIGXCPU:
        return ChildError(module, ChildEnding.TIMED_OUT)
    if number == _OUT_OF_MEMORY:
        return ChildError(module, ChildEnding.OUT_OF_MEMORY)
    if number < 0:
        return ChildError(module, ChildEnding.KILLED, signal=-number, stderr=said)
    return ChildError(module, ChildEnding.FAILED, status=number, stderr=said)


def _hold_to(limits: Limits) -> None:
    """Hold this process to its limits, and offer it to the kernel where memory gets scarce."""
    import resource  # not on every system that the parent's side is imported on

    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + limits.memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
