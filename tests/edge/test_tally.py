"""What `run` counts and what it says."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edge.cameras import Frame, LostFrame
from edge.pipeline import SeenFrame
from edge.tally import Tally
from edge.tracker import TrackedCell
from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.light import Light
from hematovision.model_file import Manifest
from hematovision.optics import Field

BLACK = np.zeros((8, 8, 3), np.uint8)
FIELD = Field(
    BLACK,
    np.zeros((2, 2, 3), np.uint8),
    0.1,
    Light(np.ones((1, 1, 3), np.float32)),
    np.ones((2, 2, 3), np.float32),
    np.zeros((2, 2), bool),
    (4, 4),
)
NOW = datetime(2024, 5, 1, tzinfo=UTC)


def manifest(**accuracy: Any) -> Manifest:
    return Manifest(CropSize(20.0, 96), 1.0, 0.6, accuracy=accuracy)


def seen(*names: str, number: int = 0, at: float = 0.0, skipped: str | None = None) -> SeenFrame:
    counted = tuple(
        TrackedCell(1, 1, (0.0, 0.0), name, (0.7, 0.1, 0.1, 0.1), 3, 0.1, NOW, NOW, BLACK) for name in names
    )
    return SeenFrame(Frame(BLACK, number, NOW, at, 0.1, "a.jpg"), FIELD, skipped, (), counted)


def counted(*names: str, tally: Tally | None = None) -> Tally:
    tally = tally or Tally(manifest())
    tally.add(seen(*names))
    return tally


def shown(tally: Tally) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tally.table())
    return capture.get()


def rows(tally: Tally) -> dict[str, list[str]]:
    lines = [line.split("│")[1:-1] for line in shown(tally).splitlines() if "│" in line]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def summary(tally: Tally) -> str:
    return "\n".join(tally.summary())


HEALTHY = ["neutrophil"] * 60 + ["eosinophil"] * 3 + ["monocyte"] * 6 + ["lymphocyte"] * 31


def test_what_is_new_with_each_frame_is_counted() -> None:
    tally = counted("neutrophil", "unclassified")
    tally.add(seen("neutrophil", "monocyte"))
    tally.add(seen())
    assert tally.differential.counts == (2, 0, 1, 0)
    assert tally.differential.unclassified == 1
    assert tally.looked_at == 3


def test_lost_frames_are_told_and_skipped_ones_were_not_looked_at() -> None:
    tally = Tally(manifest())
    tally.add(LostFrame(0, "a.jpg", "a.jpg: cut short"))
    tally.add(seen(skipped="blurred"))
    tally.add(seen())
    assert (tally.looked_at, tally.lost) == (1, 1)
    assert "Images: 1 looked at, 1 could not be used." in tally.summary()


def test_the_table_shows_counts_percentages_limits_rounded_outward_and_the_reference() -> None:
    table = rows(counted(*["neutrophil"] * 50, *["eosinophil"] * 5, *["lymphocyte"] * 45))
    assert table["eosinophil"] == ["5", "5.0", "1–12", "1–6", ""]
    assert table["neutrophil"] == ["50", "50.0", "39–61", "40–75", ""]
    assert table["monocyte"] == ["0", "0.0", "0–4", "2–10", ""]
    assert table["unclassified, of all"] == ["0", "0.0", "0–4", "", ""]


def test_a_class_whose_whole_interval_lies_outside_the_reference_is_flagged() -> None:
    tally = counted(*["neutrophil"] * 20, *["eosinophil"] * 20, *["monocyte"] * 10, *["lymphocyte"] * 50)
    table = rows(tally)
    assert [table[name][-1] for name in CLASS_NAMES] == ["low", "high", "", ""]
    assert "Oxford Handbook of Clinical Medicine" in summary(tally)


def test_before_the_first_cell_no_percentage_is_shown_and_nothing_is_flagged() -> None:
    text = shown(Tally(manifest()))
    assert text.count("0–100") == len(CLASS_NAMES) + 1
    assert str(math.nan) not in text
    assert "low" not in text


def test_the_summary_says_what_the_limits_leave_out() -> None:
    assert "own error comes on top" in summary(Tally(manifest()))


def test_a_target_counts_cells_given_a_class_and_says_when_it_was_reached() -> None:
    tally = Tally(manifest(), target=100)
    tally.add(seen(*HEALTHY[:99], *["unclassified"] * 30, number=4, at=1000.0))
    assert "Target: 100 cells given a class, not reached." in tally.summary()
    assert "99 given a class (100 wanted)" in shown(tally)
    tally.add(seen(*HEALTHY[99:], "monocyte", number=9, at=1192.4))
    tally.add(seen("monocyte", number=10, at=1193.0))
    assert tally.target_reached is not None
    assert tally.target_reached.frame.sequence == 9
    assert tally.target_reached.after_s == pytest.approx(192.4)
    assert "reached after 3 min 12 s (a.jpg, image 9)" in summary(tally)


def test_a_target_is_met_exactly_and_what_lies_beyond_is_said() -> None:
    tally = Tally(manifest(), target=100)
    tally.add(seen(*HEALTHY[:98]))
    last = seen("unclassified", "monocyte", "lymphocyte", "unclassified", "monocyte")
    assert tally.add(last) == last.counted[:3]
    assert tally.add(seen("monocyte", "unclassified")) == ()
    assert (tally.differential.named, tally.differential.unclassified, tally.surplus) == (100, 1, 4)
    assert "Cells confirmed beyond it, not counted: 4." in summary(tally)


def test_a_count_that_goes_on_at_its_target_counts_nothing_more() -> None:
    tally = Tally(manifest(), target=100)
    tally.differential = tally.differential.plus(HEALTHY)
    assert tally.add(seen("monocyte")) == ()
    assert tally.target_reached is not None and tally.differential.named == 100


def test_without_a_target_none_is_spoken_of() -> None:
    tally = counted(*HEALTHY * 5)
    assert tally.target_reached is None
    assert "Target" not in summary(tally)
    assert "wanted" not in shown(tally)


def measured(name: str, eosinophils_among_neutrophils: float = 0.0, originals: int = 100) -> dict[str, Any]:
    """A data set of which all is named right but for some neutrophils."""
    named = {
        truth: {"cells": 100, "originals": originals, **dict.fromkeys(CLASS_NAMES, 0), truth: 100}
        for truth in CLASS_NAMES
    }
    wrong = round(100 * eosinophils_among_neutrophils)
    named["neutrophil"] |= {"neutrophil": 100 - wrong, "eosinophil": wrong}
    figures = {"cells": 400, "originals": 4 * originals, "accuracy": 0.9, "low": 0.8, "high": 1.0}
    return {"name": name, **figures, "named": named}


def test_how_far_misclassification_alone_could_move_each_class_is_said_in_a_line() -> None:
    tally = Tally(manifest(sets=[measured("good"), measured("poor", 0.02), measured("few", originals=4)]))
    assert "true percentages" not in summary(tally)  # of no cell
    tally = counted(*HEALTHY, tally=tally)
    (line,) = (line for line in tally.summary() if "true percentages" in line)
    assert "measured on good, poor" in line
    # 2 % of 61.2 neutrophils are 1.2 of the 3 eosinophils.
    assert "neutrophil 60–62, eosinophil 1–3, monocyte 6–6, lymphocyte 31–31." in line
    assert "under 10, or none named right) to go by: few." in line


@pytest.mark.parametrize(("wrong", "said"), [(0.2, "could"), (0.02, "would not")])
def test_of_a_flagged_class_it_is_said_whether_misclassification_alone_makes_it_so(
    wrong: float, said: str
) -> None:
    tally = counted(
        *["neutrophil"] * 50,
        *["eosinophil"] * 14,
        *["monocyte"] * 6,
        *["lymphocyte"] * 30,
        tally=Tally(manifest(sets=[measured("lab", wrong)])),
    )
    lines = [line for line in tally.summary() if line.startswith("Eosinophil")]
    assert lines == [f"Eosinophil: high; misclassification alone {said} make it so."]


def test_of_a_model_whose_names_were_not_recorded_it_is_said_that_nothing_was_measured() -> None:
    older = {key: value for key, value in measured("lab").items() if key != "named"}
    tally = counted(*HEALTHY, tally=Tally(manifest(sets=[older])))
    assert "misclassification alone could move these percentages was not measured." in summary(tally)
