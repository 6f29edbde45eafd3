"""Activations that are formed again in the backward pass instead of being kept."""

from __future__ import annotations

from typing import Any

from torch import nn


def checkpoint_activations(model: nn.Module) -> None:
    """From now on a training pass keeps each block's input alone. Outputs and gradients stay the same."""
    backbone: Any = getattr(model, "base_model", model)
    # transformers 5.23 renames the switch and warns about the old name; 5.17 has only the old one.
    enable = getattr(backbone, "activation_checkpointing_enable", None)
    (enable or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
