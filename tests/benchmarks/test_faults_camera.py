"""The proofs of the camera under the device: small runs that pass, and that each can fail."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.faults.hour import (
    AGE_LIMIT_S,
    GROWTH_LIMIT_MB,
    LongRun,
    Sample,
    measure_hour,
    plot_samples,
    write_samples,
)
from benchmarks.faults.stalls import Fault, Stalls, measure_stalls
from hematovision.classifier import Classifier, default_model_path
from hematovision.cli import root
from hematovision.errors import CameraError, HematoVisionError
from hematovision.model_file import read_model_file

SAMPLE = Sample(
    minute=0.0,
    memory_mb=200.0,
    threads=40,
    state="running",
    frame_age_s=0.05,
    frames=1,
    frames_per_second=20.0,
    dropped=0,
    lost=0,
    cells=10,
    stored=10,
    not_stored=0,
    answer_s=0.01,
    database_mb=1.0,
    log_mb=0.5,
    watched=False,
)
MINUTES = [replace(SAMPLE, minute=float(minute)) for minute in range(61)]


@pytest.fixture(scope="module")
def stalls() -> Iterator[Stalls]:
    classifier = Classifier(read_model_file(default_model_path()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.faults.stalls._FRAMES_BETWEEN", (10, 20))
        yield measure_stalls(classifier, 80, faults=(Fault.ERROR, Fault.BUSY_ONCE))


def test_a_camera_that_stalls_is_recovered_and_every_cell_is_counted_and_stored_once(stalls: Stalls) -> None:
    assert stalls.frames >= 80
    assert {stall.fault for stall in stalls.stalls} == {Fault.ERROR, Fault.BUSY_ONCE}
    assert all(stall.recovered_s is not None for stall in stalls.stalls)
    assert stalls.score.shown > 0
    assert (stalls.score.missed, stalls.score.twice, stalls.score.nothing) == (0, 0, 0)
    assert stalls.stored == stalls.score.counted
    assert stalls.threads_left == 0
    assert stalls.error is None


def test_what_is_late_missed_counted_twice_or_not_stored_is_no_pass(stalls: Stalls) -> None:
    in_time = replace(stalls, stalls=tuple(replace(stall, recovered_s=1.0) for stall in stalls.stalls))
    assert in_time.passed
    score = stalls.score
    for wrong in (
        replace(in_time, stalls=(replace(stalls.stalls[0], recovered_s=5.1),)),
        replace(in_time, stalls=(replace(stalls.stalls[0], recovered_s=None),)),
        replace(in_time, score=replace(score, missed=1)),
        replace(in_time, score=replace(score, twice=1)),
        replace(in_time, stored=score.counted - 1),
        replace(in_time, threads_left=1),
        replace(in_time, error="given up"),
    ):
        assert not wrong.passed


def test_only_what_is_black_may_take_longer_because_it_is_borne_with() -> None:
    assert {fault.limit_s for fault in Fault if fault is not Fault.BLACK} == {5.0}
    assert Fault.BLACK.limit_s == 15.0


def test_a_camera_that_is_never_recovered_ends_the_proof_with_its_reason_and_status_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.faults.stalls._FRAMES_BETWEEN", (1, 2))
    monkeypatch.setattr("edge.supervisor.Supervisor._wait", lambda *_: None)
    monkeypatch.setattr("benchmarks.faults.stalls._Stalling._connect", _refuse)
    done = CliRunner().invoke(root, ["bench", "faults", "stalls", "--frames", "10"])
    assert done.exit_code == 1
    assert "Ended early: given up after 5 failures in a row, the last: does not open" in done.output


def _refuse(_: object) -> None:
    raise CameraError("does not open")


def test_a_run_is_watched_from_its_start_to_its_end(tmp_path: Path) -> None:
    told: list[Sample] = []
    run = measure_hour(0.1, tmp_path, told.append)
    assert run.exit_status == 0
    assert list(run.samples) == told
    first, last = run.samples[0], run.samples[-1]
    assert 0 <= first.minute < last.minute < 0.1
    assert first.frames < last.frames
    assert last.memory_mb > 50
    assert run.on_disk >= last.stored
    assert (tmp_path / "store" / "log").read_text()

    write_samples(run.samples, tmp_path / "samples.csv")
    with (tmp_path / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(run.samples)
    assert int(rows[-1]["frames"]) == last.frames
    plot_samples(run.samples, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_ends_by_itself_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.faults.hour.CAMERA", f"folder:{tmp_path}/none")
    with pytest.raises(HematoVisionError, match=r"(?s)does not start:.*no such folder"):
        measure_hour(1, tmp_path)


def test_growth_is_of_the_end_against_when_it_had_settled() -> None:
    rising = [replace(one, memory_mb=100 + min(one.minute, 10) * 50 + one.minute) for one in MINUTES]
    assert LongRun(tuple(rising), 10, 1, 1.0, 0).growth_mb == pytest.approx(44)  # minutes 10 to 16, 54 to 60


def test_a_good_run_has_no_complaint_and_every_fault_has_one() -> None:
    good = LongRun(tuple(MINUTES), 10, 1, 1.0, 0)
    assert good.complaints == []
    *others, last = MINUTES
    grown = [replace(one, memory_mb=200 + GROWTH_LIMIT_MB / 40 * one.minute) for one in MINUTES]
    for wrong, complaint in (
        (replace(good, samples=tuple(grown)), "memory grows: more than 20 MB"),
        (replace(good, samples=(*others, replace(last, frame_age_s=AGE_LIMIT_S + 1))), "frames are old"),
        (
            replace(good, samples=(*others, replace(last, state="stalled"))),
            "not running all the time: stalled",
        ),
        (replace(good, samples=(*others, replace(last, not_stored=3))), "3 cells could not be stored"),
        (replace(good, on_disk=9), "of 10 cells reported as stored 9 are there"),
        (replace(good, pictures=0), "the viewer was sent no picture"),
        (replace(good, exit_status=75), "it ended with status 75"),
        (replace(good, stop_s=6.0), "it took 6.0 s to stop"),
    ):
        (said,) = wrong.complaints
        assert complaint in said


def test_an_hour_is_not_written_over_another(tmp_path: Path) -> None:
    done = CliRunner().invoke(root, ["bench", "faults", "hour", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "is there already; name a new folder" in done.output
