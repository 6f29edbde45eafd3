"""One adapter a block with a LayerNorm of its own, after the feed-forward. Lin et al. 2020, arXiv 2004.03829.

    h = u + W_up relu(W_down LN(u) + b_down) + b_up,   u = W0 x + b0, the feed-forward's output projection

before the sublayer's dropout and the residual sum. The LayerNorm is new and trains with the adapter: its gain starts at one, its bias at
zero; those of the model stay frozen. W_up starts at zero, so the model starts as the base. L (2 r d + r + d)
+ 2 L d parameters, which are the counts of Hu et al. 2021, table 3. Does not merge.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, Preset, Site, method, swap, weight_of

from .adapter import AdapterLinear, Bottleneck


@method(
    "adapter-l",
    claims=Claims(identity_at_init=True, exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "u + W_up relu(W_down LN(u) + b_down) + b_up, u = W0 x + b0, after the feed-forward",
        count="L (2 d r + r + d) + 2 L d",
        paper="arXiv 2004.03829",
    ),
)
@dataclass(frozen=True)
class AdapterL:
    """A bottleneck layer after the feed-forward, with a LayerNorm of its own (Lin et al. 2020)."""

    bottleneck: int = dataclasses.field(default=16, metadata={"size": True})
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be 1 or more, not {self.bottleneck}")

    def inject(self, model: nn.Module) -> Adaptation:
        def build(base: nn.Module, sites: list[Site]) -> nn.Module:
            weight = weight_of(base)
            width = weight.shape[0]
            adapter = Bottleneck(width, self.bottleneck, functional.relu, self.init_std, weight.device)
            return AdapterLinear(base, nn.Sequential(NewLayerNorm(width, weight.device), adapter))

        return swap(model, "ffn_out", build)


class NewLayerNorm(nn.Module):
    """A LayerNorm whose gain and bias are float32 whatever the type of its input."""

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width, device=device))
        self.bias = nn.Parameter(torch.zeros(width, device=device))

    def forward(self, u: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        gain, bias = self.gain.float(), self.bias.float()  # a model that serves may be whole in another type
        return functional.layer_norm(u.float(), gain.shape, gain, bias).to(u.dtype)
