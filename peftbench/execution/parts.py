"""The parts of a step's batch: what a model is given of them, and what is known of them before a device has them.

Counts and places of tokens are taken in the processor's memory: asked of a GPU, they would make each step wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..objectives.base import IGNORED, Objective, is_by_token
from . import ranks
from .batches import READ, Encoded, IntArray, collate, inputs_of
from .packing import lay_out, packed

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Asked:
    """The places of a batch's outputs where a token is asked for, item by item."""

    index: Tensor  # (tokens,): places of (batch x length)
    tokens: Tensor  # (tokens,)
    counts: Tensor  # (items,): tokens of each
    shape: tuple[int, int]  # batch, length

    def means(self, losses: Tensor) -> Tensor:
        """Of each item, (items,), from the losses of the tokens, (tokens,). For a batch that is not packed."""
        return self.sums(losses) / self.counts

    def sums(self, losses: Tensor) -> Tensor:
        """The same, summed over an item's tokens."""
        each = losses.new_zeros(self.shape).flatten()
        return each.index_copy_(0, self.index, losses).view(self.shape).sum(1)


@dataclass(frozen=True)
class Part:
    """A part of a batch, on its device."""

    inputs: dict[str, Tensor]  # what the model is given
    batch: dict[str, Tensor]  # what the objective is given; empty where tokens are `asked` for
    asked: Asked | None
    share: float  # of the batch's items, or tokens, that the loss is the mean of


@dataclass(frozen=True)
class Parts:
    """How the items of a step become parts."""

    data: Encoded
    objective: Objective
    pad: dict[str, int]
    device: torch.device
    most: int = 1  # parts that each rank does of a batch, to save memory
    room: int | None = None  # tokens of a packed row; None: not packed

    def of(self, items: IntArray) -> list[Part]:
        """The parts of one optimizer step, of several ranks this one's; each rank has as many, some with a share of 0."""
        cut = [(its, collate(self.data, its, self.pad, CPU)) for its in self._cut(items)]
        weights = [self.objective.weight(batch) for _, batch in cut]
        whole = sum(weights)
        shared = [(*one, weight / whole) for one, weight in zip(cut, weights, strict=True)]
        return [self._part(*one) for one in ranks.mine(shared, (*cut[0], 0.0))]

    def part(self, items: IntArray) -> Part:
        """Some items as one part."""
        return self._part(items, collate(self.data, items, self.pad, CPU), 1.0)

    def _part(self, items: IntArray, batch: dict[str, Tensor], share: float) -> Part:
        wanted = self._wanted(items)
        if wanted is None:
            batch = on_device(batch, self.device)
            return Part(inputs_of(batch), batch, None, share)
        inputs, starts, shape = self._inputs(items, batch, wanted.shape)
        asked = asked_in(wanted, starts, shape, self.device)
        return Part(on_device(inputs, self.device), {}, asked, share)

    def _inputs(
        self, items: IntArray, batch: dict[str, Tensor], shape: tuple[int, int]
    ) -> tuple[dict[str, Tensor], IntArray, tuple[int, int]]:
        """What the model is given, where in its outputs each item begins, and the outputs' batch and length."""
        if self.room is not None:
            tokens = self.data.lists["input_ids"]
            layout = lay_out(tokens.lengths[items], self.room)
            inputs = packed(tokens, items, layout)
            return inputs, layout.starts, (len(layout.rows), layout.width)
        return inputs_of(batch), np.arange(shape[0]) * shape[1], shape

    def shape(self, items: IntArray) -> list[list[int]]:
        """Of each part of one optimizer step: rows, padded tokens of one, those of its decoder, tokens that are asked for."""
        return [self._shape(its) for its in self._cut(items)]

    def _shape(self, items: IntArray) -> list[int]:
        lengths = [self.data.lists[name].lengths[items] for name in READ if name in self.data.lists]
        shape = [len(items), *(int(its.max()) for its in lengths)]
        if self.room is not None:
            layout = lay_out(lengths[0], self.room)
            shape = [len(layout.rows), layout.width]
        if (wanted := self._wanted(items)) is None:
            return shape
        return [*shape, *[0] * (3 - len(shape)), int(np.count_nonzero(wanted != IGNORED))]

    def _wanted(self, items: IntArray) -> npt.NDArray[Any] | None:
        if not is_by_token(self.objective):
            return None
        labels, _ = self.data.lists["labels"].padded(items, IGNORED, left=False)
        return self.objective.wanted(labels)

    def _cut(self, items: IntArray) -> list[IntArray]:
        return cut_for_ranks(items, self.most)


def cut_for_ranks(items: IntArray, most: int) -> list[IntArray]:
    """The items of a batch in parts, for each rank at most so many."""
    return np.array_split(items, min(most * ranks.count(), len(items)))


def padded_tokens(shape: list[list[int]]) -> int:
    """Tokens of a step of that shape, with padding."""
    return sum(rows * sum(widths[:2]) for rows, *widths in shape)


def asked_in(
    wanted: npt.NDArray[Any], starts: IntArray, shape: tuple[int, int], device: torch.device
) -> Asked:
    """What is asked for.

    Args:
        wanted: the token asked for at each place of each item, (items, places); `IGNORED`: none.
        starts: (items,), where in the outputs each item begins.
        shape: the outputs' batch and length.
    """
    rows, places = np.nonzero(wanted != IGNORED)
    found = {
        "index": torch.from_numpy(starts[rows] + places),
        "tokens": torch.from_numpy(wanted[rows, places]),
        "counts": torch.from_numpy(np.bincount(rows, minlength=len(wanted))),
    }
    return Asked(**on_device(found, device), shape=shape)


def on_device(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same on a device."""
    return {name: values.to(device, non_blocking=True) for name, values in tensors.items()}
