"""Threads that hand over what they make, end when they are told to, and do not die unnoticed."""

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Generic, TypeVar

from hematovision.errors import StuckThreadError

#: How long a thread gets to finish what it is at: longer than any wait of a camera or the network has.
STOP_LIMIT_S = 10.0

_Item = TypeVar("_Item")


class Closed(Exception):  # noqa: N818 (no mistake of anybody's)
    """Nothing more comes through a `Handover`, or is taken from it."""


class Handover(Generic[_Item]):
    """A bounded queue between two threads.

    With ``newest_only`` it holds one item, a newer one takes its place, and ``dropped`` counts those that
    nobody took; else the giver waits until there is room, and nothing is dropped.
    """

    def __init__(self, size: int = 1, newest_only: bool = False) -> None:
        self.dropped = 0
        self._items: deque[_Item] = deque()
        self._size = 1 if newest_only else size
        self._newest_only = newest_only
        self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: _Item) -> None:
        """Hand an item over. Raises `Closed` where the taker has gone."""
        with self._changed:
            if self._newest_only:
                self.dropped += len(self._items)
                self._items.clear()
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def take(self, limit_s: float | None = None) -> _Item:
        """The next item, waited for.

        Args:
            limit_s: how long, in seconds; for ever if None.

        Raises:
            Closed: the giver has ended and nothing is left.
            TimeoutError: nothing came within the limit.
            BaseException: what ended the giver, after its last item.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._items, limit_s):
                raise TimeoutError
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise Closed

    def close(self, error: BaseException | None = None) -> bool:
        """End it, from either side; the taker still gets what is in it, then ``error``, if any.

        Returns whether it was open: what a closed one is given, nobody takes.
        """
        with self._changed:
            was_open = not self._closed
            if was_open:
                self._closed, self._error = True, error
            self._changed.notify_all()
        return was_open


class Worker(Thread):
    """A thread that makes items until its work is done or it is stopped.

    Its handover ends when the work does; what ended it early is raised where the items are taken.
    """

    def __init__(self, name: str, work: Callable[[], None], output: Handover[_Item]) -> None:
        # Daemonic: one that hangs is reported by `finish` and cannot keep the process alive after that.
        super().__init__(name=name, daemon=True)
        self._work = work
        self._output = output
        self._untold: BaseException | None = None

    def run(self) -> None:
        """Work; called by the thread itself."""
        error: BaseException | None = None
        try:
            self._work()
        except Closed:
            pass
        except BaseException as caught:  # noqa: BLE001 (nothing is swallowed: the taker raises it)
            error = caught
        if not self._output.close(error):
            self._untold = error

    def finish(self, limit_s: float = STOP_LIMIT_S) -> None:
        """Wait for the end.

        Raises:
            StuckThreadError: it does not come.
            BaseException: what went wrong after the taker had gone.
        """
        self.join(limit_s)
        if self.is_alive():
            raise StuckThreadError(
                f"the thread '{self.name}' did not stop within {limit_s:g} s; "
                "what it waits for hangs: end the process, and check the camera and its cable"
            )
        if self._untold is not None:
            raise self._untold
