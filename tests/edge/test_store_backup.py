"""A backup is whole whenever it is taken, and takes no file's place."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, NewSession, Store, back_up, open_reader
from hematovision.errors import StoreError

NEW = NewSession("", "", "camera", "model", "ab" * 32, 0.1)


def test_a_backup_taken_while_cells_are_stored_is_consistent(tmp_path: Path) -> None:
    done = Event()
    with Store(tmp_path / "state") as store:
        session = store.start_session(NEW)

        def count() -> None:
            number = 0
            while not done.wait(0.001):
                number += 1
                store.add_cell(session.id, some_cell(number, 32), "")

        counting = Thread(target=count)
        counting.start()
        try:
            known = []
            for number in range(5):
                folder = tmp_path / f"backup-{number}"
                folder.mkdir()
                known.append(store.counts().stored)
                back_up(tmp_path / "state", folder / FILE_NAME)
        finally:
            done.set()
            counting.join()
    for number, stored in enumerate(known):
        folder = tmp_path / f"backup-{number}"
        with open_reader(folder) as reader:
            cells = reader.cells(limit=100_000)
            assert len(cells) >= stored
            assert [cell.number for cell in cells] == list(range(1, len(cells) + 1))
            assert all(reader.crop(cell.id) for cell in cells)
            assert reader.open_session() == session


def test_a_restored_backup_is_gone_on_with(tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:
        session = store.start_session(NEW)
        back_up(tmp_path / "state", tmp_path / FILE_NAME)
    with Store(tmp_path) as store:
        assert store.continue_session(session.id).continued == 1
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 2


def test_a_backup_is_its_users_alone(tmp_path: Path) -> None:
    with Store(tmp_path / "state"):
        back_up(tmp_path / "state", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_a_backup_takes_no_files_place(tmp_path: Path) -> None:
    with Store(tmp_path / "state"):
        pass
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(StoreError, match="is there already"):
            back_up(tmp_path / "state", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [b"a b?c#d%20e", b"\xff\xfe not text", "µ".encode()])
def test_paths_may_be_anything(tmp_path: Path, name: bytes) -> None:
    state, target = tmp_path / "state" / os.fsdecode(name), tmp_path / os.fsdecode(name)
    with Store(state) as store:
        store.start_session(NEW)
        back_up(state, target)
    with closing(sqlite3.connect(target.as_uri(), uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Store(tmp_path / "state"):
        pass
    with pytest.raises(StoreError, match=r"none/copy: cannot be written \(No such file"):
        back_up(tmp_path / "state", tmp_path / "none" / "copy")


def test_a_damaged_store_gives_no_backup(tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:
        session = store.start_session(NEW)
        for number in range(20):
            store.add_cell(session.id, some_cell(number), "")
    path = tmp_path / "state" / FILE_NAME
    with closing(sqlite3.connect(path)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'crops'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        back_up(tmp_path / "state", tmp_path / "copy")
    assert [one.name for one in tmp_path.iterdir()] == ["state"]
