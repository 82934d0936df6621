"""Fields of the drawn smear, learnt from beside real ones, so that a demonstration finds what it shows."""

import numpy as np

from hematovision.cell_classes import CLASS_NAMES
from hematovision.heat_map import FINDER_UM_PER_PIXEL, at_finder_scale
from hematovision.phantom import Microscope, PhantomFrame, Pose, Slide, Smear, draw_field
from train.finder.tiles import TrainingField

#: The laboratory that all drawn fields are of. It is never left out and nothing is chosen by it.
DRAWN_LABORATORY = "phantom"
DRAWN_FIELDS = 60

# Of fields in turn: what demonstrations and self-tests show.
_UM_PER_PIXEL = (0.1, 0.2)
_SIDES_UM = (128.0, 96.0)
_THIN = (2.3, 3.7)  # decimal logarithm of red cells per mm²
# Apart from the seeds of slides that demonstrations and benchmarks show.
_FIRST_SEED = 2_026_000


def draw_training_field(number: int) -> TrainingField:
    """Draw a field of which every leukocyte is known; the same number gives the same field."""
    um_per_pixel = _UM_PER_PIXEL[number % len(_UM_PER_PIXEL)]
    size = round(_SIDES_UM[0] / um_per_pixel), round(_SIDES_UM[1] / um_per_pixel)
    seed = _FIRST_SEED + number
    if number < DRAWN_FIELDS // 2:
        frame = draw_field(seed, *size, um_per_pixel)
    else:
        frame = _draw_thin_field(seed, size, um_per_pixel)
    image = at_finder_scale(frame.image, um_per_pixel)
    shrink = um_per_pixel / FINDER_UM_PER_PIXEL
    centers = np.array([cell.center for cell in frame.cells], np.float32).reshape(-1, 2) * np.float32(shrink)
    return TrainingField(image, centers, np.full(image.shape[:2], 255, np.uint8))


def _draw_thin_field(seed: int, size: tuple[int, int], um_per_pixel: float) -> PhantomFrame:
    """Draw a field of few red cells, and one leukocyte at most, as at a smear's feathered edge.

    A red cell alone on glass is round and dark there, and was taken for a lymphocyte.
    """
    rng = np.random.default_rng(seed)
    width, height = _SIDES_UM
    smear = Smear(
        seed, width / 1000, height / 1000, um_per_pixel, red_cells_per_mm2=10 ** rng.uniform(*_THIN)
    )
    place = rng.uniform((20, 20), (width - 20, height - 20))
    leukocytes = [(str(rng.choice(CLASS_NAMES)), (float(place[0]), float(place[1])))]
    slide = Slide(smear, leukocytes[: int(rng.integers(2))])
    return Microscope(slide, *size, seed=seed).look(Pose(width / 2, height / 2))
