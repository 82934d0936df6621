"""A damaged file: what can be read of it goes on in a new one, and what is lost is said."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.faults.plug import some_cell
from edge.sessions_command import sessions
from edge.store import FILE_NAME, NewSession, Store, StoredCell, back_up, open_reader
from edge.store.rescue import salvage as salvage_module
from edge.store.rescue.mark import ENDING, Mark
from hematovision.errors import RecoveryError, StoreError

NEW = NewSession("slide 7", "Ada", "camera", "model", "ab" * 32, 0.1)
LIMIT_S = 10.0
PAGE = 4096
CELLS = 60


def fill(folder: Path, samples: int = 2, cells: int = CELLS) -> None:
    """Sessions of so many cells each, two corrections in the first."""
    with Store(folder) as store:
        for sample in range(samples):
            session = store.start_session(replace(NEW, sample=f"slide {sample}"))
            for number in range(1, cells + 1):
                store.add_cell(session.id, replace(some_cell(number, 64), class_name="neutrophil"), "ab" * 32)
            assert store.flush(LIMIT_S)
            if sample == 0:
                store.correct(3, "monocyte", "Bo")
                store.correct(3, "lymphocyte", "Bo")
            store.add_event("note", "something happened", session.id)
            store.end_session(session.id, "stopped")


def damage_page(path: Path, number: int, content: bytes = b"\xff" * PAGE) -> None:
    with path.open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(content)


def root_of(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(
            connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
        )


def content(folder: Path) -> dict[int, tuple[StoredCell, bytes | None]]:
    """All that can be read of each cell."""
    with open_reader(folder) as reader:
        found: dict[int, tuple[StoredCell, bytes | None]] = {}
        for cell in reader.cells(limit=100_000):
            try:
                crop: bytes | None = reader.crop(cell.id)
            except StoreError:
                crop = None
            found[cell.id] = (cell, crop)
        return found


def integrity(path: Path) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return [
            *map(tuple, connection.execute("PRAGMA integrity_check")),
            *connection.execute("PRAGMA foreign_key_check"),
        ]


def start(folder: Path) -> list[str]:
    """What a start says of the store, as an event and for the log."""
    with Store(folder) as store:
        assert store.flush(LIMIT_S)
        with store.read() as reader:
            events = [event.text for event in reader.events()]
            left_open = reader.open_session()
        if left_open is not None:
            store.end_session(left_open.id, "interrupted")
        said = store.take_notices()
        assert all(one in events for one in said)
        session = store.start_session(NEW)
        store.add_cell(session.id, some_cell(1), "ab" * 32)
        assert store.flush(LIMIT_S), "it does not go on"
        store.end_session(session.id, "stopped")
    assert integrity(folder / FILE_NAME) == [("ok",)]
    return said


def test_a_sound_file_is_left_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path)
    before = content(tmp_path)
    assert start(tmp_path) == []
    assert {number: content(tmp_path)[number] for number in before} == before
    names = {file.name for file in tmp_path.iterdir() if not file.name.endswith(("-wal", "-shm"))}
    assert names == {FILE_NAME, f"{FILE_NAME}{ENDING}", "lock"}


@pytest.mark.parametrize("table", ["sessions", "cells", "crops", "corrections", "events", "cells_of_session"])
def test_the_root_of_a_table_costs_no_row(tmp_path: Path, table: str) -> None:
    # A table of several pages has no rows in its root.
    fill(tmp_path, samples=30, cells=30)
    path = tmp_path / FILE_NAME
    before = content(tmp_path)
    with open_reader(tmp_path) as reader:
        samples = [one.sample for one in reader.sessions()]
        corrections = reader.corrections()
    damage_page(path, root_of(path, table))
    damaged = path.read_bytes()
    [said] = start(tmp_path)
    assert "was damaged" in said
    [aside] = tmp_path.glob(f"{FILE_NAME}.damaged-*")
    assert aside.name in said and aside.read_bytes() == damaged
    after = content(tmp_path)
    if table != "corrections":
        assert {number: after[number] for number in before} == before
        with open_reader(tmp_path) as reader:
            assert reader.corrections() == corrections
    with open_reader(tmp_path) as reader:
        kept = [one.sample for one in reader.sessions()][1:]
    if table not in ("sessions",):
        assert kept == samples


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_keeps_the_rest_and_says_what_is_lost(tmp_path: Path, seed: int) -> None:
    fill(tmp_path)
    path = tmp_path / FILE_NAME
    before = content(tmp_path)
    rng = random.Random(seed)
    pages = path.stat().st_size // PAGE
    for _ in range(rng.choice((1, 2, 5))):
        garbage = rng.choice((b"\xff" * PAGE, bytes(PAGE), rng.randbytes(PAGE)))
        damage_page(path, rng.randrange(2, pages + 1), garbage)
    try:
        back_up(tmp_path, tmp_path / "copy")
        sound = True
    except StoreError:
        sound = False
    said = start(tmp_path)
    after = content(tmp_path)
    whole = sum(after.get(number) == one for number, one in before.items())
    lost = [number for number in before if number not in after]
    if lost:
        assert not sound and f"At least {len(lost)} cells" in said[0], (said, lost)
    if sound:
        # Only what SQLite itself does not look at, the bytes of a picture, may have changed.
        assert not lost and all(after[number][0] == one[0] for number, one in before.items())
    assert whole >= len(before) - 5 * 20


def test_what_takes_long_is_told_before_it_begins(tmp_path: Path) -> None:
    fill(tmp_path)
    told: list[tuple[str, float]] = []
    with Store(tmp_path, slow=lambda what, seconds: told.append((what, seconds))):
        pass
    [(what, seconds)] = told
    assert what == f"{FILE_NAME} is checked" and seconds >= 60
    damage_page(tmp_path / FILE_NAME, root_of(tmp_path / FILE_NAME, "crops"))
    with Store(tmp_path, slow=lambda what, seconds: told.append((what, seconds))):
        pass
    assert "is damaged" in told[-1][0] and len(told) == 3


def test_a_destroyed_head_costs_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    before = content(tmp_path)
    damage_page(tmp_path / FILE_NAME, 1)
    [said] = start(tmp_path)
    assert "was damaged" in said and "At least 0 cells" in said
    assert {number: content(tmp_path)[number] for number in before} == before


def test_cells_that_only_the_log_has_are_kept_too(tmp_path: Path) -> None:
    fill(tmp_path)
    kill_while_counting(tmp_path)
    before = content(tmp_path)
    assert len(before) == 2 * CELLS + 20
    # SQLite's file is older than its log: of the damage to it, the log's pages know nothing.
    with closing(sqlite3.connect(f"file:{tmp_path / FILE_NAME}?immutable=1", uri=True)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'cells'").fetchone()
    damage_page(tmp_path / FILE_NAME, page + 1)
    start(tmp_path)
    after = content(tmp_path)
    assert sum(after.get(number) == one for number, one in before.items()) >= len(before) - 20
    assert all(after[number] == before[number] for number in list(before)[-20:])


_COUNT = """
import os, sys
from pathlib import Path
from benchmarks.faults.plug import some_cell
from edge.store import NewSession, Store
store = Store(Path(sys.argv[1])).__enter__()
session = store.start_session(NewSession("killed", "", "camera", "model", "ab" * 32, 0.1))
for number in range(1, int(sys.argv[2]) + 1):
    store.add_cell(session.id, some_cell(number, 64), "ab" * 32)
    if number % 10 == 0:
        assert store.flush(10)
