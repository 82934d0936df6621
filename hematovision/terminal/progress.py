"""How far long work has come: one line on standard error, gone when it is done; results are elsewhere."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from hematovision.terminal.streams import copy_of_standard_error

# A terminal's line is drawn seldom: at rich's usual pace it takes a per cent of the processor.
_REDRAWN_S = 1.0
# Into a log goes a line so often, and none of what is done sooner.
_LOGGED_S = 60.0
# Before that nobody can say how long it will take.
_SURE_AFTER_S = 3.0


class Progress:
    """A context manager in which `at` says what is being done, and how much of it is.

    On a terminal the line is redrawn, and what is written to ``sys.stderr`` meanwhile comes above it; also
    while descriptor 2 is turned away. A ``quiet`` one says nothing, where results appear as they are made.
    """

    def __init__(self, what: str = "", quiet: bool = False) -> None:
        self._what, self._done = what, 0
        self._total: int | None = None
        self._quiet = quiet
        self._began = self._logged = monotonic()
        self._drawn = float("-inf")
        self._live: Live | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        watched = Console(stderr=True)
        if not self._quiet and sys.stderr.isatty() and not watched.is_dumb_terminal:
            terminal = self._undo.enter_context(copy_of_standard_error())
            self._live = Live(
                console=Console(file=terminal, force_terminal=True),
                get_renderable=self._line,
                refresh_per_second=1 / _REDRAWN_S,
                transient=True,
                redirect_stdout=False,
            )
            self._undo.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def at(self, what: str, done: int = 0, total: int | None = None) -> None:
        """Say what is being done, and how much of it is. May be called as often as one likes."""
        new = what != self._what
        if new:
            self._began = monotonic()
        self._what, self._done, self._total = what, done, total
        if self._live is not None:
            if new and monotonic() - self._drawn >= _REDRAWN_S:
                self._drawn = monotonic()
                self._live.refresh()
        elif not self._quiet and monotonic() - self._logged >= _LOGGED_S:
            self._logged = monotonic()
            click.echo(str(self._line()), file=sys.stderr)

    def of(self, what: str) -> Callable[[int, int | None], None]:
        """Say of one kind of work how much is done, and of how much."""
        return partial(self.at, what)

    def _line(self) -> Text:
        if not self._what:
            return Text()
        passed = monotonic() - self._began
        parts = [_duration(passed)] if passed >= 1 else []
        if self._total and self._done and passed > _SURE_AFTER_S:
            parts.append(f"about {_duration(passed / self._done * (self._total - self._done))} left")
        much = f": {self._done} of {self._total}" if self._total else f": {self._done}" if self._done else ""
        times = f" ({', '.join(parts)})" if parts else ""
        return Text(f"{self._what}{much}{times}", no_wrap=True, overflow="ellipsis")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
