"""Predictions for every item of a split, and the figures made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from ..objectives.base import Objective
from . import batches
from .generate import generate, sources_of

BATCH_TOKENS = 4096  # of a scoring batch: wide enough to fill the cores, small beside training


@dataclass(frozen=True)
class Scorer:
    """A model and what it takes to score a split with it."""

    model: nn.Module
    objective: Objective
    tokenizer: Any
    accelerator: Any
    items_at_once: int

    @torch.inference_mode()
    def predict(self, split: batches.Encoded, write: bool = True) -> pd.DataFrame:
        """Predictions for every item, one row an item in the split's order. Leaves the model in evaluation mode.

        Args:
            write: let a language model write, too. Without it a frame of `nll` alone comes, which is enough to choose by.
        """
        columns: dict[str, list[npt.NDArray[Any]]] = {"item": []}
        self.model.eval()
        pad = batches.padding(self.tokenizer)
        for items in batches.scoring_order(split.lengths, self.items_at_once):
            batch = batches.collate(split, items, pad, self.accelerator.device)
            with self.accelerator.autocast():
                logits = self.model(**batches.inputs_of(batch)).logits
            columns["item"].append(items)
            for name, values in self.objective.predict(logits, batch).items():
                columns.setdefault(name, []).append(values)
        frame = pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
        frame["group"] = split.groups(frame["item"].to_numpy())
        if split.has("part"):
            frame["part"] = split.text("part", frame["item"].to_numpy())
        frame = frame.sort_values("item", ignore_index=True)
        return frame if "prediction" in frame else self._by_source(split, frame, write)

    def _by_source(self, split: batches.Encoded, rows: pd.DataFrame, write: bool) -> pd.DataFrame:
        """One row a source: what is written for it, the targets of all its rows, and the mean of their likelihoods."""
        rows["source"] = split.text("source", rows["item"].to_numpy())
        rows["reference"] = split.text("target", rows["item"].to_numpy())
        how: Any = {name: "first" for name in ("item", "group", "part") if name in rows}
        frame = (
            rows.groupby("source", sort=False).agg({**how, "nll": "mean", "reference": list}).reset_index()
        )
        if not split.has("group"):
            frame["group"] = frame["source"]
        if write:
            sources = sources_of(split, frame["item"].to_numpy())
            decoding = self.objective.decoding  # type: ignore[attr-defined]
            frame["prediction"] = generate(
                self.model, self.tokenizer, sources, decoding, self.accelerator, BATCH_TOKENS
            )
        return frame


def items_at_once(max_length: int) -> int:
    """How many items a scoring batch holds."""
    return max(1, BATCH_TOKENS // max_length)


def evenly_spread(split: batches.Encoded, most: int) -> batches.Encoded:
    """At most `most` items, spread evenly over the split; the same for every method and seed."""
    if len(split) <= most:
        return split
    return split.some(np.linspace(0, len(split) - 1, most).round().astype(np.int64))
