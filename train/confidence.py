"""How sure the network may say it is, fitted on development cells: temperature and decline threshold.

Cells are weighted so that every collection counts alike: a microscope that gave few cells is as much a
microscope as one that gave many, and the next one is like neither.
"""

import numpy as np
from numpy.typing import NDArray

from hematovision.classifier import probabilities

#: Share of the development cells of the four classes that the decline threshold keeps.
KEPT_SHARE = 0.95


def fit_temperature(
    logits: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Temperature under which the logits (n, classes) make the labels (n,) likeliest, cells weighted (n,).

    Guo et al., On calibration of modern neural networks, ICML 2017. It changes no decision, only how sure.
    """
    # Loading it takes longer than all that says what is wrong with a command.
    from scipy.optimize import minimize_scalar

    def surprise(log_temperature: float) -> float:
        sure = probabilities(logits, float(np.exp(log_temperature)))
        return float(-(weights * np.log(sure[np.arange(len(labels)), labels] + 1e-12)).sum())

    best = minimize_scalar(surprise, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def choose_decline_threshold(
    sure: NDArray[np.float64], weights: NDArray[np.float64], kept_share: float = KEPT_SHARE
) -> float:
    """The largest probability below which a cell is left unclassified.

    Args:
        sure: (n, classes) calibrated probabilities of development cells of the four classes.
        weights: (n,) of the cells, with the sum 1.
        kept_share: of these cells, how many still get a class.
    """
    largest = sure.max(axis=1)
    order = np.argsort(largest)
    first_kept = np.searchsorted(weights[order].cumsum(), 1 - kept_share)
    return float(largest[order][first_kept])
