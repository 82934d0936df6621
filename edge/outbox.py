"""The outbox as the publisher sees it: read page by page, and emptied as the broker acknowledges."""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from edge.store import Message, Store

# Rows held in memory at a time, and acknowledged rows deleted at a time.
_PAGE, _BATCH = 200, 100
# How often an empty outbox is looked into, its rows are counted, and rows are deleted that are few.
_POLL_S, _COUNT_S, _DROP_S = 0.5, 2.0, 0.2


class Row(NamedTuple):
    """A message, and its id in the outbox."""

    id: int
    message: Message


class Outbox:
    """What is in memory of the outbox: a page of it, and ids, however much waits there."""

    def __init__(self, store: Store) -> None:
        self.queued = 0
        self.sent = 0
        self._store = store
        self._page: deque[Row] = deque()
        self._in_flight = 0
        self._acknowledged: list[int] = []
        self._read_to = 0
        self._read_again_at: float | None = None
        self._read_at = self._counted_at = self._dropped_at = -inf

    def begin(self) -> None:
        """Begin again with the oldest row: a connection forgets what was not acknowledged on the last."""
        self._page.clear()
        self._in_flight = self._read_to = 0
        self._read_again_at = None
        self._read_at = -inf

    def next(self) -> Row | None:
        """The next row to be published; None where there is none in memory."""
        if not self._page:
            return None
        self._in_flight += 1
        return self._page.popleft()

    def acknowledged(self, rows: Sequence[int]) -> None:
        """These are the broker's now."""
        self._in_flight -= len(rows)
        self.sent += len(rows)
        self._acknowledged += rows

    def refused(self, read_again_at: float) -> None:
        """One was refused; it stays, and is read again at that time."""
        self._in_flight -= 1
        self._read_again_at = self._read_again_at or read_again_at

    @property
    def under_way(self) -> bool:
        """Whether rows are in memory, or published, that the broker has not acknowledged."""
        return bool(self._page or self._in_flight)

    def drop(self, now: float) -> None:
        """Delete what was acknowledged, but not each row by itself."""
        due = len(self._acknowledged) >= _BATCH or now >= self._dropped_at + _DROP_S
        if self._acknowledged and due:
            self._store.drop_messages(self._acknowledged)
            self._acknowledged = []
            self._dropped_at = now

    def read(self, now: float) -> bool:
        """Read the next page where the last one is published; whether what was refused is read again."""
        if self._page or now < self._read_at + _POLL_S or len(self._acknowledged) >= _BATCH:
            return False
        nothing_out = not self._in_flight and not self._acknowledged
        if not self._read_to and not nothing_out:
            return False  # or rows that the broker has would be read again
        again = self._read_again_at is not None and now >= self._read_again_at and nothing_out
        if again:
            self._read_to, self._read_again_at = 0, None
        with self._store.read() as reader:
            self._page.extend(Row(*row) for row in reader.messages(_PAGE, after_id=self._read_to))
        if self._page:
            self._read_to = self._page[-1].id
        else:
            self._read_at = now
        return again

    def count(self, now: float) -> None:
        """Count the rows, where that was a while ago."""
        if now >= self._counted_at + _COUNT_S:
            with self._store.read() as reader:
                self.queued = reader.count_messages()
            self._counted_at = now
