"""The optimizers that a run may be trained by: AdamW, its two moments in float32 or in 8 bits.

AdamW: Loshchilov and Hutter 2019, arXiv 1711.05101. In 8 bits: Dettmers et al. 2022, arXiv 2110.02861, by bitsandbytes: blocks of 256
numbers share a float32 scale; embeddings and tensors of fewer than 4,096 numbers keep float32 moments, as that paper asks for.
"Paged" moments lie in memory that the driver moves between GPU and host, which no allocator of torch counts.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..records.runs import ADAMW, PAGED_ADAMW_8BIT

BLOCK = 256  # numbers that share a scale
SMALLEST = 4_096  # numbers of a tensor whose moments are kept in 8 bits
SMALLEST_PAGED = 100_000  # the same of those that are paged


def why_not(optimizer: str, device: str) -> str | None:
    """Why an optimizer can't be had on "cpu" or "cuda", or None."""
    if optimizer == ADAMW:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        return (
            f"--optimizer {optimizer} needs bitsandbytes: pip install bitsandbytes, or leave --optimizer out"
        )
    if optimizer == PAGED_ADAMW_8BIT and device != "cuda":
        return f"--optimizer {optimizer} pages between a CUDA GPU and its host; use adamw-8bit"
    return None


def optimizer_of(name: str, groups: list[dict[str, Any]], model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of that name.

    Args:
        groups: what trains, each group with its own rate and weight decay.
        model: whose embeddings keep float32 moments.
    """
    if name == ADAMW:
        return torch.optim.AdamW(groups, fused=True)
    library: Any = importlib.import_module("bitsandbytes")
    optimizer: Any = library.optim.AdamW8bit(groups, is_paged=name == PAGED_ADAMW_8BIT)
    whole, config_of = embeddings(model), optimizer.get_config

    def get_config(group_place: int, place: int, group: dict[str, Any]) -> dict[str, Any]:
        in_32_bits = id(group["params"][place]) in whole
        return {**config_of(group_place, place, group), **({"optim_bits": 32} if in_32_bits else {})}

    # That library's own way to except a tensor is a list of the process, which outlives the run.
    optimizer.get_config = get_config
    return optimizer  # type: ignore[no-any-return]


def embeddings(model: nn.Module) -> set[int]:
    """The numbers of the parameters that embed tokens."""
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def moment_bytes(optimizer: str, numbers: int, embeds: bool) -> int:
    """What the moments of one trained tensor take on its device; paged ones may all lie on the host."""
    whole = optimizer == ADAMW or embeds or numbers < SMALLEST
    paged = optimizer == PAGED_ADAMW_8BIT and numbers >= SMALLEST_PAGED
    moments = 0 if paged else numbers * (8 if whole else 2)
    return moments + (0 if whole else 2 * 4 * -(-numbers // BLOCK))


def second_moment(state: Mapping[str, Tensor]) -> Tensor | None:
    """What is zero where there was no gradient: the second moment, or the scales of its 8-bit codes; None before the first step."""
    return next((state[name] for name in ("exp_avg_sq", "absmax2", "state2") if name in state), None)
