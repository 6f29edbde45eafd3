"""One adapter a block, after the feed-forward. Pfeiffer et al. 2021 (AdapterFusion), arXiv 2005.00247.

Where the block ends in a LayerNorm over the residual sum (BERT, RoBERTa, ELECTRA, DeBERTa, MPNet):

    h = dropout(W0 x + b0),   u = LN(h + input),   y = LN(h + W_up relu(W_down u + b_down) + b_up + input)

The same frozen LayerNorm twice, and the adapter's residual taken before the first one, as in Hu et al.'s
released code. Elsewhere, and in DistilBERT, whose feed-forward does not hold its LayerNorm:

    h = u + W_up relu(W_down u + b_down) + b_up,   u = W0 x + b0

W_up starts at zero, so the model starts as the base. L (2 r d + r + d) parameters. Does not merge.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, Preset, Site, method, sites, swap, weight_of

from .adapter import AdapterLinear, Bottleneck


@method(
    "adapter-p",
    claims=Claims(identity_at_init=True, exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "u + W_up relu(W_down u + b_down) + b_up, after the feed-forward (inside its LayerNorm in BERT)",
        count="L (2 d r + r + d)",
        paper="arXiv 2005.00247",
    ),
)
@dataclass(frozen=True)
class AdapterP:
    """A bottleneck layer after the feed-forward of each block (Pfeiffer et al. 2021)."""

    bottleneck: int = dataclasses.field(default=16, metadata={"size": True})
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be 1 or more, not {self.bottleneck}")

    def inject(self, model: nn.Module) -> Adaptation:
        return self.inject_at(model, sites(model, "ffn_out"))

    def inject_at(self, model: nn.Module, ffn_outs: Sequence[Site]) -> Adaptation:
        """Adapters at some of the sites of `ffn_out` alone."""

        def build(base: nn.Module, its: list[Site]) -> nn.Module:
            whole = _ends_in_norm(base)
            weight = weight_of(base.get_submodule("dense") if whole else base)
            adapter = Bottleneck(
                weight.shape[0], self.bottleneck, functional.relu, self.init_std, weight.device
            )
            return TwiceNormedOutput(base, adapter) if whole else AdapterLinear(base, adapter)

        return swap(model, [_widened(model, site) for site in ffn_outs], build)


class TwiceNormedOutput(nn.Module):
    """The last part of a post-LayerNorm block, with an adapter between two passes of its LayerNorm."""

    def __init__(self, base: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.adapter = adapter

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """(batch, length, ffn width), and the block's residual (batch, length, width), to the latter's shape."""
        base: Any = self.base
        h: Tensor = base.dropout(base.dense(hidden_states))
        u: Tensor = base.LayerNorm(h + input_tensor)
        adapted: Tensor = self.adapter(u)
        out: Tensor = base.LayerNorm(h + adapted + input_tensor)
        return out


def _ends_in_norm(module: nn.Module) -> bool:
    """Whether it is LN(dropout(dense(hidden_states)) + input_tensor), as transformers writes it."""
    if not all(hasattr(module, part) for part in ("dense", "dropout", "LayerNorm")):
        return False
    arguments = list(inspect.signature(module.forward).parameters)
    return arguments == ["hidden_states", "input_tensor"]


def _widened(model: nn.Module, site: Site) -> Site:
    """The site of the module around the output projection, where that one ends in a LayerNorm."""
    name = site.name.rpartition(".")[0]
    around = model.get_submodule(name)
    return dataclasses.replace(site, name=name, module=around) if _ends_in_norm(around) else site
