"""How far the classifier's own measured errors alone could have moved a differential."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import ModelFileError

#: With fewer original cells of some class, a data set says too little of how that class is misnamed.
MIN_ORIGINALS = 10


@dataclass(frozen=True)
class Misclassification:
    """What a model was measured to name the cells of each class.

    ``rates``: for each data set its name and (4, 4) float64, rows truth and columns name in the order of
    `CLASS_NAMES`: the share of all cells of that truth. What a row lacks to 1 was left unclassified or not
    found. ``too_small``: data sets left out, for fewer than `MIN_ORIGINALS` cells of some class, or none of
    them named right, so that no count of that name could be explained.
    """

    rates: tuple[tuple[str, NDArray[np.float64]], ...]
    too_small: tuple[str, ...] = ()

    @classmethod
    def of(cls, accuracy: Mapping[str, Any]) -> "Misclassification":
        """From a manifest's accuracy; a data set measured before names were recorded is passed over.

        Raises:
            ModelFileError: the record has another form.
        """
        rates, too_small = [], []
        try:
            for one in accuracy.get("sets", ()):
                if "named" not in one:
                    continue
                rows = [one["named"][truth] for truth in CLASS_NAMES]
                right = [row[truth] for truth, row in zip(CLASS_NAMES, rows, strict=True)]
                if min(row["originals"] for row in rows) < MIN_ORIGINALS or min(right) == 0:
                    too_small.append(one["name"])
                    continue
                cells = np.array([[row["cells"]] for row in rows], np.float64)
                named = np.array([[row[name] for name in CLASS_NAMES] for row in rows], np.float64)
                rates.append((one["name"], named / cells))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"the manifest's record of how cells were named is not as this program writes it ({error}); "
                "measure it again with hematovision train evaluate --write"
            ) from error
        return cls(tuple(rates), tuple(too_small))

    def behind(self, counts: Sequence[int]) -> tuple[tuple[float, float], ...] | None:
        """The true shares, in per cent, that these counts would come from by misclassification alone.

        For every class the lowest and the highest over the data sets, each of which stands for a laboratory;
        sampling is left aside. None where nothing was measured, or counted.
        """
        if not self.rates or not any(counts):
            return None
        shares = np.array([true_shares(counts, rates) for _, rates in self.rates]) * 100
        return tuple(zip(shares.min(axis=0).tolist(), shares.max(axis=0).tolist(), strict=True))


def true_shares(counts: Sequence[int], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of the classes among all cells that make these counts the expected ones.

    The matrix method (Barron, Biometrics 33, 1977; for two classes that of Rogan and Gladen, Am J Epidemiol
    107, 1978): counts are proportional to the transposed rates times the true shares, solved for these. A
    class of which misclassification alone makes more than was counted would be negative; it is taken as 0.

    Args:
        counts: (classes,) cells given each class, not all 0.
        rates: (classes, classes), as in `Misclassification`.

    Returns:
        (classes,) float64 with the sum 1.
    """
    solution = np.linalg.lstsq(rates.T, np.array(counts, np.float64), rcond=None)[0].clip(0)
    return solution / solution.sum()
