"""What is wrong with labelled data sets before a model is trained on them, judged by the images' content."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hematovision.errors import ImageError, SettingError
from hematovision.finder import CellRegion, load_finder, most_prominent
from hematovision.images import read_image
from hematovision.optics import measure_field
from train.datasets import DataSet, LabelledImage
from train.duplicates import DuplicatePair, Progress, find_duplicates, group_by_content


@dataclass(frozen=True)
class Count:
    """How many images of one label a data set has on one side (None: no side is given)."""

    dataset: str
    label: str
    side: str | None
    images: int


@dataclass(frozen=True)
class Finding:
    """A pair that should not be: across the sides of a split, or of one cell with two labels.

    ``same_cell``: whether the labelled cell of one image is that of the other; None where that cannot be
    told, because the data set's scale is not known, the finder sees no cell, or the label may mean one or
    another. Fields that overlap without showing the same labelled cell may well have different labels.
    """

    pair: DuplicatePair
    same_cell: bool | None


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    ``dropped``: what the data sets left out, with the reason and how often. ``pairs``: images that show the
    same piece of a slide, best first; in large groups not all of them. ``groups``: what pairs join, two
    images or more each, largest first. ``leaks``: pairs across train and test. ``label_conflicts``: pairs of
    one cell with two labels. ``neighbours``: pairs with two labels that overlap but show different cells.
    """

    counts: tuple[Count, ...]
    dropped: tuple[tuple[str, str, int], ...]
    unreadable: tuple[tuple[LabelledImage, str], ...]
    pairs: tuple[DuplicatePair, ...]
    groups: tuple[tuple[LabelledImage, ...], ...]
    leaks: tuple[Finding, ...]
    label_conflicts: tuple[Finding, ...]
    neighbours: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing is unreadable, on both sides of a split, or labelled twice."""
        return not (self.unreadable or self.leaks or self.label_conflicts)

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines; images by their path."""
        return {
            "images": sum(count.images for count in self.counts),
            "counts": [vars(count) for count in self.counts],
            "dropped": [
                {"dataset": dataset, "reason": reason, "images": images}
                for dataset, reason, images in self.dropped
            ],
            "unreadable": [{"image": str(image.path), "reason": reason} for image, reason in self.unreadable],
            "pairs": [_pair_json(pair) for pair in self.pairs],
            "groups": [[str(image.path) for image in group] for group in self.groups],
            "leaks": [_finding_json(finding) for finding in self.leaks],
            "label_conflicts": [_finding_json(finding) for finding in self.label_conflicts],
            "neighbours": self.neighbours,
        }


def audit_datasets(datasets: Sequence[DataSet], progress: Progress | None = None) -> AuditReport:
    """Audit data sets, together: a pair may lie in two of them.

    Args:
        datasets: their scales, where known, tell whether two images show the same cell.
        progress: is told how far each step of the work is.

    Raises:
        SettingError: an image is in two of the data sets.
    """
    scales = _scale_of_each(datasets)
    images = [image for dataset in datasets for image in dataset.images]
    search = find_duplicates(images, progress)
    groups = [group for group in group_by_content(images, search.pairs) if len(group) > 1]
    groups.sort(key=len, reverse=True)
    same_cell = CellComparison(scales)
    across = [pair for pair in search.pairs if {pair.first.side, pair.second.side} == {"train", "test"}]
    differing = [pair for pair in search.pairs if pair.first.label != pair.second.label]
    judged = []
    for done, pair in enumerate(differing):
        if progress is not None:
            progress("comparing cells with two labels", done, len(differing))
        judged.append(Finding(pair, same_cell(pair)))
    conflicts = tuple(finding for finding in judged if finding.same_cell is not False)
    return AuditReport(
        counts=_count(datasets),
        dropped=tuple((dataset.name, *dropped) for dataset in datasets for dropped in dataset.dropped),
        unreadable=search.unreadable,
        pairs=search.pairs,
        groups=tuple(groups),
        leaks=tuple(Finding(pair, same_cell(pair)) for pair in across),
        label_conflicts=conflicts,
        neighbours=len(judged) - len(conflicts),
    )


def _scale_of_each(datasets: Sequence[DataSet]) -> dict[LabelledImage, float | None]:
    """µm per pixel of every image."""
    owner: dict[Path, DataSet] = {}
    for dataset in datasets:
        for image in dataset.images:
            other = owner.setdefault(image.path.resolve(), dataset)
            if other is not dataset:
                raise SettingError(
                    f"{image.path}: is in {other.path} and in {dataset.path}; give one of them"
                )
    return {image: dataset.um_per_pixel for dataset in datasets for image in dataset.images}


def _count(datasets: Iterable[DataSet]) -> tuple[Count, ...]:
    return tuple(
        Count(dataset.name, label, side, images)
        for dataset in datasets
        for (label, side), images in sorted(
            Counter((image.label, image.side) for image in dataset.images).items(),
            key=lambda item: (item[0][0], item[0][1] or ""),
        )
    )


class CellComparison:
    """Whether a pair shows one labelled cell: a nucleus, laid on the other image, meets that image's."""

    def __init__(self, scales: Mapping[LabelledImage, float | None]) -> None:
        self._scales = scales
        self._finder = load_finder()
        self._nuclei = lru_cache(maxsize=1024)(self._find_nuclei)

    def __call__(self, pair: DuplicatePair) -> bool | None:
        """True or False, or None where it cannot be told (see `Finding`)."""
        if pair.kind == "exact":
            return True
        onto_first = np.vstack([pair.transform, [0.0, 0.0, 1.0]])
        onto_second = np.linalg.inv(onto_first)
        # Either way: of a nucleus that one image cuts off, the other's middle may not be in view.
        verdicts = {
            _meets(onto_first, second, first) or _meets(onto_second, first, second)
            for first, second in zip(self._nuclei(pair.first), self._nuclei(pair.second), strict=False)
        }
        return verdicts.pop() if len(verdicts) == 1 else None

    def _find_nuclei(self, image: LabelledImage) -> tuple[CellRegion, ...]:
        """The nuclei that a label may mean: the most prominent one, and the one nearest to the middle."""
        um_per_pixel = self._scales[image]
        if um_per_pixel is None:
            return ()
        try:
            field = measure_field(read_image(image.path), um_per_pixel)
        except ImageError:
            return ()  # a field without light: there is no cell to be the same
        regions = self._finder.find(field)
        prominent = most_prominent(regions, field)
        if prominent is None:
            return ()
        height, width = field.image.shape[:2]
        central = min(regions, key=lambda region: math.dist(region.center, (width / 2, height / 2)))
        return prominent, central


def _meets(transform: np.ndarray[Any, Any], moved: CellRegion, fixed: CellRegion) -> bool:
    """Whether the centre of one nucleus, moved, is in the box of the other."""
    x, y, _ = transform @ [*moved.center, 1.0]
    left, top, width, height = fixed.box
    return bool(left <= x <= left + width and top <= y <= top + height)


def _pair_json(pair: DuplicatePair) -> dict[str, Any]:
    return {
        "first": str(pair.first.path),
        "second": str(pair.second.path),
        "kind": pair.kind,
        "score": round(pair.score, 4),
        "overlap": round(pair.overlap, 4),
        "transform": [[round(value, 5) for value in row] for row in pair.transform],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    first, second = finding.pair.first, finding.pair.second
    return {
        **_pair_json(finding.pair),
        "labels": [first.label, second.label],
        "sides": [first.side, second.side],
        "same_cell": finding.same_cell,
    }
