"""What changed between two reports, A and B: of two models or programs, or of two machines."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from benchmarks.change import (
    Verdict,
    change_text,
    difference,
    judge_exact,
    judge_time,
    paired_difference,
    relative_change,
    same_cells,
)
from benchmarks.report_tables import reference_of, runtime_of
from benchmarks.results import Accuracy, Estimate, Latency, Machine, Peer, Report
from hematovision.errors import SettingError
from train.evaluate import Interval

_Row = TypeVar("_Row")


_FLOAT = "float32"


@dataclass(frozen=True)
class Limits:
    """How much worse B may be than A; None: no matter how much.

    ``slower``, ``memory`` and ``size`` in per cent, ``accuracy_lost`` in percentage points.
    """

    slower: float | None = None
    accuracy_lost: float | None = None
    memory: float | None = None
    size: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 <= value < math.inf:
                raise SettingError(f"{option(field.name)} {value:g}: give a number from 0 on")


@dataclass(frozen=True)
class Change:
    """One figure of one row in both reports.

    ``change``: in per cent of A's where its `Measure` is relative, otherwise B's less A's. ``verdict``: None
    where no limit is held against it; ``why``: it is undecided.
    """

    row: str
    a: Estimate
    b: Estimate
    change: Estimate
    verdict: Verdict | None = None
    why: str = ""


@dataclass(frozen=True)
class Measure:
    """One figure of all rows that both reports have. ``unit``: of its changes."""

    title: str
    unit: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Difference:
    """``said``: what must be known about the two, in sentences; ``only``: rows that only one of them has.

    ``past``: what is past a limit; ``undecided``: where a limit cannot be held against them, and why.
    """

    said: tuple[str, ...]
    measures: tuple[Measure, ...]
    only: tuple[str, ...]
    past: tuple[str, ...]
    undecided: tuple[str, ...]


def option(limit: str) -> str:
    """The command's option for a field of `Limits`."""
    return f"--max-{limit.replace('_', '-')}"


def compare(a: Report, b: Report, limits: Limits) -> Difference:
    """Compare two reports, and hold limits against what is worse in B.

    Times are held by their medians where both were measured on the same machine, and otherwise by the ratio
    to the reference contender of their own run, the reference's by its ratio to float32: `judge_time`. Of a
    run that was disturbed they are not held at all. Accuracy is held on the cells that both measured: the
    difference is what these answers are, not a draw, so its interval, which is about other cells, decides
    nothing. Memory and size are held as they are. What failed in B and not in A is past any limit; what only
    A has leaves a limit undecided.

    Raises:
        SettingError: a report has two rows of the same name.
    """
    several = max(len(_models(a)), len(_models(b))) > 1
    rows_a, rows_b = _Rows(a, "A", several), _Rows(b, "B", several)
    by_ratio = _hardware(a.machine) != _hardware(b.machine)
    disturbed = [letter for letter, report in (("A", a), ("B", b)) if report.machine.disturbed]
    slower_limit = None if disturbed else limits.slower

    latency = rows_a.latency, rows_b.latency
    slower = [
        _relative("p50, ms", *latency, lambda row: row.p50_ms, None if by_ratio else slower_limit, judge_time)
    ]
    if rows_a.reference == rows_b.reference:
        beside_a, beside_b = (
            {name: row for name, row in rows.items() if name != rows_a.reference} for rows in latency
        )
        title = f"p50 over that of {rows_a.reference}"
        limit = slower_limit if by_ratio else None
        slower.append(_relative(title, beside_a, beside_b, lambda row: row.ratio, limit, judge_time))
        if by_ratio and rows_a.reference and rows_a.latency[rows_a.reference].variant != _FLOAT:
            slower.append(_of_reference(rows_a, rows_b, limit))
    memory = _relative("Peak memory, MiB", *latency, lambda row: _exact(row.peak_mib), limits.memory)
    size = _relative(
        "File, KiB",
        rows_a.variants,
        rows_b.variants,
        lambda row: _exact(row.file_bytes / 1024),
        limits.size,
    )
    accuracy = _accuracy(rows_a.accuracy, rows_b.accuracy, limits.accuracy_lost)
    held = {"slower": slower, "accuracy_lost": [accuracy], "memory": [memory], "size": [size]}
    pairs: dict[str, tuple[Mapping[str, object], Mapping[str, object]]] = {
        "size": (rows_a.variants, rows_b.variants),
        "accuracy_lost": (rows_a.accuracy, rows_b.accuracy),
    }
    undecided = []
    for limit_name, held_against in held.items():
        if getattr(limits, limit_name) is None:
            continue
        if limit_name == "slower" and disturbed:
            reasons = [f"{' and '.join(disturbed)} disturbed; measure again on a quiet machine"]
        else:
            reasons = _undecided(held_against)
        reasons += _gone(*pairs.get(limit_name, latency))
        undecided += [f"{option(limit_name)}: {why}" for why in reasons]
    measures = [*slower, memory, size, accuracy, *_shown_only(rows_a, rows_b)]
    past = [
        f"{measure.title}: {change.row}: {change_text(change.change, measure.unit)}"
        for measure in measures
        for change in measure.changes
        if change.verdict is Verdict.PAST
    ]
    if limits != Limits():
        past += _newly_failed(a, b)
    return Difference(
        said=tuple(_said(a, b, rows_a, rows_b, by_ratio and slower_limit is not None)),
        measures=tuple(measure for measure in measures if measure.changes),
        only=tuple(rows_a.beyond(rows_b) + rows_b.beyond(rows_a)),
        past=tuple(past),
        undecided=tuple(undecided),
    )


