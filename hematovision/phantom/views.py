"""Single pictures of drawn cells: a field with its cells whole and apart, and a view of one cell."""

import numpy as np

from hematovision.cell_classes import CLASS_NAMES
from hematovision.optics import check_um_per_pixel
from hematovision.phantom.layout import Smear, scatter
from hematovision.phantom.microscope import WARM_LAMP, Microscope, PhantomFrame, Pose
from hematovision.phantom.slide import Slide

_FIELD_UM2_PER_LEUKOCYTE = 1800
_FIELD_APART_UM, _FIELD_MARGIN_UM = 20.0, 10.0
_OFF_CENTRE_UM = 2.0


def draw_field(seed: int, width: int = 1280, height: int = 960, um_per_pixel: float = 0.1) -> PhantomFrame:
    """Draw a field with far more leukocytes than blood has; the same arguments give the same field.

    They are whole and apart from each other, one for about 1800 µm², the four classes in turn.

    Raises:
        SettingError: the scale is no scale.
    """
    check_um_per_pixel(um_per_pixel)
    rng = np.random.default_rng(seed)
    size_um = np.array([width, height]) * um_per_pixel
    margin_um = np.minimum(_FIELD_MARGIN_UM, size_um / 2 - um_per_pixel)
    places = margin_um + rng.permutation(scatter(rng, (size_um - 2 * margin_um).tolist(), _FIELD_APART_UM))
    count = max(1, round(size_um[0] * size_um[1] / _FIELD_UM2_PER_LEUKOCYTE))
    names = rng.permutation(CLASS_NAMES).tolist()
    leukocytes = [
        (names[number % len(names)], (float(x), float(y))) for number, (x, y) in enumerate(places[:count])
    ]
    smear = Smear(seed, size_um[0] / 1000, size_um[1] / 1000, um_per_pixel)
    microscope = Microscope(Slide(smear, leukocytes), width, height, seed=seed)
    return microscope.look(Pose(size_um[0] / 2, size_um[1] / 2))


def draw_view(
    rng: np.random.Generator, class_name: str, um_per_pixel: float = 0.1, side_um: float = 40.0
) -> PhantomFrame:
    """Draw a square around one leukocyte of a class, as one of many laboratories would show it.

    What varies: the cell, depth and hue of the stain, how many red cells lie around it, lamp, vignetting,
    focus and noise. The cell lies within 2 µm of the middle, in x and in y.

    Raises:
        SettingError: the scale is no scale, or no class has that name.
    """
    stain = rng.uniform(0.8, 1.25) * rng.normal(1.0, 0.06, 3).clip(0.85, 1.15)
    smear = Smear(
        int(rng.integers(2**32)),
        side_um / 1000,
        side_um / 1000,
        um_per_pixel,
        red_cells_per_mm2=rng.uniform(3000, 12000),
        platelets_per_mm2=rng.uniform(200, 1500),
        stain=(float(stain[0]), float(stain[1]), float(stain[2])),
    )
    middle = side_um / 2
    x, y = middle + rng.uniform(-_OFF_CENTRE_UM, _OFF_CENTRE_UM, 2)
    lamp = rng.uniform(0.75, 1.05) * np.array(WARM_LAMP) * rng.uniform((0.93, 0.92, 0.85), (1.03, 1.0, 1.2))
    microscope = Microscope(
        Slide(smear, [(class_name, (float(x), float(y)))]),
        round(side_um / um_per_pixel),
        round(side_um / um_per_pixel),
        lamp=(float(lamp[0]), float(lamp[1]), float(lamp[2])),
        vignetting=rng.uniform(0, 0.1),
        noise=rng.uniform(0.6, 3.0),
        seed=smear.seed,
    )
    return microscope.look(Pose(middle, middle, defocus_um=min(abs(rng.normal(0, 0.17)), 0.45)))
