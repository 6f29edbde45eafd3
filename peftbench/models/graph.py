"""Whether a model at inference is the base itself with other numbers in it: then there is nothing to time."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .adaptation import Adaptation

Graph = tuple[Any, ...]
PLAIN = (bool, int, float, str)  # settings that a forward pass may read, as how many of its layers it runs


def graph_of(model: nn.Module) -> Graph:
    """What a forward pass is made of: modules, their hooks, functions and settings, shapes and layouts, the config and the attention."""
    modules = tuple(
        (
            name,
            type(module),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            tuple((key, id(value)) for key, value in vars(module).items() if callable(value)),
            tuple(
                (key, value)
                for key, value in vars(module).items()
                if isinstance(value, PLAIN) and key != "training"
            ),
            tuple((key, *_kept(value)) for key, value in module.named_parameters(recurse=False)),
            tuple((key, *_kept(value)) for key, value in module.named_buffers(recurse=False)),
        )
        for name, module in model.named_modules(remove_duplicate=False)
    )
    config: Any = getattr(model, "config", None)
    said = config.to_dict() if hasattr(config, "to_dict") else None
    return *modules, repr(said), getattr(config, "_attn_implementation", None)


def _kept(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.layout


def is_the_base(before: Graph, adaptation: Adaptation) -> bool:
    """Whether a method changed numbers alone, from the graph of the model before it was let in."""
    return adaptation.toggle is None and not adaptation.swaps and graph_of(adaptation.model) == before
