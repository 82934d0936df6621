"""The finder on laboratories that it did not learn from: each is left out in turn."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.finder.boxed_fields import BoxedField, laboratories_of
from train.finder.fit import FinderData, FinderSettings, fit_finder
from train.finder.score import FinderScore, network_finder, score_finder


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


def identify(fields: Sequence[BoxedField]) -> str:
    """Return a hash of which fields and boxes these are."""
    digest = hashlib.sha256()
    for field in sorted(fields, key=lambda field: field.path):
        cells = [dataclasses.astuple(cell) for cell in (*field.cells, *field.decoys)]
        digest.update(f"{field.group}/{field.path.name} {field.um_per_pixel} {cells}\n".encode())
    return digest.hexdigest()


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
