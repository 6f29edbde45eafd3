"""Predictions for every item of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from ..models.output_layer import WHOLE, OutputLayer
from ..objectives.base import Objective
from . import batches
from .finite import check_columns, check_logits
from .generate import generate, sources_of
from .parts import Part, Parts

BATCH_TOKENS = 4096  # of a scoring batch: wide enough to fill the cores, small beside training


@dataclass(frozen=True)
class Scorer:
    """A model and what it takes to score a split with it."""

    model: nn.Module
    objective: Objective
    tokenizer: Any
    accelerator: Any
    items_at_once: int
    output: OutputLayer = WHOLE  # of a model that writes

    @torch.inference_mode()
    def predict(self, split: batches.Encoded, write: bool = True) -> pd.DataFrame:
        """Predictions for every item, one row an item in the split's order. Leaves the model in evaluation mode.

        Args:
            write: let a language model write, too. Without it its frame has `nll` and no prediction, which is enough to choose by.

        Raises:
            Diverged: the model's outputs, or what is made of them, are no numbers.
        """
        columns: dict[str, list[npt.NDArray[Any]]] = {"item": []}
        self.model.eval()
        parts = Parts(split, self.objective, batches.padding(self.tokenizer), self.accelerator.device)
        for items in batches.scoring_order(split.lengths, self.items_at_once):
            columns["item"].append(items)
            for name, values in self._predictions(parts.part(items)).items():
                columns.setdefault(name, []).append(values)
        told = {name: np.concatenate(parts) for name, parts in columns.items()}
        check_columns(told)
        frame = pd.DataFrame({name: list(its) if its.ndim > 1 else its for name, its in told.items()})
        items = frame["item"].to_numpy()
        frame["group"] = split.groups(items)
        for column in ("part", *self.objective.texts):
            if split.has(column):
                frame[column] = split.text(column, items)
        frame = self.objective.aggregate(frame.sort_values("item", ignore_index=True))
        items = frame["item"].to_numpy()
        if write and self.objective.decoding is not None:
            frame["prediction"] = generate(
                self.model,
                self.tokenizer,
                sources_of(split, items),
                self.objective.decoding,
                self.accelerator,
                BATCH_TOKENS,
            )
        return frame

    def _predictions(self, part: Part) -> dict[str, npt.NDArray[Any]]:
        if part.asked is None:
            with self.accelerator.autocast():
                logits = self.model(**part.inputs).logits
            check_logits(logits)
            return self.objective.predict(logits, part.batch)

        def token_losses(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            check_logits(logits)
            return self.objective.token_losses(logits, tokens)

        with self.accelerator.autocast():
            places = self.output.places(self.model, part.inputs, part.asked.index)
            losses = places.losses(part.asked.tokens, token_losses)
        return {"nll": part.asked.means(losses).cpu().numpy()}


def items_at_once(max_length: int) -> int:
    """How many items a scoring batch holds."""
    return max(1, BATCH_TOKENS // max_length)


def evenly_spread(split: batches.Encoded, most: int) -> batches.Encoded:
    """At most `most` items, spread evenly over the split; the same for every method and seed."""
    if len(split) <= most:
        return split
    return split.some(np.linspace(0, len(split) - 1, most).round().astype(np.int64))
