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
from .generate import Written, generate, sources_of
from .parts import Part, Parts
from .text_room import text_room

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
    def predict(self, split: batches.Encoded) -> pd.DataFrame:
        """Predictions for every item, one row an item in the split's order. Leaves the model in evaluation mode.

        The frame of a language model that writes has `nll` and no prediction, which is enough to choose by; `write` adds it.

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
        return frame

    def write(self, split: batches.Encoded, frame: pd.DataFrame) -> Written | None:
        """Let a language model write for the items of a frame, which gets the column `prediction`.

        Returns:
            None where nothing is written.

        Raises:
            Diverged: the model's outputs are no numbers.
        """
        if self.objective.decoding is None:
            return None
        model: Any = self.model
        dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else model.dtype
        written = generate(
            model,
            self.tokenizer,
            sources_of(split, frame["item"].to_numpy()),
            self.objective.decoding,
            self.accelerator,
            text_room(model, self.accelerator.device, dtype, BATCH_TOKENS),
        )
        frame["prediction"] = written.texts
        return written

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
