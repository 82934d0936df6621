"""What `run` counts and what it says."""

import math

import numpy as np
from rich.console import Console

from edge.cameras import Frame, LostFrame
from edge.classifier import Prediction
from edge.pipeline import NamedCell, NamedField
from edge.tally import Tally
from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.finder import CellRegion
from hematovision.model_file import Manifest

MANIFEST = Manifest(CropSize(20.0, 96), 1.0, 0.6)


def named_field(*names: str, cut: tuple[bool, ...] = ()) -> NamedField:
    frame = Frame.now(np.zeros((8, 8, 3), np.uint8), 0, 0.1, "a.jpg")
    cells = tuple(
        NamedCell(
            CellRegion((4.0, 4.0), (0.0, 0.0, 8.0, 8.0), 40.0, 5.0, 0.1, touches_border=border),
            Prediction((0.7, 0.1, 0.1, 0.1), name),
        )
        for name, border in zip(names, cut or (False,) * len(names), strict=True)
    )
    return NamedField(frame, cells, 1.0, 1.0)


def shown(tally: Tally) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tally.table())
    return capture.get()


def test_whole_cells_are_counted_and_cut_ones_are_set_apart() -> None:
    tally = Tally(MANIFEST)
    tally.add(named_field("neutrophil", "monocyte", cut=(False, True)))
    tally.add(named_field("neutrophil", "unclassified", cut=(False, True)))
    assert tally.differential.counts == (2, 0, 0, 0)
    assert tally.differential.unclassified == 0
    assert tally.cut == 2
    assert any("2 cut by the border of an image and not counted" in line for line in tally.summary())


def test_lost_frames_are_counted_and_told() -> None:
    tally = Tally(MANIFEST)
    tally.add(LostFrame(0, "a.jpg", "a.jpg: cut short"))
    tally.add(named_field())
    assert (tally.looked_at, tally.lost) == (1, 1)
    assert "Images: 1 looked at, 1 could not be used." in tally.summary()


def test_the_table_shows_counts_percentages_and_limits_rounded_outward() -> None:
    tally = Tally(MANIFEST)
    tally.add(named_field(*["neutrophil"] * 50, *["eosinophil"] * 5, *["lymphocyte"] * 45))
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:-1] for line in shown(tally).splitlines() if "│" in line
    }
    assert [cell.strip() for cell in rows["eosinophil"]] == ["5", "5.0", "1–12"]
    assert [cell.strip() for cell in rows["neutrophil"]] == ["50", "50.0", "39–61"]
    assert [cell.strip() for cell in rows["monocyte"]] == ["0", "0.0", "0–4"]
    assert [cell.strip() for cell in rows["unclassified, of all"]] == ["0", "0.0", "0–4"]


def test_before_the_first_cell_no_percentage_is_shown() -> None:
    text = shown(Tally(MANIFEST))
    assert text.count("0–100") == len(CLASS_NAMES) + 1
    assert str(math.nan) not in text


def test_the_summary_says_what_the_limits_leave_out() -> None:
    assert any("own error comes on top" in line for line in Tally(MANIFEST).summary())
