"""What `run` has seen so far, as a table and a summary for people."""

import math

from rich.table import Table

from edge.cameras import LostFrame
from edge.differential import Differential, Share, classifier_error
from edge.pipeline import NamedField
from hematovision.cell_classes import CLASS_NAMES
from hematovision.model_file import Manifest


class Tally:
    """Counts every cell of every frame given to it, so each frame must show another place of the smear."""

    def __init__(self, manifest: Manifest) -> None:
        self.differential = Differential()
        self.looked_at = 0
        self.lost = 0
        self.cut = 0
        self._error_note = classifier_error(manifest.accuracy)

    def add(self, result: NamedField | LostFrame) -> None:
        """Count the cells of a frame. One cut by the border is set apart, as at the microscope."""
        if isinstance(result, LostFrame):
            self.lost += 1
            return
        self.looked_at += 1
        whole = [cell for cell in result.cells if not cell.region.touches_border]
        self.cut += len(result.cells) - len(whole)
        self.differential = self.differential.plus(cell.prediction.class_name for cell in whole)

    def table(self) -> Table:
        """The differential as it stands."""
        table = Table(caption=f"{self.looked_at} images, {self.differential.total} cells", min_width=44)
        table.add_column("Class")
        table.add_column("Cells", justify="right")
        table.add_column("%", justify="right")
        table.add_column("95 % limits", justify="right")
        for name in CLASS_NAMES:
            table.add_row(name, *_row(self.differential.share(name)))
        table.add_section()
        table.add_row("unclassified, of all", *_row(self.differential.unclassified_share))
        return table

    def summary(self) -> list[str]:
        """What the table does not say, a line each."""
        return [
            f"Images: {self.looked_at} looked at, {self.lost} could not be used.",
            f"Cells: {self.differential.named} given a class (the percentages are of these), "
            f"{self.differential.unclassified} unclassified; {self.cut} cut by the border of an image "
            "and not counted.",
            self._error_note,
        ]


def _row(share: Share) -> tuple[str, str, str]:
    percent = "–" if share.percent is None else f"{share.percent:.1f}"
    # Rounded outward: the limits shown hold at least what the exact ones do.
    return str(share.count), percent, f"{math.floor(share.low)}–{math.ceil(share.high)}"
