"""Metrics of one label or one number an item, by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .metric import Metric

Values = npt.NDArray[Any]  # (items,)


@dataclass(frozen=True)
class ItemMetric(Metric):
    """A metric of one label or one number an item, as a function of predictions and references, each (items,)."""

    formula: Callable[[Values, Values], float] = field(kw_only=True)
    # Of references alone: what it is on average for the same in a random order; None where that is not known.
    chance: Callable[[Values], float] | None = field(default=None, kw_only=True)


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


def _chance_accuracy(references: Values) -> float:
    """The accuracy of the references in a random order."""
    _, counts = np.unique(references, return_counts=True)
    return float(np.square(counts / len(references)).sum())


def _nothing(references: Values) -> float:
    return 0.0


ITEM_METRICS = {
    metric.name: metric
    for metric in (
        ItemMetric("accuracy", formula=accuracy, chance=_chance_accuracy),
        ItemMetric("macro_f1", formula=macro_f1),
        ItemMetric("f1", formula=f1),
        ItemMetric("matthews", unit="x100", formula=matthews, chance=_nothing),
        ItemMetric("pearson", unit="x100", formula=pearson, chance=_nothing),
        ItemMetric("spearman", unit="x100", formula=spearman, chance=_nothing),
        ItemMetric("rmse", higher_is_better=False, is_share=False, unit="", formula=rmse),
    )
}
