"""What lies over a smear and is none of it: scale bars, text, borders, dirt, pointers, the eyepiece's rim."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from hematovision.images import RGBImage

_Draw = Callable[[RGBImage, np.random.Generator], None]
# What lets less than the rest of the smear's light through hides it.
_HIDING_OPACITY = 0.7


def draw_overlay(tile: RGBImage, rng: np.random.Generator) -> tuple[RGBImage, NDArray[np.bool_]]:
    """Draw one kind of overlay, chosen at random.

    Returns:
        The tile with it, (side, side, 3) uint8 RGB, and where it hides what was there, (side, side) bool.
    """
    draw = _KINDS[rng.choice(len(_KINDS), p=_CHANCES)]
    seed = int(rng.integers(2**32))
    # Drawn alike on black and on white, it shows how much of what lies below shines through.
    black, white = np.zeros_like(tile), np.full_like(tile, 255)
    for canvas in (black, white):
        draw(canvas, np.random.default_rng(seed))
    through = (white.astype(np.float32) - black) / 255
    drawn = np.clip(np.rint(tile * through + black), 0, 255).astype(np.uint8)
    return drawn, through.mean(axis=2) < 1 - _HIDING_OPACITY


def _scale_bar(tile: RGBImage, rng: np.random.Generator) -> None:
    side = tile.shape[0]
    color = _plain_color(rng) if rng.random() < 0.6 else _any_color(rng)
    x, y = int(rng.uniform(0, side - 40)), int(rng.uniform(10, side - 5))
    cv2.rectangle(tile, (x, y), (x + int(rng.uniform(15, 90)), y + int(rng.integers(1, 8))), color, -1)
    if rng.random() < 0.6:
        _write(tile, (x, y - 4), color, rng)


def _text(tile: RGBImage, rng: np.random.Generator) -> None:
    side = tile.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.uniform(-20, side - 30)), int(rng.uniform(10, side))
        _write(tile, place, _plain_color(rng) if rng.random() < 0.6 else _any_color(rng), rng)


def _write(tile: RGBImage, place: tuple[int, int], color: tuple[int, ...], rng: np.random.Generator) -> None:
    letters = "".join(rng.choice(list("0123456789 umXxABCabc:/.-"), int(rng.integers(2, 12))))
    thickness = int(rng.integers(1, 4))
    cv2.putText(tile, letters, place, 0, rng.uniform(0.25, 1.2), color, thickness, cv2.LINE_AA)


def _border(tile: RGBImage, rng: np.random.Generator) -> None:
    """Darken or whiten a strip along one side, or two that meet."""
    level = int(rng.integers(0, 90)) if rng.random() < 0.8 else int(rng.integers(200, 256))
    for _ in range(int(rng.integers(1, 3))):
        width = int(rng.integers(1, 60) if rng.random() < 0.4 else rng.integers(1, 12))
        strip = [tile[:width], tile[-width:], tile[:, :width], tile[:, -width:]][rng.integers(4)]
        strip[:] = level


def _dirt(tile: RGBImage, rng: np.random.Generator) -> None:
    """Draw dark specks and threads of any shape, a little out of focus."""
    side = tile.shape[0]
    layer = tile.copy()
    for _ in range(int(rng.integers(1, 5))):
        color = tuple(int(level) for level in rng.integers(0, 110, 3))
        middle = rng.uniform(0, side, 2)
        if rng.random() < 0.7:
            radius = np.exp(rng.uniform(np.log(1), np.log(16)))
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 12))))
            radii = radius * rng.uniform(0.5, 1.3, len(angles))
            corners = middle + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            cv2.fillPoly(layer, [np.rint(corners).astype(np.int32)], color, cv2.LINE_AA)
        else:
            steps = rng.normal(0, 12, (int(rng.integers(3, 9)), 2)).cumsum(axis=0) + middle
            cv2.polylines(layer, [np.rint(steps).astype(np.int32)], False, color, int(rng.integers(1, 4)))
    tile[:] = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.4, 2))


def _pointer(tile: RGBImage, rng: np.random.Generator) -> None:
    """Draw an eyepiece's pointer: a dark wedge from the border, out of focus."""
    side = tile.shape[0]
    angle = rng.uniform(0, 2 * np.pi)
    tip = rng.uniform(0.2 * side, 0.8 * side, 2)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    end, width = tip + 2 * side * along, rng.uniform(2, 16)
    wedge = np.array([tip, end + width * across, end - width * across])
    mask = np.zeros(tile.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(wedge).astype(np.int32)], 255, cv2.LINE_AA)
    share = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 3))[..., None] / 255 * rng.uniform(0.7, 1)
    tile[:] = np.rint(tile * (1 - share) + int(rng.integers(0, 60)) * share).astype(np.uint8)


def _eyepiece(tile: RGBImage, rng: np.random.Generator) -> None:
    """Darken all beyond the round rim of an eyepiece or of a telephone held to one."""
    side = tile.shape[0]
    radius, (x, y) = rng.uniform(0.5, 2.5) * side, rng.uniform(0.2, 0.8, 2) * side
    away = rng.uniform(0, 2 * np.pi)
    shift = max(0.0, radius - rng.uniform(0, 0.7) * side)
    x, y = x + shift * np.cos(away), y + shift * np.sin(away)
    rows, columns = np.mgrid[:side, :side]
    beyond = np.clip((np.hypot(columns - x, rows - y) - radius) / rng.uniform(0.5, 8), 0, 1)[..., None]
    level = int(rng.integers(0, 90))
    tile[:] = np.rint(tile * (1 - beyond) + level * beyond).astype(np.uint8)


def _plain_color(rng: np.random.Generator) -> tuple[int, ...]:
    return (int(rng.choice([0, 30, 255])),) * 3


def _any_color(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(level) for level in rng.integers(0, 256, 3))


_KINDS: tuple[_Draw, ...] = (_scale_bar, _text, _border, _dirt, _pointer, _eyepiece)
_CHANCES = (0.2, 0.15, 0.2, 0.25, 0.1, 0.1)
