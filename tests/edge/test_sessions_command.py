"""``hematovision sessions``, beside a device that counts and without one."""

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, NewSession, Store, open_reader
from edge.store.housekeeping import Housekeeper
from hematovision.cli import root
from hematovision.errors import StoreError

NEW = NewSession("slide [red]7[/red]", "Ada", "camera", "best.tflite", "ab" * 32, 0.1, 100)
LIMIT_S = 10.0

Sessions = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A device at work: session 1 has ended, with 40 cells, one of them corrected; session 2 is open."""
    with Store(folder) as opened:
        first = opened.start_session(NEW)
        for number in range(40):
            opened.add_cell(first.id, replace(some_cell(number), class_name="neutrophil"), "ab" * 32)
        opened.flush(LIMIT_S)
        opened.correct(1, "monocyte", "Bo")
        opened.end_session(first.id, "stopped")
        second = opened.start_session(replace(NEW, sample="slide 8"))
        opened.add_cell(second.id, some_cell(1), "ab" * 32)
        opened.flush(LIMIT_S)
        yield opened


@pytest.fixture
def sessions(folder: Path) -> Sessions:
    def call(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(root, ["sessions", *arguments, "--folder", str(folder)], input=answer)

    return call


def test_list_shows_the_newest_first(store: Store, sessions: Sessions) -> None:
    result = sessions("list")
    assert result.exit_code == 0
    assert result.output.index("slide 8") < result.output.index("slide [red]7[/red]")
    assert "open" in result.output and "stopped" in result.output
    assert "slide [red]7" not in sessions("list", "--limit", "1").output
    assert [one["session"]["id"] for one in json.loads(sessions("list", "--format", "json").output)] == [2, 1]


def test_show_has_both_differentials_and_their_limits(store: Store, sessions: Sessions) -> None:
    output = sessions("show", "1").output
    [neutrophils] = [line for line in output.splitlines() if "neutrophil" in line]
    assert "100.0" in neutrophils and "97.5" in neutrophils and "86–100" in neutrophils
    assert "classifier's own error comes on top" in output
    content = json.loads(sessions("show", "1", "--format", "json").output)
    assert content["differential"]["classified"]["classes"]["neutrophil"]["count"] == 40
    assert content["differential"]["corrected"]["classes"]["monocyte"]["count"] == 1


def test_export_writes_each_form(store: Store, sessions: Sessions, tmp_path: Path) -> None:
    for form in ("csv", "json", "crops"):
        result = sessions("export", "1", "--format", form, "--out", str(tmp_path / form))
        assert result.exit_code == 0, result.output
    with (tmp_path / "csv").open() as file:
        assert len(list(csv.DictReader(file))) == 40
    assert len(json.loads((tmp_path / "json").read_text())["cells"]) == 40
    assert len(list((tmp_path / "crops" / "neutrophil").iterdir())) == 39
    assert f"hematovision train fit {tmp_path / 'crops'}@0.3125 --out FOLDER" in result.output
    again = sessions("export", "1", "--format", "csv", "--out", str(tmp_path / "csv"))
    assert again.exit_code == 1 and "is there already" in again.output


def test_a_session_that_is_to_go_is_announced(store: Store, sessions: Sessions, folder: Path) -> None:
    assert "to make room" not in sessions("list").output
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE sessions SET notice = 'room', notice_s = 36000 WHERE id = 1")
    said = "after 14 h more of running, to make room (store.keep_free_mb)"
    assert said in sessions("list").output
    assert f"To be deleted {said}." in sessions("show", "1").output
    [_, first] = json.loads(sessions("list", "--format", "json").output)
    assert first["session"]["goes_in_h"] == 14


@pytest.mark.parametrize(
    ("arguments", "saved"),
    [
        (("export", "1", "--format", "csv", "--out"), True),
        (("export", "1", "--format", "json", "--out"), True),
        (("export", "1", "--format", "crops", "--out"), False),
        (("backup",), True),
    ],
)
def test_corrections_in_an_export_or_a_backup_keep_the_session_no_more(
    store: Store, sessions: Sessions, folder: Path, tmp_path: Path, arguments: tuple[str, ...], saved: bool
) -> None:
    def unsaved() -> bool:
        with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
            connection.row_factory = sqlite3.Row
            return 1 not in Housekeeper(folder, 1, 0, keep_sessions=0).may_go(connection)

    # Cells called unclassified are not among the crops.
    store.correct(2, "unclassified", "Bo")
    assert unsaved()
    result = sessions(*arguments, str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert unsaved() is not saved
    store.correct(3, "monocyte", "Bo")
    assert unsaved()


def test_an_export_is_done_though_the_store_cannot_be_written(
    store: Store, sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("its disk is read-only")

    monkeypatch.setattr("edge.sessions_command.open_writer", refuse)
    result = sessions("export", "1", "--format", "csv", "--out", str(tmp_path / "csv"))
    assert result.exit_code == 0 and (tmp_path / "csv").exists()
    assert "Not recorded in the store, which goes on keeping what was corrected" in result.output


def test_delete_asks_first(store: Store, sessions: Sessions) -> None:
    refused = sessions("delete", "1", answer="n\n")
    assert refused.exit_code == 1 and "with its 40 cells for good?" in refused.output
    with store.read() as reader:
        assert reader.count_cells(1) == 40
    assert sessions("delete", "1", answer="y\n").exit_code == 0
    with store.read() as reader:
        assert [session.id for session in reader.sessions()] == [2]
        assert "session 1 deleted" in reader.events()[0].text


def test_deleting_beside_a_device_loses_none_of_its_cells(store: Store, sessions: Sessions) -> None:
    for number in range(2, 100):
        store.add_cell(2, some_cell(number), "ab" * 32)
    assert sessions("delete", "1", "--yes").exit_code == 0
    assert store.flush(LIMIT_S)
    with store.read() as reader:
        assert reader.count_cells(2) == 99


def test_a_device_writes_between_the_steps_of_a_deletion(
    store: Store, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []

    def pause(seconds: float) -> None:
        # Longer than one that waits for its turn sleeps at most.
        assert seconds > 0.1
        store.add_cell(2, some_cell(2), "")
        assert store.flush(LIMIT_S)
        stored.append(store.counts().stored)

    monkeypatch.setattr("edge.sessions_command.sleep", pause)
    assert sessions("delete", "1", "--yes").exit_code == 0
    assert stored


def test_numbers_that_are_none_of_a_session_are_wrong_usage(store: Store, sessions: Sessions) -> None:
    for arguments in (("show", f"{10**20}"), ("show", "0"), ("list", "--limit", f"{10**20}")):
        result = sessions(*arguments)
        assert result.exit_code == 2 and "is not in the range" in result.output


def test_the_open_session_is_not_deleted(store: Store, sessions: Sessions) -> None:
    result = sessions("delete", "2", "--yes")
    assert result.exit_code == 1 and "is open; end it" in result.output
    with store.read() as reader:
        assert reader.count_cells(2) == 1


def test_backup_copies_a_store_at_work(store: Store, sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    result = sessions("backup", str(tmp_path / "copy" / "hematovision.db"))
    assert result.exit_code == 0, result.output
    with open_reader(tmp_path / "copy") as reader:
        assert reader.count_cells() == 41
    again = sessions("backup", str(tmp_path / "copy" / "hematovision.db"))
    assert again.exit_code == 1 and "is there already" in again.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "99"),
        ("delete", "99", "--yes"),
        ("export", "99", "--format", "csv", "--out", "out"),
        ("export", "99", "--format", "crops", "--out", "out"),
    ],
)
def test_a_session_that_is_not_there(
    store: Store,
    sessions: Sessions,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = sessions(*arguments)
    assert result.exit_code == 1
    assert (
        result.output
        == "Error: session 99: there is none; hematovision sessions list shows those there are\n"
    )
    assert not Path("out").exists()


def test_without_a_store_there_is_one_line(sessions: Sessions, folder: Path) -> None:
    for arguments in (("list",), ("show", "1"), ("delete", "1", "--yes"), ("backup", "copy")):
        result = sessions(*arguments)
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {folder}/hematovision.db: cannot be opened (No such file")
    assert not folder.exists()


def test_the_settings_name_the_folder(store: Store, folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f"[store]\nfolder = '{folder}'\n")
    result = CliRunner().invoke(root, ["sessions", "list", "--config", str(settings)])
    assert "slide 8" in result.output
