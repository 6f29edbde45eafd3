"""Metrics of one label or one number an item, by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]  # (items,)


def accuracy(predictions: Values, references: Values) -> float:
    return float(np.mean(predictions == references))


def macro_f1(predictions: Values, references: Values) -> float:
    """The mean of the labels' F1, each label with the same weight."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0))


def f1(predictions: Values, references: Values) -> float:
    """F1 of label 1 of two, as GLUE gives it for paraphrases."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, pos_label=1, average="binary", zero_division=0))


def matthews(predictions: Values, references: Values) -> float:
    """Matthews' correlation of labels; 0 where one of the two is the same for every item."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


def pearson(predictions: Values, references: Values) -> float:
    """Pearson's correlation; 0 where one of the two is constant, which explains nothing."""
    from scipy.stats import pearsonr

    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    return float(pearsonr(predictions.astype(np.float64), references.astype(np.float64)).statistic)


def spearman(predictions: Values, references: Values) -> float:
    """Spearman's rank correlation; 0 where one of the two is constant."""
    from scipy.stats import spearmanr

    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    return float(spearmanr(predictions, references).statistic)


def rmse(predictions: Values, references: Values) -> float:
    """The root of the mean squared error, in the unit of the task's numbers."""
    error = predictions.astype(np.float64) - references.astype(np.float64)
    return float(np.sqrt(np.mean(error**2)))


FORMULAS: dict[str, Callable[[Values, Values], float]] = {
    f.__name__: f for f in (accuracy, macro_f1, f1, matthews, pearson, spearman, rmse)
}
