"""The differential: how the cells seen divide into the classes, and how sure their number makes that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED
from hematovision.errors import ModelFileError

CONFIDENCE = 0.95
#: How many cells given a class a differential is made of: 100 by habit, 200 by one reader and 400 by two
#: where a method is judged (CLSI H20-A2, 2007).
TARGETS = (100, 200, 400)
#: Fewer cells say too little of how familiar they are.
MIN_UNFAMILIAR = 20
#: Per cent of the development cells that the decline threshold leaves unclassified (`train.confidence`).
UNCLASSIFIED_BY_CHOICE = 5.0


@dataclass(frozen=True)
class Share:
    """A count out of a total, in per cent, with its exact 95 % limits; ``percent`` is None of none."""

    count: int
    total: int
    percent: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Differential:
    """Counts of the cells given a class, in the order of `CLASS_NAMES`, and of the unclassified apart.

    The limits cover sampling only: what a count of so many cells leaves open. The classifier's own error
    comes on top of them; whatever shows them also shows `classifier_error`.
    """

    counts: tuple[int, ...] = (0,) * len(CLASS_NAMES)
    unclassified: int = 0

    def plus(self, class_names: Iterable[str]) -> "Differential":
        """This differential with more cells counted: each the name of a class, or `UNCLASSIFIED`."""
        counts, unclassified = list(self.counts), self.unclassified
        for name in class_names:
            if name == UNCLASSIFIED:
                unclassified += 1
            else:
                counts[CLASS_NAMES.index(name)] += 1
        return Differential(tuple(counts), unclassified)

    @property
    def named(self) -> int:
        """Cells given a class: what the percentages are of."""
        return sum(self.counts)

    @property
    def total(self) -> int:
        """All cells, named or not."""
        return self.named + self.unclassified

    def share(self, class_name: str) -> Share:
        """A class among the cells given a class."""
        return share(self.counts[CLASS_NAMES.index(class_name)], self.named)

    @property
    def unclassified_share(self) -> Share:
        """The unclassified among all cells."""
        return share(self.unclassified, self.total)


def share(count: int, total: int) -> Share:
    """A count out of a total with its exact (Clopper and Pearson 1934) 95 % limits, in per cent.

    Nothing counted leaves everything open: 0 to 100.

    Raises:
        ValueError: not 0 <= count <= total.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} out of {total} is no share")
    # Loading it takes longer than all that says what is wrong with a command.
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = 100 * float(betaincinv(count, total - count + 1, tail)) if count > 0 else 0.0
    high = 100 * float(betaincinv(count + 1, total - count, 1 - tail)) if count < total else 100.0
    return Share(count, total, 100 * count / total if total else None, low, high)


def beyond_reference(seen: Share, reference_percent: tuple[float, float]) -> str | None:
    """``high`` or ``low`` where all of the 95 % interval lies outside the reference interval; else None."""
    low, high = reference_percent
    if seen.low > high:
        return "high"
    return "low" if seen.high < low else None


def unfamiliar(seen: Differential, accuracy: Mapping[str, Any]) -> str | None:
    """Return a warning where far more cells are of no class than on the cells that the model was measured on.

    That is so once `MIN_UNFAMILIAR` cells are counted and the lower 95 % limit of the unclassified share is
    above twice the largest share of a set that the manifest records; where it records none, above twice what
    the decline threshold leaves of the cells that it is chosen on.

    Args:
        seen: what was counted.
        accuracy: the manifest's, as for `classifier_error`.
    """
    if seen.total < MIN_UNFAMILIAR:
        return None
    usual = [100 * (1 - one["coverage"]) for one in accuracy.get("sets", ()) if "coverage" in one]
    if seen.unclassified_share.low <= 2 * max(usual, default=UNCLASSIFIED_BY_CHOICE):
        return None
    return (
        "many cells of no class that the model knows, or a stain unlike those it learnt: look at them "
        f"({seen.unclassified} of {seen.total} are unclassified)"
    )


def classifier_error(accuracy: Mapping[str, Any]) -> str:
    """What is to be said beside the limits of a differential: the classifier's own error.

    Args:
        accuracy: the manifest's; ``sets`` in it is a list of ``name``, ``cells``, ``originals``,
            ``accuracy``, ``low``, ``high``, the last three from 0 to 1.

    Raises:
        ModelFileError: the record has another form.
    """
    try:
        measured = [
            f"{one['name']}: {100 * one['accuracy']:.1f} % right of {one['cells']} images of "
            f"{one['originals']} cells ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
            for one in accuracy.get("sets", ())
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"the manifest's measured accuracy is not as this program writes it ({error}); "
            "measure it again with hematovision train evaluate --write"
        ) from error
    size = f"Measured: {'; '.join(measured)}." if measured else "It was not measured for this model."
    return f"These limits cover sampling only; the classifier's own error comes on top. {size}"
