"""Draw what a camera's program, dirt and the eyepiece lay over a smear, at full resolution.

None of it is what the finder learns to pass over (`train.finder.overlays`): text is set in a real font,
bars, boxes and time stamps are where programs put them, dirt grows from noise, surrounds are those of
eyepieces and telephones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hematovision.images import RGBImage

#: Share of the field that dirt covers.
DIRT_SHARE = 0.01

_Opacity = NDArray[np.float32]
_LETTERING = (
    "{:d}x",
    "100X oil",
    "{:d} um",
    "2024-0{:d}-17 10:42:31",
    "Slide {:d}",
    "ID 004{:d}",
    "WBC {:d}",
    "Exp 1/{:d}0 s",
)


@dataclass(frozen=True)
class Overlay:
    """An overlay: ``color``, (height, width, 3) float32; ``opacity``, (height, width) float32, 0 to 1."""

    color: NDArray[np.float32]
    opacity: _Opacity

    def over(self, image: RGBImage) -> RGBImage:
        """Return the field with it."""
        covered = image.copy()
        there = self.opacity > 0  # most of a field is as it was
        share = self.opacity[there][:, None]
        mixed = image[there] * (1 - share) + self.color[there] * share
        covered[there] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        return covered


def draw_overlay(kind: str, image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:
    """Draw an overlay of one of `KINDS` for a field, (height, width, 3) uint8 RGB."""
    return KINDS[kind](image, um_per_pixel, rng)


def _bar(image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:
    """Draw a scale bar of a round length in a corner, its length beside it; some on a plate."""
    height, width = image.shape[:2]
    longest = width * um_per_pixel * 0.35
    length_um = max((step for step in (2, 5, 10, 20, 50, 100) if step <= longest), default=1)
    length, thickness = round(length_um / um_per_pixel), max(2, round(height * rng.uniform(0.004, 0.02)))
    text, size = f"{length_um} {rng.choice(['µm', 'um'])}", max(9, round(height * rng.uniform(0.025, 0.06)))
    margin = round(height * rng.uniform(0.02, 0.08))
    x = margin if rng.random() < 0.5 else max(width - length - margin, 0)
    y = height - margin - thickness if rng.random() < 0.7 else margin + round(1.5 * size)
    picture, draw = _canvas(width, height)
    level = 0 if rng.random() < 0.6 else 255
    if rng.random() < 0.3:
        plate = (x - size // 2, y - round(1.6 * size), x + length + size // 2, y + thickness + size // 2)
        draw.rectangle(plate, fill=(*(255 - level,) * 3, 255))
    color = (*(level,) * 3, 255)
    draw.rectangle((x, y, x + length, y + thickness - 1), fill=color)
    if rng.random() < 0.4:  # with ends, as on a drawing
        for end in (x, x + length):
            draw.rectangle(
                (end - thickness // 2, y - size // 3, end + thickness // 2, y + size // 3), fill=color
            )
    draw.text((x, y - round(1.4 * size)), text, fill=color, font=ImageFont.load_default(size))
    return _pasted(picture)


def _text(image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:  # noqa: ARG001
    """Write one to three lines as cameras' programs do, plain, outlined or on a bar across the field."""
    height, width = image.shape[:2]
    picture, draw = _canvas(width, height)
    colors = [(0, 0, 0), (255, 255, 255), (255, 230, 0), (255, 0, 0), (0, 255, 0), (0, 80, 255)]
    for _ in range(int(rng.integers(1, 4))):
        size = max(9, round(height * rng.uniform(0.025, 0.09)))
        text = str(rng.choice(_LETTERING)).format(int(rng.integers(1, 10)))
        color = colors[int(rng.integers(len(colors)))]
        x, y = (
            round(width * rng.uniform(0.02, 0.7)),
            round((height - 2 * size) * rng.choice([0.02, 0.5, 0.97])),
        )
        style = rng.random()
        if style < 0.2:
            draw.rectangle((0, y - size // 4, width, y + round(1.4 * size)), fill=(0, 0, 0, 255))
            color = (255, 255, 255)
        stroke = max(1, size // 14) if style > 0.7 else 0
        outline = tuple(255 - level for level in color)
        draw.text(
            (x, y),
            text,
            fill=(*color, 255),
            font=ImageFont.load_default(size),
            stroke_width=stroke,
            stroke_fill=(*outline, 255),
        )
    return _pasted(picture)


def _dirt(image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:
    """Lay dust and fibres over `DIRT_SHARE` of the field: smooth noise above a level."""
    height, width = image.shape[:2]
    noise = np.zeros((height, width), np.float32)
    for weight, size_um in ((1.0, rng.uniform(1.5, 6)), (0.5, 0.6)):
        # Drawn coarsely and enlarged: noise as fine as its blur needs.
        step = max(1.0, size_um / um_per_pixel / 3)
        size = math.ceil(height / step) + 8, math.ceil(width / step) + 8
        coarse = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), 3)
        whole = cv2.resize(coarse / coarse.std(), None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        noise += weight * whole[:height, :width]
    for _ in range(int(rng.integers(0, 3))):  # a fibre
        points = rng.uniform(0, 1, 2) + np.cumsum(rng.normal(0, 0.04, (8, 2)), axis=0)
        line = np.rint(points * (width, height)).astype(np.int32)
        fibre = np.zeros((height, width), np.uint8)
        cv2.polylines(fibre, [line], False, 1, max(1, round(rng.uniform(0.4, 1.2) / um_per_pixel)))
        noise[fibre > 0] += 10
    limit = float(np.quantile(noise[::4, ::4], 1 - DIRT_SHARE))
    soft = rng.uniform(0.2, 1.5) / um_per_pixel
    opacity = cv2.GaussianBlur((noise > limit).astype(np.float32), (0, 0), soft) * rng.uniform(0.75, 1)
    brown = np.array([1.0, rng.uniform(0.7, 1.0), rng.uniform(0.4, 1.0)]) * rng.uniform(5, 70)
    return Overlay(np.broadcast_to(brown.astype(np.float32), image.shape), opacity)


def _pointer(image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:
    """Put an eyepiece's pointer or a drawn arrow from the border to near the middle, sharp or soft."""
    height, width = image.shape[:2]
    tip = np.array([width, height]) * rng.uniform(0.35, 0.65, 2)
    angle = rng.uniform(0, 2 * math.pi)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    thick = height * rng.uniform(0.004, 0.03)
    end = tip + along * (width + height)
    shape = [tip, end + across * thick * 4, end - across * thick * 4]  # a needle
    if rng.random() < 0.4:  # an arrow
        neck, wing = tip + along * 5 * thick, 3 * thick
        shape = [tip, neck + across * wing, neck + across * thick, end + across * thick]
        shape += [end - across * thick, neck - across * thick, neck - across * wing]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.array(shape)).astype(np.int32)], 255, cv2.LINE_AA)
    opacity = mask.astype(np.float32) / 255
    if rng.random() < 0.6:
        opacity = cv2.GaussianBlur(opacity, (0, 0), rng.uniform(0.3, 2) / um_per_pixel)
    level = rng.uniform(0, 50) if rng.random() < 0.8 else rng.uniform(200, 255)
    return Overlay(np.broadcast_to(np.float32(level), image.shape), opacity)


def _surround(image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:
    """Surround an eyepiece's round field with black or grey, sharp or soft."""
    height, width = image.shape[:2]
    # From a circle that fits in to one that only cuts the corners.
    radius = rng.uniform(0.5 * min(width, height), 0.47 * math.hypot(width, height))
    x = width / 2 + rng.normal(0, 0.03) * width
    y = height / 2 + rng.normal(0, 0.03) * height
    rows, columns = np.ogrid[:height, :width]
    away = np.hypot(columns - x, rows - y).astype(np.float32)
    edge = rng.uniform(0.3, 6) / um_per_pixel
    opacity = np.clip((away - radius) / edge, 0, 1).astype(np.float32)
    level = rng.uniform(0, 15) if rng.random() < 0.5 else rng.uniform(30, 170)
    # A telephone's grey is uneven: lighter on one side.
    across, down = rng.uniform(-0.15, 0.15, 2)
    slope = across * (columns / width - 0.5) + down * (rows / height - 0.5)
    grey = (level * (1 + slope))[..., None] * (1 + rng.normal(0, 0.03, 3))
    return Overlay(grey.astype(np.float32), opacity)


def _border(image: RGBImage, um_per_pixel: float, rng: np.random.Generator) -> Overlay:  # noqa: ARG001
    """Lay lines along one to four sides, as of a frame, a cropped capture or a sensor's dead rows."""
    height, width = image.shape[:2]
    opacity = np.zeros((height, width), np.float32)
    for side in rng.permutation(4)[: int(rng.integers(1, 5))]:
        line = max(1, round(height * rng.choice([0.002, 0.006, 0.02, 0.05])))
        away = 0 if rng.random() < 0.7 else round(height * rng.uniform(0.005, 0.03))
        across = np.s_[away : away + line] if side < 2 else np.s_[-away - line : -away or None]
        if side % 2:
            opacity[:, across] = 1
        else:
            opacity[across] = 1
    level = float(rng.choice([0, 0, 20, 90, 255]))
    return Overlay(np.broadcast_to(np.float32(level), image.shape), opacity)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGBA", (width, height))
    return picture, ImageDraw.Draw(picture)


def _pasted(picture: Image.Image) -> Overlay:
    pixels = np.asarray(picture, np.float32)
    return Overlay(pixels[..., :3], pixels[..., 3] / 255)


_Draw = Callable[[RGBImage, float, np.random.Generator], Overlay]
#: Kinds of overlays and how each is drawn.
KINDS: dict[str, _Draw] = {
    "bar": _bar,
    "text": _text,
    "dirt": _dirt,
    "pointer": _pointer,
    "surround": _surround,
    "border": _border,
}
