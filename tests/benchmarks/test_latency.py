"""Contenders timed side by side: each in turn, each to the end whatever becomes of the others."""

import dataclasses
import errno
import os
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import latency, worker
from benchmarks.contenders import Contender
from benchmarks.latency import ROUNDS, answers, reference_of, time_contenders, with_rates
from benchmarks.results import Variant
from benchmarks.worker import Worker
from hematovision.classifier import default_model_path
from hematovision.errors import HematoVisionError, SettingError, StoreError
from hematovision.runtime import available_runtimes
from tests.benchmarks.impostor import install_impostor

pytestmark = pytest.mark.skipif("litert" not in available_runtimes(), reason="LiteRT is not installed")

REFERENCE = Contender("hematovision", "int8", "litert", True, 1, str(default_model_path()))
CROPS = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)


def processes_here() -> set[str]:
    """The children of this process."""
    return {
        pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    }


@pytest.fixture(autouse=True)
def no_process_is_left_over() -> object:
    before = processes_here()
    yield
    assert processes_here() <= before


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def impostors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, invoking: str) -> list[Contender]:
    """Contenders that differ in threads, which the text in ``invoking`` knows as ``self.threads``."""
    first = install_impostor(tmp_path / "impostor", monkeypatch, "self.threads = num_threads", invoking)
    return [dataclasses.replace(first, threads=threads) for threads in range(1, count + 1)]


# --- what comes out ---


def test_each_is_timed_as_often_as_asked_and_the_reference_against_itself() -> None:
    others = [dataclasses.replace(REFERENCE, xnnpack=False), dataclasses.replace(REFERENCE, threads=2)]
    said: list[str] = []
    rows, failures = time_contenders([*others, REFERENCE], CROPS, asked=45, limit_s=60, say=said.append)
    assert failures == []
    assert [(row.xnnpack, row.threads) for row in rows] == [(False, 1), (True, 2), (True, 1)]
    for row in rows:
        assert (row.model, row.variant, row.runtime) == ("hematovision", "int8", "litert")
        assert (row.asked, row.invocations, row.turns) == (45, 45, ROUNDS)
        assert 0 <= row.disturbed_turns <= row.turns
        assert row.min_ms == row.quantiles_ms[0] <= row.p50_ms.value <= row.p90_ms.value <= row.p99_ms.value
        assert row.p99_ms.value <= row.quantiles_ms[100]
        assert len(row.quantiles_ms) == 101
        assert row.mean_ms.low <= row.mean_ms.value <= row.mean_ms.high
        assert row.ratio is not None
        assert row.ratio.value > 0
        assert row.load_ms > 0
        assert 0 < row.runtime_mib < row.peak_mib
    assert rows[2].ratio is not None
    assert (rows[2].ratio.value, rows[2].ratio.low, rows[2].ratio.high) == (1, 1, 1)
    assert any("round 20 of 20" in line for line in said)


def test_one_invocation_is_one_turn_without_intervals() -> None:
    ((row,), failures) = time_contenders([REFERENCE], CROPS, asked=1)
    assert failures == []
    assert (row.invocations, row.turns) == (1, 1)
    assert np.isnan(row.p50_ms.low)


def test_too_little_time_for_what_was_asked_is_told_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slow,) = impostors(tmp_path, monkeypatch, 1, "time.sleep(0.01)")
    rows, failures = time_contenders([REFERENCE, slow], CROPS, asked=60, limit_s=0.2)
    assert failures == []
    assert rows[1].asked == 60
    assert 1 <= rows[1].invocations <= 21


