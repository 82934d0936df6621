"""Training tiles: a piece of a field as another microscope might show it, and the heat wanted there."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.heat_map import FINDER_UM_PER_PIXEL, STRIDE, at_finder_scale
from hematovision.images import RGBImage, read_image
from train.finder.boxed_fields import BoxedField
from train.finder.microscopes import vary_microscope
from train.finder.overlays import draw_overlay

#: Side of a tile in pixels of the finder's field: 80 µm of the slide.
TILE_PX = 160
#: Sigma of a centre's heat.
HEAT_SIGMA_UM = 2.5
#: Around a cell in a field whose other cells are not known, so far beyond its box is known to be background.
KNOWN_MARGIN_UM = 2.0
#: Cells cut by the border are often not boxed: so near to it, nothing that is not boxed is background.
UNSURE_BORDER_UM = 5.0
#: Around a leukocyte that only an eye saw, so far from its middle nothing is known to be background.
UNBOXED_RADIUS_UM = 8.0

_SCALE_SPREAD = 0.16  # sigma of the logarithm: wrong µm per pixel, and cells of another size
_NEAR_CELL_CHANCE = 0.7
_MAX_OFFSET_PX = 45.0
_OVERLAY_CHANCE = 0.4
_LEAST_HEAT = 0.02
# A nucleus of which an overlay leaves less in view than the rest cannot be told from the overlay.
_HIDDEN_SHARE = 0.7


@dataclass(frozen=True)
class TrainingField:
    """A field at the finder's scale and what is known of it.

    ``image``: (height, width, 3) uint8 RGB. ``centers``: (n, 2) float32, x and y of its nucleated cells.
    ``known``: (height, width) uint8, 255 where what is not a centre is background.
    """

    image: RGBImage
    centers: NDArray[np.float32]
    known: NDArray[np.uint8]


def read_training_field(field: BoxedField) -> TrainingField:
    """Read a boxed field and resample it to the finder's scale.

    Raises:
        ImageError: the image cannot be read.
    """
    picture = read_image(field.path)
    image = at_finder_scale(picture, field.um_per_pixel)
    # By the sides themselves, which are rounded to whole pixels.
    shrink = np.array(image.shape[1::-1]) / np.array(picture.shape[1::-1])
    centers = np.array([cell.center for cell in field.cells], np.float32).reshape(-1, 2) * shrink
    height, width = image.shape[:2]
    # Where an eye has looked for all that has no box, the rest is background, whatever the boxes say.
    is_known = field.all_known
    known = np.full((height, width), 255 if is_known else 0, np.uint8)
    if is_known:
        border = round(UNSURE_BORDER_UM / FINDER_UM_PER_PIXEL)
        known[:border] = known[-border:] = 0
        known[:, :border] = known[:, -border:] = 0
    # Neither a cell to learn nor background: it may be cut, smudged or doubtful.
    radius = round(UNBOXED_RADIUS_UM / FINDER_UM_PER_PIXEL)
    for x, y in np.array(field.others or (), np.float32).reshape(-1, 2) * shrink:
        cv2.circle(known, (round(float(x)), round(float(y))), radius, 0, -1)
    margin = KNOWN_MARGIN_UM / FINDER_UM_PER_PIXEL
    for box in (*field.cells, *field.decoys):
        left, top = np.array([box.x, box.y]) * shrink - margin
        right, bottom = np.array([box.x + box.width, box.y + box.height]) * shrink + margin
        known[max(0, int(top)) : max(0, int(bottom)), max(0, int(left)) : max(0, int(right))] = 255
    return TrainingField(image, centers.astype(np.float32), known)


def make_tile(
    field: TrainingField, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a piece of a field, turned, resized, and seen through another microscope and camera.

    Returns:
        The tile, (`TILE_PX`, `TILE_PX`, 3) uint8 RGB, and the target of `network.heat_loss`,
        (`TILE_PX` / 4, `TILE_PX` / 4, 2) float32.
    """
    matrix, enlarged = _choose_place(field, rng)
    size = (TILE_PX, TILE_PX)
    tile = cv2.warpAffine(field.image, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    known = cv2.warpAffine(field.known, matrix, size, flags=cv2.INTER_NEAREST)
    tile = vary_microscope(tile, rng)
    if rng.random() < _OVERLAY_CHANCE:
        tile, hidden = draw_overlay(tile, rng)
        known[hidden] = 255  # whatever was there, nobody can see it now
    else:
        hidden = np.zeros((TILE_PX, TILE_PX), bool)
    centers = field.centers @ matrix[:, :2].T + matrix[:, 2]
    return tile, _target(centers, known, hidden, enlarged)


def _choose_place(field: TrainingField, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Choose the tile's place: a (2, 3) matrix from field to tile, and how much it enlarges."""
    enlarged = float(np.exp(rng.normal(0, _SCALE_SPREAD)))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([rng.choice([-1.0, 1.0]), 1.0]) * enlarged
    if len(field.centers) and rng.random() < _NEAR_CELL_CHANCE:
        middle = field.centers[rng.integers(len(field.centers))] + rng.uniform(
            -_MAX_OFFSET_PX, _MAX_OFFSET_PX, 2
        )
    else:
        middle = rng.uniform((0, 0), field.image.shape[1::-1])
    offset = np.full(2, TILE_PX / 2) - matrix @ middle
    return np.column_stack([matrix, offset]), enlarged


def _target(
    centers: NDArray[np.float64], known: NDArray[np.uint8], hidden: NDArray[np.bool_], enlarged: float
) -> NDArray[np.float32]:
    places = TILE_PX // STRIDE
    middle = (STRIDE - 1) / 2
    y, x = np.mgrid[:places, :places] * STRIDE + middle
    sigma = HEAT_SIGMA_UM / FINDER_UM_PER_PIXEL * enlarged
    heat = np.zeros((places, places), np.float32)
    for center_x, center_y in centers:
        if _is_hidden(hidden, center_x, center_y, sigma):
            continue
        heat = np.maximum(heat, np.exp(-((x - center_x) ** 2 + (y - center_y) ** 2) / (2 * sigma**2)))
    heat[heat < _LEAST_HEAT] = 0
    weight = known[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] / 255
    return np.stack([heat, weight], axis=-1).astype(np.float32)


def _is_hidden(hidden: NDArray[np.bool_], x: float, y: float, radius: float) -> bool:
    left, right = (min(max(round(x + side), 0), TILE_PX) for side in (-radius, radius))
    top, bottom = (min(max(round(y + side), 0), TILE_PX) for side in (-radius, radius))
    around = hidden[top:bottom, left:right]
    return around.size > 0 and float(around.mean()) > _HIDDEN_SHARE
