"""What a device may rely on: what it gives the store is there afterwards, and it is told what is not."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Event, Thread, Timer

import cv2
import numpy as np
import pytest

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, Message, NewSession, Store, StoreCounts, StoredCell, open_reader
from edge.store import writer as writer_module
from hematovision.errors import NotStoredError, SettingError, StoreError

NEW = NewSession(
    "slide 7", "Ada", "v4l2:/dev/video0", "best.tflite", "ab" * 32, 0.1, 200, {"runtime": "litert"}
)
LIMIT_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.store.database.BUSY_S", 0.05)
    monkeypatch.setattr(writer_module, "RETRY_S", 0.05)


def add_cells(store: Store, session: int, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        store.add_cell(session, some_cell(number), "ab" * 32)


def hold(folder: Path) -> sqlite3.Connection:
    """Another program that is writing, until it is closed."""
    other = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_cell_comes_out_as_it_was_given(folder: Path) -> None:
    crop = cv2.GaussianBlur(some_cell(1, 128).crop, (0, 0), 4)
    local = datetime(2026, 3, 4, 12, 30, 15, 250_001, timezone(timedelta(hours=2)))
    given = replace(some_cell(5), crop=crop, first_seen=local, position_um=(-12.25, 3.5), area=3)
    with Store(folder) as store:
        session = store.start_session(NEW)
        store.add_cell(session.id, given, "cd" * 32)
        assert store.flush(LIMIT_S)
        with store.read() as reader:
            [cell] = reader.cells()
            jpeg = reader.crop(cell.id)
    assert cell == StoredCell(
        id=cell.id,
        session_id=session.id,
        number=5,
        area=3,
        position_um=(-12.25, 3.5),
        class_name=given.class_name,
        probabilities=given.probabilities,
        looks=given.looks,
        focus=given.focus,
        first_seen=local,
        confirmed_at=given.confirmed_at,
        model_hash="cd" * 32,
        corrected=None,
    )
    assert cell.first_seen is not None
    assert cell.first_seen.utcoffset() == timedelta(0)
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(decoded.astype(int) - crop).mean() < 2


def test_a_session_is_started_continued_and_ended(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        assert (session.sample, session.operator, session.target) == ("slide 7", "Ada", 200)
        assert session.settings == {"runtime": "litert"}
        assert session.ended_at is None
        with pytest.raises(StoreError, match="is open; end it"):
            store.start_session(NEW)
    with Store(folder) as store:
        with store.read() as reader:
            assert reader.open_session() == session
        assert store.continue_session(session.id) == replace(session, continued=1)
        ended = store.end_session(session.id, "stopped")
        assert ended.ended_at is not None and ended.ended_because == "stopped"
        with store.read() as reader:
            assert reader.open_session() is None
            assert reader.sessions() == [ended]
        # Whoever was not answered in time asks again.
        assert store.end_session(session.id, "again") == ended
        with pytest.raises(StoreError, match="has ended"):
            store.continue_session(session.id)


def test_cells_still_under_way_belong_to_the_session_that_ended(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        store.end_session(session.id, "stopped")
        add_cells(store, session.id, 1)
        assert store.flush(LIMIT_S)
        assert store.counts().stored == 1


def test_cells_are_counted_as_stored_only_when_another_process_finds_them(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        seen = []
        for first in range(1, 200, 10):
            add_cells(store, session.id, 10, first)
            stored = store.counts().stored
            with open_reader(folder) as reader:
                seen.append(reader.count_cells() >= stored)
        assert all(seen)
        assert store.flush(LIMIT_S)
        assert store.counts() == StoreCounts(0, 200, 0, None)


def test_a_round_of_housekeeping_begins_anew_where_the_file_was_put_back_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LOOK_S", 0.02)

    def endless(connection: sqlite3.Connection) -> Iterator[None]:
        while True:
            connection.execute("SELECT count(*) FROM sessions").fetchone()
            yield
            time.sleep(0.001)

    store = Store(folder)
    monkeypatch.setattr(store._housekeeper, "keep_house", endless)
    with store:
        session = store.start_session(NEW)
        (folder / FILE_NAME).unlink()
        end = time.monotonic() + LIMIT_S
        while not (folder / FILE_NAME).exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        add_cells(store, session.id, 5)
        assert store.flush(LIMIT_S)
        assert not store.failed


def test_cells_leave_room_in_which_sessions_are_ended_and_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_mb = 1000.0
    once: list[float] = []
    monkeypatch.setattr(writer_module, "measure_free_mb", lambda _: once.pop() if once else free_mb)
    with Store(folder) as store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 3)
        assert store.flush(LIMIT_S)
        free_mb = 4.0
        once.append(4.1)  # room for some cells more, not for all
        add_cells(store, session.id, 100, first=4)
        end = time.monotonic() + LIMIT_S
        while (counts := store.counts()).error is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert "takes no more cells, the disk is full but for 4 MB" in str(counts.error)
        assert counts.stored + counts.pending == 103 and 3 < counts.stored < 103
        store.end_session(session.id, "stopped")
        free_mb = 1000.0
        assert store.flush(LIMIT_S)
        assert store.counts().stored == 103
        assert store.flush(LIMIT_S)  # what it says of the disk
        with store.read() as reader:
            assert any("writes again" in event.text for event in reader.events())


def test_leaving_stores_what_was_given(folder: Path) -> None:
    with Store(folder) as store:
        add_cells(store, store.start_session(NEW).id, 1234)
        store.add_event("note", "last words")
    with open_reader(folder) as reader:
        assert reader.count_cells() == 1234
        assert reader.events()[0].text == "last words"


def test_last_place_is_where_a_restart_goes_on(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        with store.read() as reader:
            assert reader.last_place(session.id) == (0, 0)
        store.add_cell(session.id, replace(some_cell(9), area=2), "")
        store.add_cell(session.id, replace(some_cell(4), area=5), "")
        store.flush(LIMIT_S)
        with store.read() as reader:
            assert reader.last_place(session.id) == (9, 5)


def test_a_correction_keeps_who_and_what_was_before(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        store.add_cell(session.id, replace(some_cell(1), class_name="monocyte"), "")
        store.add_cell(session.id, replace(some_cell(2), class_name="unclassified"), "")
        store.flush(LIMIT_S)
        with store.read() as reader:
            first, second = reader.cells()
        made = [
            store.correct(first.id, "lymphocyte", "Ada"),
            store.correct(first.id, "unclassified", "Bo"),
            store.correct(second.id, "eosinophil", "Ada"),
        ]
        with store.read() as reader:
            assert reader.corrections(session.id) == made
            assert reader.corrections(cell_id=first.id) == made[:2]
            assert [(one.before, one.after, one.who) for one in made[:2]] == [
                ("monocyte", "lymphocyte", "Ada"),
                ("lymphocyte", "unclassified", "Bo"),
            ]
            assert reader.cell(first.id).class_name == "monocyte"
            assert reader.cell(first.id).label == "unclassified"
            assert [cell.id for cell in reader.cells(class_name="eosinophil")] == [second.id]
            assert reader.cells(class_name="monocyte") == []
            classified, corrected = reader.differential(session.id)
        assert (classified.counts, classified.unclassified) == ((0, 0, 1, 0), 1)
        assert (corrected.counts, corrected.unclassified) == ((0, 1, 0, 0), 1)
        with pytest.raises(SettingError, match="no class of cells"):
            store.correct(first.id, "blast", "Ada")


def test_cells_are_searched_page_by_page(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        for number in range(1, 8):
            rest = (1 - number / 10) / 3
            store.add_cell(
                session.id, replace(some_cell(number), probabilities=(number / 10, rest, rest, rest)), ""
            )
        store.flush(LIMIT_S)
        with store.read() as reader:
            numbers = [cell.number for cell in reader.cells(min_probability=0.35, max_probability=0.65)]
            assert numbers == [4, 5, 6]
            page = reader.cells(limit=3)
            rest_of_it = reader.cells(after_id=page[-1].id)
            assert [cell.number for cell in (*page, *rest_of_it)] == [1, 2, 3, 4, 5, 6, 7]
            newest = reader.cells(limit=3, newest_first=True)
            assert [cell.number for cell in newest] == [7, 6, 5]
            older = reader.cells(after_id=newest[-1].id, newest_first=True)
            assert [cell.number for cell in older] == [4, 3, 2, 1]
            assert reader.cells(session_id=session.id + 1) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, reader: reader.session(99),
        lambda store, reader: reader.session(10**20 + 99),
        lambda store, reader: reader.crop(10**20 + 99),
        lambda store, reader: reader.differential(99),
        lambda store, reader: reader.cell(99),
        lambda store, reader: reader.crop(99),
        lambda store, reader: store.correct(99, "monocyte", ""),
        lambda store, reader: store.end_session(99, ""),
        lambda store, reader: store.continue_session(99),
        lambda store, reader: store.delete_session(99),
    ],
)
def test_what_is_not_there_is_said_to_be_so(folder: Path, ask: Callable[..., object]) -> None:
    with (
        Store(folder) as store,
        store.read() as reader,
        pytest.raises(NotStoredError, match="99: there is none"),
    ):
        ask(store, reader)


def test_a_deleted_session_takes_its_cells_along_and_its_number_is_not_given_again(folder: Path) -> None:
    with Store(folder) as store:
        first = store.start_session(NEW)
        add_cells(store, first.id, 3)
        store.add_event("note", "of the session", first.id)
        with pytest.raises(StoreError, match="is open; end it before it is deleted"):
            store.delete_session(first.id)
        store.end_session(first.id, "stopped")
        store.delete_session(first.id)
        with store.read() as reader:
            assert reader.sessions() == [] and reader.cells() == []
            assert [event.text for event in reader.events()] == [
                f"session {first.id} deleted (by hand): 3 cells, 0 of them corrected"
            ]
        assert store.start_session(NEW).id > first.id


def test_a_cell_whose_session_was_deleted_is_counted_as_not_stored(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        store.end_session(session.id, "stopped")
        store.delete_session(session.id)
        add_cells(store, session.id, 2)
        open_one = store.start_session(NEW)
        add_cells(store, open_one.id, 3)
        assert store.flush(LIMIT_S) and store.flush(LIMIT_S)
        counts = store.counts()
        assert (counts.stored, counts.not_stored, counts.pending) == (3, 2, 0)
        with store.read() as reader:
            assert "2 cells not stored" in reader.events()[0].text


def test_a_cell_that_cannot_be_stored_is_said_with_the_reason_and_the_others_are(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        store.add_cell(session.id, replace(some_cell(1), focus=float("nan")), "")
        add_cells(store, session.id, 2, first=2)
        assert store.flush(LIMIT_S) and store.flush(LIMIT_S)
        assert store.counts() == StoreCounts(0, 2, 1, None)
        with store.read() as reader:
            assert "1 cells not stored" in reader.events()[0].text
            assert "cells.focus" in reader.events()[0].text


def test_a_path_that_is_no_text_can_be_told_of(folder: Path) -> None:
    path = os.fsdecode(b"folder:\xff")
    with Store(folder) as store:
        session = store.start_session(replace(NEW, camera=path, model_name=path))
        assert session.camera == r"folder:\udcff"
        add_cells(store, session.id, 1)
        store.add_event("camera", f"{path}: not there")
        assert store.flush(LIMIT_S)
        assert store.correct(1, "monocyte", path).who == session.camera
        with store.read() as reader:
            assert reader.corrections() == [
                replace(one, who=session.camera) for one in reader.corrections(cell_id=1)
            ]
            assert reader.events()[0].text == rf"{session.camera}: not there"
        assert store.end_session(session.id, path).ended_because == session.camera


def test_a_cell_and_its_messages_are_stored_together(folder: Path) -> None:
    def messages(cell: StoredCell) -> Sequence[Message]:
        return [Message("cells", json.dumps({"id": cell.id, "number": cell.number}).encode())]

    with Store(folder, messages=messages) as store:
        add_cells(store, store.start_session(NEW).id, 3)
        store.flush(LIMIT_S)
        with store.read() as reader:
            cells, outbox = reader.cells(), reader.messages()
            assert [json.loads(one.payload) for _, one in outbox] == [
                {"id": cell.id, "number": cell.number} for cell in cells
            ]
        store.drop_messages([outbox[0][0], outbox[2][0], 12345])
        store.flush(LIMIT_S)
        with store.read() as reader:
            assert reader.messages() == [outbox[1]]
            assert reader.count_messages() == 1


def test_of_messages_about_the_present_only_the_latest_waits(folder: Path) -> None:
    with Store(folder) as store:
        for number in range(3):
            store.put_messages(
                [
                    Message("health", b"%d" % number, retain=True, latest_only=True),
                    Message("differential", b"%d" % number, retain=True, latest_only=True),
                    Message("log", b"%d" % number),
                ]
            )
        store.flush(LIMIT_S)
        with store.read() as reader:
            waiting = reader.messages()
        assert sorted((one.topic, one.payload) for _, one in waiting) == [
            ("differential", b"2"),
            ("health", b"2"),
            *(("log", b"%d" % number) for number in range(3)),
        ]
        with store.read() as reader:
            assert reader.messages(after_id=waiting[1][0]) == waiting[2:]


def test_what_the_disk_refuses_is_kept_and_written_later(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        other = hold(folder)
        add_cells(store, session.id, 5)
        assert not store.flush(0.5)
        counts = store.counts()
        assert (counts.pending, counts.stored, counts.not_stored) == (5, 0, 0)
        assert counts.error is not None and "another program" in counts.error
        other.close()
        end = time.monotonic() + LIMIT_S
        while store.counts() != StoreCounts(0, 5, 0, None):  # by itself
            assert time.monotonic() < end
            time.sleep(0.01)
        assert store.flush(LIMIT_S)
        with store.read() as reader:
            assert "writes again" in reader.events()[0].text


def test_what_no_longer_fits_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_SIZE", 10)
    with Store(folder) as store:
        session = store.start_session(NEW)
        other = hold(folder)
        add_cells(store, session.id, 25)
        for _ in range(15):
            store.add_event("note", "something happened")
        counts = store.counts()
        assert (counts.pending, counts.stored, counts.not_stored) == (10, 0, 15)
        other.close()
        assert store.flush(LIMIT_S) and store.flush(LIMIT_S)
        assert (store.counts().stored, store.counts().not_stored) == (10, 15)
        with store.read() as reader:
            assert reader.count_cells() == 10
            assert any("5 events and messages did not fit" in event.text for event in reader.events())


def test_at_the_end_as_many_are_stored_as_there_is_room_for(folder: Path) -> None:
    def refuse(cell: StoredCell) -> Sequence[Message]:
        if cell.number > 7:
            raise sqlite3.OperationalError("database or disk is full")
        return []

    with (
        pytest.raises(StoreError, match="13 confirmed cells could not be stored"),
        Store(folder, messages=refuse) as store,
    ):
        add_cells(store, store.start_session(NEW).id, 20)
    with open_reader(folder) as reader:
        assert reader.count_cells() == 7


def test_at_the_end_another_program_is_waited_for(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        other = sqlite3.connect(folder / FILE_NAME, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        add_cells(store, session.id, 1)
        # Longer than one try takes here.
        done = Timer(0.5, other.close)
        done.start()
    done.join()
    assert store.counts() == StoreCounts(0, 1, 0, None)


def test_a_session_can_be_steered_while_cells_wait_for_room(folder: Path) -> None:
    def refuse(cell: StoredCell) -> Sequence[Message]:
        raise sqlite3.OperationalError("database or disk is full")

    with (
        pytest.raises(StoreError, match="2 confirmed cells could not be stored"),
        Store(folder, messages=refuse) as store,
    ):
        session = store.start_session(NEW)
        add_cells(store, session.id, 2)
        assert not store.flush(0.2)
        assert store.end_session(session.id, "stopped").ended_at is not None
        assert store.counts().pending == 2


def test_a_wish_that_the_disk_does_not_grant_is_refused(folder: Path) -> None:
    with Store(folder) as store:
        other = hold(folder)
        with pytest.raises(StoreError, match="written by another program"):
            store.start_session(NEW)
        other.close()
        assert store.start_session(NEW).id == 1


def test_a_writer_that_fails_does_so_loudly(folder: Path) -> None:
    def fault(cell: StoredCell) -> Sequence[Message]:
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ZeroDivisionError), Store(folder, messages=fault) as store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 2)
        assert not store.flush(LIMIT_S)
        assert store.failed
        add_cells(store, session.id, 3)
        counts = store.counts()
        assert (counts.pending, counts.stored, counts.not_stored) == (0, 0, 5)
        assert counts.error is not None and "a fault of ours" in counts.error
        with pytest.raises(StoreError, match="a fault of ours"):
            store.end_session(session.id, "")


def test_a_disk_that_hangs_is_said_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "HANG_S", 0.05)
    answers = Event()

    def hang(cell: StoredCell) -> Sequence[Message]:
        answers.wait(LIMIT_S)
        return []

    with Store(folder, messages=hang) as store:
        add_cells(store, store.start_session(NEW).id, 1)
        assert not store.flush(0.3)
        error = store.counts().error
        assert error is not None and "has not answered" in error
        with pytest.raises(StoreError, match=r"did not answer within 0\.1 s, nothing was changed"):
            store._writer.ask(lambda connection: None, limit_s=0.1)
        monkeypatch.setattr(writer_module, "HANG_S", LIMIT_S)  # on a busy machine 0.05 s are soon over
        answers.set()
        assert store.flush(LIMIT_S)
        assert store.counts() == StoreCounts(0, 1, 0, None)


def test_after_its_end_nothing_is_taken(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
    add_cells(store, session.id, 1)
    assert store.counts().not_stored == 1
    with pytest.raises(StoreError, match="is closed"):
        store.end_session(session.id, "")


def test_with_nothing_to_do_nothing_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    wait = writer_module.Writer._wait

    def counted(writer: writer_module.Writer) -> bool:
        turns.append(writer)
        return wait(writer)

    monkeypatch.setattr(writer_module.Writer, "_wait", counted)
    with Store(folder) as store:
        add_cells(store, store.start_session(NEW).id, 1)
        assert store.flush(LIMIT_S)
        store.end_session(1, "stopped")
        time.sleep(0.2)
        assert len(turns) < 20


def test_many_threads_at_once(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)

        def work(first: int) -> None:
            for number in range(first, first + 50):
                add_cells(store, session.id, 1, number)
                store.add_event("note", str(number))
                with store.read() as reader:
                    reader.differential(session.id)

        threads = [Thread(target=work, args=(first,)) for first in (1, 101, 201)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.flush(LIMIT_S)
        with store.read() as reader:
            assert {cell.number for cell in reader.cells(limit=1000)} == {
                first + number for first in (1, 101, 201) for number in range(50)
            }


def test_events_are_read_newest_first_and_by_session(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        for number in range(5):
            store.add_event("note", str(number), session.id if number % 2 else None)
        store.flush(LIMIT_S)
        with store.read() as reader:
            events = reader.events(limit=2)
            assert [event.text for event in events] == ["4", "3"]
            assert [event.text for event in reader.events(before_id=events[-1].id)] == ["2", "1", "0"]
            assert [event.text for event in reader.events(session_id=session.id)] == ["3", "1"]
            assert events[0].at is not None
            assert abs(datetime.now(UTC) - events[0].at) < timedelta(minutes=1)


def test_a_second_daemon_in_the_folder_is_refused_and_told_by_whom(folder: Path) -> None:
    code = f"from pathlib import Path; from edge.store import Store; Store(Path({str(folder)!r})).__enter__()"
    with Store(folder):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"process {os.getpid()} is running in this folder" in second.stderr
    # One that ended without a word has let go of it.
    assert subprocess.run([sys.executable, "-c", f"{code}; import os; os._exit(0)"]).returncode == 0
    with Store(folder):
        pass


def test_a_lock_is_taken_on_a_full_disk(folder: Path) -> None:
    with Store(folder):
        before = (folder / "lock").stat()
    with Store(folder):
        after = (folder / "lock").stat()
        assert int((folder / "lock").read_text()) == os.getpid()
    # No more room than it has, and none given up in between.
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


def test_a_new_folder_is_on_the_disk_with_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("edge.store.folder_lock.sync_folder", synced.append)
    for _ in range(2):
        with Store(tmp_path / "new" / "state"):
            pass
    assert set(synced) == {tmp_path, tmp_path / "new"} and len(synced) == 2


def test_the_folder_is_made_for_its_user_alone(folder: Path) -> None:
    with Store(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        for path in folder.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
