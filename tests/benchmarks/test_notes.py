"""What is said above the figures: that which decides how to read them, and nothing that does not hold."""

import math
from dataclasses import replace

import pytest

from benchmarks.notes import notes
from benchmarks.results import Estimate, Report
from train.evaluate import Interval

from .sample_report import sample_report

PC, PI = sample_report(), sample_report(on_pi=True)
ONLY_ACCURACY = replace(PC, latency=(), layers=(), noise=(), throughput=(), peers=())


def said(report: Report) -> str:
    return " ".join(notes(report))


def with_features(*features: str) -> Report:
    return replace(PC, machine=replace(PC.machine, features=features))


def test_a_ratio_from_an_x86_processor_is_not_to_be_carried_to_a_pi() -> None:
    first = notes(PC)[0]
    assert first.startswith("Do not carry the ratio of int8 to float from here to a Raspberry Pi")
    assert "46 ms in float and 17 ms in int8: 2.7 times" in first
    assert "The table has no Pi 5 and no Zero 2 W" in first
    assert first.endswith("run this command on the Pi.")


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (
            ("avx2", "fma"),
            "no instructions made for int8 (no VNNI, no AMX), and AVX2 alone gives int8 no speed",
        ),
        (("avx2", "avx512_vnni"), "has instructions made for int8 (VNNI)"),
        (("avx_vnni",), "has instructions made for int8 (VNNI)"),
        (("avx512_vnni", "amx_int8"), "has instructions made for int8 (AMX and VNNI)"),
    ],
)
def test_what_this_processor_has_for_int8_is_said(features: tuple[str, ...], text: str) -> None:
    assert text in notes(with_features(*features))[0]


def test_a_pi_is_told_nothing_about_x86() -> None:
    assert "Do not carry" not in said(PI)
    assert "no dot-product instructions" in notes(PI)[0]
    newer = replace(PI, machine=replace(PI.machine, features=("asimd", "asimddp"), processor="Cortex-A76"))
    assert "dot-product" not in said(newer)


def test_another_machine_says_nothing_of_a_pi_either() -> None:
    server = replace(PC, machine=replace(PC.machine, architecture="aarch64", processor="Neoverse-N1"))
    assert "They say nothing of a Raspberry Pi" in notes(server)[0]
    assert "They say nothing of a Raspberry Pi" in notes(replace(ONLY_ACCURACY, throughput=PC.throughput))[0]


def test_accuracy_alone_needs_no_word_on_processors() -> None:
    assert "Raspberry Pi" not in said(ONLY_ACCURACY)
    assert "times" not in said(ONLY_ACCURACY)


def test_a_disturbed_and_a_throttled_run_are_said_with_what_was_seen() -> None:
    disturbed = sample_report(on_pi=True, disturbed=True)
    assert "Other processes took 0.43 of 2 cores on average." in said(disturbed)
    assert "The firmware has slowed this machine down" in said(disturbed)
    assert "disturbed" not in said(PI)
    assert "slowed" not in said(PI)


def test_intervals_and_copies_are_explained_where_there_are_some() -> None:
    assert "cover the choice of these images only" in said(PC)
    assert "copies are no new cells" in said(PC)
    one_each = replace(PC, accuracy=tuple(row for row in PC.accuracy if row.evaluation.name == "pbc"))
    assert "copies are no new cells" not in said(one_each)
    without = replace(PC, accuracy=())
    assert "images" not in said(without)
    assert "cover this run only" in said(without)


def test_a_share_without_an_interval_is_explained_where_there_is_one() -> None:
    row = PC.accuracy[0]

    def with_recall(recall: Interval) -> Report:
        files = replace(row.evaluation.files, accuracy=Interval(0.9, 0.8, 1), recall={"monocyte": recall})
        evaluation = replace(row.evaluation, files=files)
        return replace(ONLY_ACCURACY, accuracy=(replace(row, evaluation=evaluation, comparison=None),))

    assert "up to 3 / n of the opposite" in said(with_recall(Interval(1, 1, 1)))
    assert "of the opposite" not in said(with_recall(Interval(0.9, 0.7, 1)))
    assert "of the opposite" not in said(with_recall(Interval(math.nan, math.nan, math.nan)))
    compared = next(one.comparison for one in PC.accuracy if one.comparison is not None)
    wide = with_recall(Interval(0.9, 0.7, 1))
    alike = replace(wide.accuracy[0], comparison=replace(compared, agreement=Estimate(1, 1, 1)))
    assert "of the opposite" in said(replace(wide, accuracy=(alike,)))


@pytest.mark.parametrize("report", [PC, PI, ONLY_ACCURACY])
def test_every_report_says_what_it_is_for(report: Report) -> None:
    assert notes(report)[-1] == "For research and teaching; not a medical device."
