"""Cells of the drawn smear as training images, so that a demonstration or self-test names what it shows.

They are learnt from beside real cells and nothing is chosen by them: no drawn cell is on a development or
test side, and temperature and decline threshold come from real cells alone.
"""

from pathlib import Path

import numpy as np

from hematovision.cell_classes import CLASS_NAMES
from hematovision.images import RGBImage
from hematovision.phantom import draw_view
from train.datasets import LabelledImage

DRAWN_UM_PER_PIXEL = 0.1
#: The collection of all drawn cells.
DRAWN_COLLECTION = "phantom"

# Apart from the seeds of slides, which are single numbers.
_SEED = 2026


def drawn_cells(per_class: int) -> tuple[LabelledImage, ...]:
    """So many cells of each class, still to be drawn: the path of each is the number that `draw` goes by."""
    return tuple(
        LabelledImage(Path(str(number)), name, f"{DRAWN_COLLECTION}/{name}/{number}", "train")
        for name in CLASS_NAMES
        for number in range(per_class)
    )


def draw(image: LabelledImage) -> RGBImage:
    """The picture of one of `drawn_cells`, the same on every call: (height, width, 3) uint8 RGB."""
    label = CLASS_NAMES.index(image.label)
    rng = np.random.default_rng((_SEED, label, int(image.path.name)))
    return draw_view(rng, image.label, DRAWN_UM_PER_PIXEL).image
