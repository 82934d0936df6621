"""Killing the device: nothing reported is lost, and the proof would notice if it were."""

import sqlite3
from pathlib import Path

import pytest

from benchmarks.faults import kill
from benchmarks.faults.kill import measure_kills


def test_what_was_reported_as_stored_is_there_after_a_kill(tmp_path: Path) -> None:
    result = measure_kills(tmp_path, times=3)
    assert result.passed, result
    assert result.kept >= result.reported > 0


def test_cells_that_are_missing_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = kill._look_into

    def lose_all(path: Path) -> tuple[bool, set[tuple[int, ...]]]:
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM cells")
        connection.close()
        return look(path)

    monkeypatch.setattr(kill, "_look_into", lose_all)
    result = measure_kills(tmp_path, times=1, seed=1)
    assert result.missing == result.reported > 0
    assert not result.passed
