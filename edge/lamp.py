"""Watching the lamp: whether it is still what the blank field was recorded with."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from hematovision.light import Light
from hematovision.optics import Field, LampDrift, lamp_drift

# Of brightness, of each channel's part in the colour, of unevenness. The background of a stained smear takes
# a few per cent of what empty glass lets through, most of it red: that is no drift.
_LIMITS = np.array((0.10, 0.08, 0.08, 0.08, 0.05))
# Fields whose median is taken: cells are in the way at other places in each. Odd: never half old, half new.
_WINDOW = 21


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
