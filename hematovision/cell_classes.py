"""The four leukocyte classes: their order, which is the order of the network's outputs, and their facts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CellClass:
    """One leukocyte class.

    ``color`` is the RGB that boxes and bars are drawn in (distinguishable with colour-blind eyes: Okabe and
    Ito 2008). ``reference_percent`` is the adult reference interval of the relative count, in per cent of
    leukocytes (`REFERENCE_SOURCE`; laboratories differ, and a laboratory's own interval comes first). Those
    include basophils, 0 to 1 %, which are no class here. ``loinc`` is the code of "[class]/Leukocytes in
    Blood" without a method: this device is neither the manual count nor the flow cytometer that the codes
    with a method mean.
    """

    name: str
    color: tuple[int, int, int]
    reference_percent: tuple[float, float]
    loinc: str


#: Where the reference intervals are from: its chapter of reference intervals, haematology.
REFERENCE_SOURCE = "Oxford Handbook of Clinical Medicine, 10th edition, 2017"

CELL_CLASSES = (
    CellClass("neutrophil", (0, 114, 178), (40.0, 75.0), "26511-6"),
    CellClass("eosinophil", (213, 94, 0), (1.0, 6.0), "26450-7"),
    CellClass("monocyte", (0, 158, 115), (2.0, 10.0), "26485-3"),
    CellClass("lymphocyte", (204, 121, 167), (20.0, 45.0), "26478-8"),
)
CLASS_NAMES = tuple(cell_class.name for cell_class in CELL_CLASSES)

#: What a cell is called that the classifier declines to name. Not a class: it has no output in the network.
UNCLASSIFIED = "unclassified"
UNCLASSIFIED_COLOR = (110, 110, 110)
