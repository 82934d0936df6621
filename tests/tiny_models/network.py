"""A tiny real network on the network's contract: it names a crop by its mean colour.

Its files lie here ready-made, so that the device's tests need no TensorFlow; ``make.py`` makes them.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
SIDE = 32
# Red, green and blue (each -1 to 1, its mean over the crop) to neutrophil, eosinophil, monocyte, lymphocyte:
# white is a neutrophil, red an eosinophil, green a monocyte, blue a lymphocyte; grey is none of them.
WEIGHTS = np.array([[2, 4, -4, -4], [2, -4, 4, -4], [2, -4, -4, 4]], np.float32)


def flatbuffer(variant: str) -> bytes:
    """The network as the flatbuffer that ``make.py`` calls so."""
    return (FOLDER / f"{variant}.tflite").read_bytes()


def expected_logits(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network computes: (n, SIDE, SIDE, 3) to (n, 4)."""
    return (crops.astype(np.float32).mean(axis=(1, 2)) / 127.5 - 1) @ WEIGHTS
