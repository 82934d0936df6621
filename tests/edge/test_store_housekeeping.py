"""Old sessions go, the open one never does, and the file really becomes smaller."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, Message, NewSession, Store, database, housekeeping, open_reader
from edge.store.statements import timestamp

NEW = NewSession("", "", "camera", "model", "ab" * 32, 0.1)
LIMIT_S = 10.0


def fill(folder: Path, sessions: int, cells: int = 50) -> list[int]:
    """Ended sessions, the first of which ended so many days ago as there are, and an open one."""
    with Store(folder) as store:
        ids = []
        for _ in range(sessions + 1):
            ids.append(store.start_session(NEW).id)
            for number in range(cells):
                store.add_cell(ids[-1], some_cell(number), "")
            store.flush(LIMIT_S)
            if len(ids) <= sessions:
                store.end_session(ids[-1], "stopped")
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        for days, one in enumerate(reversed(ids[:-1]), 1):
            ended = timestamp(datetime.now(UTC) - timedelta(days=days))
            connection.execute("UPDATE sessions SET ended_at = ? WHERE id = ?", (ended, one))
    return ids


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{FILE_NAME}*")) / 1e6


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def kept(folder: Path) -> list[int]:
    with open_reader(folder) as reader:
        return sorted(session.id for session in reader.sessions())


def test_sessions_that_ended_too_long_ago_go(tmp_path: Path) -> None:
    ids = fill(tmp_path, 5, cells=1)
    with Store(tmp_path, keep_days=3) as store:
        until(lambda: len(kept(tmp_path)) == 3)
        with store.read() as reader:
            texts = [event.text for event in reader.events()]
    assert kept(tmp_path) == ids[3:]
    assert texts == [
        f"session {one} deleted (ended more than 3 days ago): 1 cells, 0 of them corrected"
        for one in reversed(ids[:3])
    ]


def test_the_open_session_stays_however_old(tmp_path: Path) -> None:
    ids = fill(tmp_path, 1, cells=1)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE sessions SET started_at = '2001-01-01T00:00:00.000000+00:00'")
    with Store(tmp_path, keep_days=1, keep_free_mb=10, free_mb=lambda _: 0.0):
        until(lambda: kept(tmp_path) == ids[1:])


def test_the_oldest_go_until_there_is_room_and_the_file_becomes_smaller(tmp_path: Path) -> None:
    ids = fill(tmp_path, 4)
    before = size_mb(tmp_path)
    disk_mb = before + 5.0

    def free_mb(folder: Path) -> float:
        return disk_mb - (tmp_path / FILE_NAME).stat().st_size / 1e6

    a_session_mb = before / 5
    # Room for one and a half sessions more is wanted: two have to go.
    wanted = 5.0 + 1.5 * a_session_mb
    with Store(tmp_path, keep_free_mb=round(wanted), free_mb=free_mb):
        until(lambda: len(kept(tmp_path)) <= 3)
        until(lambda: free_mb(tmp_path) >= round(wanted))
    assert kept(tmp_path) == ids[2:]
    assert size_mb(tmp_path) == pytest.approx(before - 2 * a_session_mb, rel=0.1)


def test_the_oldest_is_the_first_by_number_whatever_the_clock_said(tmp_path: Path) -> None:
    ids = fill(tmp_path, 2, cells=1)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        # Counted after a start without a network: the clock was set only later.
        connection.execute(
            "UPDATE sessions SET ended_at = '1970-01-01T00:10:00.000000+00:00' WHERE id = ?", (ids[1],)
        )
    room = iter((5.0, 15.0))
    with closing(database.open_store(tmp_path)) as connection:
        for _ in housekeeping.keep_house(connection, tmp_path, 30, 0):
            pass
        assert kept(tmp_path) == ids
        for _ in housekeeping.keep_house(connection, tmp_path, 0, 10, lambda _: next(room)):
            pass
    assert kept(tmp_path) == ids[1:]


def test_nothing_more_goes_while_a_reader_holds_the_file_at_its_size(tmp_path: Path) -> None:
    ids = fill(tmp_path, 3)
    with (
        closing(database.open_store(tmp_path)) as connection,
        open_reader(tmp_path) as reader,
    ):
        with reader.unchanging():
            assert reader.count_cells(ids[0])
            for _ in housekeeping.keep_house(connection, tmp_path, 0, 1, lambda _: 0.0):
                pass
            assert kept(tmp_path) == ids[1:]
        for _ in housekeeping.keep_house(connection, tmp_path, 0, 1, lambda _: 0.0):
            pass
        assert kept(tmp_path) == ids[3:]


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


def test_cells_are_stored_while_room_is_given_back(tmp_path: Path) -> None:
    ids = fill(tmp_path, 3, cells=100)
    with Store(tmp_path, keep_days=1) as store:
        for number in range(200):
            store.add_cell(ids[-1], some_cell(number), "")
        assert store.flush(LIMIT_S)
        assert store.counts().stored == 200
    assert kept(tmp_path) == ids[-1:]


def test_the_oldest_of_too_many_events_and_messages_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as store:
        for number in range(30):
            store.add_event("note", str(number))
            store.put_messages([Message("log", b"%d" % number)])
    monkeypatch.setattr(housekeeping, "MAX_EVENTS", 10)
    monkeypatch.setattr(housekeeping, "MAX_MESSAGES", 20)
    with Store(tmp_path):
        pass
    with Store(tmp_path) as store, store.read() as reader:
        until(lambda: reader.count_messages() == 20)
        assert reader.messages()[0][1].payload == b"10"
        assert reader.events()[0].text == "10 messages dropped unsent: more than 20 were waiting"
        assert [event.text for event in reader.events()[1:11]] == [str(n) for n in range(29, 19, -1)]


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
