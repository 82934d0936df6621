"""Upright rectangles on the slide, in µm: nuclei's boxes and what a frame shows."""

import math
from typing import NamedTuple


class Rectangle(NamedTuple):
    """A rectangle by its sides; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Its area."""
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def middle(self) -> tuple[float, float]:
        """(x, y) of its middle."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def common(self, other: "Rectangle") -> "Rectangle":
        """What both share; a rectangle of no area where they share nothing."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Rectangle(
            left, top, max(left, min(self.right, other.right)), max(top, min(self.bottom, other.bottom))
        )

    def holds(self, other: "Rectangle") -> bool:
        """Whether all of another lies within it."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )

    def wider(self, by: float) -> "Rectangle":
        """The rectangle with each side so far out, or in if negative."""
        return Rectangle(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def moved(self, x: float, y: float) -> "Rectangle":
        """The rectangle elsewhere."""
        return Rectangle(self.left + x, self.top + y, self.right + x, self.bottom + y)


EVERYWHERE = Rectangle(-math.inf, -math.inf, math.inf, math.inf)
