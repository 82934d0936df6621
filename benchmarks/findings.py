"""What a report says of int8 in short: what it buys and what it costs, without a verdict."""

from benchmarks.change import change_text
from benchmarks.report_tables import device_choice
from benchmarks.results import Accuracy, Estimate, Latency, Report
from benchmarks.text_table import estimate, number

_FLOAT, _QUANTISED = "float32", "int8"


def findings(report: Report) -> list[str]:
    """Of each model a sentence on int8's speed and size, and one on its accuracy for each data set."""
    sentences = []
    for model in dict.fromkeys(variant.model for variant in report.variants):
        sentences += [*_speed(report, model), *_size(report, model)]
        sentences += [
            _accuracy(report, row)
            for row in report.accuracy
            if (row.model, row.variant) == (model, _QUANTISED) and row.comparison is not None
        ]
    return sentences


def _speed(report: Report, model: str) -> list[str]:
    rows = {row.variant: row for row in device_choice(report) if row.model == model}
    if not {_FLOAT, _QUANTISED} <= rows.keys():
        return []
    float_row, int8_row = rows[_FLOAT], rows[_QUANTISED]
    ratio = _float_over_int8(float_row, int8_row)
    if ratio is None or (float_row.runtime, float_row.threads) != (int8_row.runtime, int8_row.threads):
        return []
    return [
        f"{model}: {_FLOAT} takes {estimate(ratio)} times as long as {_QUANTISED} on {int8_row.runtime} "
        f"here: {number(float_row.p50_ms.value)} against {number(int8_row.p50_ms.value)} ms a crop."
    ]


def _float_over_int8(float_row: Latency, int8_row: Latency) -> Estimate | None:
    """With an interval where ratios are to one of the two, as they are unless --variant left them out."""
    if float_row.ratio is None or int8_row.ratio is None:
        return None
    if int8_row.ratio.low == int8_row.ratio.high == 1:
        return float_row.ratio
    if float_row.ratio.low == float_row.ratio.high == 1:
        ratio = int8_row.ratio
        return Estimate(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
    return None


def _size(report: Report, model: str) -> list[str]:
    size = {row.name: row.file_bytes for row in report.variants if row.model == model}
    if not {_FLOAT, _QUANTISED} <= size.keys():
        return []
    return [f"{model}: {_QUANTISED} has {100 * size[_QUANTISED] / size[_FLOAT]:.0f} % of {_FLOAT}'s size."]


def _accuracy(report: Report, row: Accuracy) -> str:
    comparison, name = row.comparison, row.evaluation.name
    assert comparison is not None
    lost = comparison.accuracy_difference
    change = change_text(Estimate(100 * lost.value, 100 * lost.low, 100 * lost.high), "points")
    (reference,) = (
        other.evaluation.files
        for other in report.accuracy
        if (other.model, other.evaluation.name, other.variant) == (row.model, name, comparison.reference)
    )
    balanced = 100 * (row.evaluation.files.balanced_accuracy.value - reference.balanced_accuracy.value)
    return (
        f"{row.model}: on {name} {_QUANTISED}'s accuracy is {change} from {comparison.reference}'s, balanced "
        f"over the classes {change_text(Estimate(balanced, balanced, balanced), 'points')}; "
        f"McNemar's p {number(comparison.mcnemar_p, 2)}."
    )
