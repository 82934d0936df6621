"""Watching the lamp: its blank field learnt, and whether the light is still what it was recorded with."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge.cameras import Camera
from edge.pipeline import SeenFrame
from edge.rectangle import Rectangle
from hematovision.blank_field import BlankField
from hematovision.errors import CalibrationError
from hematovision.learned_blank import MIN_PLACES, BlankLearner
from hematovision.light import Light
from hematovision.optics import Field, LampDrift, lamp_drift

# Of brightness, of each channel's part in the colour, of unevenness. The background of a stained smear takes
# a few per cent of what empty glass lets through, most of it red: that is no drift.
_LIMITS = np.array((0.10, 0.08, 0.08, 0.08, 0.05))
# Fields whose median is taken: cells are in the way at other places in each. Odd: never half old, half new.
_WINDOW = 21
_MIN_FIELDS = 5  # cells that lie where the light is steep mislead one or two


class LampWatch:
    """Says when the light of the fields looked at has drifted from the blank field they are divided by.

    It remembers the last `_WINDOW` fields, so that a change in the middle of a run is noticed.
    """

    def __init__(self) -> None:
        self._recent: deque[Light] = deque(maxlen=_WINDOW)
        self._told = np.zeros(len(_LIMITS))

    def see(self, field: Field) -> str | None:
        """A line for the user where the lamp has drifted, once until it changes again; else None."""
        if field.blank is None:
            return None
        self._recent.append(field.light)
        if len(self._recent) < _MIN_FIELDS:
            return None
        drift = lamp_drift(self._recent)
        now = np.array((drift.brightness, *drift.colour, drift.unevenness)) / _LIMITS
        if np.abs(now).max() <= 0.5:  # not at 1: light just at a limit would be told of again and again
            self._told = np.zeros(len(_LIMITS))
        if np.abs(now).max() <= 1 or np.abs(now - self._told).max() <= 1:
            return None
        self._told = now
        return (
            f"the light has drifted from {field.blank.name}: {_in_words(drift, np.abs(now) > 1)}; check lamp "
            "and exposure, or record the blank field again (hematovision calibrate --blank)"
        )


class BlankWatch:
    """Learns the blank field of a camera whose exposure and gains are locked, while the slide moves.

    Places of one area lie a field apart. Between two areas the stage moved farther than any frame shows.
    """

    def __init__(self) -> None:
        self._done = False
        self._camera: Camera | None = None
        self._start_again()

    def see(self, result: SeenFrame, camera: Camera) -> tuple[BlankField | None, str | None]:
        """Return the blank field once it is learnt, and a line for the user where it is, or is refused."""
        if self._done or result.place is None or result.field.blank is not None:
            return None, None
        if camera is not self._camera:
            # A camera that was opened again has locked what it found then.
            self._camera = camera
            self._start_again()
        area, window = (result.slide, result.place.position.area), result.place.window_um
        if any(area == other and window.common(seen).area > 0 for other, seen in self._places):
            return None, None
        if not camera.is_locked():
            self._start_again()
            return None, None
        if not self._learner.add(result.field):
            return None, None
        self._places.append((area, window))
        if len(self._places) < MIN_PLACES:
            return None, None
        height, width = result.frame.image.shape[:2]
        name = f"the blank field learnt from {MIN_PLACES} places of the slide"
        try:
            blank = self._learner.learn(width, height, name)
        except CalibrationError as error:
            self._start_again()
            return None, f"no blank field was learnt from {MIN_PLACES} places: {error}"
        self._done = True
        return blank, f"A blank field was learnt from {MIN_PLACES} places: used from the next session on."

    def _start_again(self) -> None:
        self._learner = BlankLearner()
        self._places: list[tuple[tuple[int, int], Rectangle]] = []


def _in_words(drift: LampDrift, beyond: NDArray[np.bool_]) -> str:
    amounts = (drift.brightness, *drift.colour)
    names = ("all of it", "red beside the others", "green beside the others", "blue beside the others")
    words = [
        f"{name} {abs(amount):.0%} {'brighter' if amount > 0 else 'darker'}"
        for name, amount, far in zip(names, amounts, beyond, strict=False)
        if far
    ]
    if beyond[-1]:
        words.append(f"uneven by {drift.unevenness:.0%}")
    return ", ".join(words)
