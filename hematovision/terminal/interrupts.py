"""Ctrl-C where what was done until then is kept."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

_Item = TypeVar("_Item")

#: What a command ends with that Ctrl-C ended: 128 and the signal's number, as a shell has it.
INTERRUPTED = 130


@contextmanager
def finishing_what_is_begun() -> Iterator[Callable[[], bool]]:
    """Have Ctrl-C asked for instead of raised, so that nothing is left half done; a second one is raised.

    Yields whether there was one. To be called in the main thread.
    """
    pressed = False

    def hear(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (as signal calls it)
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def up_to(stop: Callable[[], bool], items: Iterable[_Item]) -> Iterator[_Item]:
    """Items until one is to stop; what was being made then is still given."""
    for item in items:
        yield item
        if stop():
            return
