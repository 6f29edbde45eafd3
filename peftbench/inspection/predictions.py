"""Whether predictions are the model's own, and the score of each item is the metric's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ..execution.batches import Encoded
from ..execution.score import Scorer
from ..execution.train import accelerator_for
from ..models.load import Loaded
from ..objectives.base import Objective, joins_items

ROUNDING = 1e-4  # of a mean of float32 numbers


def judged(objective: Objective, loaded: Loaded, items: Encoded) -> dict[str, Any]:
    """What `judge` tells of some items, (items,), by the likelihoods that a model gives to their options."""
    scorer = Scorer(loaded.model, objective, loaded.tokenizer, accelerator_for("cpu", "float32"), len(items))
    found = scorer.predict(items)
    return {
        name: np.stack(list(found[name]))
        for name in ("nll", "prediction", "reference", "score")
        if name in found
    }


def wrong_predictions(
    objective: Objective, logits: Tensor, batch: dict[str, Tensor], predictions: Mapping[str, Any]
) -> str | None:
    """What is wrong with the predictions of some items; None: nothing that can be seen.

    Args:
        predictions: what `predict` gives for them.
    """
    if "prediction" not in predictions:
        return None
    if batch["labels"].ndim == 1:
        others = objective.predict(logits, {**batch, "labels": batch["labels"].roll(1)})["prediction"]
        if not np.array_equal(np.asarray(others), np.asarray(predictions["prediction"])):
            return "predict() gives other predictions for the same logits where the labels are others: it reads the answers"
    if "score" not in predictions or joins_items(objective):
        return None
    name, mean = objective.metric.name, float(np.mean(predictions["score"]))
    metric = objective.score(predictions["prediction"], predictions["reference"])[name]
    if not math.isclose(mean, metric, rel_tol=ROUNDING, abs_tol=ROUNDING):
        return (
            f"the mean of predict()'s 'score' is {mean:.6g}, and score() gives {name} {metric:.6g}: tables would show the one with the "
            "interval of the other; leave 'score' out where the metric is no mean over items"
        )
    return None
