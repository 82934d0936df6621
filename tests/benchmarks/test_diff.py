"""Two reports compared: what changed, what is past a limit, what cannot be told."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.change import Verdict, difference
from benchmarks.diff import Limits, Measure, compare
from benchmarks.report import to_json
from benchmarks.results import Estimate, Latency, Report, Unmeasured
from hematovision.cli import root
from hematovision.errors import SettingError

from .sample_report import around, sample_report


def shortened(report: Report) -> Report:
    """What suffices here, and is written and read in less time."""
    return replace(
        report,
        layers=(),
        noise=(),
        accuracy=tuple(
            row
            for row in report.accuracy
            if row.evaluation.name == "pbc" and row.variant in ("keras", "int8")
        ),
    )


A = shortened(sample_report())
LATER = replace(A, started="2026-11-24T18:00:00+00:00", seconds=400.0)
PI = shortened(sample_report(on_pi=True))
INT8 = next(row for row in A.latency if row.variant == "int8" and row.ratio is not None)


def with_latency(change: Callable[[Latency], Latency], report: Report = LATER) -> Report:
    """The report with every row of latency but the reference changed."""
    rows = [change(row) if row.ratio != Estimate(1, 1, 1) else row for row in report.latency]
    return replace(report, latency=tuple(rows))


def slower(percent: float, interval: float = 0.008) -> Report:
    def change(row: Latency) -> Latency:
        assert row.ratio is not None
        factor = 1 + percent / 100
        return replace(
            row,
            p50_ms=around(factor * row.p50_ms.value, interval),
            ratio=around(factor * row.ratio.value, interval),
        )

    return with_latency(change)


def with_less_accuracy(lost: int) -> Report:
    """The report with so many files of the int8 variant wrong that were right, of 400."""
    rows = []
    for row in A.accuracy:
        if row.variant == "int8":
            pairs = list(row.right_per_original)
            for place in [place for place, (right, _) in enumerate(pairs) if right][:lost]:
                pairs[place] = (0, 1)
            row = replace(row, right_per_original=tuple(pairs))
        rows.append(row)
    return replace(LATER, accuracy=tuple(rows))


def measure(found: tuple[Measure, ...], title: str) -> Measure:
    (one,) = [one for one in found if one.title.startswith(title)]
    return one


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def diff(a: Report | str, b: Report | str, *options: str) -> Result:
        paths = []
        for name, report in (("a.json", a), ("b.json", b)):
            path = tmp_path / name
            path.write_text(json.dumps(to_json(report)) if isinstance(report, Report) else report)
            paths.append(str(path))
        return CliRunner().invoke(root, ["bench", "diff", *paths, *options])

    return diff


def test_two_runs_that_are_alike_keep_every_limit(run: Callable[..., Result]) -> None:
    options = "--max-slower", "5", "--max-accuracy-lost", "0", "--max-memory", "0", "--max-size", "0"
    result = run(A, LATER, *options)
    assert result.exit_code == 0, result.output
    assert "All within the limits" in result.stdout


def test_one_and_the_same_run_is_said(run: Callable[..., Result]) -> None:
    assert "A and B are the same run" in run(A, A).stdout
    assert "the same run" not in run(A, LATER).stdout


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_between_two_runs_is_not_past_a_limit(seed: int) -> None:
    again = replace(shortened(sample_report(seed=seed)), started=LATER.started)
    found = compare(A, again, Limits(slower=3))
    assert not found.past
    assert not found.undecided


def test_a_slower_variant_is_past_the_limit(run: Callable[..., Result]) -> None:
    result = run(A, slower(12), "--max-slower", "10")
    assert result.exit_code == 1
    assert "past the limit: p50, ms: int8 on litert: +12." in result.stdout
    assert run(A, slower(12), "--max-slower", "20").exit_code == 0


def test_a_limit_is_not_kept_by_a_run_too_short_to_tell(run: Callable[..., Result]) -> None:
    result = run(A, slower(0, interval=0.3), "--max-slower", "10")
    assert result.exit_code == 2
    assert "undecided: --max-slower: int8 on litert: " in result.stdout
    assert "measure longer, or allow more" in result.stdout


def test_a_time_without_an_interval_decides_nothing() -> None:
    unknown = with_latency(lambda row: replace(row, p50_ms=Estimate(row.p50_ms.value, math.nan, math.nan)))
    found = compare(A, unknown, Limits(slower=10))
    assert not found.past
    assert "int8 on litert: has no interval in one of them" in " ".join(found.undecided)


def test_memory_past_the_limit(run: Callable[..., Result]) -> None:
    more = with_latency(lambda row: replace(row, peak_mib=1.05 * row.peak_mib))
    assert run(A, more, "--max-memory", "4").exit_code == 1
    assert run(A, more, "--max-memory", "6").exit_code == 0


def test_size_past_the_limit(run: Callable[..., Result]) -> None:
    larger = replace(LATER, variants=tuple(replace(row, file_bytes=row.file_bytes + 1) for row in A.variants))
    result = run(A, larger, "--max-size", "0")
    assert result.exit_code == 1
    assert "past the limit: File, KiB: keras" in result.stdout


def test_accuracy_lost_past_the_limit(run: Callable[..., Result]) -> None:
    lost = with_less_accuracy(4)  # of 400: one point
    assert run(A, lost, "--max-accuracy-lost", "1").exit_code == 0
    result = run(A, lost, "--max-accuracy-lost", "0.9")
    assert result.exit_code == 1
    assert "past the limit: Accuracy, %: int8 on pbc: −1.0 points (" in result.stdout
    assert run(lost, A, "--max-accuracy-lost", "0").exit_code == 0  # better is no loss


def test_accuracy_on_other_cells_is_shown_and_decides_nothing(run: Callable[..., Result]) -> None:
    other = replace(LATER, accuracy=tuple(replace(row, cells_sha256="a" * 64) for row in A.accuracy))
    found = compare(A, other, Limits(accuracy_lost=5))
    assert "int8 on pbc: is not of the same cells in both" in " ".join(found.undecided)
    assert any(sentence.startswith("Other cells: keras on pbc") for sentence in found.said)
    change = measure(found.measures, "Accuracy").changes[0]
    assert change.change.low < change.change.value < change.change.high
    assert run(A, other, "--max-accuracy-lost", "5").exit_code == 2


def test_accuracy_on_the_same_cells_is_compared_in_pairs() -> None:
    found = measure(compare(A, with_less_accuracy(4), Limits()).measures, "Accuracy")
    (change,) = [one for one in found.changes if one.row == "int8 on pbc"]
    unpaired = difference(change.a, change.b)
    assert change.change.value == pytest.approx(-1)
    assert change.change.high - change.change.low < (unpaired.high - unpaired.low) / 2


def test_rows_of_only_one_report_are_listed(run: Callable[..., Result]) -> None:
    fewer = replace(LATER, latency=LATER.latency[:3], peers=())
    result = run(A, fewer)
    assert result.exit_code == 0
    assert "only in A: latency: int8 on litert, 2 threads" in result.stdout
    assert "only in A: peers: OpenCV dnn" in result.stdout
    assert "only in B: latency: int8 on litert, 2 threads" in run(fewer, A).stdout


@pytest.mark.parametrize("option", ["--max-slower", "--max-memory", "--max-accuracy-lost", "--max-size"])
def test_a_limit_without_anything_to_hold_it_against_is_an_error(
    run: Callable[..., Result], option: str
) -> None:
    only_throughput = replace(LATER, variants=(), latency=(), accuracy=(), layers=(), noise=(), peers=())
    result = run(A, only_throughput, option, "50")
    assert result.exit_code == 2
    assert f"undecided: {option}: the two have nothing in common" in result.stdout


def test_what_fails_newly_is_past_any_limit(run: Callable[..., Result]) -> None:
    failed = Unmeasured("latency", "int8 on litert", "the process ended", failed=True)
    worse = replace(LATER, unmeasured=(*A.unmeasured, failed))
    result = run(A, worse, "--max-size", "0")
    assert result.exit_code == 1
    assert "failed in B, not in A: latency: int8 on litert: the process ended" in result.stdout
    assert run(worse, replace(worse, started="x"), "--max-size", "0").exit_code == 0
    assert run(A, worse).exit_code == 0  # without a limit it only shows


def test_between_two_machines_the_limit_holds_on_ratios(run: Callable[..., Result]) -> None:
    found = compare(A, PI, Limits(slower=50))
    assert not found.past, "times are ten times longer, ratios to float32 are lower"
    times, ratios = measure(found.measures, "p50, ms"), measure(found.measures, "p50 over that of float32")
    assert {change.verdict for change in times.changes} == {None}
    assert {change.verdict for change in ratios.changes} == {Verdict.KEPT}
    assert "float32 on litert" not in [change.row for change in ratios.changes], "it is 1 by definition"
    result = run(PI, A, "--max-slower", "50")
    assert result.exit_code == 1
    assert "past the limit: p50 over that of float32 on litert: int8 on litert: +18" in result.stdout
    assert "--max-slower holds on the ratios to each run's own reference, since the machines differ" in (
        result.stdout
    )


def to_int8(report: Report) -> Report:
    """The same with ratios to int8, as real reports have them."""
    (int8,) = [row for row in report.latency if _contender(row) == _contender(INT8)]

    def over(row: Latency) -> Latency:
        assert row.ratio is not None
        assert int8.ratio is not None
        ratio = Estimate(1, 1, 1) if row is int8 else around(row.ratio.value / int8.ratio.value)
        return replace(row, ratio=ratio)

    return replace(report, latency=tuple(map(over, report.latency)))


def _contender(row: Latency) -> tuple[object, ...]:
    return row.variant, row.runtime, row.xnnpack, row.threads


def test_between_two_machines_the_reference_itself_is_held_against_float() -> None:
    before = to_int8(A)
    alike = compare(before, replace(before, machine=PI.machine), Limits(slower=10))
    assert (alike.past, alike.undecided) == ((), ())

    def int8_twice_as_slow(row: Latency) -> Latency:
        assert row.ratio is not None
        return row if row.ratio.value == 1 else replace(row, ratio=around(row.ratio.value / 2))

    after = replace(before, machine=PI.machine, latency=tuple(map(int8_twice_as_slow, before.latency)))
    (past,) = compare(before, after, Limits(slower=10)).past
    assert "int8 on litert: +100" in past


def test_time_of_a_disturbed_run_is_held_against_no_limit(run: Callable[..., Result]) -> None:
    times_only = with_latency(lambda row: replace(row, p50_ms=around(2 * row.p50_ms.value)))
    assert compare(A, times_only, Limits(slower=10)).past
    machine = replace(A.machine, disturbed=("Other processes took 1.2 of 2 cores on average.",))
    disturbed = replace(times_only, machine=machine)
    found = compare(A, disturbed, Limits(slower=10))
    assert not found.past
    assert "B was disturbed: Other processes took 1.2 of 2 cores on average." in found.said
    result = run(A, disturbed, "--max-slower", "10")
    assert result.exit_code == 2
    assert "undecided: --max-slower: B disturbed; measure again on a quiet machine" in result.stdout


def test_what_the_later_report_lacks_may_be_just_what_is_past_the_limit(run: Callable[..., Result]) -> None:
    (*others, missing) = LATER.accuracy
    result = run(A, replace(LATER, accuracy=tuple(others)), "--max-accuracy-lost", "1")
    assert result.exit_code == 2
    name = f"{missing.variant} on {missing.evaluation.name}"
    assert f"undecided: --max-accuracy-lost: 1 rows are only in A, such as {name}" in result.stdout


def test_ratios_to_other_contenders_are_not_compared(run: Callable[..., Result]) -> None:
    def to_int8(row: Latency) -> Latency:
        assert row.ratio is not None
        assert INT8.ratio is not None
        ratio = Estimate(1, 1, 1) if row == INT8 else around(row.ratio.value / INT8.ratio.value)
        return replace(row, ratio=ratio)

    other = replace(PI, latency=tuple(map(to_int8, A.latency)))
    result = run(A, other, "--max-slower", "50")
    assert "Ratios are not compared: they are to float32 on litert in A and to int8 on litert in B" in (
        result.stdout
    )
    assert result.exit_code == 2


def test_other_versions_models_and_files_are_said() -> None:
    machine = replace(A.machine, versions={**A.machine.versions, "ai-edge-litert": "2.3.0"})
    variants = tuple(replace(row, sha256="e" * 64) if row.name == "int8" else row for row in A.variants)
    said = " ".join(
        compare(A, replace(LATER, machine=machine, variants=variants, hematovision="0.6.0"), Limits()).said
    )
    assert "hematovision 0.5.0 in A, 0.6.0 in B." in said
    assert "ai-edge-litert 1.4.0 in A, 2.3.0 in B" in said
    assert "Other files of int8: " in said
    assert "Two machines" not in said


def test_one_model_is_compared_with_one_of_another_name() -> None:
    renamed = replace(
        LATER,
        variants=tuple(replace(row, model="retrained") for row in A.variants),
        latency=tuple(replace(row, model="retrained") for row in A.latency),
        accuracy=tuple(replace(row, model="retrained") for row in A.accuracy),
        peers=tuple(replace(row, model="retrained") for row in A.peers),
    )
    found = compare(A, renamed, Limits())
    assert not found.only
    assert "Other models: hematovision in A, retrained in B." in found.said


def test_several_models_are_told_apart_by_name() -> None:
    two = replace(LATER, variants=(*A.variants, *(replace(row, model="small") for row in A.variants)))
    found = compare(A, two, Limits())
    assert "only in B: variants: small int8" in found.only
    assert "hematovision int8" in [change.row for change in measure(found.measures, "File").changes]


def test_a_row_that_is_there_twice_is_an_error(run: Callable[..., Result]) -> None:
    result = run(A, replace(LATER, latency=(*A.latency, A.latency[3])))
    assert result.exit_code == 2
    assert "B has float32 on litert without XNNPACK twice under latency" in result.stderr


def test_a_peer_that_answers_wrongly_now_is_said() -> None:
    wrong = tuple(replace(row, right=False, latency=None) for row in A.peers)
    found = compare(A, replace(LATER, peers=wrong), Limits())
    assert any(sentence.startswith("Right in A, wrong in B: LiteRT float32") for sentence in found.said)
    assert not [one for one in found.measures if one.title == "Peers: p50, ms"]


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
@pytest.mark.parametrize("option", ["--max-slower", "--max-memory", "--max-accuracy-lost", "--max-size"])
def test_a_limit_that_is_none_is_refused(run: Callable[..., Result], option: str, value: str) -> None:
    result = run(A, LATER, option, value)
    assert result.exit_code == 2
    assert f"{option} {value}: give a number from 0 on" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not JSON", "not JSON, or cut short"),
        ('{"format_version": 2}', "update hematovision"),
        ('{"format_version": 1}', "is a required property"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_no_report_ends_with_2_and_names_the_file(
    run: Callable[..., Result], text: str, said: str, first: bool
) -> None:
    result = run(text, A) if first else run(A, text)
    assert result.exit_code == 2
    assert ("a.json" if first else "b.json") in result.stderr
    assert said in result.stderr


def test_a_missing_file_ends_with_2(tmp_path: Path) -> None:
    result: Any = CliRunner().invoke(
        root, ["bench", "diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    )
    assert result.exit_code == 2
    assert "a.json: cannot be read" in result.stderr


def test_reports_without_a_common_row_are_listed_whole(run: Callable[..., Result]) -> None:
    empty = replace(LATER, variants=(), latency=(), accuracy=(), throughput=(), peers=())
    result = run(A, empty)
    assert result.exit_code == 0
    assert "only in A: throughput: drawn, 10 a frame" in result.stdout


def test_limits_are_given_in_the_words_of_the_options() -> None:
    with pytest.raises(SettingError, match="--max-accuracy-lost -3: give a number from 0 on"):
        Limits(accuracy_lost=-3)
