"""A file that goes away while it is written: nothing more is said to be stored, and nothing is lost."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep

import pytest

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, NewSession, Store, open_reader
from edge.store import writer as writer_module
from hematovision.errors import RecoveryError, StoreError

NEW = NewSession("slide 7", "", "camera", "model", "ab" * 32, 0.1)
LIMIT_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def add_cells(store: Store, session: int, first: int, last: int) -> None:
    for number in range(first, last + 1):
        store.add_cell(session, some_cell(number, 32), "ab" * 32)


def wait_until(reached: Callable[[], object], what: str) -> None:
    end = monotonic() + LIMIT_S
    while not reached():
        assert monotonic() < end, what
        sleep(0.02)


def numbers(folder: Path) -> list[int]:
    with open_reader(folder) as reader:
        cells = reader.cells(limit=10_000)
        assert all(reader.crop(cell.id) for cell in cells)
        return [cell.number for cell in cells]


def integrity(folder: Path) -> str:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def take_all(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name.startswith(FILE_NAME):
            file.unlink()


AWAY = {
    "the file removed": lambda folder: (folder / FILE_NAME).unlink(),
    "all files removed": take_all,
    "the folder removed": shutil.rmtree,
    "the file moved": lambda folder: (folder / FILE_NAME).rename(folder.parent / "moved.db"),
    "the folder moved": lambda folder: folder.rename(folder.parent / "moved"),
    "the log removed": lambda folder: (folder / f"{FILE_NAME}-wal").unlink(),
    "the log's index removed": lambda folder: (folder / f"{FILE_NAME}-shm").unlink(),
    "the log replaced": lambda folder: Path(shutil.copy(__file__, folder / "new")).rename(
        folder / f"{FILE_NAME}-wal"
    ),
}


@pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
def test_nothing_is_lost_where_the_file_goes_away(folder: Path, away: Callable[[Path], object]) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 1, 20)
        assert store.flush(LIMIT_S)
        away(folder)
        add_cells(store, session.id, 21, 40)
        wait_until(lambda: store.counts().error, "it was not noticed")
        assert store.counts().stored == 20, "cells are said to be stored where they are not"
        wait_until(lambda: store.counts().error is None and store.flush(LIMIT_S), str(store.counts()))
        assert store.counts().stored == 40
        assert numbers(folder) == [*range(1, 41)]
        assert any("while it was written" in text for text in store.take_notices())
        with store.read() as reader:
            assert any("while it was written" in event.text for event in reader.events())
            assert reader.open_session() == session
        store.end_session(session.id, "stopped")
    assert numbers(folder) == [*range(1, 41)]
    assert integrity(folder) == "ok"
    left = {file.name for file in folder.iterdir() if "set-aside" not in file.name}
    assert left <= {FILE_NAME, f"{FILE_NAME}-stored", "lock"}


def test_it_is_noticed_while_nothing_is_counted(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 1, 5)
        assert store.flush(LIMIT_S)
        (folder / FILE_NAME).unlink()
        wait_until(lambda: store.counts().error, "it was not noticed")
        wait_until(lambda: store.counts().error is None, "it was not put back")
    assert numbers(folder) == [1, 2, 3, 4, 5]


def test_a_file_that_was_moved_holds_all_that_was_stored_before(folder: Path, tmp_path: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 1, 20)
        assert store.flush(LIMIT_S)
        (folder / FILE_NAME).rename(tmp_path / FILE_NAME)  # as one does who leaves the log behind
        wait_until(lambda: store.counts().error, "it was not noticed")
        wait_until(lambda: store.counts().error is None, "it was not put back")
    assert numbers(tmp_path) == [*range(1, 21)]
    assert numbers(folder) == [*range(1, 21)]


def test_a_file_that_comes_back_is_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.store.rescue.open_file.OpenFile.mend", lambda self: None)
    with Store(folder) as store:
        session = store.start_session(NEW)
        (folder / FILE_NAME).rename(folder / "away")
        add_cells(store, session.id, 1, 10)
        wait_until(lambda: store.counts().error, "it was not noticed")
        with pytest.raises(StoreError, match="is not there any more"):
            store.end_session(session.id, "stopped")
        (folder / "away").rename(folder / FILE_NAME)
        wait_until(lambda: store.counts().stored == 10, str(store.counts()))
        assert store.counts().error is None
    assert numbers(folder) == [*range(1, 11)]


def test_a_file_in_its_place_is_left_alone_and_the_content_kept_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    with Store(tmp_path / "other") as store:
        store.start_session(NewSession("restored", "", "camera", "model", "ab" * 32, 0.1))
    store = Store(folder)
    with pytest.raises(RecoveryError, match="was replaced while it was written"), store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 1, 20)
        assert store.flush(LIMIT_S)
        (tmp_path / "other" / FILE_NAME).rename(folder / FILE_NAME)
        wait_until(lambda: store.failed, "it was not given up")
        assert "was replaced" in str(store.counts().error)
    [aside] = folder.glob(f"{FILE_NAME}.replaced-*")
    with open_reader(folder) as reader:
        assert [one.sample for one in reader.sessions()] == ["restored"]
    (tmp_path / "kept").mkdir()
    aside.rename(tmp_path / "kept" / FILE_NAME)
    assert numbers(tmp_path / "kept") == [*range(1, 21)]


def test_what_is_lost_with_the_file_is_said_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.store.rescue.open_file.OpenFile.mend", lambda self: None)
    store = Store(folder)
    with (
        pytest.raises(StoreError, match="10 cells that were stored are only in the file that is gone"),
        store,
    ):
        session = store.start_session(NEW)
        add_cells(store, session.id, 1, 10)
        assert store.flush(LIMIT_S)
        (folder / FILE_NAME).unlink()


def test_another_process_that_took_the_place_is_not_disturbed(folder: Path) -> None:
    store = Store(folder)
    with pytest.raises(RecoveryError, match="was replaced"), store:
        session = store.start_session(NEW)
        add_cells(store, session.id, 1, 5)
        assert store.flush(LIMIT_S)
        shutil.rmtree(folder)
        with Store(folder) as other:
            other.start_session(NEW)
            wait_until(lambda: store.counts().error, "it was not noticed")
            wait_until(lambda: store.failed, "it was not given up")
            assert other.counts().error is None


def test_a_lock_that_was_removed_is_taken_again(folder: Path) -> None:
    with Store(folder) as store:
        (folder / "lock").unlink()
        wait_until((folder / "lock").exists, "no lock")
        assert store.counts().error is None
        with pytest.raises(StoreError, match=f"process {os.getpid()} is running"), Store(folder):
            pass


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "LOOK_S", 0.1)
    monkeypatch.setattr(writer_module, "RETRY_S", 0.1)