class _Rows:
    """The rows of a report by names that both reports share. ``reference``: name of that of the ratios."""

    def __init__(self, report: Report, letter: str, several_models: bool) -> None:
        def named(model: str, name: str) -> str:
            return f"{model} {name}" if several_models else name

        def contender(row: Latency) -> str:
            return f"{named(row.model, row.variant)} on {runtime_of(row)}{_threads(row.threads)}"

        self.letter = letter
        reference = reference_of(report.latency)
        self.reference = None if reference is None else contender(reference)
        self.latency = self._by("latency", ((contender(row), row) for row in report.latency))
        self.variants = self._by("variants", ((named(row.model, row.name), row) for row in report.variants))
        self.accuracy = self._by(
            "accuracy",
            ((f"{named(row.model, row.variant)} on {row.evaluation.name}", row) for row in report.accuracy),
        )
        self.throughput = self._by(
            "throughput", ((f"{row.source}, {row.cells_per_frame} a frame", row) for row in report.throughput)
        )
        self.peers = self._by(
            "peers", ((named(row.model, row.name) + _threads(row.threads), row) for row in report.peers)
        )

    def _by(self, section: str, rows: Iterable[tuple[str, _Row]]) -> dict[str, _Row]:
        found: dict[str, _Row] = {}
        for name, row in rows:
            if name in found:
                raise SettingError(f"{self.letter} has {name} twice under {section}; measure it again")
            found[name] = row
        return found

    def beyond(self, other: "_Rows") -> list[str]:
        """Rows that the other has not."""
        sections: list[tuple[str, Mapping[str, object], Mapping[str, object]]] = [
            ("variants", self.variants, other.variants),
            ("latency", self.latency, other.latency),
            ("accuracy", self.accuracy, other.accuracy),
            ("throughput", self.throughput, other.throughput),
            ("peers", self.peers, other.peers),
        ]
        return [
            f"only in {self.letter}: {section}: {name}"
            for section, ours, theirs in sections
            for name in ours
            if name not in theirs
        ]


def _threads(count: int) -> str:
    return "" if count == 1 else f", {count} threads"


