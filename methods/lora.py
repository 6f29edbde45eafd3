"""LoRA: a frozen linear layer plus a trained low-rank update. Hu et al. 2021, arXiv 2106.09685, section 4.1.

    h = W0 x + (alpha / r) B A x,   A (r, in) Gaussian, B (out, r) zero

A fused projection (GPT-2's `c_attn`) gets a separate pair for each slice that is asked for. Dropout acts on the input
of A alone. r (in + out) parameters a matrix; merges into W0 + (alpha / r) B A.

The PEFT library draws A as Kaiming-uniform (as loralib does, against the paper) and puts one pair over a whole fused
projection, key included: the same count, another model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import (
    Adaptation,
    Claims,
    Facts,
    MethodDeclaration,
    PeftExport,
    Preset,
    Site,
    method,
    plain,
    swap,
    weight_of,
)

from ._low_rank import Copies, LowRank, computed_in, is_frozen
from ._peft_lora import fingerprint_of, lora_to_peft, read_peft_lora


@method(
    "lora",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(
        2e-3,
        source="newsgroups validation, 120 steps of 16, 4 seeds: docs/results/presets.md",
    ),
    facts=Facts("W0 x + (alpha / r) B A x", count="r (in + out) a matrix", paper="arXiv 2106.09685"),
)
@dataclass(frozen=True)
class LoRA:
    """Low-rank updates beside frozen linear layers (Hu et al. 2021)."""

    rank: int = dataclasses.field(default=8, metadata={"size": True})
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str = "query+value"
    init_std: float = 0.02
    # Folder or hub id of a LoRA that the PEFT library saved, to go on from.
    start: str = dataclasses.field(default="", metadata={"file": True})

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be 1 or more, not {self.rank}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")

    @property
    def scale(self) -> float:
        """What the update is multiplied by."""
        return self.alpha / self.rank

    def inject(self, model: nn.Module) -> Adaptation:
        copies = Copies()
        adaptation = swap(model, self.targets, lambda base, sites: LoRALinear(base, sites, self, copies))
        if self.start:
            for name, (a, b) in read_peft_lora(self.start, adaptation, self).items():
                layer: Any = adaptation.swaps[name][1]
                for mine, saved in ((layer.a, a), (layer.b, b)):
                    if not mine.is_meta:
                        mine.data.copy_(saved)
        return adaptation

    def declares(self, declared: MethodDeclaration) -> MethodDeclaration:
        """One that goes on from a checkpoint begins neither as the base nor at random."""
        if not self.start:
            return declared
        claims = dataclasses.replace(declared.claims, identity_at_init=False, random_init=False)
        return dataclasses.replace(declared, claims=claims)

    def fingerprint(self) -> str:
        """Of the checkpoint that it goes on from."""
        return fingerprint_of(self.start) if self.start else ""

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        return lora_to_peft(adaptation)


class LoRALinear(nn.Module):
    """A linear layer with a low-rank update on all of its outputs, or on some of their equal slices.

    The formula stands in `update` and `up`; `LowRank` computes the same in fewer passes, for a class that has both as here.

    Args:
        copies: shared by the layers of one model, whose tensors are then cast at once.
    """

    def __init__(
        self, base: nn.Module, sites: list[Site], settings: LoRA, copies: Copies | None = None
    ) -> None:
        super().__init__()
        weight = weight_of(base)
        self.out_features, in_features = weight.shape
        self.base = base
        self.scale = settings.scale
        self.rank = settings.rank
        self.dropout = settings.dropout
        self.copies = Copies() if copies is None else copies
        self.rows = adapted_rows(self.out_features, sites)
        self.whole = len(self.rows) == 1 and self.rows[0] == slice(0, self.out_features)
        adapted = sum(rows.stop - rows.start for rows in self.rows)
        self.a = nn.Parameter(torch.empty(len(self.rows) * self.rank, in_features, device=weight.device))
        self.b = nn.Parameter(torch.zeros(adapted, self.rank, device=weight.device))
        if not weight.is_meta:
            self.a.data.copy_(torch.randn(self.a.shape) * settings.init_std)

    def up(self) -> Tensor:
        """B for all outputs, (out_features, pairs * rank); zero rows where nothing is adapted."""
        return self.b if self.whole else spread(self.b, self.rows, self.out_features)

    def parts(self) -> list[tuple[slice, slice, slice]]:
        """Of each pair: the outputs that it adapts, its rows of A, and its rows of B."""
        found, start = [], 0
        for pair, rows in enumerate(self.rows):
            width = rows.stop - rows.start
            found.append((rows, slice(pair * self.rank, (pair + 1) * self.rank), slice(start, start + width)))
            start += width
        return found

    def update(self, flat: Tensor, out: Tensor) -> Tensor:
        """`out` plus the update for inputs (items, in_features); writes over `out` where it may."""
        seen = functional.dropout(flat, self.dropout) if self.training and self.dropout else flat
        low = functional.linear(seen, self.a.to(flat.dtype))
        return add_product(self.base, out, low, self.up().t().to(low.dtype), self.scale)

    def adapted(self, x: Tensor) -> Tensor:
        """The base's outputs plus the update: (..., in_features) to (..., out_features)."""
        kind = computed_in(x)
        if kind is None or type(self).update is not LoRALinear.update or type(self).up is not LoRALinear.up:
            flat = x.reshape(-1, x.shape[-1])
            return self.update(flat, self.base(flat)).view(*x.shape[:-1], -1)
        out = None if is_frozen(self.base) else self.base(x)
        return LowRank.apply(x, self.a, self.b, out, self, kind)  # type: ignore[no-any-return, no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.adapted(x)

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


def add_product(base: nn.Module, out: Tensor, low: Tensor, up: Tensor, scale: float) -> Tensor:
    """out + scale * low @ up as one product that adds onto `out`, which `base` just made, and not a product and a sum.

    In place it needs no copy of the output; through a view (GPT-2's layers return one) autograd would have to copy
    gradients. It depends on the layer and not on its output: whether that is a view is nothing that a compiler traces.
    """
    add = Tensor.addmm_ if type(base) is nn.Linear else torch.addmm
    return add(out, low, up, alpha=scale)


def adapted_rows(out_features: int, sites: Sequence[Site]) -> list[slice]:
    """The rows of a layer's weight that its sites name: all of them, or a slice for each site of a fused projection."""
    return [slice(*site.rows) for site in sites if site.rows is not None] or [slice(0, out_features)]


def spread(b: Tensor, rows: Sequence[slice], out_features: int) -> Tensor:
    """Several B, stacked as (adapted rows, rank), in the places of (out_features, pairs * rank); zero elsewhere."""
    rank = b.shape[1]
    whole = b.new_zeros(out_features, len(rows) * rank)
    start = 0
    for pair, part in enumerate(rows):
        width = part.stop - part.start
        whole[part, pair * rank : (pair + 1) * rank] = b[start : start + width]
        start += width
    return whole


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
