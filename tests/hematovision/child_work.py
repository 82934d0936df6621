"""What the children of the tests do: the first word of their data says what."""

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hematovision.child_process import serve_parent


def work(data: bytes) -> Iterator[bytes]:
    what, _, rest = data.partition(b" ")
    if what == b"echo":
        yield rest
    elif what == b"print":
        print("not the result", flush=True)  # noqa: T201
        ctypes.CDLL(None).puts(b"nor this")
        yield b"result"
    elif what == b"sleep":
        time.sleep(600)
    elif what == b"spin":
        while True:
            pass
    elif what == b"memory":
        yield bytes(int(rest))[:1]
    elif what == b"endless":
        while True:
            yield bytes(1 << 16)
    elif what == b"signal":
        os.kill(os.getpid(), int(rest))
    elif what == b"fail":
        raise ValueError(rest.decode())
    elif what == b"noise":
        sys.stderr.write("x" * 1_000_000)
        yield b"loud"
    elif what == b"descriptors":
        yield ",".join(sorted(one.name for one in Path("/proc/self/fd").iterdir())).encode()
    elif what == b"environment":
        yield repr((sys.flags.isolated, sys.path, str(Path.cwd()))).encode()
    elif what == b"pid":
        yield str(os.getpid()).encode()
        time.sleep(600)


if __name__ == "__main__":
    serve_parent(work)
