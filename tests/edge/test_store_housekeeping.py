"""Which sessions go by themselves, and when; the open one never does, and the file really becomes smaller."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, Message, NewSession, Session, Store, database, housekeeping, open_reader
from edge.store import writer as writer_module
from edge.store.clock import Reading
from edge.store.housekeeping import Housekeeper
from edge.store.statements import correct_cell, end_session, save_corrections

NEW = NewSession("", "", "camera", "model", "ab" * 32, 0.1)
LIMIT_S = 10.0
DAY_S = 86_400.0
TODAY = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class FakeClock:
    """A clock that the test sets, and the time since the machine started, which nobody sets."""

    at: datetime = TODAY
    is_set: bool | None = True
    since_start_s: float = 100.0
    start: str = "first"

    def __call__(self) -> Reading:
        return Reading(self.at, self.is_set, self.since_start_s, self.start)

    def let_pass(self, days: float) -> None:
        self.at += timedelta(days=days)
        self.since_start_s += days * DAY_S

    def jump(self, days: float) -> None:
        self.at += timedelta(days=days)


def fill(folder: Path, sessions: int, cells: int = 1, clock: FakeClock | None = None) -> list[int]:
    """Ended sessions, a day apart, the last of them ended a day ago, and an open one."""
    clock = clock or FakeClock()
    clock.start = "earlier"
    clock.at -= timedelta(days=sessions)
    with Store(folder, clock=clock) as store:
        ids = []
        for _ in range(sessions + 1):
            ids.append(store.start_session(NEW).id)
            for number in range(cells):
                store.add_cell(ids[-1], some_cell(number), "")
            store.flush(LIMIT_S)
            if len(ids) <= sessions:
                store.end_session(ids[-1], "stopped")
                clock.let_pass(1)
    return ids


class House:
    """A store at rest whose rounds of housekeeping the test calls."""

    def __init__(self, folder: Path, clock: FakeClock, keep_sessions: int = 0, **keep: int) -> None:
        self.folder = folder
        self.clock = clock
        self.free_mb = 1000.0
        self.settings = {"keep_days": 0, "keep_free_mb": 0} | keep | {"keep_sessions": keep_sessions}
        self.start()

    def start(self) -> None:
        """The program starts anew."""
        self.keeper = Housekeeper(
            self.folder, **self.settings, free_mb=lambda _: self.free_mb, clock=self.clock
        )

    def round(self, days: float = 0.0) -> list[int]:
        """Let so much time pass, keep house, and return the sessions that are there."""
        self.clock.let_pass(days)
        with closing(database.open_store(self.folder)) as connection:
            for _ in self.keeper.keep_house(connection):
                pass
        return kept(self.folder)

    def announced(self) -> list[int]:
        with open_reader(self.folder) as reader:
            return sorted(one.id for one in reader.sessions() if one.goes_because is not None)

    def events(self, kind: str) -> list[str]:
        with open_reader(self.folder) as reader:
            return [event.text for event in reader.events() if event.kind == kind]

    def do(self, work: Callable[[sqlite3.Connection], object]) -> None:
        with closing(database.open_store(self.folder)) as connection, database.transaction(connection):
            work(connection)


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{FILE_NAME}*")) / 1e6


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def kept(folder: Path) -> list[int]:
    with open_reader(folder) as reader:
        return sorted(session.id for session in reader.sessions(1000))


# By age


def test_sessions_that_ended_too_long_ago_go_a_day_after_that_was_announced(tmp_path: Path) -> None:
    ids = fill(tmp_path, 5)
    house = House(tmp_path, FakeClock(), keep_days=3)
    assert house.round() == ids
    assert house.announced() == ids[:2]
    assert (
        house.events("retention")
        == ["to be deleted after a day more of running: past its time (store.keep_days)"] * 2
    )
    assert house.round(0.9) == ids
    assert house.announced() == ids[:3]
    assert house.round(0.1) == ids[2:]
    assert house.events("deleted") == [
        f"session {one} deleted (ended more than 3 days ago): 1 cells, 0 of them corrected"
        for one in reversed(ids[:2])
    ]
    assert house.round(0.9) == ids[3:]


def test_what_is_announced_says_why_and_when(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    house = House(tmp_path, FakeClock(), keep_days=3)
    house.round()
    house.round(0.25)
    with open_reader(tmp_path) as reader:
        first = reader.session(1)
    assert first.goes_because == "past its time (store.keep_days)"
    assert first.goes_in_h == pytest.approx(18)


def test_a_day_is_one_in_which_the_device_runs(tmp_path: Path) -> None:
    ids = fill(tmp_path, 5)
    house = House(tmp_path, FakeClock(), keep_days=1)
    for day in range(3):  # eight hours a day
        house.start()
        house.clock.since_start_s, house.clock.start = 0.0, f"day {day}"
        assert house.round() == ids
        house.round(1 / 3)
        house.clock.jump(2 / 3)
    assert kept(tmp_path) == ids[4:]


def test_the_open_session_stays_however_old(tmp_path: Path) -> None:
    ids = fill(tmp_path, 1)
    house = House(tmp_path, FakeClock(), keep_days=1, keep_free_mb=2000)
    house.round(1)
    assert house.announced() == ids[:1]
    assert house.round(5000) == ids[1:]


def test_a_session_counted_while_the_clock_was_behind_is_as_old_as_the_first_right_reading(
    tmp_path: Path,
) -> None:
    behind = FakeClock(is_set=False)
    behind.jump(-200)
    ids = fill(tmp_path, 2, clock=behind)
    house = House(tmp_path, FakeClock(), keep_days=90)
    house.round()
    for _ in range(30):
        assert house.round(3 - 0.01) == ids and not house.announced()
    house.round(1)
    assert house.announced() == ids[:2]
    assert house.round(1) == ids[2:]


def test_a_clock_that_is_ahead_and_not_set_deletes_nothing(tmp_path: Path) -> None:
    ids = fill(tmp_path, 3)
    house = House(tmp_path, FakeClock(is_set=False), keep_days=365)
    house.clock.jump(4380)
    for _ in range(10):
        assert house.round(1) == ids and not house.announced()


@pytest.mark.parametrize("days", [4380, -4380])
def test_after_a_jump_no_age_is_judged_until_a_day_has_passed_without_one(
    tmp_path: Path, days: float
) -> None:
    ids = fill(tmp_path, 3)
    house = House(tmp_path, FakeClock(), keep_days=365)
    house.round()
    for _ in range(5):  # there and back again, each within a day
        house.clock.jump(days)
        assert house.round(0.5) == ids
        house.clock.jump(-days)
        assert house.round(0.5) == ids
    assert any("jumped from" in text for text in house.events("clock"))
    assert house.announced() == []


def test_what_ended_by_a_clock_that_was_set_wrongly_is_no_older_than_the_right_time(tmp_path: Path) -> None:
    with Store(tmp_path, clock=FakeClock()) as store:
        store.start_session(NEW)
    house = House(tmp_path, FakeClock(), keep_days=90)
    house.round()
    house.clock.jump(-200)  # a time server that is wrong
    house.round(0.1)
    house.do(lambda c: end_session(c, 1, "stopped", house.clock))
    house.clock.jump(200)  # and is put right
    house.round(0.1)
    for _ in range(5):
        assert house.round(1) == [1] and not house.announced()


def test_a_jump_while_the_program_was_not_running_is_noticed_until_the_machine_starts_anew(
    tmp_path: Path,
) -> None:
    with Store(tmp_path, clock=FakeClock()) as store:
        store.start_session(NEW)
    house = House(tmp_path, FakeClock(), keep_days=90)
    house.clock.jump(-200)
    house.round(0.01)
    house.do(lambda c: end_session(c, 1, "stopped", house.clock))
    house.clock.let_pass(0.01)
    house.clock.jump(200)
    house.start()
    assert house.round() == [1] and not house.announced()
    assert house.round(0.5) == [1] and not house.announced()
    house.clock.since_start_s, house.clock.start = 0.0, "second"
    house.start()
    house.round(0.5)
    assert house.round(89.9) == [1] and not house.announced()
    house.round(0.2)
    assert house.announced() == [1]


def test_what_was_announced_stays_so_while_the_clock_is_not_set_and_its_time_stands_still(
    tmp_path: Path,
) -> None:
    ids = fill(tmp_path, 3)
    house = House(tmp_path, FakeClock(), keep_days=2)
    house.round()
    assert house.announced() == ids[:1]
    house.clock.is_set = False
    for _ in range(5):
        assert house.round(1) == ids and house.announced() == ids[:1]
    house.clock.is_set = True
    assert house.round(0.5) == ids
    assert ids[0] not in house.round(0.5)


def test_sessions_of_an_earlier_version_are_no_older_than_the_first_right_reading(tmp_path: Path) -> None:
    ids = fill(tmp_path, 2)
    house = House(tmp_path, FakeClock(), keep_days=30)
    house.do(
        lambda c: c.execute(
            "UPDATE sessions SET end_clock_set = NULL, ended_by = NULL, "
            "ended_at = '1970-01-01T00:10:00.000000+00:00'"
            " WHERE ended_at IS NOT NULL"
        )
    )
    house.round()
    assert house.round(29.5) == ids and not house.announced()
    house.round(1)
    assert house.announced() == ids[:2]


# What stays


def test_the_newest_sessions_stay_even_on_a_full_disk(tmp_path: Path) -> None:
    ids = fill(tmp_path, 6)
    house = House(tmp_path, FakeClock(), keep_days=1, keep_free_mb=2000, keep_sessions=4)
    house.free_mb = 0.0
    house.round()
    house.round(100)
    assert house.round(100) == ids[3:]
    assert len(ids[3:]) == 4


def test_twenty_sessions_stay_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    ids = fill(tmp_path, 25)
    clock = FakeClock()
    keeper = Housekeeper(tmp_path, keep_days=1, keep_free_mb=0, clock=clock)
    with closing(database.open_store(tmp_path)) as connection:
        for days in (0, 30):
            clock.let_pass(days)
            for _ in keeper.keep_house(connection):
                pass
    assert kept(tmp_path) == ids[-20:]


def test_corrections_that_are_nowhere_else_keep_their_session(tmp_path: Path) -> None:
    ids = fill(tmp_path, 3)
    house = House(tmp_path, FakeClock(), keep_days=1, keep_free_mb=2000)
    house.free_mb = 0.0
    with open_reader(tmp_path) as reader:
        [cell] = reader.cells(ids[0])
    house.do(lambda c: correct_cell(c, cell.id, "monocyte", "Ada"))
    house.round(1)
    assert house.round(10) == [ids[0], ids[3]]
    with open_reader(tmp_path) as reader:
        last = reader.last_correction()
    house.do(lambda c: correct_cell(c, cell.id, "lymphocyte", "Ada"))
    house.do(lambda c: save_corrections(c, last))  # what was exported before the last one was made
    house.round()
    assert house.round(10) == [ids[0], ids[3]]
    house.do(lambda c: save_corrections(c, last + 1))
    house.round()
    assert house.announced() == ids[:1]
    assert house.round(1) == ids[3:]


def test_a_correction_within_the_day_keeps_the_session(tmp_path: Path) -> None:
    ids = fill(tmp_path, 3)
    house = House(tmp_path, FakeClock(), keep_days=2)
    house.round()
    assert house.announced() == ids[:1]
    with open_reader(tmp_path) as reader:
        [cell] = reader.cells(ids[0])
    house.do(lambda c: correct_cell(c, cell.id, "monocyte", "Ada"))
    assert ids[0] in house.round(2) and ids[0] not in house.announced()
    assert "not to be deleted any more" in house.events("retention")


# For room


def test_a_card_that_others_filled_costs_no_session(tmp_path: Path) -> None:
    ids = fill(tmp_path, 4)
    house = House(tmp_path, FakeClock(), keep_free_mb=500)
    house.free_mb = 100.0
    for _ in range(5):
        assert house.round(1) == ids and not house.announced()
    assert house.keeper.warning is not None
    assert house.keeper.warning.startswith(
        "The card is full, and not by the sessions: 100 MB are free of 500"
    )
    assert house.events("room") == [house.keeper.warning]
    house.free_mb = 600.0
    house.round()
    assert house.keeper.warning is None


def test_a_card_full_of_sessions_that_are_kept_says_what_to_do(tmp_path: Path) -> None:
    ids = fill(tmp_path, 2, cells=100)
    house = House(tmp_path, FakeClock(), keep_free_mb=500, keep_sessions=20)
    house.free_mb = 499.9
    assert house.round() == ids
    assert house.keeper.warning is not None and "until they are exported or backed up" in house.keeper.warning


def test_the_oldest_go_until_there_is_room_and_the_file_becomes_smaller(tmp_path: Path) -> None:
    ids = fill(tmp_path, 4, cells=50)
    before = size_mb(tmp_path)
    disk_mb = before + 5.0
    a_session_mb = before / 5

    def free_mb(folder: Path) -> float:
        return disk_mb - (tmp_path / FILE_NAME).stat().st_size / 1e6

    # Room for one and a half sessions more is wanted: two have to go.
    wanted = 5.0 + 1.5 * a_session_mb
    clock = FakeClock()
    house = House(tmp_path, clock, keep_free_mb=round(wanted))
    house.keeper = Housekeeper(tmp_path, 0, round(wanted), 0, free_mb, clock)
    assert house.round() == ids
    assert house.announced() == ids[:2]
    assert house.round(1) == ids[2:]
    assert free_mb(tmp_path) >= round(wanted)
    assert size_mb(tmp_path) == pytest.approx(before - 2 * a_session_mb, rel=0.1)


def test_room_that_others_made_meanwhile_keeps_what_was_announced(tmp_path: Path) -> None:
    ids = fill(tmp_path, 4, cells=100)
    house = House(tmp_path, FakeClock(), keep_free_mb=500)
    house.free_mb = 499.5
    house.round()
    assert house.announced()[0] == ids[0]
    house.free_mb = 501.0
    assert house.round(2) == ids and not house.announced()


def test_the_oldest_is_the_first_by_number_whatever_the_clock_said(tmp_path: Path) -> None:
    ids = fill(tmp_path, 2, cells=100)
    house = House(tmp_path, FakeClock(is_set=False), keep_free_mb=500)
    house.free_mb = 499.9
    # Counted after a start without a network: the clock was set only later.
    house.do(
        lambda c: c.execute(
            "UPDATE sessions SET ended_at = '1970-01-01T00:10:00.000000+00:00' WHERE id = ?", (ids[1],)
        )
    )
    house.round()
    assert house.announced() == ids[:1]


def test_nothing_goes_for_room_while_a_reader_holds_the_file_at_its_size(tmp_path: Path) -> None:
    ids = fill(tmp_path, 3, cells=50)
    a_session_mb = size_mb(tmp_path) / 4
    house = House(tmp_path, FakeClock(), keep_free_mb=500)
    house.free_mb = 500 - 2.2 * a_session_mb
    house.round()
    assert house.announced() == ids[:3]
    with open_reader(tmp_path) as reader, reader.unchanging():
        assert reader.count_cells(ids[0])
        assert house.round(1) == ids
    assert house.announced() == ids[:3]
    assert house.round(1) == ids[1:]  # and what is left would not be enough


def test_the_device_itself_keeps_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "HOUSEKEEPING_S", 0.02)
    ids = fill(tmp_path, 3)
    clock = FakeClock()
    with Store(
        tmp_path, keep_days=2, keep_free_mb=500, keep_sessions=0, free_mb=lambda _: 1.0, clock=clock
    ) as store:
        until(lambda: any(one.id == ids[0] and one.goes_because for one in sessions(tmp_path)))
        until(lambda: store.counts().warning is not None)
        clock.let_pass(1.0)
        until(lambda: kept(tmp_path) == ids[1:])
        for number in range(200):
            store.add_cell(ids[-1], some_cell(number), "")
        assert store.flush(LIMIT_S)
        assert replace(store.counts(), warning=None).stored == 200


def sessions(folder: Path) -> list[Session]:
    with open_reader(folder) as reader:
        return reader.sessions()


def test_a_deletion_by_hand_makes_the_file_smaller_while_the_store_is_open(tmp_path: Path) -> None:
    ids = fill(tmp_path, 1, cells=100)
    before = (tmp_path / FILE_NAME).stat().st_size
    with Store(tmp_path) as store:
        store.delete_session(ids[0])
        until(lambda: (tmp_path / FILE_NAME).stat().st_size < 0.6 * before)


def test_room_is_given_back_a_megabyte_a_step(tmp_path: Path) -> None:
    fill(tmp_path, 1, cells=300)
    with closing(database.open_store(tmp_path)) as connection:
        with database.transaction(connection):
            connection.execute("DELETE FROM sessions WHERE ended_at IS NOT NULL")
        [free] = connection.execute("PRAGMA freelist_count").fetchone()
        # One more for the checkpoint.
        assert len(list(housekeeping.shrink(connection))) == -(-free // housekeeping._PAGES_A_STEP) + 1
        assert free > 2 * housekeeping._PAGES_A_STEP


def test_the_oldest_of_too_many_events_and_messages_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as store:
        for number in range(30):
            store.add_event("note", str(number))
            store.put_messages([Message("log", b"%d" % number)])
    monkeypatch.setattr(housekeeping, "MAX_EVENTS", 10)
    monkeypatch.setattr(housekeeping, "MAX_MESSAGES", 20)
    with Store(tmp_path) as store, store.read() as reader:
        until(lambda: reader.count_messages() == 20)
        assert reader.messages()[0][1].payload == b"10"
        assert reader.events()[0].text == "10 messages dropped unsent: more than 20 were waiting"
        # That makes one too many, which the next round sees to.
        left = [event.text for event in reader.events()[1:]]
        assert left in ([str(n) for n in range(29, 19, -1)], [str(n) for n in range(29, 20, -1)])


def test_room_that_cannot_be_measured_is_an_event(tmp_path: Path) -> None:
    def free_mb(folder: Path) -> float:
        raise OSError(5, "Input/output error")

    with Store(tmp_path, keep_free_mb=10, free_mb=free_mb) as store, store.read() as reader:
        until(lambda: len(reader.events()) == 1)
        assert "free room could not be seen to" in reader.events()[0].text


def test_free_room_is_the_disks(tmp_path: Path) -> None:
    assert housekeeping.measure_free_mb(tmp_path) == pytest.approx(
        shutil.disk_usage(tmp_path).free / 1e6, rel=0.05
    )
