"""The gains of (IA)^3 as the PEFT library saves them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from peftbench import Adaptation, PeftExport


@torch.no_grad()
def ia3_to_peft(adaptation: Adaptation) -> PeftExport:
    """Gains on outputs as (out_features, 1), ones where a fused projection is not adapted; on inputs as (1, in_features)."""
    tensors: dict[str, Tensor] = {}
    feedforward = []
    for name, (_, wrapper) in adaptation.swaps.items():
        layer: Any = wrapper
        on_outputs = hasattr(layer, "gains")
        gains = layer.gains()[:, None] if on_outputs else layer.scale[None]
        tensors[f"base_model.model.{name}.ia3_l"] = gains.detach().clone()
        if not on_outputs:
            feedforward.append(name)
    config = {
        "peft_type": "IA3",
        "target_modules": sorted(adaptation.swaps),
        "feedforward_modules": sorted(feedforward),
        "fan_in_fan_out": any(isinstance(base, Conv1D) for base, _ in adaptation.swaps.values()),
    }
    return PeftExport(config, tensors)