os.kill(os.getpid(), 9)
"""


def kill_while_counting(folder: Path, cells: int = 20) -> None:
    """Store cells in a process that is killed: they are in the log."""
    ended = subprocess.run([sys.executable, "-c", _COUNT, str(folder), str(cells)], check=False)
    assert ended.returncode == -9
    assert (folder / f"{FILE_NAME}-wal").stat().st_size


def test_a_log_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    fill(tmp_path)
    kill_while_counting(tmp_path)
    (tmp_path / f"{FILE_NAME}-wal").unlink()
    result = CliRunner().invoke(sessions, ["backup", str(tmp_path / "copy"), "--folder", str(tmp_path)])
    assert result.exit_code == 1 and "20 cells are not in it" in result.output
    [said] = start(tmp_path)
    assert "20 cells are not in it" in said
    assert f"{FILE_NAME}-wal" in said
    # No id is given again that somebody has been told of.
    assert max(content(tmp_path)) == 2 * CELLS + 21
    assert start(tmp_path) == []


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_damaged_log_costs_only_what_is_damaged(tmp_path: Path, at: float) -> None:
    fill(tmp_path)
    kill_while_counting(tmp_path, 60)
    before = content(tmp_path)
    log = tmp_path / f"{FILE_NAME}-wal"
    data = bytearray(log.read_bytes())
    frames = (len(data) - 32) // (PAGE + 24)
    frame = 32 + int(frames * at) * (PAGE + 24)
    data[frame + 24 + 100 : frame + 24 + 400] = b"\xff" * 300
    log.write_bytes(data)
    [said] = start(tmp_path)
    assert "its write-ahead log" in said or "is not in it" in said or "are not in it" in said
    after = content(tmp_path)
    lost = [number for number in before if number not in after]
    assert len(lost) <= 20, f"{len(lost)} of 60 lost"
    if lost:
        assert f"At least {len(lost)} cells" in said


@pytest.mark.parametrize("at", [0, 3, 9, 10, 11, 16, 20, 24])
def test_a_damaged_head_of_the_log_costs_nothing(tmp_path: Path, at: int) -> None:
    fill(tmp_path)
    kill_while_counting(tmp_path, 60)
    before = content(tmp_path)
    log = tmp_path / f"{FILE_NAME}-wal"
    data = bytearray(log.read_bytes())
    data[at] ^= 1
    log.write_bytes(data)
    [said] = start(tmp_path)
    assert "its write-ahead log" in said and "At least 0 cells" in said
    assert {number: content(tmp_path)[number] for number in before} == before
    [aside] = tmp_path.glob(f"{FILE_NAME}.damaged-*-wal")
    assert aside.read_bytes() == data


def test_of_a_log_without_its_first_block_the_rest_is_kept_as_it_was_last(tmp_path: Path) -> None:
    folder = tmp_path / "left"
    with Store(tmp_path / "whole") as store:
        session = store.start_session(NEW)
        with closing(sqlite3.connect(tmp_path / "whole" / FILE_NAME)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(1, 21):
            store.add_cell(session.id, some_cell(number, 64), "ab" * 32)
            assert store.flush(LIMIT_S)
        store.end_session(session.id, "stopped")
        shutil.copytree(tmp_path / "whole", folder)
    log = folder / f"{FILE_NAME}-wal"
    data = bytearray(log.read_bytes())
    data[:PAGE] = bytes(PAGE)
    log.write_bytes(data)
    [said] = start(folder)
    assert "its write-ahead log" in said
    with open_reader(folder) as reader:
        assert reader.session(1).ended_because == "stopped"
        assert reader.count_cells() == 20 + 1  # and the one that `start` adds


def test_a_file_that_is_gone_when_the_device_starts_is_missed(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    [said] = start(tmp_path)
    assert f"2 sessions, {2 * CELLS} cells" in said


def test_a_store_that_was_moved_away_whole_is_begun_anew_without_a_word(tmp_path: Path) -> None:
    fill(tmp_path)
    for file in tmp_path.glob(f"{FILE_NAME}*"):
        file.unlink()
    assert start(tmp_path) == []


def test_damage_met_while_it_is_written_ends_the_process_and_the_next_looks_closely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.setattr(salvage_module, "WHOLE_BYTES", 0)
    path = tmp_path / FILE_NAME
    before = content(tmp_path)
    damage_page(path, root_of(path, "crops"))
    store = Store(tmp_path)
    with pytest.raises(RecoveryError, match="is damaged"), store:
        assert not store.take_notices(), "the crops of a large file were looked at"
        session = store.start_session(NEW)
        store.add_cell(session.id, some_cell(1), "ab" * 32)
        store.flush(LIMIT_S)
    assert Mark(path).look_closely
    [said] = start(tmp_path)
    assert "was damaged" in said
    assert {number: content(tmp_path)[number] for number in before} == before
    assert not Mark(path).look_closely


def test_an_earlier_copy_written_over_the_open_file_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path).__enter__()
    session = store.start_session(NEW)
    path = tmp_path / FILE_NAME
    for number in range(1, 21):
        store.add_cell(session.id, some_cell(number, 64), "ab" * 32)
        assert store.flush(LIMIT_S)
        if number == 10:
            back_up(tmp_path, tmp_path / "copy")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes((tmp_path / "copy").read_bytes())
    store.add_cell(session.id, some_cell(21, 64), "ab" * 32)
    assert not store.flush(LIMIT_S)
    with pytest.raises(RecoveryError, match="was overwritten"):
        store.__exit__(None, None, None)
    [said] = start(tmp_path)
    assert "9 cells are not in it" in said


def test_deleted_sessions_do_not_come_back(tmp_path: Path) -> None:
    fill(tmp_path, samples=3)
    CliRunner().invoke(sessions, ["delete", "2", "--yes", "--folder", str(tmp_path)])
    before = content(tmp_path)
    damage_page(tmp_path / FILE_NAME, 1)
    start(tmp_path)
    after = content(tmp_path)
    assert {cell.session_id for cell, _ in after.values()} == {1, 3, 4}
    assert {number: after[number] for number in before} == before


def test_rows_of_a_wrong_kind_are_kept_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        before = [*connection.execute("SELECT name, sql FROM sqlite_schema WHERE name = 'cells'")]
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(replace(sql, ' NOT NULL', ''), 'STRICT', '')"
        )
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE cells SET confirmed_at = NULL, looks = 'x', focus = x'00' WHERE id = 7")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'cells'", (before[0][1],))
        connection.commit()
    [said] = start(tmp_path)
    assert "At least 0 cells" in said
    with open_reader(tmp_path) as reader:
        cell = reader.cell(7)
        assert cell.unreadable == ("looks", "focus", "confirmed_at")
        assert (cell.confirmed_at, cell.focus, cell.looks, cell.label) == (None, None, -1, "neutrophil")


def test_there_is_no_room_for_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    path = tmp_path / FILE_NAME
    damage_page(path, root_of(path, "crops"))
    damaged = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="is damaged, and what can be read"), Store(tmp_path):
        pass
    assert path.read_bytes() == damaged
    assert not [*tmp_path.glob("*.damaged-*")]


def test_a_file_of_another_program_is_not_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"somebody's letter" * 1000)
    with pytest.raises(StoreError, match="is no database"), Store(tmp_path):
        pass
    assert [file.name for file in tmp_path.glob(f"{FILE_NAME}*")] == [FILE_NAME]
    shutil.rmtree(tmp_path)
