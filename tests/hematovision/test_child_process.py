"""Work in a process of its own: its result comes whole, and whatever it does, the parent goes on."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hematovision.child_process import Limits, run_in_child, stream_from_child
from hematovision.errors import ChildEnding, ChildError

MODULE = "tests.hematovision.child_work"
LIMITS = Limits(wall_s=60, cpu_s=30, memory_bytes=200_000_000, output_bytes=10_000_000)


@pytest.fixture(autouse=True)
def checkout_is_found(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(repository)])


def ending_of(data: bytes, limits: Limits = LIMITS) -> ChildError:
    with pytest.raises(ChildError) as caught:
        run_in_child(MODULE, data, limits)
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
def test_bytes_go_in_and_come_out(size: int) -> None:
    data = os.urandom(size)
    assert run_in_child(MODULE, b"echo " + data, LIMITS) == data


def test_what_a_library_prints_is_no_part_of_the_result() -> None:
    assert run_in_child(MODULE, b"print", LIMITS) == b"result"


def test_whoever_takes_too_long_is_ended() -> None:
    assert ending_of(b"sleep", replace(LIMITS, wall_s=1)).ending == ChildEnding.TIMED_OUT


def test_whoever_computes_too_long_is_ended_by_the_kernel() -> None:
    assert ending_of(b"spin", replace(LIMITS, cpu_s=1)).ending == ChildEnding.TIMED_OUT


def test_memory_is_limited_beside_what_the_imports_took() -> None:
    assert run_in_child(MODULE, b"memory 150000000", LIMITS) == b"\0"
    assert ending_of(b"memory 250000000").ending == ChildEnding.OUT_OF_MEMORY


def test_the_result_is_limited() -> None:
    assert ending_of(b"endless").ending == ChildEnding.TOO_MUCH_OUTPUT


def test_whatever_is_no_longer_wanted_is_ended() -> None:
    asked = iter([True, True])
    with pytest.raises(ChildError) as caught:
        run_in_child(MODULE, b"sleep", LIMITS, lambda: next(asked, False))
    assert caught.value.ending == ChildEnding.UNWANTED


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_tells_its_signal(number: int) -> None:
    error = ending_of(b"signal %d" % number)
    assert (error.ending, error.signal, error.status) == (ChildEnding.KILLED, number, None)
    assert f"was killed (signal {number}" in str(error)


def test_a_failure_tells_its_status_and_what_was_said() -> None:
    error = ending_of(b"fail because of this")
    assert (error.ending, error.signal, error.status) == (ChildEnding.FAILED, None, 1)
    assert error.stderr.endswith("ValueError: because of this\n")
    assert str(error) == f"{MODULE} failed (status 1, ValueError: because of this)"


def test_a_module_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(ChildError, match="No module named") as caught:
        run_in_child("hematovision.no_such_module", bytes(1_000_000), LIMITS)
    assert caught.value.ending == ChildEnding.FAILED


def test_noise_holds_nobody_up() -> None:
    assert run_in_child(MODULE, b"noise", LIMITS) == b"loud"


def test_no_descriptor_is_inherited() -> None:
    with Path(os.devnull).open() as kept:
        os.set_inheritable(kept.fileno(), True)
        # Its three, what the result goes to, and the folder that is listed.
        assert run_in_child(MODULE, b"descriptors", LIMITS) == b"0,1,2,3,4"


def test_it_finds_what_its_parent_finds_and_nothing_by_the_folder_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = run_in_child(MODULE, b"environment", LIMITS).decode()
    assert said == repr((1, [place for place in sys.path if place], "/"))


def test_pieces_come_as_they_are_made_and_closing_ends_the_child() -> None:
    pieces = stream_from_child(MODULE, b"pid", LIMITS)
    child = int(next(pieces))
    os.kill(child, 0)
    pieces.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
