"""How sure the network may say it is, fitted on development cells: temperature and decline threshold."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from edge.classifier import probabilities

#: Share of the development cells of the four classes that the decline threshold keeps.
KEPT_SHARE = 0.97


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Temperature under which the logits (n, classes) make the labels (n,) likeliest.

    Guo et al., On calibration of modern neural networks, ICML 2017. It changes no decision, only how sure.
    """

    def surprise(log_temperature: float) -> float:
        sure = probabilities(logits, float(np.exp(log_temperature)))
        return float(-np.log(sure[np.arange(len(labels)), labels] + 1e-12).mean())

    best = minimize_scalar(surprise, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def choose_decline_threshold(sure: NDArray[np.float64], kept_share: float = KEPT_SHARE) -> float:
    """The largest probability below which a cell is left unclassified.

    Args:
        sure: (n, classes), calibrated probabilities of development cells of the four classes.
        kept_share: of these cells, how many still get a class.
    """
    return float(np.quantile(sure.max(axis=1), 1 - kept_share))
