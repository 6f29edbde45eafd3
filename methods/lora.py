"""LoRA: a frozen linear layer plus a trained low-rank update. Hu et al. 2021, arXiv 2106.09685, section 4.1.

    h = W0 x + (alpha / r) B A x,   A (r, in) Gaussian, B (out, r) zero

A fused projection (GPT-2's `c_attn`) gets a separate pair for each slice that is asked for. Dropout acts on the input
of A alone. r (in + out) parameters a matrix; merges into W0 + (alpha / r) B A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Preset, Site, method, plain, swap, weight_of


@method(
    "lora",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(
        2e-3,
        source="newsgroups validation, 120 steps of 16, 4 seeds: docs/results/presets.md",
    ),
)
@dataclass(frozen=True)
class LoRA:
    """Low-rank updates beside frozen linear layers (Hu et al. 2021)."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str = "query+value"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be 1 or more, not {self.rank}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")

    def inject(self, model: nn.Module) -> Adaptation:
        return swap(model, self.targets, lambda base, sites: LoRALinear(base, sites, self))


class LoRALinear(nn.Module):
    """A linear layer with a low-rank update on all of its outputs, or on some of their equal slices."""

    def __init__(self, base: nn.Module, sites: list[Site], settings: LoRA) -> None:
        super().__init__()
        weight = weight_of(base)
        out_features, in_features = weight.shape
        self.base = base
        self.scale = settings.alpha / settings.rank
        self.rank = settings.rank
        self.dropout = settings.dropout
        self.parts = [site.part for site in sites if site.part is not None]
        adapted = out_features
        if self.parts:
            adapted = sum(out_features // count for _, count in self.parts)
        pairs = max(1, len(self.parts))
        self.a = nn.Parameter(torch.empty(pairs * self.rank, in_features, device=weight.device))
        self.b = nn.Parameter(torch.zeros(adapted, self.rank, device=weight.device))
        if not weight.is_meta:
            self.a.data.copy_(torch.randn(self.a.shape) * settings.init_std)

    def up(self) -> Tensor:
        """B for all outputs, (out_features, pairs * rank); zero rows where nothing is adapted."""
        if not self.parts:
            return self.b
        out_features = weight_of(self.base).shape[0]
        whole = self.b.new_zeros(out_features, self.a.shape[0])
        start = 0
        for pair, (index, count) in enumerate(self.parts):
            width = out_features // count
            rows, columns = (
                slice(index * width, (index + 1) * width),
                slice(pair * self.rank, (pair + 1) * self.rank),
            )
            whole[rows, columns] = self.b[start : start + width]
            start += width
        return whole

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        flat = x.reshape(-1, x.shape[-1])
        out: Tensor = self.base(flat)
        seen = functional.dropout(flat, self.dropout) if self.training and self.dropout else flat
        low = functional.linear(seen, self.a.to(flat.dtype))
        up = self.up().t().to(low.dtype)
        # One product that adds onto the base's output instead of a product, a scaling and a sum. In place it needs no
        # copy of the output; through a view (GPT-2's layers return one) autograd would have to copy gradients.
        add = torch.addmm if out._is_view() else Tensor.addmm_
        return add(out, low, up, alpha=self.scale).view(*x.shape[:-1], -1)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """W0 + (alpha / r) B A, summed in float32 and cast once."""
        weight = weight_of(self.base).float() + self.scale * self.up() @ self.a
        return plain(self.base, weight, self.base.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def add_to(self, layer: nn.Module, sign: float) -> None:
        """W += sign (alpha / r) B A, without a temporary of W's size."""
        weight_of(layer).addmm_(self.up(), self.a, alpha=sign * self.scale)

    def mixed(self, tasks: Sequence[LoRALinear], rows: Tensor) -> nn.Module:
        """Row i of a batch gets the pair of `tasks[rows[i]]`."""
        return MixedLoRALinear(self.base, tasks, rows)


class MixedLoRALinear(nn.Module):
    """A linear layer whose low-rank update differs from row to row of the batch."""

    def __init__(self, base: nn.Module, tasks: Sequence[LoRALinear], rows: Tensor) -> None:
        super().__init__()
        self.base, self.scale, self.rows = base, tasks[0].scale, rows
        self.a = torch.stack([task.a.detach().t() for task in tasks])  # (tasks, in, rank)
        self.b = torch.stack([task.up().detach().t() for task in tasks])  # (tasks, rank, out)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, in_features) to (batch, length, out_features)."""
        return torch.baddbmm(self.base(x), x @ self.a[self.rows], self.b[self.rows], alpha=self.scale)
