"""Predictions for every item of a split, and the figures made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from . import data
from .objectives import Objective

BATCH_TOKENS = 4096  # of a scoring batch: wide enough to fill the cores, small beside training


@dataclass(frozen=True)
class Scorer:
    """A model and what it takes to score a split with it."""

    model: nn.Module
    objective: Objective
    pad: dict[str, int]
    accelerator: Any
    items_at_once: int

    @torch.inference_mode()
    def predict(self, split: data.Encoded) -> pd.DataFrame:
        """Predictions for every item, one row an item in the split's order. Leaves the model in evaluation mode."""
        columns: dict[str, list[npt.NDArray[Any]]] = {"item": []}
        self.model.eval()
        for items in data.scoring_order(split.lengths, self.items_at_once):
            batch = data.collate(split, items, self.pad, self.accelerator.device)
            labels = batch.pop("labels")
            with self.accelerator.autocast():
                logits = self.model(**batch).logits
            columns["item"].append(items)
            for name, values in self.objective.predict(logits, {**batch, "labels": labels}).items():
                columns.setdefault(name, []).append(values)
        frame = pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
        frame["group"] = split.groups(frame["item"].to_numpy())
        if split.has("part"):
            frame["part"] = split.text("part", frame["item"].to_numpy())
        return frame.sort_values("item", ignore_index=True)


def figures(objective: Objective, predictions: pd.DataFrame) -> dict[str, float]:
    """Every metric of some predictions and their mean negative log-likelihood; where the split has parts, each for each."""
    found = _of_all(objective, predictions)
    if "part" in predictions:
        for part, its in predictions.groupby("part"):
            found |= {f"{name} ({part})": value for name, value in _of_all(objective, its).items()}
    return found


def _of_all(objective: Objective, predictions: pd.DataFrame) -> dict[str, float]:
    found = objective.score(predictions["prediction"].to_numpy(), predictions["reference"].to_numpy())
    return {**found, "nll": float(predictions["nll"].mean())}


def items_at_once(max_length: int) -> int:
    """How many items a scoring batch holds."""
    return max(1, BATCH_TOKENS // max_length)


def some(split: data.Encoded, most: int) -> data.Encoded:
    """At most `most` items, spread evenly over the split; the same for every method and seed."""
    if len(split) <= most:
        return split
    return split.some(np.linspace(0, len(split) - 1, most).round().astype(np.int64))
