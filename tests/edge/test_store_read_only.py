"""A disk that may not be written: what is on it is read all the same. What is no file is not waited for."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.faults.plug import some_cell
from edge.store import FILE_NAME, NewSession, Store, back_up, open_reader, open_writer, schema
from hematovision.errors import StoreError

NEW = NewSession("slide 7", "", "camera", "model", "ab" * 32, 0.1)
LIMIT_S = 10.0
CELLS = 12


def may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


needs_mount = pytest.mark.skipif(not may_mount(), reason="needs root, to mount a disk read-only")

_MOUNTED = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
_COMMANDS = """
import json, sys
from click.testing import CliRunner
from edge.sessions_command import sessions
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(sessions, arguments)
    print(json.dumps([str(result.exception or ""), result.output]))
"""


def on_read_only_disk(folder: Path, *commands: list[str]) -> list[tuple[str, str]]:
    """Error and output of ``hematovision sessions`` commands where a folder is read-only."""
    python = [sys.executable, "-c", _COMMANDS]
    arguments = json.dumps([[*command, "--folder", str(folder)] for command in commands])
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _MOUNTED, "sh", str(folder), *python, arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [tuple(json.loads(line)) for line in ended.stdout.splitlines()]


def fill(folder: Path) -> None:
    with Store(folder) as store:
        session = store.start_session(NEW)
        for number in range(1, CELLS + 1):
            store.add_cell(session.id, some_cell(number, 32), "ab" * 32)
        assert store.flush(LIMIT_S)


def cut_off(folder: Path, *beside: str) -> None:
    """A store as a killed device leaves it, with these of the files beside it; the cells are in the log."""
    with Store(folder / "whole") as store:
        session = store.start_session(NEW)
        for number in range(1, CELLS + 1):
            store.add_cell(session.id, some_cell(number, 32), "ab" * 32)
        assert store.flush(LIMIT_S)
        for ending in ("", *beside):
            shutil.copyfile(folder / "whole" / f"{FILE_NAME}{ending}", folder / f"{FILE_NAME}{ending}")
    shutil.rmtree(folder / "whole")


def ended(folder: Path) -> None:
    fill(folder)


def killed(folder: Path) -> None:
    cut_off(folder, "-wal", "-shm")


def killed_and_copied(folder: Path) -> None:
    cut_off(folder, "-wal")


def of_an_earlier_version(folder: Path) -> None:
    fill(folder / "now")
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        schema.migrate(connection, schema.STEPS[:1])
        connection.execute("ATTACH ? AS now", (str(folder / "now" / FILE_NAME),))
        for table in ("sessions", "cells", "crops", "events"):
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
        connection.execute("DETACH now")
        connection.execute("PRAGMA journal_mode = WAL")
    shutil.rmtree(folder / "now")


@needs_mount
@pytest.mark.parametrize("left", [ended, killed, killed_and_copied, of_an_earlier_version])
def test_what_is_on_a_read_only_disk_is_listed_shown_exported_and_backed_up(
    tmp_path: Path, left: Callable[[Path], None]
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    left(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    listed, shown, exported, copied, deleted = on_read_only_disk(
        folder,
        ["list"],
        ["show", "1"],
        ["export", "1", "--format", "json", "--out", str(tmp_path / "export.json")],
        ["backup", str(tmp_path / "copy.db")],
        ["delete", "1", "--yes"],
    )
    assert [error for error, _ in (listed, shown, exported, copied)] == [""] * 4
    assert "slide 7" in listed[1] and f" {CELLS} " in listed[1]
    assert "slide 7" in shown[1]
    assert len(json.loads((tmp_path / "export.json").read_text())["cells"]) == CELLS
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT count(*) FROM crops").fetchone()[0] == CELLS
    assert "read-only" in deleted[0] or "is open" in deleted[0]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


_COUNT = """
import sys
from pathlib import Path
from edge.store import open_reader
folder = Path(sys.argv[1])
try:
    (folder / "new").touch()
except PermissionError:
    with open_reader(folder) as reader:
        print(reader.count_cells())
"""


@pytest.mark.parametrize("left", [ended, killed, killed_and_copied])
def test_what_is_in_a_folder_that_may_not_be_written_is_read(
    tmp_path: Path, left: Callable[[Path], None]
) -> None:
    left(tmp_path)
    # Root may write everywhere, but not without this right.
    without_rights = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    tmp_path.chmod(0o500)
    try:
        read = subprocess.run(
            [*without_rights, sys.executable, "-c", _COUNT, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        tmp_path.chmod(0o700)
    assert (read.stdout, read.stderr, read.returncode) == (f"{CELLS}\n", "", 0)


# What is no file.


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make", [pipe, unix_socket, to_a_device, Path.mkdir])
def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], ending: str
) -> None:
    if ending:
        fill(tmp_path)
    path = tmp_path / f"{FILE_NAME}{ending}"
    make(path)
    said = r"is (a pipe|a socket|a device|a folder), and a file is needed"
    with pytest.raises(StoreError, match=said), Store(tmp_path):
        pass
    with pytest.raises(StoreError, match=said), open_reader(tmp_path):
        pass
    with pytest.raises(StoreError, match=said), open_writer(tmp_path, 1.0):
        pass
    with pytest.raises(StoreError, match=said):
        back_up(tmp_path, tmp_path / "copy")


@pytest.mark.parametrize("make", [pipe, unix_socket, to_a_device, Path.mkdir])
@pytest.mark.parametrize("of", ["lock", "folder"])
def test_a_lock_or_folder_that_is_none_is_refused(
    tmp_path: Path, make: Callable[[Path], None], of: str
) -> None:
    folder = tmp_path / "state"
    if of == "lock":
        folder.mkdir()
        make(folder / "lock")
    elif make is not Path.mkdir:
        make(folder)
    else:
        folder.write_text("")
    with pytest.raises(StoreError) as caught, Store(folder):
        pass
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
