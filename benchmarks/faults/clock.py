"""``bench faults clock``: clocks that are behind, ahead or jump, and which sessions are deleted meanwhile.

The device's own housekeeping works on a real store through many starts of a board without a clock of its
own. Time, the card's room and what a person does are drawn at random; the trial knows the true time, the
device only what its clock shows. What it deletes is judged by the truth.
"""

import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console

from benchmarks.faults.plug import some_cell
from edge.store import NewSession
from edge.store.clock import Reading
from edge.store.database import open_store, transaction
from edge.store.housekeeping import Housekeeper
from edge.store.statements import (
    correct_cell,
    end_session,
    insert_cell,
    insert_session,
    new_cell,
    save_corrections,
)
from hematovision.terminal.progress import Progress

#: The settings of the trial: days, MB, sessions.
KEEP_DAYS, KEEP_FREE_MB, KEEP_SESSIONS = 60, 500, 5
# The sessions alone fill the card when they take so much more.
_ROOM_MB = 1.0
# What another program puts on the card at times: far more than all sessions.
_OTHERS_MB = 400.0
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_NEW = NewSession("trial", "", "none", "none", "0" * 64, 0.1)
_CLOCKS = ("right", "behind", "since 1970", "ahead")


@dataclass
class _Clock:
    """The true time, and what the device's clock shows."""

    now: datetime = _BEGIN
    shown: datetime = _BEGIN
    is_set: bool = False
    started: datetime = _BEGIN

    def __call__(self) -> Reading:
        since_start_s = (self.now - self.started).total_seconds()
        return Reading(self.shown, self.is_set, since_start_s, self.started.isoformat())

    def let_pass(self, time: timedelta) -> None:
        self.now += time
        self.shown += time


@dataclass
class _Known:
    """What is true of a session. ``told_at``: for how long the device had run when it was announced."""

    ended: datetime | None = None
    corrected: bool = False
    told_at: timedelta | None = None


