"""What `run` has seen so far, as a table and a summary for people."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from edge.cameras import Frame, LostFrame
from edge.differential import Differential, Share, beyond_reference, classifier_error, unfamiliar
from edge.field_watch import PLAIN_SMEAR
from edge.misclassification import MIN_ORIGINALS, Misclassification
from edge.pipeline import SeenFrame
from edge.tracker import TrackedCell
from hematovision.cell_classes import CELL_CLASSES, REFERENCE_SOURCE, UNCLASSIFIED, CellClass
from hematovision.images import shown_path
from hematovision.model_file import Manifest


@dataclass(frozen=True)
class TargetReached:
    """When there were cells enough: the frame that brought the last, and seconds since the first frame."""

    frame: Frame
    after_s: float


class Tally:
    """The cells counted, and when there were enough of them.

    ``target``: so many cells given a class, one of `edge.differential.TARGETS`, or None; ``target_reached``:
    None before. It is met exactly: what is confirmed beyond it is not counted, and ``surplus`` says how many
    cells that were.
    """

    def __init__(self, manifest: Manifest, target: int | None = None) -> None:
        self.differential = Differential()
        self.looked_at = 0
        self.lost = 0
        self.target = target
        self.target_reached: TargetReached | None = None
        self.surplus = 0
        self._first: Frame | None = None
        self._condition = PLAIN_SMEAR
        self._accuracy = manifest.accuracy
        self._error_note = classifier_error(manifest.accuracy)
        self._misclassification = Misclassification.of(manifest.accuracy)

    def add(self, result: SeenFrame | LostFrame) -> tuple[TrackedCell, ...]:
        """Count what is new with a frame, as far as the target asks for it; return the cells counted."""
        if isinstance(result, LostFrame):
            self.lost += 1
            return ()
        self._first = self._first or result.frame
        self._condition = result.condition
        if result.skipped is None:
            self.looked_at += 1
        counted = result.counted[: self._wanted(result.counted)]
        self.surplus += len(result.counted) - len(counted)
        self.differential = self.differential.plus(cell.class_name for cell in counted)
        if self.target and not self.target_reached and self.differential.named >= self.target:
            seconds = result.frame.monotonic - self._first.monotonic
            self.target_reached = TargetReached(result.frame, seconds)
        return counted

    @property
    def unfamiliar(self) -> str | None:
        """A warning where far more cells than usual are unclassified; see `edge.differential.unfamiliar`."""
        return unfamiliar(self.differential, self._accuracy)

    def _wanted(self, cells: Sequence[TrackedCell]) -> int:
        """How many of these cells are counted until the target is met."""
        named = self.differential.named
        for index, cell in enumerate(cells):
            if self.target and named >= self.target:
                return index
            named += cell.class_name != UNCLASSIFIED
        return len(cells)

    def table(self) -> Table:
        """The differential as it stands."""
        wanted = f" ({self.target} wanted)" if self.target else ""
        table = Table(
            caption=f"{self.looked_at} images, {self.differential.total} cells, "
            f"{self.differential.named} given a class{wanted}",
            min_width=44,
        )
        table.add_column("Class")
        for heading in ("Cells", "%", "95 % limits", "Adults, %"):
            table.add_column(heading, justify="right")
        table.add_column("")
        for one in CELL_CLASSES:
            share = self.differential.share(one.name)
            low, high = one.reference_percent
            table.add_row(one.name, *share_row(share), f"{low:g}–{high:g}", self._flag(share, one) or "")
        table.add_section()
        table.add_row(f"{UNCLASSIFIED}, of all", *share_row(self.differential.unclassified_share))
        return table

    def summary(self) -> list[str]:
        """What the table does not say, a line each."""
        return [
            f"Images: {self.looked_at} looked at, {self.lost} could not be used.",
            f"Cells: {self.differential.named} given a class (the percentages are of these), "
            f"{self.differential.unclassified} unclassified.",
            *self._about_target(),
            *self._about_condition(),
            self._error_note,
            *self._about_misclassification(),
            f"Adults: reference intervals ({REFERENCE_SOURCE}), of leukocytes with basophils; a laboratory's "
            "own come first. High or low is a class only where all of the 95 % limits lie outside.",
        ]

    def _flag(self, share: Share, one: CellClass) -> str | None:
        """``high`` or ``low``; nothing is, while what is under the microscope is in doubt."""
        return beyond_reference(share, one.reference_percent) if self._condition.trusted else None

    def _about_condition(self) -> list[str]:
        lines = (
            [f"{self._condition.state.capitalize()}: {self._condition.line}."] if self._condition.line else []
        )
        return lines + [f"{line[0].upper()}{line[1:]}." for line in (self.unfamiliar,) if line]

    def _about_target(self) -> list[str]:
        if self.target is None:
            return []
        if self.target_reached is None:
            return [f"Target: {self.target} cells given a class, not reached."]
        minutes, seconds = divmod(round(self.target_reached.after_s), 60)
        frame = self.target_reached.frame
        beyond = f" Cells confirmed beyond it, not counted: {self.surplus}." if self.surplus else ""
        return [
            f"Target: {self.target} cells given a class, reached after {minutes} min {seconds} s "
            f"({shown_path(frame.source)}, image {frame.sequence}).{beyond}"
        ]

    def _about_misclassification(self) -> list[str]:
        measured = self._misclassification
        behind = measured.behind(self.differential.counts)
        left_out = (
            f" Too few cells of a class (under {MIN_ORIGINALS}, or none named right) to go by: "
            f"{', '.join(measured.too_small)}."
            if measured.too_small
            else ""
        )
        if not measured.rates:
            return [
                f"How far misclassification alone could move these percentages was not measured.{left_out}"
            ]
        if behind is None:
            return []
        ranges = ", ".join(
            f"{one.name} {math.floor(low)}–{math.ceil(high)}"
            for one, (low, high) in zip(CELL_CLASSES, behind, strict=True)
        )
        sets = ", ".join(name for name, _ in measured.rates)
        lines = [
            f"By misclassification alone, as measured on {sets}, the true percentages would be: "
            f"{ranges}.{left_out}"
        ]
        for one, (low, high) in zip(CELL_CLASSES, behind, strict=True):
            flag = self._flag(self.differential.share(one.name), one)
            if flag is not None:
                within = low <= one.reference_percent[1] and high >= one.reference_percent[0]
                could = "could" if within else "would not"
                lines.append(f"{one.name.capitalize()}: {flag}; misclassification alone {could} make it so.")
        return lines


def share_row(share: Share) -> tuple[str, str, str]:
    """A share as a table shows it: count, per cent, 95 % limits."""
    percent = "–" if share.percent is None else f"{share.percent:.1f}"
    # Rounded outward: the limits shown hold at least what the exact ones do.
    return str(share.count), percent, f"{math.floor(share.low)}–{math.ceil(share.high)}"
