"""How a model computes: frozen weights in the data type of the compute, cast once; activations kept or computed again.

Autocast would cast a frozen weight anew in every forward pass, since it remembers the casts of trained ones alone; the
cast gives the same numbers each time, so doing it once changes no bit of any result; but what a method reads of a frozen
weight itself, as DoRA its norms, is then rounded too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import NotSupported
from .parted import is_parted

LINEAR = (nn.Linear, Conv1D)  # what autocast would cast


def checkpoint_activations(model: nn.Module) -> None:
    """From now on a training pass keeps each block's input alone and computes the rest again for the backward pass.

    Outputs and gradients stay the same (Chen et al. 2016, arXiv 1604.06174).

    Raises:
        NotSupported: the library can't do it for this model.
    """
    backbone: Any = getattr(model, "base_model", model)
    # transformers 5.23 renames the switch and warns about the old name; 5.17 has only the old one.
    enable = getattr(backbone, "activation_checkpointing_enable", None)
    try:
        (enable or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    except (ValueError, AttributeError) as error:
        raise NotSupported(f"--checkpoint-activations: {' '.join(str(error).split())[:150]}") from error


@contextmanager
def frozen_in(model: nn.Module, dtype: torch.dtype) -> Iterator[list[Tensor]]:
    """For the block, frozen parameters of linear layers are in `dtype`; then the originals are back, bitwise.

    Those of which several processes hold parts stay as they are, and are cast in each pass: a copy would have to be shared again.

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
        if not p.requires_grad and p.dtype != dtype and id(p) not in elsewhere and not is_parted(p)
    }
    originals = {key: p.data for key, p in frozen.items()}
    for p in frozen.values():
        p.data = p.data.to(dtype)
    try:
        yield list(originals.values())
    finally:
        for key, p in frozen.items():
            p.data = originals[key]


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
