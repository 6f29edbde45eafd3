"""The items of a run that its checks look at, and what a model gives for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..models.adaptation import Batch
from ..models.output_layer import WHOLE, OutputLayer
from ..models.parted import inferring
from ..models.precision import DTYPES
from ..records.runs import Run
from . import batches, ranks

SHORT_ITEMS = 8
# Of each: eight long texts put through a language model twice would be most of a run's start on a CPU.
SHORT_TOKENS = 25
MOST_PLACES = 32  # of a text that is written, the last ones: a row of logits is as wide as the vocabulary


@dataclass(frozen=True)
class Probe:
    """Some items, and how they are padded."""

    items: batches.Encoded
    pad: dict[str, int]
    device: torch.device
    room: int  # tokens of the run's longest item
    autocast: torch.dtype | None = (
        None  # the compute's type, where the weights are no float32; None: outputs are float32's
    )
    output: OutputLayer = WHOLE  # of a model that writes

    def computed_in(self, run: Run, output: OutputLayer) -> Probe:
        """The same, computed as a run says, with its model's output layer."""
        return replace(self, autocast=None if run.weights == "float32" else DTYPES[run.dtype], output=output)

    def computing(self) -> AbstractContextManager[Any]:
        """In what its outputs are computed."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    def batch(self, rows: Sequence[int], padded: bool = False) -> Batch:
        """Some of its items in that order, padded to the longest of them, or to the run's longest."""
        found = batches.inputs_of(
            batches.collate(self.items, np.asarray(rows, np.int64), self.pad, self.device)
        )
        missing = self.room - found["input_ids"].shape[1]
        if not padded or missing <= 0:
            return found
        wide = {"input_ids", "attention_mask", *self.items.lists} - {self.written}
        return {
            name: functional.pad(values, (0, missing), value=0 if name == "attention_mask" else self.pad.get(name, 0))
            if name in wide
            else values
            for name, values in found.items()
        }  # fmt: skip

    @property
    def written(self) -> str:
        """The column whose places a language model gives outputs for, where that is not what it reads."""
        return "decoder_input_ids"

    @property
    def answered(self) -> str:
        """The column whose places a language model gives outputs for."""
        return self.written if self.written in self.items.lists else "input_ids"

    def places(self, row: int) -> int:
        """Of an item, without padding."""
        return int(self.items.lists[self.answered].lengths[row])

    def kept(self, row: int) -> tuple[int, int]:
        """The first place of an item whose outputs are looked at, and the one behind the last."""
        return max(0, (end := self.places(row)) - MOST_PLACES), end

    def __len__(self) -> int:
        return len(self.items)


def short_probe(split: batches.Encoded, pad: dict[str, int], device: torch.device) -> Probe:
    """The ends of items of all lengths."""
    order = np.argsort(split.lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, SHORT_ITEMS).round().astype(np.int64))]
    items = split.some(chosen).ends(SHORT_TOKENS)
    return Probe(items, pad, device, int(items.lengths.max()))


def long_probe(split: batches.Encoded, pad: dict[str, int], device: torch.device) -> Probe:
    """The run's longest item, one of middling length and the shortest, in full."""
    order = np.argsort(split.lengths, kind="stable")
    chosen = dict.fromkeys(int(order[place]) for place in (-1, len(order) // 2, 0))
    items = split.some(np.array(list(chosen), np.int64))
    return Probe(items, pad, device, int(items.lengths.max()))


@inferring
def outputs(
    model: nn.Module, probe: Probe, rows: Sequence[int] | None = None, padded: bool = False
) -> Tensor:
    """Outputs for a probe's items, in evaluation mode: (items, outputs), or the last real places of all, (places, vocabulary).

    Args:
        rows: which items, in which order; None: all.
        padded: with padding up to the run's longest item.
    """
    rows = range(len(probe)) if rows is None else rows
    batch = probe.batch(rows, padded)
    with probe.computing():
        if probe.output != WHOLE:
            length = batch[probe.answered].shape[1]
            index = torch.cat([torch.arange(*probe.kept(row)) + at * length for at, row in enumerate(rows)])
            logits = probe.output.places(model, batch, index.to(probe.device)).logits()
        else:
            logits = model(**batch).logits.detach()
    if logits.ndim > 2:
        logits = torch.cat([logits[at, slice(*probe.kept(row))] for at, row in enumerate(rows)])
    return ranks.agreed(logits.float().cpu().clone())


def distance(one: Tensor, other: Tensor) -> float:
    """The norm of what two outputs differ by."""
    return float((one - other).norm()) if one.shape == other.shape else float("inf")


def agreement(one: Tensor, other: Tensor) -> float:
    """The share of equal predictions."""
    if one.shape != other.shape:
        return 0.0
    if one.shape[-1] < 2:  # a regression predicts no class
        return 1.0
    return float((one.argmax(-1) == other.argmax(-1)).float().mean())
