"""Which files are opened, which are refused, and how an earlier version's becomes this one's."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.store import FILE_NAME, NewSession, Store, database, open_reader, schema
from edge.store.clock import Reading
from hematovision.errors import StoreError

NEW = NewSession("", "", "camera", "model", "ab" * 32, 0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_file_has_what_its_guarantees_rest_on(path: Path) -> None:
    with Store(path.parent):
        pass
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "auto_vacuum") == 2  # incremental
    assert pragma(path, "application_id") == schema.APPLICATION_ID
    assert pragma(path, "user_version") == len(schema.STEPS)


def test_every_commit_is_synced(path: Path) -> None:
    with closing(database.open_store(path.parent)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # full
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_reader_cannot_write(path: Path) -> None:
    with Store(path.parent):
        pass
    with pytest.raises(StoreError, match="may not be written"), open_reader(path.parent) as reader:
        reader._connection.execute("DELETE FROM sessions")


@pytest.mark.parametrize("opened", ["Store", "open_reader"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not a database, but long enough to be taken for one" * 100, "is no database"),
        (b"SQLite format 3\0" + b"\xff" * 8000, "is no database|is damaged"),
    ],
)
def test_a_damaged_file_is_refused(path: Path, content: bytes, says: str, opened: str) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=says) as caught, globals()[opened](path.parent):
        pass
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("opened", ["Store", "open_reader"])
def test_another_programs_database_is_refused_and_left_alone(path: Path, opened: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="of another program"), globals()[opened](path.parent):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("opened", ["Store", "open_reader"])
def test_a_newer_versions_file_is_refused_and_left_alone(path: Path, opened: str) -> None:
    with Store(path.parent):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")
    before = path.read_bytes()
    with (
        pytest.raises(StoreError, match=r"a newer hematovision .* install that one"),
        globals()[opened](path.parent),
    ):
        pass
    assert path.read_bytes() == before


def test_a_file_that_was_only_begun_is_said_to_be_empty(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="is empty; hematovision run"), open_reader(path.parent):
        pass


def test_a_folder_without_a_store_is_said_to_be_one(path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"), open_reader(path.parent):
        pass
    assert not path.exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made or written"), Store(tmp_path / "file" / "state"):
        pass


def test_an_interrupted_creation_is_begun_again(path: Path) -> None:
    path.touch()
    with Store(path.parent) as store:
        assert store.start_session(NEW).id == 1
    assert pragma(path, "auto_vacuum") == 2


LATER = ("ALTER TABLE sessions ADD COLUMN stain TEXT NOT NULL DEFAULT 'unknown'",)


def test_an_earlier_versions_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path.parent) as store:
        before = store.start_session(NEW)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, LATER))
    monkeypatch.setattr(database, "STEPS", schema.STEPS)
    with pytest.raises(StoreError, match="hematovision run brings it up to date"), open_reader(path.parent):
        pass
    with Store(path.parent) as store, store.read() as reader:
        assert reader.open_session() == before
    assert pragma(path, "user_version") == len(schema.STEPS)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT stain FROM sessions").fetchall() == [("unknown",)]


def test_a_file_from_before_retention_knew_the_clock_keeps_its_sessions(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, schema.STEPS[:1])
        connection.execute(
            "INSERT INTO sessions (sample, operator, started_at, ended_at, camera, model_name, model_hash, "
            "um_per_pixel, crop_um, settings) VALUES ('slide 7', '', '2025-01-01T00:00:00.000000+00:00', "
            "'2025-01-01T00:10:00.000000+00:00', '', '', '', 0.1, 20.0, '{}')"
        )
    with Store(path.parent) as store, store.read() as reader:
        [session] = reader.sessions()
    assert session.sample == "slide 7"
    assert (session.start_clock_set, session.end_clock_set, session.goes_because) == (None, None, None)


@pytest.mark.parametrize("is_set", [True, False, None])
def test_a_session_says_whether_the_clock_was_set_when_it_began_and_ended(
    path: Path, is_set: bool | None
) -> None:
    now = [Reading(datetime(2026, 1, 1, tzinfo=UTC), not is_set, 0.0)]
    with Store(path.parent, clock=lambda: now[0]) as store:
        begun = store.start_session(NEW)
        now[0] = Reading(datetime(2026, 1, 2, tzinfo=UTC), is_set, 1.0)
        ended = store.end_session(begun.id, "stopped")
    assert (ended.start_clock_set, ended.end_clock_set) == (not is_set, is_set)
    assert ended.ended_at == now[0].at


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path.parent) as store:
        before = store.start_session(NEW)
    version = len(schema.STEPS)
    broken = (*LATER, "ALTER TABLE no_such_table ADD COLUMN more TEXT")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, broken))
        patch.setattr(database, "STEPS", schema.STEPS)
        with pytest.raises(StoreError, match="no_such_table"), Store(path.parent):
            pass
    assert pragma(path, "user_version") == version
    with Store(path.parent) as store, store.read() as reader:
        assert reader.open_session() == before


def test_a_disk_without_a_write_ahead_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    # As on the disk of another machine: nothing is shared between processes.
    monkeypatch.setattr(sqlite3, "connect", lambda path, **rest: connect(f"{path}&vfs=unix-none", **rest))
    with pytest.raises(StoreError, match="takes no write-ahead log"), Store(path.parent):
        pass


def test_damage_found_while_reading_is_explained(path: Path) -> None:
    with Store(path.parent) as store:
        store.start_session(NEW)
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sessions'").fetchone()
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged; restore a backup"), open_reader(path.parent) as reader:
        reader.sessions()
