"""Paths of the stage over a phantom slide, one pose a frame, and scenes: a smear with a path over it.

A person moves the stage in pans from field to field, looks at each for a moment, turns the focus, and goes
back; now and then to a place far away. The same seed gives the same path.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from hematovision.phantom.layout import Smear
from hematovision.phantom.microscope import Pose

Place = tuple[float, float]  # x and y on the slide, in µm
Box = tuple[float, float, float, float]  # left, top, right and bottom on the slide, in µm

#: How much of a field, in x and in y, its neighbour on a meander shows too: at least.
OVERLAP = 0.25

_FOCUS_DRIFT_UM = 0.06  # standard deviation of what a person leaves the focus at
_HAND_UM = 3.0  # how far from where it was meant to stand a field comes to lie
_SHUTTER_OPEN = 0.1  # share of the time between two frames


@dataclass(frozen=True)
class Scene:
    """A smear and the poses in which it is looked at, one for each frame."""

    smear: Smear
    poses: tuple[Pose, ...]


def dwell(rng: np.random.Generator, place: Place, frames: int) -> Iterator[Pose]:
    """Stay at a place; the focus is never quite the same."""
    for _ in range(frames):
        yield Pose(*place, defocus_um=abs(float(rng.normal(0, _FOCUS_DRIFT_UM))))


def pan(start: Place, end: Place, frames: int) -> Iterator[Pose]:
    """Move from one place, which is not shown again, to another, which is not reached yet."""
    step = (end[0] - start[0]) / (frames + 1), (end[1] - start[1]) / (frames + 1)
    motion_um = step[0] * _SHUTTER_OPEN, step[1] * _SHUTTER_OPEN
    for number in range(1, frames + 1):
        yield Pose(start[0] + number * step[0], start[1] + number * step[1], motion_um=motion_um)


def refocus(place: Place, frames: int, farthest_um: float = 1.2) -> Iterator[Pose]:
    """Turn the focus away, up to a blur of ``farthest_um``, and back again."""
    for number in range(1, frames + 1):
        yield Pose(*place, defocus_um=farthest_um * math.sin(math.pi * number / (frames + 1)))


def over_expose(place: Place, frames: int, exposure: float = 2.0) -> Iterator[Pose]:
    """Stay at a place while the lamp is too bright."""
    for _ in range(frames):
        yield Pose(*place, exposure=exposure)


def visit(
    rng: np.random.Generator, places: Sequence[Place], dwell_frames: int, pan_frames: int
) -> Iterator[Pose]:
    """Dwell at each of the places in turn, and pan from each to the next."""
    yield from dwell(rng, places[0], dwell_frames)
    for start, end in pairwise(places):
        yield from pan(start, end, pan_frames)
        yield from dwell(rng, end, dwell_frames)


def meander(
    rng: np.random.Generator, box: Box, field_um: tuple[float, float], overlap: float = OVERLAP
) -> list[Place]:
    """Places of fields that cover a box row by row, to the right and then to the left again.

    Each overlaps the next, and the row above, by the share ``overlap`` or more; a hand's inaccuracy comes on
    top. A box smaller than a field gets one in its middle.
    """
    columns, rows = (
        _covering(low, high, side, overlap)
        for low, high, side in zip(box[:2], box[2:], field_um, strict=True)
    )
    places = [(x, y) for row, y in enumerate(rows) for x in (columns if row % 2 == 0 else columns[::-1])]
    return [
        (x + float(rng.uniform(-_HAND_UM, _HAND_UM)), y + float(rng.uniform(-_HAND_UM, _HAND_UM)))
        for x, y in places
    ]


def _covering(low: float, high: float, side: float, overlap: float) -> list[float]:
    if high - low <= side:
        return [(low + high) / 2]
    count = math.ceil((high - low - side) / (side * (1 - overlap))) + 1
    return np.linspace(low + side / 2, high - side / 2, count).tolist()


def trial(seed: int, field_um: tuple[float, float] = (128.0, 96.0), um_per_pixel: float = 0.1) -> Scene:
    """The scene by which the tracker is measured: some 320 leukocytes, half of the fields visited twice.

    A meander of overlapping fields over the whole slide, and back over the second half of it.
    """
    rng = np.random.default_rng((seed, 2))
    smear = Smear(seed, 0.8, 0.8, um_per_pixel, leukocytes_per_mm2=500.0)
    there = meander(rng, (0.0, 0.0, *smear.size_um), field_um)
    back = [_near(rng, place) for place in there[-2 : -len(there) // 2 - 1 : -1]]
    return Scene(smear, tuple(visit(rng, there + back, dwell_frames=5, pan_frames=6)))


def demo(seed: int, field_um: tuple[float, float] = (128.0, 96.0), um_per_pixel: float = 0.1) -> Scene:
    """The scene of the demonstration: about a hundred leukocytes, and everything that a stage does.

    It dwells and pans over a part of the slide, loses the focus, is dazzled for a moment, comes back to
    fields seen before, and jumps to another part, of which nothing was seen.
    """
    rng = np.random.default_rng((seed, 3))
    smear = Smear(seed, 0.84, 0.42, um_per_pixel, leukocytes_per_mm2=300.0)
    width, height = smear.size_um
    first = meander(rng, (0.0, 0.0, 0.55 * width, height), field_um)
    back = [_near(rng, place) for place in first[-2:-8:-1]]
    second = meander(rng, (0.68 * width, 0.0, width, height), field_um)
    middle = len(first) // 2
    poses = [
        *visit(rng, first[: middle + 1], 5, 5),
        *refocus(first[middle], 14),
        *dwell(rng, first[middle], 3),
        *over_expose(first[middle], 4),
        *dwell(rng, first[middle], 3),
        *visit(rng, first[middle:] + back, 5, 5),
        *visit(rng, second, 5, 5),
    ]
    return Scene(smear, tuple(poses))


def selftest(seed: int, field_um: tuple[float, float] = (128.0, 96.0), um_per_pixel: float = 0.1) -> Scene:
    """The scene of the self-test: some twenty leukocytes, and a way back over the fields seen."""
    rng = np.random.default_rng((seed, 4))
    smear = Smear(seed, 0.3, 0.16, um_per_pixel, leukocytes_per_mm2=500.0)
    there = meander(rng, (0.0, 0.0, *smear.size_um), field_um)
    back = [_near(rng, place) for place in there[-2::-1]]
    return Scene(smear, tuple(visit(rng, there + back, dwell_frames=8, pan_frames=2)))


def _near(rng: np.random.Generator, place: Place) -> Place:
    return place[0] + float(rng.normal(0, _HAND_UM)), place[1] + float(rng.normal(0, _HAND_UM))


#: Scenes by name; each is made of a seed, the size of a field in µm and the scale.
SCENES: MappingProxyType[str, Callable[[int, tuple[float, float], float], Scene]] = MappingProxyType(
    {"demo": demo, "selftest": selftest, "trial": trial}
)