@dataclass
class ClockResult:
    """What became of the sessions.

    ``starts``: of the device, by what its clock showed. ``jumps``: of a clock that the network had set.
    ``by_age``, ``for_room``: deleted. ``wrong``: deletions that the truth does not bear out, in words.
    ``overdue``: sessions that the truth says are due and that are still there in the end.
    """

    days: float = 0.0
    sessions: int = 0
    starts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_CLOCKS, 0))
    jumps: int = 0
    filled: int = 0
    by_age: int = 0
    for_room: int = 0
    wrong: list[str] = field(default_factory=list)
    overdue: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing was deleted wrongly, and all that was due has gone."""
        return bool(self.by_age and self.for_room) and not self.wrong and not self.overdue


def measure_clock(folder: Path, starts: int, seed: int = 1) -> ClockResult:
    """Start a device so many times on one state folder, each time with another clock."""
    trial = _Trial(folder, random.Random(seed))
    for _ in range(starts):
        trial.live()
    return trial.result()


class _Trial:
    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        self._clock = _Clock()
        self._known: dict[int, _Known] = {}
        self._ran = timedelta()
        self._others_mb = 0.0
        self._result = ClockResult()

    def live(self) -> None:
        """From a start of the device to its end, mostly the hours of a working day."""
        clock, rng = self._clock, self._rng
        clock.let_pass(rng.choice((_HOUR, 16 * _HOUR, 16 * _HOUR, 20 * _DAY)))  # it was off
        kind = rng.choice(_CLOCKS)
        self._result.starts[kind] += 1
        clock.shown = {
            "right": clock.now,
            "behind": clock.now - rng.uniform(1, 400) * _DAY,
            "since 1970": _EPOCH,
            "ahead": clock.now + rng.uniform(1, 5000) * _DAY,
        }[kind]
        clock.is_set, clock.started = False, clock.now
        network_at = rng.choice((0, 1, 1, 3, 100))
        with self._store() as connection:
            keeper = self._keeper()
            for hour in range(rng.choice((2, 8, 8, 10, 48))):
                if rng.random() < 0.1:
                    keeper = self._keeper()  # the program starts anew, the machine goes on
                if hour == network_at:
                    clock.shown, clock.is_set = clock.now, True
                self._go_wrong(hour >= network_at)
                self._work(connection)
                self._round(keeper, connection)
                self._pass(_HOUR)
            if clock.is_set and clock.shown != clock.now:  # the wrong server is put right
                clock.shown = clock.now
                self._round(keeper, connection)

    def result(self) -> ClockResult:
        """What came of it, after some quiet days with a right clock."""
        clock = self._clock
        clock.shown, clock.is_set, clock.started = clock.now, True, clock.now
        self._others_mb = 0.0
        with self._store() as connection:
            keeper = self._keeper()
            self._end_open(connection)
            self._round(keeper, connection)
            self._pass((KEEP_DAYS + 1) * _DAY)
            for _ in range(50):
                self._round(keeper, connection)
                self._pass(_HOUR)
            due = keeper.may_go(connection)
        self._result.overdue = len(due)
        self._result.days = (clock.now - _BEGIN) / _DAY
        self._result.sessions = len(self._known)
        return self._result

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        with closing(open_store(self._folder)) as connection:
            # What a pulled plug leaves is another trial's; this one takes minutes with it.
            connection.execute("PRAGMA synchronous = OFF")
            yield connection

    def _keeper(self) -> Housekeeper:
        return Housekeeper(
            self._folder, KEEP_DAYS, KEEP_FREE_MB, KEEP_SESSIONS, lambda _: self._free_mb(), self._clock
        )

    def _free_mb(self) -> float:
        size = sum(file.stat().st_size for file in self._folder.iterdir()) / 1e6
        return KEEP_FREE_MB + _ROOM_MB - size - self._others_mb

    def _pass(self, time: timedelta) -> None:
        self._clock.let_pass(time)
        self._ran += time

    def _go_wrong(self, network: bool) -> None:
        """Somebody sets the clock, a time server is wrong for some hours, others fill the card."""
        clock, rng = self._clock, self._rng
        right = clock.shown == clock.now
        if network and right and rng.random() < 0.08:
            clock.shown += rng.uniform(-400, 5000) * _DAY
            clock.is_set = rng.random() < 0.5
            self._result.jumps += clock.is_set
        elif network and not right and rng.random() < 0.5:
            self._result.jumps += clock.is_set
            clock.shown, clock.is_set = clock.now, True
        if rng.random() < 0.05:
            self._others_mb = _OTHERS_MB - self._others_mb
            self._result.filled += self._others_mb > 0

    def _work(self, connection: sqlite3.Connection) -> None:
        """A person counts, corrects and exports."""
        rng = self._rng
        if rng.random() < 0.3:
            self._end_open(connection)
        elif rng.random() < 0.7:
            self._end_open(connection)
            with transaction(connection):
                session = insert_session(connection, _NEW, self._clock)
                for number in range(rng.randrange(5, 40)):
                    insert_cell(connection, new_cell(session.id, some_cell(number, 16), _NEW.model_hash))
            self._known[session.id] = _Known()
        if rng.random() < 0.2:
            with transaction(connection):
                cell = rng.choice(connection.execute("SELECT id, session_id FROM cells").fetchall() or [None])
                if cell is not None:
                    correct_cell(connection, cell["id"], "monocyte", "trial")
                    self._known[cell["session_id"]].corrected = True
        if rng.random() < 0.05:
            with transaction(connection):
                [last] = connection.execute("SELECT coalesce(max(id), 0) FROM corrections").fetchone()
                save_corrections(connection, last)
            for one in self._known.values():
                one.corrected = False

    def _end_open(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute("SELECT id FROM sessions WHERE ended_at IS NULL").fetchall():
            with transaction(connection):
                end_session(connection, row["id"], "stopped", self._clock)
            self._known[row["id"]].ended = self._clock.now

    def _round(self, keeper: Housekeeper, connection: sqlite3.Connection) -> None:
        """Have the device keep house, and judge what it deleted."""
        before = self._ids(connection)
        short = self._free_mb() < KEEP_FREE_MB
        for _ in keeper.keep_house(connection):
            pass
        gone = before - self._ids(connection)
        if gone:
            texts = connection.execute(
                "SELECT text FROM events WHERE kind = 'deleted' ORDER BY id DESC LIMIT ?", (len(gone),)
            ).fetchall()
            for session_id, [text] in zip(
                sorted(gone, reverse=True), sorted(texts, key=_number), strict=True
            ):
                self._judge(session_id, text, before, short)
        told = {row["id"] for row in connection.execute("SELECT id FROM sessions WHERE notice IS NOT NULL")}
        for session_id, one in self._known.items():
            one.told_at = (one.told_at or self._ran) if session_id in told else None

    def _judge(self, session_id: int, text: str, before: set[int], short: bool) -> None:
        one = self._known[session_id]
        by_age = "days ago" in text
        self._result.by_age += by_age
        self._result.for_room += not by_age
        if one.ended is None:
            self._wrong(session_id, "it was open")
        elif by_age and self._clock.now - one.ended < KEEP_DAYS * _DAY:
            self._wrong(session_id, f"it had ended {(self._clock.now - one.ended) / _DAY:.1f} days before")
        if not by_age and (not short or self._others_mb):
            self._wrong(session_id, "for room, which was there or would not have come of it")
        if session_id in sorted(before)[-KEEP_SESSIONS:]:
            self._wrong(session_id, "it was among the newest")
        if one.corrected:
            self._wrong(session_id, "its corrections were nowhere else")
        if one.told_at is None or self._ran - one.told_at < _DAY:
            self._wrong(session_id, "it was not announced for a day")

    def _wrong(self, session_id: int, why: str) -> None:
        self._result.wrong.append(f"session {session_id} was deleted: {why}")

    def _ids(self, connection: sqlite3.Connection) -> set[int]:
        return {row["id"] for row in connection.execute("SELECT id FROM sessions")}


def _number(row: sqlite3.Row) -> int:
    return -int(str(row["text"]).split()[1])


@click.command()
@click.option("--starts", default=300, show_default=True, type=click.IntRange(min=1), help="Of the device.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of all that is random."
)
def clock(starts: int, seed: int) -> None:
    """Start a device with clocks behind, ahead and jumping, and a card that fills.

    Exit status 1 where a session is deleted that is not old enough by the true time, is not in the way, is
    kept by the settings or its corrections, or was not announced for a day; or where one that is due stays.
    """
    console = Console(highlight=False)
    with Progress("Living"), tempfile.TemporaryDirectory() as folder:
        result = measure_clock(Path(folder), starts, seed)
    kinds = ", ".join(f"{many} {kind}" for kind, many in result.starts.items())
    console.print(
        f"{starts} starts in {result.days:.0f} days, the clock {kinds}; set wrongly or put right by a time "
        f"server {result.jumps} times; the card filled by another program {result.filled} times.\n"
        f"Of {result.sessions} sessions {result.by_age} deleted by age, {result.for_room} for room, "
        f"{len(result.wrong)} of them wrongly; {result.overdue} that were due are still there.",
        soft_wrap=True,
    )
    for line in result.wrong:
        console.print(line, markup=False, soft_wrap=True)
    if not result.passed:
        raise SystemExit(1)
