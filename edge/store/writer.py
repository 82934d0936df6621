"""The one thread that writes: it takes what is given in batches, and tries again what the disk refuses."""

import math
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from threading import Condition, Thread
from time import monotonic
from typing import Any, TypeVar

from edge.store.database import explain, transaction
from edge.store.housekeeping import measure_free_mb
from edge.store.records import Message, StoreCounts, StoredCell
from edge.store.rescue.open_file import OpenFile
from edge.store.statements import NewCell, drop_messages, insert_cell, insert_event, insert_message
from edge.threads import STOP_LIMIT_S
from hematovision.errors import RecoveryError, StoreError, StoreGoneError, StuckThreadError, reason_of

#: Cells that wait for a disk: 16 MB with their crops, minutes of counting. Others may wait in like number.
QUEUE_SIZE = 2000
#: The first of a batch waits so long for others, and every one is on the disk shortly after.
BATCH_S = 0.15
#: What the disk refused is tried again after so long.
RETRY_S = 1.0
#: How long somebody who asks for something waits: a SIGTERM leaves 5 s in all.
ASK_LIMIT_S = 4.0
#: A disk that takes longer over anything is said to hang.
HANG_S = 5.0
#: How often it is looked whether the file is still in its place, also where there is nothing to write.
LOOK_S = 1.0
#: So much of the disk is left free by cells: without it, nothing could be deleted on a full one.
RESERVED_BYTES = 4_000_000
#: How often old sessions and free room are looked at.
HOUSEKEEPING_S = 600.0

_MAX_BATCH = 500
# When the store is closed, what is refused is tried again at once, for so long.
_LAST_TRIES_S = 3.0

_Answer = TypeVar("_Answer")
#: Makes the messages that go into the outbox together with a cell.
MessagesOf = Callable[[StoredCell], Sequence[Message]]


@dataclass(frozen=True)
class NewEvent:
    """An event on its way to the store."""

    at: datetime
    session_id: int | None
    kind: str
    text: str


@dataclass(frozen=True)
class DroppedMessages:
    """Messages that need no sending any more, by their ids."""

    ids: tuple[int, ...]


Item = NewCell | NewEvent | Message | DroppedMessages


@dataclass(frozen=True)
class _Wish:
    work: Callable[[sqlite3.Connection], Any]
    answer: Future[Any]
    then_chores: bool


