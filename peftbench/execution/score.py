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
from ..models.parted import inferring
from ..objectives.base import Objective
from . import batches, ranks
from .finite import check_columns, check_logits
from .generate import Written, generate, joined, sources_of
from .options import by_item, row_an_option
from .parts import Part, Parts
from .text_room import TextRoom, text_room

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

    @inferring
    def predict(self, split: batches.Encoded) -> pd.DataFrame:
        """Predictions for every item, one row an item in the split's order. Leaves the model in evaluation mode.

        The frame of a language model that writes has `nll` and no prediction, which is enough to choose by; `write` adds it.

        Raises:
            Diverged: the model's outputs, or what is made of them, are no numbers.
        """
        self.model.eval()
        told = self._judged(split) if self.objective.judges else self._told(split)
        frame = pd.DataFrame({name: list(its) if its.ndim > 1 else its for name, its in told.items()})
        items = frame["item"].to_numpy()
        frame["group"] = split.groups(items)
        for column in ("part", *self.objective.texts):
            if split.has(column):
                frame[column] = split.text(column, items)
        frame = self.objective.aggregate(frame.sort_values("item", ignore_index=True))
        return frame

    def _told(self, split: batches.Encoded) -> dict[str, npt.NDArray[Any]]:
        """What is told of each item, (items,), in the order of scoring, which `item` says."""
        parts = Parts(split, self.objective, batches.padding(self.tokenizer), self.accelerator.device)
        order = list(batches.scoring_order(split.lengths, self.items_at_once))
        of_each = ranks.shared(order, lambda items: {"item": items, **self._predictions(parts.part(items))})
        told = {name: np.concatenate([its[name] for its in of_each]) for name in of_each[0]}
        check_columns(told)
        return told

    def _judged(self, split: batches.Encoded) -> dict[str, npt.NDArray[Any]]:
        """The same of an objective that judges the options of each item: each option is a row."""
        told = self._told(row_an_option(split))
        likelihoods = np.empty(len(told["item"]))
        likelihoods[told["item"]] = -told["sum"].astype(np.float64)
        found = self.objective.judge(*by_item(split, likelihoods))
        return {"item": np.arange(len(split)), **found}

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
        sources = sources_of(split, frame["item"].to_numpy())
        room = text_room(model, self.accelerator.device, dtype, BATCH_TOKENS)
        written = self._written(sources, room)
        frame["prediction"] = written.texts
        return written

    def _written(self, sources: batches.Encoded, room: TextRoom) -> Written:
        decoding = self.objective.decoding
        assert decoding is not None
        if ranks.count() == 1:
            return self._generated(sources, room)
        least = min(ranks.gathered(room.tokens))
        order = np.argsort(-sources.lengths, kind="stable")
        at_once = max(1, least // room.of_a_text(int(sources.lengths[order[0]]), decoding))
        cut = [order[begin : begin + at_once] for begin in range(0, len(order), at_once)]
        one_batch = TextRoom(least, room.text_tokens, by_longest_of_all=True)
        return joined(
            [*zip(cut, ranks.shared(cut, lambda rows: self._generated(sources.some(rows), one_batch)), strict=True)]
        )  # fmt: skip

    def _generated(self, sources: batches.Encoded, room: TextRoom) -> Written:
        decoding = self.objective.decoding
        assert decoding is not None
        ends = self.objective.ends(self.tokenizer)
        return generate(self.model, self.tokenizer, sources, decoding, self.accelerator, room, ends)

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
        if self.objective.judges:
            return {"sum": part.asked.sums(losses).cpu().numpy()}
        return {"nll": part.asked.means(losses).cpu().numpy()}


def items_at_once(max_length: int) -> int:
    """How many items a scoring batch holds."""
    return max(1, BATCH_TOKENS // max_length)


def evenly_spread(split: batches.Encoded, most: int) -> batches.Encoded:
    """At most `most` items, spread evenly over the split; the same for every method and seed."""
    if len(split) <= most:
        return split
    return split.some(np.linspace(0, len(split) - 1, most).round().astype(np.int64))
