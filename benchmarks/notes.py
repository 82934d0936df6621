"""What a reader of a report must know to read its figures, in plain sentences; shown above the figures."""

from benchmarks.results import Accuracy, Estimate, Machine, Report
from train.evaluate import Interval

#: Of x86 processors: instructions that multiply and add int8 in one step.
_INT8_INSTRUCTIONS = {"avx_vnni": "VNNI", "avx_vnni_int8": "VNNI", "avx512_vnni": "VNNI", "amx_int8": "AMX"}
#: The same of Arm processors: a Pi 5's Cortex-A76 has it, a Pi 4's A72 and a Zero 2 W's A53 do not.
_ARM_DOT_PRODUCT = "asimddp"
_X86 = ("x86", "i686", "AMD64")


def notes(report: Report) -> list[str]:
    """The notes that hold for this report, the weightiest first."""
    return [*(_of_machine(report) if _is_timed(report) else ()), *_of_figures(report)]


def _is_timed(report: Report) -> bool:
    return bool(report.latency or report.layers or report.throughput or report.peers)


def _compares_int8(report: Report) -> bool:
    variants = {row.variant for row in report.latency} | {row.variant for row in report.layers}
    variants |= {peer.latency.variant for peer in report.peers if peer.latency is not None}
    return any("int8" in name for name in variants) and any("int8" not in name for name in variants)


def _of_machine(report: Report) -> list[str]:
    machine, sentences = report.machine, []
    on_pi = machine.board is not None and "Raspberry Pi" in machine.board
    if machine.architecture.startswith(_X86) and _compares_int8(report):
        sentences.append(_x86_note(machine))
    elif not on_pi:
        sentences.append(
            "These times are this machine's. They say nothing of a Raspberry Pi: run the same command there."
        )
    elif _ARM_DOT_PRODUCT not in machine.features and _compares_int8(report):
        sentences.append(
            f"This processor ({machine.processor}) has no dot-product instructions: int8 gains by moving and "
            "multiplying smaller numbers. What int8 gains here does not carry to a processor that has them."
        )
    if any(state.throttled for state in (machine.before, machine.after)):
        sentences.append(
            "The firmware has slowed this machine down, so these times are not what it can do: mend the "
            "supply or the cooling, start it again, and measure again."
        )
    if machine.disturbed:
        sentences.append(
            "This run was disturbed: "
            + " ".join(machine.disturbed)
            + " Do not trust times or ratios: what takes longer is interrupted more often. Measure again on "
            "a quiet machine."
        )
    return sentences


def _x86_note(machine: Machine) -> str:
    found = sorted({word for flag, word in _INT8_INSTRUCTIONS.items() if flag in machine.features})
    if found:
        here = f"This processor has instructions made for int8 ({' and '.join(found)})"
        there = "has none of the kind, and still"
    else:
        here = (
            "This processor has no instructions made for int8 (no VNNI, no AMX), and AVX2 alone gives int8 "
            "no speed over float"
        )
        there = "has none either, and still"
    return (
        "Do not carry the ratio of int8 to float from here to a Raspberry Pi: the processor's instructions "
        f"decide it. {here}. A Pi 4 (Cortex-A72) {there} XNNPACK's own table, on several threads, has "
        "MobileNetV2 1.0 on it at 46 ms in float and 17 ms in int8: 2.7 times faster. The table has no Pi 5 "
        "and no Zero 2 W, and nothing is claimed for them here. To know, run this command on the Pi."
    )


def _of_figures(report: Report) -> list[str]:
    sentences = []
    if _is_timed(report):
        sentences.append(
            "Intervals of times (95 %) cover this run only: another day, another kernel or another board of "
            "the same kind may differ by more."
        )
    if report.accuracy:
        sentences.append(
            "Intervals of accuracy (95 %, from resampling originals) cover the choice of these images only, "
            "and accuracy is that on these data sets: on another laboratory's stain and microscope it may be "
            "much lower."
        )
        if any(row.evaluation.files.count != row.evaluation.originals.count for row in report.accuracy):
            sentences.append(
                "Where a data set holds several copies of one original, accuracy counts files, but the "
                "intervals and McNemar's test count originals: copies are no new cells."
            )
        if any(_has_no_width(row) for row in report.accuracy):
            sentences.append(
                "A share without an interval is one that resampling cannot move: all originals came out "
                "alike. That still leaves room for a rate of up to 3 / n of the opposite, n being the "
                "originals (for a recall, those of the class)."  # Hanley and Lippman-Hand, JAMA 249 (1983)
            )
    sentences.append("For research and teaching; not a medical device.")
    return sentences


def _has_no_width(row: Accuracy) -> bool:
    shares: list[Estimate | Interval] = [
        row.evaluation.files.accuracy,
        *row.evaluation.files.recall.values(),
    ]
    if row.comparison is not None:
        shares.append(row.comparison.agreement)
    return any(share.low == share.high for share in shares)
