"""How sure the network may say it is: temperature, decline threshold, calibration error."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

#: Share of the development cells of the four classes that the decline threshold keeps.
KEPT_SHARE = 0.97

_BINS = 15


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Calibrated probabilities (n, classes) of logits (n, classes)."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    return odds / odds.sum(axis=1, keepdims=True)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Temperature under which the logits (n, classes) make the labels (n,) likeliest.

    Guo et al., On calibration of modern neural networks, ICML 2017. It changes no decision, only how sure.
    """

    def surprise(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())

    best = minimize_scalar(surprise, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def choose_decline_threshold(probabilities: NDArray[np.float64], kept_share: float = KEPT_SHARE) -> float:
    """The largest probability below which a cell is left unclassified.

    Args:
        probabilities: (n, classes), calibrated, of development cells of the four classes.
        kept_share: of these cells, how many still get a class.
    """
    return float(np.quantile(probabilities.max(axis=1), 1 - kept_share))


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Expected calibration error of the top class: mean gap between how sure and how often right, 15 bins.

    Guo et al. 2017; ``probabilities`` (n, classes), ``labels`` (n,).
    """
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(sure[bins == number].mean() - right[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    ]
    return float(sum(gaps))
