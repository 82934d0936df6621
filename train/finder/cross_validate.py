"""The finder on laboratories that it did not learn from: each is left out in turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hematovision.heat_map import STRIDE, Peak, at_finder_scale, find_peaks, padded
from hematovision.images import RGBImage
from train.finder.boxed_fields import BoxedField, identify, laboratories_of
from train.finder.fit import FinderData, FinderSettings, fit_finder
from train.finder.score import Find, FinderScore, score_finder


@dataclass(frozen=True)
class LeftOut:
    """A laboratory left out, and the score of the finder that learnt from all others, by threshold."""

    laboratory: str
    scores: dict[float, FinderScore]


def cross_validate_finder(
    fields: Sequence[BoxedField],
    data: FinderData,
    settings: FinderSettings,
    thresholds: Sequence[float],
    folder: Path,
    only: Sequence[str],
    on_step: Callable[[str, int, int, float], None],
    on_left_out: Callable[[LeftOut], None],
) -> None:
    """Leave out one laboratory at a time: learn from the others, score on it; resumable.

    Args:
        fields: what is scored on, nothing of it set aside for reporting.
        data: what is learnt from.
        settings: of each run.
        thresholds: of the heat map.
        folder: one folder a laboratory is made in it.
        only: laboratories to leave out; all where empty.
        on_step: called after each batch with the laboratory, steps done, steps in all, and the loss.
        on_left_out: called with each result.

    Raises:
        SettingError: the folder holds another run.
        ImageError: an image cannot be read.
    """
    for laboratory in laboratories_of(fields):
        if only and laboratory not in only:
            continue

        def step(done: int, total: int, loss: float, laboratory: str = laboratory) -> None:
            on_step(laboratory, done, total, loss)

        network = fit_finder(
            data.without(laboratory),
            settings,
            {"left_out": laboratory, "fields_sha256": identify(fields)},
            folder / laboratory,
            step,
        )
        own = [field for field in fields if field.laboratory == laboratory]
        find = network_finder(network, min(thresholds))
        on_left_out(LeftOut(laboratory, score_finder(find, own, thresholds)))


def network_finder(network: keras.Model, threshold: float) -> Find:
    """Make a finder of a trained network, of what is hotter than the lowest threshold of interest."""

    def find(image: RGBImage, um_per_pixel: float) -> list[Peak]:
        field = at_finder_scale(image, um_per_pixel)
        scale_x, scale_y = image.shape[1] / field.shape[1], image.shape[0] / field.shape[0]
        return [
            Peak((peak.x + 0.5) * scale_x - 0.5, (peak.y + 0.5) * scale_y - 0.5, peak.heat)
            for peak in peaks_of(network, field, threshold)
        ]

    return find


def peaks_of(network: keras.Model, field: RGBImage, threshold: float) -> list[Peak]:
    """Find what is hotter than a threshold in a field at the finder's scale, (height, width, 3) uint8 RGB."""
    height, width = field.shape[:2]
    return find_peaks(predict_heat(network, padded(field)), (width, height), threshold)


def predict_heat(network: keras.Model, field: RGBImage) -> NDArray[np.float32]:
    """Predict the heat map of a padded field: (height / 4, width / 4) float32 from 0 to 1."""
    logits = np.asarray(network(field[None].astype(np.float32), training=False))[0, ..., 0]
    assert logits.shape == (field.shape[0] // STRIDE, field.shape[1] // STRIDE)
    return 1 / (1 + np.exp(-logits))


def to_json(left_out: LeftOut) -> dict[str, Any]:
    """Return a result as JSON."""
    return {
        "laboratory": left_out.laboratory,
        "scores": {
            f"{threshold:g}": {
                "recall": score.recall,
                "cells": dict(score.cells),
                "found": dict(score.found),
                "fields": score.fields,
                "counted_fields": score.counted_fields,
                "false_regions": score.false_regions,
                "red_cells": score.red_cells,
                "false_among_red": score.false_among_red,
                "missed": score.missed,
                "false": score.false,
            }
            for threshold, score in left_out.scores.items()
        },
    }
