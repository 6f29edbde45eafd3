"""(IA)^3: gains on keys, values and feed-forward activations. Liu et al. 2022, arXiv 2205.05638, 3.3.

    k = l_k * (W_k x + b_k),   v = l_v * (W_v x + b_v),   y = W_out (l_ff * act(...)) + b_out

with each l one at the start. L (d_k + d_v + d_ff) parameters; d_k and d_v are the widths of the keys and
values, smaller than d where heads share them. Merges: rows of W_k and W_v, and columns of W_out, are scaled.
Self-attention only: the paper also scales the keys and values of cross-attention.

The PEFT library scales all of a fused projection (GPT-2's `c_attn`), query included, and on BERT's family its
defaults also scale the input of attention's output projection, whose name ends alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftbench import Adaptation, Claims, Facts, PeftExport, Preset, Site, method, plain, swap, weight_of

from .lora import adapted_rows


@method(
    "ia3",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True),
    preset=Preset(0.02, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "l_k * K, l_v * V, W_out (l_ff * act(...))",
        count="L (d_k + d_v + d_ff)",
        paper="arXiv 2205.05638",
    ),
)
@dataclass(frozen=True)
class IA3:
    """Trained gains on keys, values and feed-forward activations (Liu et al. 2022)."""

    def inject(self, model: nn.Module) -> Adaptation:
        def build(base: nn.Module, sites: list[Site]) -> nn.Module:
            return ScaledInputs(base) if sites[0].role == "ffn_out" else ScaledOutputs(base, sites)

        return swap(model, "key+value+ffn_out", build)

    @torch.no_grad()
    def to_peft(self, adaptation: Adaptation) -> PeftExport:
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


class ScaledOutputs(nn.Module):
    """A linear layer with a gain on each of its outputs, or on those of some of their slices."""

    def __init__(self, base: nn.Module, sites: list[Site]) -> None:
        super().__init__()
        weight = weight_of(base)
        self.base = base
        self.rows = adapted_rows(weight.shape[0], sites)
        adapted = sum(rows.stop - rows.start for rows in self.rows)
        self.whole = adapted == weight.shape[0]
        self.out_features = weight.shape[0]
        self.scale = nn.Parameter(torch.ones(adapted, device=weight.device))

    def gains(self) -> Tensor:
        """One for each output, (out_features,): 1 where nothing is adapted."""
        if self.whole:
            return self.scale
        gains = self.scale.new_ones(self.out_features)
        start = 0
        for rows in self.rows:
            width = rows.stop - rows.start
            gains[rows] = self.scale[start : start + width]
            start += width
        return gains

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        out: Tensor = self.base(x)
        # The product is taken in float32: half precision can't hold a gain that is a little off one.
        return (out * self.gains()).to(out.dtype)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """l * (W0 x + b0) as one layer, multiplied in float32 and cast once."""
        gains = self.gains()
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        weight = weight_of(self.base).float() * gains[:, None]
        return plain(self.base, weight, None if bias is None else bias.float() * gains)


class ScaledInputs(nn.Module):
    """A linear layer with a gain on each of its inputs."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        weight = weight_of(base)
        self.base = base
        self.scale = nn.Parameter(torch.ones(weight.shape[1], device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        out: Tensor = self.base((x * self.scale).to(x.dtype))
        return out

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """W0 (l * x) + b0 as one layer, multiplied in float32 and cast once."""
        weight = weight_of(self.base).float() * self.scale
        return plain(self.base, weight, self.base.bias)  # type: ignore[arg-type]