class Writer(Thread):
    """Writes to the file; everybody else gives it what to write, or asks for it.

    Given items are written in order, many in one transaction, and stay in the queue until that is on the
    disk. Where the disk refuses them they are tried again every second; what no longer fits into the queue
    is counted. Wishes are carried out one by one, after the items that were there before them, or without
    these where the disk refuses them; their answer, or what went wrong, is waited for.

    A file that is not in its place any more counts as a disk that refuses: nothing is said to be stored that
    would be gone with the process. What it holds is put back where that can be done.

    It owns the file, and closes it when it ends.
    """

    def __init__(
        self,
        file: OpenFile,
        messages_of: MessagesOf | None,
        chores: Callable[[sqlite3.Connection], Iterator[None]],
    ) -> None:
        # Daemonic: one that hangs is reported by `finish` and cannot keep the process alive after that.
        super().__init__(name="store", daemon=True)
        self._file = file
        self._path = file.path
        self._messages_of = messages_of
        self._chores = chores
        self._changed = Condition()
        # All below belongs to whoever holds the condition.
        self._items: deque[Item] = deque()
        self._items_due = math.inf
        self._wishes: deque[_Wish] = deque()
        self._closing = self._ended = False
        self._failure: BaseException | None = None
        self._given = self._done = 0
        self._pending = self._stored = self._not_stored = 0
        self._unsaid = 0  # events and messages that did not fit
        self._error: str | None = None
        self._notices: list[str] = []
        self._gone = False
        self._refused_since: datetime | None = None
        self._busy_since: float | None = None
        # These are the thread's own.
        self._batch_size = _MAX_BATCH
        self._chore: Iterator[None] | None = None
        self._chores_due = self._look_due = 0.0
        self._last_try = math.inf
        for text in file.said:
            self._say(text)

    def give(self, *items: Item) -> None:
        """Hand over what is to be written; never waits. What does not fit is counted."""
        with self._changed:
            for item in items:
                is_cell = isinstance(item, NewCell)
                waiting = self._pending if is_cell else len(self._items) - self._pending
                if waiting >= QUEUE_SIZE or self._closing or self._ended:
                    self._not_stored += is_cell
                    self._unsaid += not is_cell
                    continue
                self._items.append(item)
                self._given += 1
                self._pending += is_cell
                if self._items_due == math.inf:
                    self._items_due = monotonic() + BATCH_S
                    self._changed.notify_all()

    @property
    def failed(self) -> bool:
        """Whether it has ended on its own."""
        return self._failure is not None

    def ask(
        self,
        work: Callable[[sqlite3.Connection], _Answer],
        limit_s: float = ASK_LIMIT_S,
        then_chores: bool = False,
    ) -> _Answer:
        """Have something done within a transaction of its own, and wait for it.

        ``then_chores``: it leaves room behind that the chores give back, soon.

        Raises:
            StoreError: it cannot be done, or was not within the limit, in seconds.
        """
        answer: Future[_Answer] = Future()
        with self._changed:
            if self._closing or self._ended:
                raise StoreError(f"{self._path}: the store {self._ending()}")
            self._wishes.append(_Wish(work, answer, then_chores))
            self._changed.notify_all()
        try:
            return answer.result(limit_s)
        except TimeoutError as error:
            done = "nothing was changed" if answer.cancel() else "it may still be done"
            raise StoreError(
                f"{self._path}: the disk did not answer within {limit_s:g} s, {done}; check the disk"
            ) from error

    def flush(self, limit_s: float) -> bool:
        """Wait until all that was given is on the disk; whether it is, within a limit in seconds."""
        with self._changed:
            given = self._given
            if self._done < given:
                self._items_due = 0.0
                self._changed.notify_all()
            return (
                self._changed.wait_for(lambda: self._done >= given or self._ended, limit_s)
                and self._done >= given
            )

    def counts(self) -> StoreCounts:
        """What became of the cells given."""
        with self._changed:
            error = self._error
            busy_s = 0.0 if self._busy_since is None else monotonic() - self._busy_since
            if error is None and busy_s > HANG_S:
                error = f"{self._path}: the disk has not answered for {busy_s:.0f} s; check it"
            return StoreCounts(self._pending, self._stored, self._not_stored, error)

    def take_notices(self) -> list[str]:
        """What happened to the file since it was last asked, a line each."""
        with self._changed:
            taken, self._notices = self._notices, []
            return taken

    def finish(self, limit_s: float = STOP_LIMIT_S) -> None:
        """Write what is left, and end.

        Raises:
            StuckThreadError: it does not come to an end.
            StoreError: cells could not be stored, or went with the file.
            BaseException: what ended the thread before.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.join(limit_s)
        if self.is_alive():
            raise StuckThreadError(
                f"the thread '{self.name}' did not stop within {limit_s:g} s; the disk hangs: "
                f"check the one that {self._path} is on"
            )
        if self._failure is not None:
            raise self._failure
        counts = self.counts()
        if counts.error is not None and counts.not_stored:
            raise StoreError(f"{counts.not_stored} confirmed cells could not be stored: {counts.error}")
        if self._gone:
            raise StoreError(
                f"{counts.stored} cells that were stored are only in the file that is gone, and lost unless "
                f"it was moved: {counts.error}"
            )

    def run(self) -> None:
        """Write; called by the thread itself."""
        try:
            with closing(self._file):
                self._write_all()
        except BaseException as error:  # noqa: BLE001 (nothing is swallowed: `counts` and `finish` say it)
            with self._changed:
                self._failure = error
                self._error = f"the store's thread {self._ending()}"
        finally:
            with self._changed:
                self._ended, self._busy_since = True, None
                self._items.clear()
                self._not_stored, self._pending = self._not_stored + self._pending, 0
                for wish in self._wishes:
                    if wish.answer.set_running_or_notify_cancel():
                        wish.answer.set_exception(StoreError(f"{self._path}: the store {self._ending()}"))
                self._changed.notify_all()

    def _ending(self) -> str:
        return "is closed" if self._failure is None else f"has failed ({reason_of(self._failure)})"

    def _write_all(self) -> None:
        closing = False
        while not closing:
            closing = self._wait()
            self._last_try = monotonic() + _LAST_TRIES_S
            self._look_after_file(closing)
            self._write_items(everything=closing)
            self._grant_wishes()
            if not closing:
                self._do_chore()

    def _wait(self) -> bool:
        """Wait until there is something to do; whether the end has come."""
        with self._changed:
            self._busy_since = None
            while not self._closing and not self._wishes:
                left = min(self._items_due, self._chores_due, self._look_due) - monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._busy_since = monotonic()
            return self._closing

    def _look_after_file(self, closing: bool) -> None:
        """Notice that the file went away, and that it is there again; put back what it holds."""
        if monotonic() < self._look_due and not closing:
            return
        self._look_due = monotonic() + LOOK_S
        try:
            self._file.check()
        except StoreError as error:
            self._gone = True
            self._refused(error)
            if not isinstance(error, StoreGoneError):
                return
        else:
            if self._gone:  # it has come back by itself
                self._gone = False
                self._written([], [], monotonic())
            return
        try:
            done = self._file.mend() or (self._file.mend() if closing else None)
        except StoreError as error:
            self._refused(error)
            return
        if done is not None:
            self._gone = False
            self._chore = None  # its file was closed
            self._say(done)

    def _write_items(self, everything: bool) -> None:
        """Write what is due, in transactions of bounded size; what is refused stays and is due later."""
        while True:
            with self._changed:
                # Whoever has a wish wants it after what was given before it.
                due = everything or (self._wishes and self._error is None) or self._items_due <= monotonic()
                if not (self._items and due):
                    return
                batch = list(islice(self._items, self._batch_size))
                taken = monotonic()
            try:
                batch = self._fitting(batch)
                with transaction(self._file.connection):
                    refusals = [self._write(item) for item in batch]
                    self._file.check()
            except StoreError as error:
                self._refused(error)
                return
            except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
                raise  # a fault of ours
            except sqlite3.DatabaseError as error:
                self._require_whole(error)
                # Where there is little room, some of it may fit.
                self._batch_size = max(1, len(batch) // 2)
                self._refused(error)
                is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                if everything and (len(batch) > 1 or is_busy) and monotonic() < self._last_try:
                    continue
                return
            self._file.reported()
            self._batch_size = min(2 * self._batch_size, _MAX_BATCH)
            self._written(batch, refusals, taken)

    def _fitting(self, batch: list[Item]) -> list[Item]:
        """What of a batch leaves room for the rest. Raises `StoreError` where its first cell does not."""
        try:
            room = measure_free_mb(self._path.parent) * 1e6 - RESERVED_BYTES
        except OSError:
            return batch  # whatever is wrong with the disk, writing shows it
        for index, item in enumerate(batch):
            # In the log, in the file, and as much again for the pages around it.
            room -= 3 * len(item.jpeg) if isinstance(item, NewCell) else 0
            if room < 0 and isinstance(item, NewCell):
                if index:
                    return batch[:index]
                raise StoreError(
                    f"{self._path}: takes no more cells, the disk is full but for "
                    f"{RESERVED_BYTES / 1e6:.0f} MB in which sessions are ended and deleted; make room on it"
                )
        return batch

    def _write(self, item: Item) -> str | None:
        """Write one item, or say why it cannot be; what belongs to a session deleted meanwhile cannot."""
        if isinstance(item, Message):
            insert_message(self._file.connection, item)
            return None
        if isinstance(item, DroppedMessages):
            drop_messages(self._file.connection, item.ids)
            return None
        try:
            if isinstance(item, NewEvent):
                insert_event(self._file.connection, item.at, item.session_id, item.kind, item.text)
                return None
            cell = insert_cell(self._file.connection, item)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
                return "their session is not there any more"
            return reason_of(error)
        for message in self._messages_of(cell) if self._messages_of else ():
            insert_message(self._file.connection, message)
        return None

    def _written(self, batch: list[Item], refusals: list[str | None], taken: float) -> None:
        """Count a batch that is on the disk; it was taken out of the queue at a time of `monotonic`."""
        cells = sum(isinstance(item, NewCell) for item in batch)
        why_lost = [
            why for item, why in zip(batch, refusals, strict=True) if why and isinstance(item, NewCell)
        ]
        lost = len(why_lost)
        now = datetime.now(UTC)
        with self._changed:
            for _ in batch:
                self._items.popleft()
            self._done += len(batch)
            self._pending -= cells
            self._stored += cells - lost
            self._not_stored += lost
            said = [f"{many} cells not stored: {why}" for why, many in Counter(why_lost).items()]
            if self._refused_since is not None:
                since = self._refused_since.isoformat(timespec="seconds")
                said.append(
                    f"writes again, after nothing could be written since {since} ({self._error}); "
                    f"{self._not_stored} cells not stored so far"
                )
                self._notices.append(said[-1])
            if self._unsaid:
                said.append(f"{self._unsaid} events and messages did not fit into the queue, and are lost")
            self._items.extend(NewEvent(now, None, "store", text) for text in said)
            self._given += len(said)
            self._error, self._refused_since, self._unsaid = None, None, 0
            # What came while this batch was written has waited since then.
            self._items_due = taken + BATCH_S if self._items else math.inf
            self._changed.notify_all()

    def _require_whole(self, error: sqlite3.Error) -> None:
        """Raise `RecoveryError` where the file is damaged: a new process keeps what can be read of it."""
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            self._file.is_damaged()
            raise RecoveryError(str(explain(self._path, error))) from error

    def _say(self, text: str) -> None:
        with self._changed:
            self._notices.append(text)
        self.give(NewEvent(datetime.now(UTC), None, "store", text))

    def _refused(self, error: sqlite3.DatabaseError | StoreError) -> None:
        with self._changed:
            text = str(error if isinstance(error, StoreError) else explain(self._path, error))
            if self._error is None:
                self._notices.append(f"nothing can be stored: {text}")
            self._error = text
            self._refused_since = self._refused_since or datetime.now(UTC)
            if self._items:
                self._items_due = monotonic() + RETRY_S

    def _grant_wishes(self) -> None:
        while True:
            with self._changed:
                if not self._wishes:
                    return
                wish = self._wishes.popleft()
            if not wish.answer.set_running_or_notify_cancel():
                continue  # whoever asked has given up
            try:
                with transaction(self._file.connection):
                    answer = wish.work(self._file.connection)
                    self._file.check()
            except sqlite3.Error as error:
                wish.answer.set_exception(explain(self._path, error))
                self._require_whole(error)
            except Exception as error:  # noqa: BLE001 (raised by whoever asked)
                wish.answer.set_exception(error)
            else:
                self._file.reported()
                wish.answer.set_result(answer)
                if wish.then_chores:
                    self._chore, self._chores_due = None, 0.0

    def _do_chore(self) -> None:
        """One step of what is done now and then."""
        if monotonic() < self._chores_due or self._gone:
            return
        if self._chore is None:
            self._chore = self._chores(self._file.connection)
        try:
            next(self._chore)
            return
        except StopIteration:
            pass
        except sqlite3.ProgrammingError:
            raise  # a fault of ours
        except (sqlite3.DatabaseError, OSError, ValueError, TypeError, ArithmeticError) as error:
            # The last three where a row holds nonsense: counting does not end for that.
            text = f"old sessions and free room could not be seen to: {reason_of(error)}"
            self.give(NewEvent(datetime.now(UTC), None, "store", text))
        self._chore, self._chores_due = None, monotonic() + HOUSEKEEPING_S
