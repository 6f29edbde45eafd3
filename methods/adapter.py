"""Bottleneck adapters after attention and feed-forward. Houlsby et al. 2019, arXiv 1902.00751, fig. 2.

    h = u + W_up silu(W_down u + b_down) + b_up,   u = W0 x + b0

on the output projections of attention and of the feed-forward, before the residual sum. In training u is taken before the
sublayer's dropout, which falls on the sum; Houlsby et al. take it after. silu is the choice of Hu et al.'s code. W_up starts at zero,
so the model starts as the base. 2 r d + r + d parameters an adapter, two adapters a block; LayerNorms stay
frozen (the original work trained them). Does not merge: there is a nonlinearity between base and output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, Preset, Site, method, swap, weight_of


@method(
    "adapter-h",
    claims=Claims(identity_at_init=True, exact_base=True, random_init=True),
    preset=Preset(
        6.3e-3,
        source="newsgroups validation, 120 steps of 16, 4 seeds: docs/results/presets.md",
    ),
    also=lambda name: {} if name == "adapter" else None,
    facts=Facts(
        "u + W_up silu(W_down u + b_down) + b_up, u = W0 x + b0, after attention and feed-forward",
        count="2 L (2 d r + r + d)",
        paper="arXiv 1902.00751",
    ),
)
@dataclass(frozen=True)
class Adapter:
    """Bottleneck layers after attention and feed-forward (Houlsby et al. 2019)."""

    bottleneck: int = dataclasses.field(default=8, metadata={"size": True})
    targets: str = "attention_output+ffn_out"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be 1 or more, not {self.bottleneck}")

    def inject(self, model: nn.Module) -> Adaptation:
        def build(base: nn.Module, sites: list[Site]) -> nn.Module:
            weight = weight_of(base)
            adapter = Bottleneck(
                weight.shape[0], self.bottleneck, functional.silu, self.init_std, weight.device
            )
            return AdapterLinear(base, adapter)

        return swap(model, self.targets, build)


class Bottleneck(nn.Module):
    """W_up act(W_down u + b_down) + b_up, without a residual connection; zero at the start."""

    def __init__(
        self,
        width: int,
        bottleneck: int,
        activation: Callable[[Tensor], Tensor],
        std: float,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.down = nn.Parameter(torch.empty(bottleneck, width, device=device))
        self.down_bias = nn.Parameter(torch.zeros(bottleneck, device=device))
        self.up = nn.Parameter(torch.zeros(width, bottleneck, device=device))
        self.up_bias = nn.Parameter(torch.zeros(width, device=device))
        if device.type != "meta":
            self.down.data.copy_(torch.randn(self.down.shape) * std)

    def forward(self, u: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        kind = u.dtype
        hidden = self.activation(functional.linear(u, self.down.to(kind), self.down_bias.to(kind)))
        return functional.linear(hidden, self.up.to(kind), self.up_bias.to(kind))


class AdapterLinear(nn.Module):
    """A linear layer followed by an adapter with a residual connection: u + adapter(u)."""

    def __init__(self, base: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., width)."""
        u: Tensor = self.base(x)
        adapted: Tensor = self.adapter(u)
        return u + adapted
