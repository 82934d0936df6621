"""A tiny network that keeps the network's contract, and cells that it tells apart: by their colour."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from hematovision.cell_classes import CLASS_NAMES
from hematovision.crops import CropSize
from hematovision.model_file import Manifest
from train.cells import CellSet
from train.datasets import LabelledImage

SIDE = 32
COLORS = np.array([(200, 120, 160), (220, 90, 70), (110, 120, 180), (90, 60, 140)])


def draw_cells(per_class: int, seed: int, side: str = "train") -> CellSet:
    """Noisy squares, one colour a class, none of them as dark as 0 or as bright as 255."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASS_NAMES)), per_class)
    crops = np.clip(rng.normal(COLORS[labels][:, None, None], 12, (len(labels), SIDE, SIDE, 3)), 20, 240)
    images = tuple(
        LabelledImage(Path(f"{seed}-{n}.png"), CLASS_NAMES[label], f"drawn/{seed}-{n}", side)
        for n, label in enumerate(labels)
    )
    return CellSet(images, crops.astype(np.uint8), labels, np.ones(len(labels), bool))


def build_tiny_network(
    training: CellSet, activation: Callable[[object], object] | None = None
) -> keras.Model:
    """Two convolutions as MobileNetV2 has them; its logits are fitted to the cells by least squares."""
    keras.utils.set_random_seed(1)
    crop = keras.Input((SIDE, SIDE, 3), name="crop")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(crop)
    for layer in (
        keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
        keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
    ):
        x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(layer(x)))
    # 256 features to 4 logits: enough weights for the converter to find them worth quantising.
    x = keras.layers.Conv2D(256, 1)(x)
    x = activation(x) if activation else keras.layers.ReLU(6.0)(x)
    features = keras.Model(crop, keras.layers.GlobalAveragePooling2D()(x))
    logits = keras.layers.Dense(len(CLASS_NAMES), name="logits")
    network = keras.Model(crop, logits(features.output))
    seen = features.predict_on_batch(training.crops.astype(np.float32))
    wanted = 6 * np.eye(len(CLASS_NAMES), dtype=np.float32)[training.labels]
    design = np.hstack([seen, np.ones((len(seen), 1), np.float32)])
    # Ridge, so that the weights stay as small as a trained network's.
    solution = np.linalg.solve(design.T @ design + 1e-3 * np.eye(design.shape[1]), design.T @ wanted)
    logits.set_weights([solution[:-1], solution[-1]])
    return network


def tiny_manifest() -> Manifest:
    """The network's manifest; it names no training data, since its cells are drawn."""
    return Manifest(CropSize(20.0, SIDE), temperature=1.0, decline_below=0.4, training={"data": "drawn"})
