"""How many places a model has for tokens."""

from __future__ import annotations

from typing import Any

from torch import nn

ABSOLUTE = ("position_embeddings", "wpe", "embed_positions")  # what tables of absolute positions are called


def positions_of(stack: nn.Module) -> int | None:
    """How many places a table of absolute positions has; None where positions are relative, and nothing ends."""
    for name, module in stack.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in ABSOLUTE:
            # RoBERTa's and MPNet's positions begin behind the padding token's number.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            # BART's and OPT's tables have two rows more than the config says; LED's config says one number for each side.
            said = getattr(stack.config, "max_position_embeddings", module.num_embeddings)
            return int(said) - unused
    for name, table in stack.named_buffers():  # GPT-J's rotations, which end where their table does
        if name.rpartition(".")[2] in ABSOLUTE and table.ndim == 2:
            return len(table)
    return None


def made_for(model: nn.Module) -> int | None:
    """How many tokens a model takes, or where positions are relative was made to take; None where it does not say."""
    config: Any = model.config
    places = positions_of(model)
    said = getattr(config, "max_position_embeddings", None) if places is None else places
    return said if isinstance(said, int) else None
