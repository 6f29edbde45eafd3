"""What an answer that is the same for every item comes to: a run that ends there has learned nothing."""

from __future__ import annotations

import pandas as pd

from ..objectives.base import Objective
from .batches import Encoded


def best_constant(objective: Objective, train: Encoded, predictions: pd.DataFrame) -> dict[str, float | None]:
    """The training `loss` and the `score` on the scored split of the best such answer; None where that is not known."""
    targets = train.numbers.get("labels")
    if targets is None and "labels" in train.lists:
        targets = train.lists["labels"].values
    loss = None if targets is None or not len(targets) else objective.constant_loss(targets)
    score = None
    if "reference" in predictions:
        try:
            score = objective.constant_score(predictions["reference"].to_numpy())
        except Exception:  # noqa: BLE001  a metric of one's own that one answer to all is too little for
            score = None
    return {"loss": loss, "score": score}
