"""Dividing training images by original, so that no copy of a cell is on both sides of anything."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from train.datasets import LabelledImage

#: Of the training originals, what is kept apart to choose everything on.
DEVELOPMENT_SHARE = 0.15


def choose_development(
    images: Sequence[LabelledImage], kin: Mapping[str, str], seed: int, share: float = DEVELOPMENT_SHARE
) -> frozenset[str]:
    """Choose the originals of the development side.

    The choice is the same in every process and on every machine: originals are ordered by the hash of their
    name, within each label of each collection, so that rare classes are on both sides.

    Args:
        images: training images.
        kin: for originals that show the same cell, one name that stands for all of them; others stand for
            themselves. Kin stay together.
        seed: another one gives another choice.
        share: of the originals.
    """
    strata: dict[tuple[str, str], set[str]] = defaultdict(set)
    members: dict[str, set[str]] = defaultdict(set)
    for image in images:
        family = kin.get(image.original, image.original)
        members[family].add(image.original)
        strata[(image.collection, image.label)].add(family)
    chosen: set[str] = set()
    for families in strata.values():
        ordered = sorted(families, key=lambda family: _hash(f"{seed}:{family}"))
        for family in ordered[: round(share * len(ordered))]:
            chosen |= members[family]
    return frozenset(chosen)


def digest(originals: frozenset[str]) -> str:
    """SHA-256 over a set of originals, hexadecimal: which ones they were, in a line."""
    return _hash("\n".join(sorted(originals)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
