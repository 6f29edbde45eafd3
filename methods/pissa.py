"""PiSSA: LoRA that starts at the weight's largest singular directions. Meng et al. 2024, arXiv 2404.02948, eq. 2 to 4.

    W0 = U S V',   B0 = U[:, :r] sqrt(S[:r] / s),   A0 = sqrt(S[:r] / s) V'[:r],   h = (W0 - s B0 A0) x + s B A x

with s = alpha / r, and B = B0, A = A0 at the start: the model starts as the base although nothing is zero. The residual
W0 - s B0 A0 is not formed: s (B A - B0 A0) x is added to W0 x instead, so that the base's weights stay as they are, in any
data type, for 2 r (in + out) numbers of which half train. The price is a low-rank product of rank 2r in each pass; the
same pair, [B, -B0] and [A; A0], is the plain LoRA of rank 2r that the paper ships. Merges. The PEFT library forms the
residual and overwrites the base's weight; outputs are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, Claims, Facts, Preset, Site, method, plain, swap, weight_of

from ._once import once
from .lora import LoRA, LoRALinear, spread


@method(
    "pissa",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "(W0 - s B0 A0) x + s B A x, B0 A0 the largest r singular directions of W0 / s",
        count="r (in + out) a matrix",
        paper="arXiv 2404.02948",
        stored="what trains, and B0, A0",
    ),
)
@dataclass(frozen=True)
class PiSSA(LoRA):
    """LoRA started at the principal singular directions of the weight (Meng et al. 2024)."""

    alpha: float = 8.0  # as the rank: the paper's scale is 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start:
            raise ValueError("start is for methods whose checkpoint is a plain LoRA")

    def inject(self, model: nn.Module) -> Adaptation:
        return swap(model, self.targets, lambda base, sites: PiSSALinear(base, sites, self))


class PiSSALinear(LoRALinear):
    """A linear layer with a trained low-rank part, less what that part was at the start."""

    a0: Tensor
    b0: Tensor

    def __init__(self, base: nn.Module, sites: list[Site], settings: LoRA) -> None:
        super().__init__(base, sites, settings)
        weight = weight_of(base)
        if not weight.is_meta:
            parts = [self._start(rows) for rows in self.rows]
            self.a.data.copy_(torch.cat([a for a, _ in parts]))
            self.b.data.copy_(torch.cat([b for _, b in parts]))
        self.register_buffer("a0", self.a.detach().clone())
        self.register_buffer("b0", self.b.detach().clone())

    def _start(self, rows: slice) -> tuple[Tensor, Tensor]:
        """A0 and B0 of some rows. A run lets a method in more than once, and takes the weight apart once."""
        weight: Any = self.base.weight
        found: tuple[Tensor, Tensor] = once(
            weight,
            ("principal", rows.start, rows.stop, self.rank, self.scale),
            lambda: _principal(weight_of(self.base)[rows].detach().float(), self.rank, self.scale),
        )
        return found

    def up(self) -> Tensor:
        """[B, -B0] for all outputs, (out_features, pairs * 2 rank)."""
        return torch.cat([self._up(self.b), -self._up(self.b0)], 1)

    def _up(self, b: Tensor) -> Tensor:
        return b if self.whole else spread(b, self.rows, self.out_features)

    def down(self) -> Tensor:
        """[A; A0], (pairs * 2 rank, in_features)."""
        return torch.cat([self.a, self.a0])

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        flat = x.reshape(-1, x.shape[-1])
        out: Tensor = self.base(flat)
        if self.training and self.dropout:  # of what trains alone; the residual is a frozen weight's share
            seen = functional.dropout(flat, self.dropout)
            parts = [
                functional.linear(seen, self.a.to(flat.dtype)),
                functional.linear(flat, self.a0.to(flat.dtype)),
            ]
            low = torch.cat(parts, 1)
        else:
            low = functional.linear(flat, self.down().to(flat.dtype))
        return torch.addmm(out, low, self.up().t().to(low.dtype), alpha=self.scale).view(*x.shape[:-1], -1)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """W0 + s (B A - B0 A0), summed in float32 and cast once."""
        weight = weight_of(self.base).float() + self.scale * self.up() @ self.down()
        return plain(self.base, weight, self.base.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def add_to(self, layer: nn.Module, sign: float) -> None:
        """W += sign s (B A - B0 A0)."""
        weight_of(layer).addmm_(self.up(), self.down(), alpha=sign * self.scale)

    mixed = None  # type: ignore[assignment]


def _principal(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A0 (rank, in) and B0 (out, rank) with scale B0 A0 the best approximation of the weight of that rank."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    a, b = weight.new_zeros(rank, weight.shape[1]), weight.new_zeros(weight.shape[0], rank)
    a[: len(root)], b[:, : len(root)] = root[:, None] * vh[:rank], u[:, :rank] * root
    return a, b
