"""Frozen weights in the data type of the compute, cast once.

Autocast would cast a frozen weight anew in every forward pass, since it remembers the casts of trained ones alone; the
cast gives the same numbers each time, so doing it once changes no bit of any result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LINEAR = (nn.Linear, Conv1D)  # what autocast would cast


@contextmanager
def frozen_in(model: nn.Module, dtype: torch.dtype) -> Iterator[list[Tensor]]:
    """For the block, frozen parameters of linear layers are in `dtype`; then the originals are back, bitwise.

    Yields:
        The originals, which stay in memory: merging, saving and checks need them.
    """
    elsewhere = {
        id(p)
        for module in model.modules()
        if not isinstance(module, LINEAR)
        for p in module.parameters(recurse=False)
    }  # an embedding that shares its weight with the output layer is not cast by autocast
    frozen = {
        id(p): p
        for module in model.modules()
        if isinstance(module, LINEAR)
        for p in module.parameters(recurse=False)
        if not p.requires_grad and p.dtype != dtype and id(p) not in elsewhere
    }
    originals = {key: p.data for key, p in frozen.items()}
    for p in frozen.values():
        p.data = p.data.to(dtype)
    try:
        yield list(originals.values())
    finally:
        for key, p in frozen.items():
            p.data = originals[key]
