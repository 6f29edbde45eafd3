"""Whether a model at inference is the base itself with other numbers in it: then there is nothing to time."""

from __future__ import annotations

from typing import Any

from torch import nn

from .adaptation import Adaptation

Graph = tuple[Any, ...]


def graph_of(model: nn.Module) -> Graph:
    """What a forward pass is made of: modules, their hooks and the functions that they hold, shapes and the attention function."""
    modules = tuple(
        (
            name,
            type(module),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            tuple((key, id(value)) for key, value in vars(module).items() if callable(value)),
            tuple((key, tuple(value.shape)) for key, value in module.named_parameters(recurse=False)),
            tuple((key, tuple(value.shape)) for key, value in module.named_buffers(recurse=False)),
        )
        for name, module in model.named_modules(remove_duplicate=False)
    )
    return *modules, getattr(getattr(model, "config", None), "_attn_implementation", None)


def is_the_base(before: Graph, adaptation: Adaptation) -> bool:
    """Whether a method changed numbers alone, from the graph of the model before it was let in."""
    return adaptation.toggle is None and not adaptation.swaps and graph_of(adaptation.model) == before
