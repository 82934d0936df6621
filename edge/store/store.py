"""The daemon's side of the store."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.store import statements
from edge.store.clock import Reading, read_clock
from edge.store.folder_lock import FolderLock
from edge.store.housekeeping import KEEP_SESSIONS, Housekeeper, measure_free_mb
from edge.store.reader import Reader, open_reader
from edge.store.records import Correction, Message, NewSession, Session, StoreCounts
from edge.store.rescue.open_file import OpenFile
from edge.store.rescue.salvage import Slow
from edge.store.writer import DroppedMessages, MessagesOf, NewEvent, Writer
from edge.tracker import TrackedCell


class Store:
    """Where a device keeps what it counts. It belongs to the daemon, and any of its threads may use it::

        with Store(folder) as store:
            session = store.start_session(NewSession(…))
            store.add_cell(session.id, cell, model_hash)

    Args:
        folder: the state folder, made if it is not there.
        keep_days: sessions that ended longer ago are deleted; 0 keeps them.
        keep_free_mb: the oldest ended sessions are deleted while less is free; 0 keeps them.
        keep_sessions: so many of the newest are not, whatever these say.
        messages: what goes into the outbox, in one transaction with each cell and each correction of one.
        free_mb: measures the room on a folder's disk.
        clock: reads the time of day.
        slow: is told before opening the file takes long, what it is, and for how many seconds at most.
    """

    def __init__(
        self,
        folder: Path,
        keep_days: int = 0,
        keep_free_mb: int = 0,
        keep_sessions: int = KEEP_SESSIONS,
        messages: MessagesOf | None = None,
        free_mb: Callable[[Path], float] = measure_free_mb,
        clock: Callable[[], Reading] = read_clock,
        slow: Slow = lambda _what, _seconds: None,
    ) -> None:
        self.folder = folder
        self._slow = slow
        self._clock = clock
        self._messages = messages
        self._housekeeper = Housekeeper(folder, keep_days, keep_free_mb, keep_sessions, free_mb, clock)
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Open the file and start to write.

        Raises:
            StoreError: another daemon has the folder; it cannot be written; its file is newer than this
                program or of another one; or it is damaged, and there is no room for what can be read of it.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(FolderLock(self.folder))
            self._writer = Writer(
                OpenFile(self.folder, lock, self._slow), self._messages, self._housekeeper.keep_house
            )
            self._writer.start()
            undo.callback(self._writer.finish)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and close.

        Raises:
            StoreError: cells were left that the disk did not take.
            StuckThreadError: the disk hangs.
        """
        self._undo.close()

    def start_session(self, new: NewSession) -> Session:
        """Start a session. Raises `StoreError` while another is open, or where it cannot be stored."""
        return self._writer.ask(partial(statements.insert_session, new=new, clock=self._clock))

    def end_session(self, session_id: int, because: str) -> Session:
        """End a session; its cells that are still under way belong to it. One that has ended stays as it is.

        Raises:
            NotStoredError: there is none.
            StoreError: its end cannot be stored.
        """
        return self._writer.ask(
            partial(statements.end_session, session_id=session_id, because=because, clock=self._clock)
        )

    def continue_session(self, session_id: int) -> Session:
        """Go on with the open session in a new process.

        Raises:
            NotStoredError: there is none.
            StoreError: it has ended, or this cannot be stored.
        """
        return self._writer.ask(partial(statements.continue_session, session_id=session_id))

    def delete_session(self, session_id: int) -> None:
        """Delete an ended session, with all that belongs to it.

        Raises:
            NotStoredError: there is none.
            StoreError: it is open, or this cannot be stored.
        """
        because = "by hand"
        self._writer.ask(
            partial(statements.delete_session, session_id=session_id, because=because), then_chores=True
        )

    def correct(self, cell_id: int, class_name: str, who: str) -> Correction:
        """Give a cell the label that a person sees in it: a class or unclassified.

        Raises:
            SettingError: there is no such class.
            NotStoredError: there is no such cell.
            StoreError: this cannot be stored.
        """

        def work(connection: sqlite3.Connection) -> Correction:
            correction = statements.correct_cell(connection, cell_id, class_name, who)
            cell = Reader(connection).cell(cell_id)
            for message in self._messages(cell) if self._messages else ():
                statements.insert_message(connection, message)
            return correction

        return self._writer.ask(work)

    def save_corrections(self, last: int, session_id: int) -> None:
        """Record that a session's corrections up to one, by its id, are exported.

        Raises:
            StoreError: this cannot be stored.
        """
        self._writer.ask(partial(statements.save_corrections, last=last, session_id=session_id))

    def add_cell(self, session_id: int, cell: TrackedCell, model_hash: str) -> None:
        """Store a confirmed cell; never waits. `counts` says when it is on the disk."""
        self._writer.give(statements.new_cell(session_id, cell, model_hash))

    def add_event(self, kind: str, text: str, session_id: int | None = None) -> None:
        """Store that something happened just now; never waits."""
        self._writer.give(NewEvent(datetime.now(UTC), session_id, kind, text))

    def put_messages(self, messages: Iterable[Message]) -> None:
        """Put messages into the outbox; never waits."""
        self._writer.give(*messages)

    def drop_messages(self, ids: Iterable[int]) -> None:
        """Take messages that were acknowledged out of the outbox; never waits."""
        self._writer.give(DroppedMessages(tuple(ids)))

    def counts(self) -> StoreCounts:
        """What became of the cells given; its ``error`` also says that the writer has failed for good."""
        return replace(self._writer.counts(), warning=self._housekeeper.warning)

    def take_notices(self) -> list[str]:
        """What happened to the file since it was last asked, a line each, for the log; it is an event too."""
        return self._writer.take_notices()

    @property
    def failed(self) -> bool:
        """Whether the writer has ended on its own: nothing is stored any more."""
        return self._writer.failed

    def flush(self, limit_s: float) -> bool:
        """Wait until all that was added is on the disk; whether it is, within a limit in seconds."""
        return self._writer.flush(limit_s)

    def read(self) -> AbstractContextManager[Reader]:
        """A reader for the calling thread. Raises `StoreError` where the file cannot be read."""
        return open_reader(self.folder)
