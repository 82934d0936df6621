"""What a report says in short: int8 against float, from the report's own figures."""

from dataclasses import replace

import pytest

from benchmarks.findings import findings
from benchmarks.results import Estimate, Latency
from tests.benchmarks.sample_report import sample_report

REPORT = sample_report()
ONE = Estimate(1, 1, 1)


def said(about: str, **changed: object) -> list[str]:
    return [sentence for sentence in findings(replace(REPORT, **changed)) if about in sentence]  # type: ignore[arg-type]


def timed(variant: str, ms: float, ratio: Estimate | None) -> Latency:
    row = next(row for row in REPORT.latency if (row.variant, row.runtime) == ("int8", "litert"))
    return replace(
        row, variant=variant, xnnpack=True, threads=1, ratio=ratio, p50_ms=Estimate(ms, ms - 0.1, ms + 0.1)
    )


@pytest.mark.parametrize(
    ("float_ratio", "int8_ratio"),
    [(Estimate(2, 1.6, 2.5), ONE), (ONE, Estimate(0.5, 0.4, 0.625))],
    ids=["int8 is the reference", "float32 is the reference"],
)
def test_how_much_longer_float_takes_whichever_ratios_are_to(
    float_ratio: Estimate, int8_ratio: Estimate
) -> None:
    rows = (timed("float32", 3.0, float_ratio), timed("int8", 1.5, int8_ratio))
    (sentence,) = said("times as long", latency=rows)
    assert "float32 takes 2.00 (1.60–2.50) times as long as int8" in sentence
    assert "3.00 against 1.50 ms" in sentence


def test_times_that_no_ratio_connects_are_not_compared() -> None:
    rows = (timed("float32", 3.0, None), timed("int8", 1.5, None))
    assert said("times as long", latency=rows) == []


def test_what_int8_loses_is_said_for_each_data_set_with_its_interval_and_over_the_classes() -> None:
    lost = Estimate(-0.0372, -0.064, -0.013)
    rows = tuple(
        replace(row, comparison=replace(row.comparison, accuracy_difference=lost, mcnemar_p=0.0074))
        if row.comparison is not None
        else row
        for row in REPORT.accuracy
    )
    sentences = said("accuracy", accuracy=rows)
    assert len(sentences) == len({row.evaluation.name for row in rows})
    for sentence in sentences:
        assert "−3.7 points (−6.4 to −1.3) from keras's" in sentence
        assert "p 0.0074" in sentence


def test_without_the_float_network_nothing_is_said_of_what_int8_costs() -> None:
    rows = tuple(replace(row, comparison=None) for row in REPORT.accuracy)
    assert said("accuracy", accuracy=rows) == []
