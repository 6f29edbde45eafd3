"""The figures of quality that are made of predictions: of all of them, and of any part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from .base import Objective


def figures(objective: Objective, predictions: pd.DataFrame) -> dict[str, float]:
    """Every metric of some predictions and their mean negative log-likelihood; where the split has parts, each for each."""
    return subsets(objective, predictions)(np.ones(len(predictions), bool))


def subsets(
    objective: Objective, predictions: pd.DataFrame
) -> Callable[[npt.NDArray[np.bool_]], dict[str, float]]:
    """The figures of any of some predictions."""
    nll = predictions["nll"].to_numpy()
    parts = predictions["part"].to_numpy() if "part" in predictions else None

    def metrics(kept: npt.NDArray[np.bool_]) -> dict[str, float]:
        return {}

    if "prediction" in predictions:
        predicted, wanted = predictions["prediction"].to_numpy(), predictions["reference"].to_numpy()
        own = getattr(objective, "subsets", None)
        if own is not None:
            metrics = own(predicted, wanted)
        else:

            def metrics(kept: npt.NDArray[np.bool_]) -> dict[str, float]:
                return objective.score(predicted[kept], wanted[kept])

    def of(kept: npt.NDArray[np.bool_]) -> dict[str, float]:
        found = {**metrics(kept), "nll": float(nll[kept].mean())}
        for part in () if parts is None else np.unique(parts[kept]):
            its = kept & (parts == part)
            found |= {
                f"{name} ({part})": value
                for name, value in {**metrics(its), "nll": float(nll[its].mean())}.items()
            }
        return found

    return of
