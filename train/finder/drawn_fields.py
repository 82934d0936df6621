"""Fields of the drawn smear, learnt from beside real ones, so that a demonstration finds what it shows."""

import numpy as np

from hematovision.heat_map import FINDER_UM_PER_PIXEL, at_finder_scale
from hematovision.phantom import draw_field
from train.finder.tiles import TrainingField

#: The laboratory that all drawn fields are of. It is never left out and nothing is chosen by it.
DRAWN_LABORATORY = "phantom"
DRAWN_FIELDS = 40

# Of fields in turn: what demonstrations and self-tests show.
_UM_PER_PIXEL = (0.1, 0.2)
# Apart from the seeds of slides that demonstrations and benchmarks show.
_FIRST_SEED = 2_026_000


def draw_training_field(number: int) -> TrainingField:
    """Draw a field of which every leukocyte is known; the same number gives the same field."""
    um_per_pixel = _UM_PER_PIXEL[number % len(_UM_PER_PIXEL)]
    frame = draw_field(
        _FIRST_SEED + number, round(128 / um_per_pixel), round(96 / um_per_pixel), um_per_pixel
    )
    image = at_finder_scale(frame.image, um_per_pixel)
    shrink = um_per_pixel / FINDER_UM_PER_PIXEL
    centers = np.array([cell.center for cell in frame.cells], np.float32).reshape(-1, 2) * np.float32(shrink)
    return TrainingField(image, centers, np.full(image.shape[:2], 255, np.uint8))