def test_a_turn_that_something_held_up_is_made_up_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second goes by in one turn; the others have the rest of the ten."""
    (held,) = impostors(tmp_path, monkeypatch, 1, "self.calls == 10 and time.sleep(0.6)")
    (row,), _ = time_contenders([held], CROPS, asked=200, limit_s=10)
    assert row.invocations == 200
    assert row.turns == ROUNDS


def test_every_crop_is_shown_in_turn(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = f"open({str(log)!r}, 'a').write(f'{{self.tensors[0][0, 0, 0, 0]}} ')"
    (contender,) = impostors(tmp_path, monkeypatch, 1, writing)
    crops = np.zeros((4, 128, 128, 3), np.uint8)
    crops[:] = np.array([0, 1, 2, 3], np.uint8)[:, None, None, None]
    time_contenders([contender], crops, asked=20)
    shown = [int(text) + 128 for text in log.read_text().split()]
    assert shown == [number % 4 for number in range(len(shown))]


# --- how they take turns ---


def test_each_has_one_turn_a_round_in_an_order_drawn_anew(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contenders = impostors(tmp_path, monkeypatch, 3, f"open({str(log)!r}, 'a').write(str(self.threads))")
    rows, _ = time_contenders(contenders, CROPS, asked=100)
    calls = log.read_text()
    assert calls[:3] == "123"  # each is loaded and run once
    turns = [(name, len(list(run))) for name, run in groupby(calls[3:])]
    # Where a round ends with who begins the next, two turns look like one.
    whole = latency._UNTIMED + 5
    order = "".join(name * (length // whole) for name, length in turns)
    assert all(length % whole == 0 for _, length in turns)
    rounds = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert len(rounds) == ROUNDS
    assert all(sorted(one) == ["1", "2", "3"] for one in rounds)
    assert len(set(rounds)) > 2
    assert [row.invocations for row in rows] == [100, 100, 100]


def test_what_does_not_fit_into_memory_together_runs_in_groups_each_with_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latency, "available_memory_mib", lambda: 1.0)
    others = [dataclasses.replace(REFERENCE, xnnpack=xnnpack, threads=2) for xnnpack in (True, False)]
    said: list[str] = []
    rows, failures = time_contenders([REFERENCE, *others], CROPS, asked=5, say=said.append)
    assert failures == []
    assert sum(f"loading {REFERENCE}" in line for line in said) == 2
    assert not any("timing 3" in line for line in said)
    assert [row.invocations for row in rows] == [5, 5, 5]
    assert all(row.ratio is not None for row in rows)


def test_models_of_several_sizes_are_shown_crops_of_their_own(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(REFERENCE, model="other")
    both = {"hematovision": CROPS, "other": CROPS[:, :64, :64]}
    rows, failures = time_contenders([REFERENCE, other], both, asked=5)
    assert [row.model for row in rows] == ["hematovision"]
    assert r"(1, 64, 64, 3)" in failures[0].why


# --- what goes wrong ---


def test_one_that_is_killed_in_mid_run_says_so_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying, whole = impostors(
        tmp_path, monkeypatch, 2, "self.threads == 1 and self.calls == 40 and os.kill(os.getpid(), 11)"
    )
    rows, (failure,) = time_contenders([REFERENCE, dying, whole], CROPS, asked=100)
    assert [row.invocations for row in rows if row.runtime == "litert" or row.threads == 2] == [100, 100]
    assert failure.failed
    assert failure.section == "latency"
    assert failure.what == str(dying)
    (half_way,) = [row for row in rows if row.runtime != "litert" and row.threads == 1]
    assert 0 < half_way.invocations < 40
    assert f"SIGSEGV (after {half_way.invocations} timed invocations, which are reported)" in failure.why


def test_one_that_cannot_be_loaded_says_so_and_the_rest_goes_on(tmp_path: Path) -> None:
    missing = dataclasses.replace(REFERENCE, variant="float32", path=str(tmp_path / "missing.tflite"))
    rows, (failure,) = time_contenders([missing, REFERENCE], CROPS, asked=5)
    assert [row.variant for row in rows] == ["int8"]
    assert failure.failed
    assert "missing.tflite: cannot be read" in failure.why


def test_one_that_hangs_is_given_up_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SILENCE_S", 5.0)
    (hanging,) = impostors(tmp_path, monkeypatch, 1, "self.calls == 20 and time.sleep(1000)")
    rows, (failure,) = time_contenders([REFERENCE, hanging], CROPS, asked=40, limit_s=1)
    assert rows[0].invocations == 40
    assert "gave no answer in" in failure.why


def test_without_its_reference_a_run_has_times_but_no_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "available_memory_mib", lambda: 1.0)
    missing = dataclasses.replace(REFERENCE, path=str(tmp_path / "missing.tflite"))
    others = [dataclasses.replace(REFERENCE, threads=2), dataclasses.replace(REFERENCE, xnnpack=False)]
    rows, failures = time_contenders([missing, *others], CROPS, asked=5)
    assert [row.invocations for row in rows] == [5, 5]
    assert all(row.ratio is None for row in rows)
    assert [one.what for one in failures] == [str(missing)]


def test_a_reference_that_fails_at_its_first_turn_does_not_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise HematoVisionError("no")

    monkeypatch.setattr(Worker, "time", fail)
    rows, failures = time_contenders([REFERENCE], CROPS, asked=5)
    assert rows == []
    assert [one.why for one in failures] == ["no"]


def test_where_nothing_is_the_reference_there_are_no_ratios() -> None:
    ((row,), _) = time_contenders([dataclasses.replace(REFERENCE, xnnpack=False)], CROPS, asked=2)
    assert row.ratio is None


def test_nothing_to_time_is_timed_at_once() -> None:
    assert time_contenders([], CROPS) == ([], [])


@pytest.mark.parametrize(("asked", "limit_s"), [(0, 1.0), (-5, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_an_amount_of_timing_that_is_none_is_refused(asked: int, limit_s: float) -> None:
    with pytest.raises(SettingError, match=r"invocations; at least 1|give seconds above 0"):
        time_contenders([REFERENCE], CROPS, asked, limit_s)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError("147456 requested and 4016 written"), "147456 requested and 4016 written"),  # NumPy's own
    ],
)
def test_a_full_disk_is_told_with_what_to_do(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StoreError, match=rf"cannot be written \({said}\).*TMPDIR"):
        time_contenders([REFERENCE], CROPS)


def test_ctrl_c_ends_every_process() -> None:
    def interrupt(text: str) -> None:
        if "round 3" in text:
            assert len(processes_here()) >= 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_contenders([REFERENCE, dataclasses.replace(REFERENCE, threads=2)], CROPS, say=interrupt)


# --- beside the times ---


def test_the_reference_is_the_first_int8_on_litert_with_xnnpack_and_one_thread() -> None:
    def one(variant: str, runtime: str = "litert", xnnpack: bool = True, threads: int = 1) -> Contender:
        return Contender("m", variant, runtime, xnnpack, threads, "x")

    floats = [one("float32"), one("int8", threads=2), one("int8", xnnpack=False), one("int8", "tensorflow")]
    assert reference_of([*floats, one("int8")]) == one("int8")
    assert reference_of(floats) == one("float32")
    assert reference_of(floats[1:]) is None


def test_answers_come_from_a_process_of_its_own() -> None:
    logits: NDArray[np.float32] = answers(REFERENCE, CROPS)
    assert logits.shape == (3, 4)
    assert logits.dtype == np.float32


def test_the_rate_is_operations_by_median_time() -> None:
    ((row,), _) = time_contenders([REFERENCE], CROPS, asked=3)
    known = Variant("hematovision", "int8", "x.tflite", "0", 1, 128, 1, 200_000_000)
    (rated,) = with_rates([row], [known])
    assert rated.gop_per_s == pytest.approx(0.2 / (row.p50_ms.value / 1000))
    assert dataclasses.replace(rated, gop_per_s=None) == row
    assert with_rates([row], [dataclasses.replace(known, operations=None)]) == [row]
    assert with_rates([row], []) == [row]
