"""Packing: the texts of a batch end to end in few rows, each with positions of its own and seen by itself alone.

The library tells the texts of a row apart by their positions, which begin at 0 with each, where no mask is given: it masks the
others out, or has a kernel for texts of several lengths (flash attention). A batch has the same items as without packing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..records.runs import Run
from .batches import IntArray, Ragged

ONE_ROW = sys.maxsize  # tokens


@dataclass(frozen=True)
class Layout:
    """Which item stands where."""

    rows: list[list[int]]  # of each row, its items in their order
    width: int  # tokens of the widest row
    starts: IntArray  # (items,): where in (rows x width) each item begins


def room_of(run: Run, model: Any) -> int | None:
    """Tokens of a packed row at most; None: the run does not pack.

    Flash attention tells texts apart in one row alone, and pays nothing for its length.
    """
    if not run.packing:
        return None
    attention = model.config._attn_implementation
    return ONE_ROW if attention.startswith("flash") else run.budget.max_length


def lay_out(lengths: IntArray, room: int) -> Layout:
    """Items in rows, so that tokens with padding are fewest: packed, or where all are of about one length a row for each.

    Args:
        lengths: (items,), tokens of each.
        room: tokens of a row at most; an item that is longer has a row of its own.
    """
    alone = Layout(
        [[item] for item in range(len(lengths))], width := int(lengths.max()), np.arange(len(lengths)) * width
    )
    return min(lay_out_packed(lengths, room), alone, key=lambda its: len(its.rows) * its.width)


def lay_out_packed(lengths: IntArray, room: int) -> Layout:
    """Items in as few rows as come of putting each, the longest first, into the first row that has room for it.

    The same number of rows, each item in the emptiest, may need less width, to which all are padded.
    """

    def first_with_room(filled: list[int], length: int) -> int:
        return next((row for row, tokens in enumerate(filled) if tokens + length <= room), len(filled))

    def emptiest(filled: list[int], _: int) -> int:
        return len(filled) if len(filled) < len(few) else filled.index(min(filled))

    few, width = _filled(lengths, first_with_room)
    level, narrower = _filled(lengths, emptiest)
    rows, width = (level, narrower) if narrower < width else (few, width)
    starts = np.zeros(len(lengths), np.int64)
    for row, items in enumerate(rows):
        starts[items] = row * width + np.cumsum([0, *lengths[items][:-1]])
    return Layout(rows, width, starts)


def _filled(lengths: IntArray, choose: Callable[[list[int], int], int]) -> tuple[list[list[int]], int]:
    """Rows of items, the longest first, each where `choose` says, and tokens of the widest row."""
    rows: list[list[int]] = []
    filled: list[int] = []
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        if (row := choose(filled, length)) == len(rows):
            rows.append([])
            filled.append(0)
        rows[row].append(item)
        filled[row] += length
    return rows, max(filled)


def packed(tokens: Ragged, items: IntArray, layout: Layout) -> dict[str, Tensor]:
    """What a decoder is given of some items: `input_ids` and `position_ids`, (rows, width).

    What fills a row up is one more text, of which nothing is asked.
    """
    texts = [tokens.values[tokens.offsets[item] : tokens.offsets[item + 1]] for item in items]
    ids = np.full((len(layout.rows), layout.width), texts[0][0], np.int64)
    positions = np.zeros_like(ids)
    for row, its in enumerate(layout.rows):
        found = np.concatenate([texts[item] for item in its])
        ids[row, : len(found)] = found
        lengths = [*(len(texts[item]) for item in its), layout.width - len(found)]
        positions[row] = np.concatenate([np.arange(length) for length in lengths])
    return {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