def _relative(
    title: str,
    a: Mapping[str, _Row],
    b: Mapping[str, _Row],
    figure: Callable[[_Row], Estimate | None],
    limit: float | None = None,
    judge: Callable[[Estimate, float], Verdict] = judge_exact,
) -> Measure:
    """A figure above 0, such as a time, of the rows that both have."""
    changes = []
    for name, before, after in _both(a, b, figure):
        change = relative_change(before, after)
        verdict = None if limit is None else judge(change, limit)
        why = _why_undecided(change) if verdict is Verdict.UNDECIDED else ""
        changes.append(Change(name, before, after, change, verdict, why))
    return Measure(title, "%", tuple(changes))


def _why_undecided(change: Estimate) -> str:
    if not math.isfinite(change.value):
        return "has no figure in one of them"
    if not math.isfinite(change.low):
        return "has no interval in one of them; measure more turns"
    return f"{change_text(change, '%')} is too uncertain; measure longer, or allow more"


def _points(
    title: str, a: Mapping[str, _Row], b: Mapping[str, _Row], figure: Callable[[_Row], Estimate | None]
) -> Measure:
    """A share, in per cent, of the rows that both have; without intervals, since the cells are the same."""
    changes = (
        Change(name, before, after, _exact(after.value - before.value))
        for name, before, after in _both(a, b, figure)
    )
    return Measure(title, "points", tuple(changes))


def _accuracy(a: Mapping[str, Accuracy], b: Mapping[str, Accuracy], limit: float | None) -> Measure:
    changes = []
    for name in a:
        if name not in b:
            continue
        before, after = (_percent(rows[name].evaluation.files.accuracy) for rows in (a, b))
        paired = same_cells(a[name], b[name])
        change = _percent(paired_difference(a[name], b[name])) if paired else difference(before, after)
        verdict = None
        if limit is not None:
            verdict = judge_exact(_exact(-change.value), limit) if paired else Verdict.UNDECIDED
        why = "" if paired else "is not of the same cells in both"
        changes.append(Change(name, before, after, change, verdict, why))
    return Measure("Accuracy, %", "points", tuple(changes))


def _shown_only(a: _Rows, b: _Rows) -> list[Measure]:
    """What no limit is held against."""

    def agreement(row: Accuracy) -> Estimate | None:
        return None if row.comparison is None else _percent(row.comparison.agreement)

    def peer_time(row: Peer) -> Estimate | None:
        return None if row.latency is None else row.latency.p50_ms

    frames = a.throughput, b.throughput
    peers = a.peers, b.peers
    return [
        _points("Same class as the reference, %", a.accuracy, b.accuracy, agreement),
        _relative("Frames a second", *frames, lambda row: _exact(row.frames_per_s)),
        _relative("Cells a minute", *frames, lambda row: _exact(row.cells_per_min)),
        _relative("Peers: p50, ms", *peers, peer_time),
        _points("Peers: same class as ours, %", *peers, lambda row: _exact(100 * row.agreement)),
    ]


def _both(
    a: Mapping[str, _Row], b: Mapping[str, _Row], figure: Callable[[_Row], Estimate | None]
) -> Iterable[tuple[str, Estimate, Estimate]]:
    for name in a:
        if name in b:
            before, after = figure(a[name]), figure(b[name])
            if before is not None and after is not None:
                yield name, before, after


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def _percent(share: Estimate | Interval) -> Estimate:
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def _undecided(measures: Sequence[Measure]) -> list[str]:
    changes = [change for measure in measures for change in measure.changes if change.verdict is not None]
    if not changes:
        return ["the two have nothing in common to hold it against"]
    return [f"{change.row}: {change.why}" for change in changes if change.verdict is Verdict.UNDECIDED]


