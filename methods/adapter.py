"""Bottleneck adapters after attention and after the feed-forward. Houlsby et al. 2019, arXiv 1902.00751, figure 2.

    h = u + W_up act(W_down u + b_down) + b_up,   u = W0 x + b0

on the output projections of attention and of the feed-forward, before the residual sum. W_up starts at zero, so the
model starts as the base. 2 r d + r + d parameters an adapter, two adapters a block; LayerNorms stay frozen (the
original work trained them). Does not merge: there is a nonlinearity between base and output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Preset, Site, method, swap, weight_of


@method(
    "adapter",
    claims=Claims(identity_at_init=True, exact_base=True, random_init=True),
    preset=Preset(
        6.3e-3,
        source="newsgroups validation, 120 steps of 16, 4 seeds: docs/results/presets.md",
    ),
)
@dataclass(frozen=True)
class Adapter:
    """Bottleneck layers after attention and feed-forward (Houlsby et al. 2019)."""

    bottleneck: int = 8
    targets: str = "attention_output+ffn_out"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be 1 or more, not {self.bottleneck}")

    def inject(self, model: nn.Module) -> Adaptation:
        return swap(model, self.targets, lambda base, sites: AdapterLinear(base, sites, self))


class AdapterLinear(nn.Module):
    """A linear layer followed by a bottleneck with a residual connection."""

    def __init__(self, base: nn.Module, sites: list[Site], settings: Adapter) -> None:
        super().__init__()
        weight = weight_of(base)
        width = weight.shape[0]
        self.base = base
        self.down = nn.Parameter(torch.empty(settings.bottleneck, width, device=weight.device))
        self.down_bias = nn.Parameter(torch.zeros(settings.bottleneck, device=weight.device))
        self.up = nn.Parameter(torch.zeros(width, settings.bottleneck, device=weight.device))
        self.up_bias = nn.Parameter(torch.zeros(width, device=weight.device))
        if not weight.is_meta:
            self.down.data.copy_(torch.randn(self.down.shape) * settings.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., width)."""
        u: Tensor = self.base(x)
        kind = u.dtype
        hidden = functional.silu(functional.linear(u, self.down.to(kind), self.down_bias.to(kind)))
        return u + functional.linear(hidden, self.up.to(kind), self.up_bias.to(kind))
