"""The proofs of the store, small, and that each can fail."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.faults import store_gone
from benchmarks.faults.clock import clock, measure_clock
from benchmarks.faults.disk_trace import SECTOR, Change, DiskTrace, Left, read_trace, sectors
from benchmarks.faults.full_disk import full_disk
from benchmarks.faults.mounts import may_mount
from benchmarks.faults.plug import measure_plug, plug
from benchmarks.faults.read_only import Worn, read_only
from benchmarks.faults.store_gone import measure_store_gone
from hematovision.errors import MissingPartError

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@needs_strace
def test_every_cell_reported_as_stored_survives_a_pulled_plug() -> None:
    result = CliRunner().invoke(plug, ["--points", "15", "--cells", "120"])
    assert result.exit_code == 0, result.output
    assert "Plug pulled at 15 random moments and at each report, " in result.output
    assert "0 failures" in result.output


@needs_strace
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_store_that_syncs_too_little_is_found_out(synchronous: str) -> None:
    result = measure_plug(points=10, cells=60, synchronous=synchronous)
    assert not result.passed
    assert any("not there" in line for line in result.failures)


@pytest.mark.skipif(not may_mount(), reason="needs root, to mount a small disk")
def test_a_full_disk_costs_no_cell_that_was_reported_as_stored() -> None:
    result = CliRunner().invoke(full_disk, ["--times", "3"])
    assert result.exit_code == 0, result.output
    assert "Disk full 3 times: said 3 times, written again 3 times." in result.output


def test_no_clock_deletes_a_session_that_is_not_due() -> None:
    result = CliRunner().invoke(clock, ["--starts", "25"])
    assert result.exit_code == 0, result.output
    assert "0 of them wrongly; 0 that were due are still there." in result.output


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("edge.store.housekeeping.NOTICE_S", 0.0, "it was not announced for a day"),
        ("edge.store.housekeeping.Housekeeper._is_steady", lambda *_: True, "days before"),
        (
            "edge.store.housekeeping._MAY_GO",
            "SELECT id, ended_by FROM sessions WHERE ended_at IS NOT NULL ORDER BY id LIMIT ? + 1000",
            "its corrections were nowhere else",
        ),
    ],
)
def test_housekeeping_that_trusts_too_much_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, why: str
) -> None:
    monkeypatch.setattr(name, value)
    result = measure_clock(tmp_path, 20)
    assert not result.passed
    assert any(why in line for line in result.wrong)


def test_a_file_that_goes_away_costs_no_cell_that_was_reported_as_stored(tmp_path: Path) -> None:
    ways = [way for way in store_gone.WAYS if way.name in ("its folder removed", "another file in its place")]
    results = measure_store_gone(tmp_path, ways)
    assert len(results) == 2
    assert all(one.passed for one in results), results


def test_cells_that_went_with_the_file_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gone, "_cells", lambda path: 1)
    [result] = measure_store_gone(tmp_path, store_gone.WAYS[:1])
    assert not result.passed
    assert result.found == 1 < result.reported


@pytest.mark.skipif(not may_mount() or os.geteuid() != 0, reason="needs root, to mount a disk")
def test_what_is_on_a_card_that_became_read_only_is_read() -> None:
    result = CliRunner().invoke(read_only, [])
    if isinstance(result.exception, MissingPartError):
        pytest.skip(str(result.exception))
    assert result.exit_code == 0, result.output
    assert "0 failures" in result.output


def test_a_card_of_which_a_cell_cannot_be_read_fails() -> None:
    passed = Worn(0.2, 10, 5, 10, {"as it was": 10}, ())
    assert passed.passed
    for change in (
        {"noticed_s": None},
        {"pages": 9},
        {"left": {"as it was": 9}},
        {"reported": 0},
        {"failures": ("/ was answered with 500",)},
    ):
        assert not replace(passed, **change).passed


# What the rebuilding takes for possible.


def written(byte: str) -> str:
    """Two sectors of a byte, as strace shows them."""
    text = rf"\x{byte}" * 2 * SECTOR
    return f'3, "{text}", {2 * SECTOR}, 0'


def traced() -> DiskTrace:
    """A file of two sectors of 1 is made and synced, by name too; then one of 2 is written over the first."""
    trace = DiskTrace()
    trace.see("file", "openat", "O_CREAT", 0, 0)
    trace.see("file", "pwrite64", written("01"), 1, 1)
    trace.see("file", "fsync", "", 2, 3)
    trace.see("", "fsync", "", 4, 5)
    trace.see("file", "pwrite64", written("02"), 6, 6)
    trace.see("file", "ftruncate", f"3, {3 * SECTOR}", 7, 7)
    trace.moments = 7
    return trace


def found(tmp_path: Path, moment: int, left: Left, seed: int = 0) -> bytes | None:
    """The first byte of each sector of the file as it was found; None where it was not."""
    traced().rebuild(tmp_path / "rebuilt", moment, left, np.random.default_rng(seed))
    path = tmp_path / "rebuilt" / "file"
    return path.read_bytes()[::SECTOR] if path.exists() else None


def test_a_file_whose_name_was_not_synced_is_not_there(tmp_path: Path) -> None:
    assert [found(tmp_path, moment, Left.NOTHING) for moment in range(5)] == [None] * 5


def test_what_was_not_synced_is_lost(tmp_path: Path) -> None:
    assert found(tmp_path, 5, Left.NOTHING) == b"\1\1"
    assert found(tmp_path, 7, Left.NOTHING) == b"\1\1"


def test_a_sync_holds_only_when_it_has_come_back(tmp_path: Path) -> None:
    trace = traced()
    trace.see("file", "fsync", "", 8, 10)
    for moment, content in ((9, b"\1\1"), (10, b"\2\2\0")):
        trace.rebuild(tmp_path / "rebuilt", moment, Left.NOTHING, np.random.default_rng(0))
        assert (tmp_path / "rebuilt" / "file").read_bytes()[::SECTOR] == content


def test_any_of_the_other_writes_may_have_reached_the_disk(tmp_path: Path) -> None:
    seen = {found(tmp_path, 7, Left.SOME_WRITES, seed) for seed in range(50)}
    assert seen == {b"\1\1", b"\2\2", b"\1\1\0", b"\2\2\0"}


def test_any_sector_of_the_other_writes_may_have_reached_the_disk(tmp_path: Path) -> None:
    seen = {found(tmp_path, 6, Left.SOME_SECTORS, seed) for seed in range(50)}
    assert seen == {b"\1\1", b"\2\1", b"\1\2", b"\2\2"}


def test_a_name_that_is_taken_away_is_followed_on_every_processor(tmp_path: Path) -> None:
    def shown(path: Path) -> str:
        return "".join(f"\\x{byte:02x}" for byte in bytes(path))

    path = tmp_path / "store" / "file-journal"
    made = rf'openat(AT_FDCWD<\x2f>, "{shown(path)}", O_RDWR|O_CREAT, 0600) = 3<{shown(path)}>'
    for removed in (
        rf'unlink("{shown(path)}") = 0',
        rf'unlinkat(AT_FDCWD<\x2f>, "{shown(path)}", 0) = 0',
    ):
        (tmp_path / "log").write_text(f"17 {made}\n17 {removed}\n")
        trace = read_trace(tmp_path / "log", path.parent, tmp_path / "report")
        kept = set()
        for seed in range(20):
            trace.rebuild(tmp_path / "rebuilt", 1, Left.SOME_WRITES, np.random.default_rng(seed))
            kept.add((tmp_path / "rebuilt" / path.name).exists())
            trace.rebuild(tmp_path / "rebuilt", 0, Left.NOTHING, np.random.default_rng(seed))
            assert not (tmp_path / "rebuilt" / path.name).exists()
        assert kept == {True, False}


def test_a_write_is_torn_at_the_disks_sectors() -> None:
    pieces = sectors(Change(0, 0, SECTOR - 100, bytes(SECTOR + 200)))
    assert [(piece.offset, len(piece.data or b"")) for piece in pieces] == [
        (SECTOR - 100, 100),
        (SECTOR, SECTOR),
        (2 * SECTOR, 100),
    ]