def _gone(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """Why a limit is undecided where B lacks rows of A: it may be just these that are past it."""
    gone = [name for name in a if name not in b]
    return [f"{len(gone)} rows are only in A, such as {gone[0]}; measure the same in B"] if gone else []


def _of_reference(a: _Rows, b: _Rows, limit: float | None) -> Measure:
    """The reference's time over float32's, which is the only way to see a change of its own by ratios."""

    def over_float(rows: _Rows) -> Estimate:
        alike = dataclasses.replace(rows.latency[str(rows.reference)], variant=_FLOAT)
        for row in rows.latency.values():
            if _contender(row) == _contender(alike) and row.ratio is not None and row.ratio.low > 0:
                return Estimate(1 / row.ratio.value, 1 / row.ratio.high, 1 / row.ratio.low)
        return _exact(math.nan)

    name = str(a.reference)
    rows = {name: over_float(a)}, {name: over_float(b)}
    return _relative(
        "p50 over that of float32, alike in the rest", *rows, lambda value: value, limit, judge_time
    )


def _contender(row: Latency) -> tuple[object, ...]:
    return row.model, row.variant, row.runtime, row.xnnpack, row.threads


def _newly_failed(a: Report, b: Report) -> list[str]:
    failed_before = {(one.section, one.what) for one in a.unmeasured if one.failed}
    return [
        f"failed in B, not in A: {one.section}: {one.what}: {one.why}"
        for one in b.unmeasured
        if one.failed and (one.section, one.what) not in failed_before
    ]


def _models(report: Report) -> set[str]:
    sections = (report.variants, report.latency, report.accuracy, report.peers)
    return {row.model for rows in sections for row in rows}


def _hardware(machine: Machine) -> tuple[object, ...]:
    return machine.board, machine.processor, machine.cores, machine.architecture, machine.features


def _said(a: Report, b: Report, rows_a: _Rows, rows_b: _Rows, by_ratio: bool) -> Iterable[str]:
    if (a.started, a.seconds, a.machine) == (b.started, b.seconds, b.machine):
        yield "A and B are the same run: there is nothing to compare."
    if _hardware(a.machine) != _hardware(b.machine):
        names = [report.machine.board or report.machine.processor for report in (a, b)]
        yield (
            f"Two machines: A on {names[0]}, B on {names[1]}, by processor, cores or instructions. Times are "
            "the machines'; a ratio of int8 to float does not carry from one processor to another either."
        )
    if by_ratio:
        said = "holds on the ratios to each run's own reference, since the machines differ."
        yield f"{option('slower')} {said}"
    if rows_a.reference != rows_b.reference and rows_a.reference and rows_b.reference:
        yield (
            f"Ratios are not compared: they are to {rows_a.reference} in A and to {rows_b.reference} in B."
        )
    for letter, report in (("A", a), ("B", b)):
        if report.machine.disturbed:
            yield f"{letter} was disturbed: {' '.join(report.machine.disturbed)}"
    if a.hematovision != b.hematovision:
        yield f"hematovision {a.hematovision} in A, {b.hematovision} in B."
    before, after = a.machine.versions, b.machine.versions
    changed = [
        f"{name} {before[name]} in A, {after[name]} in B"
        for name in before
        if name in after and before[name] != after[name]
    ]
    if changed:
        yield f"Other versions: {'; '.join(changed)}."
    if _models(a) != _models(b):
        yield f"Other models: {', '.join(sorted(_models(a)))} in A, {', '.join(sorted(_models(b)))} in B."
    files = [
        name
        for name, row in rows_a.variants.items()
        if name in rows_b.variants and row.sha256 != rows_b.variants[name].sha256
    ]
    if files:
        yield f"Other files of {', '.join(files)}: other weights, or converted otherwise."
    others = [
        name
        for name, row in rows_a.accuracy.items()
        if name in rows_b.accuracy and not same_cells(row, rows_b.accuracy[name])
    ]
    if others:
        yield f"Other cells: {', '.join(others)}. These accuracies are not compared cell by cell."
    wrong = [
        name
        for name, row in rows_b.peers.items()
        if name in rows_a.peers and rows_a.peers[name].right and not row.right
    ]
    if wrong:
        yield f"Right in A, wrong in B: {', '.join(wrong)}."
