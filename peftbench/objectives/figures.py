"""The figures of quality that are made of predictions: of all of them, and of any part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .base import Objective

Mask = npt.NDArray[np.bool_]  # (items,)


def figures(objective: Objective, predictions: pd.DataFrame) -> dict[str, float]:
    """Every metric of some predictions and their mean negative log-likelihood; where the split has parts, each for each."""
    return subsets(objective, predictions)(np.ones(len(predictions), bool))


def subsets(objective: Objective, predictions: pd.DataFrame) -> Callable[[Mask], dict[str, float]]:
    """The figures of any of some predictions."""
    nll = predictions["nll"].to_numpy()
    parts = predictions["part"].to_numpy() if "part" in predictions else None
    metrics: Callable[[Mask], dict[str, float]] = _nothing
    if "prediction" in predictions:
        metrics = objective.subsets(*(_values(predictions[name]) for name in ("prediction", "reference")))

    def of(kept: Mask) -> dict[str, float]:
        found = {**metrics(kept), "nll": nll[kept].mean()}
        for part in () if parts is None else np.unique(parts[kept]):
            its = kept & (parts == part)
            found |= {
                f"{name} ({part})": value for name, value in {**metrics(its), "nll": nll[its].mean()}.items()
            }
        # A metric of one's own may give a number of numpy's, which no record takes.
        return {name: float(value) for name, value in found.items()}

    return of


def _values(column: pd.Series[Any]) -> npt.NDArray[Any]:
    """One value an item, (items,), or of several numbers an item (items, numbers)."""
    values = column.to_numpy()
    several = len(values) and isinstance(values[0], np.ndarray) and values[0].dtype.kind in "biuf"
    return np.stack(list(values)) if several else values


def _nothing(kept: Mask) -> dict[str, float]:
    """The metrics of a model that was not let write."""
    return {}
