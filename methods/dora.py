"""DoRA: the weight's length and direction apart, the direction learned by LoRA. Liu et al. 2024, arXiv 2402.09353, eq. 5.

    W' = m (W0 + s B A) / |W0 + s B A|,   s = alpha / r,   m = |W0| at the start, a norm for each row of W (output)

The norm is a constant in the backward pass (section 4.3 of the paper). It is taken of W0 + s B A without forming that
matrix, row by row:

    |w + s b A|^2 = |w|^2 + 2 s b . (A w) + s^2 b A A^T b^T

and |w|^2, which stays, is computed once.

r (in + out) + out parameters a matrix; merges. Of a fused projection only the asked-for rows are rescaled. Dropout acts on
the input of A alone; the PEFT library also drops the base's share of what the magnitude rescales.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftbench import Adaptation, Claims, Facts, Preset, Site, method, plain, swap, weight_of

from ._low_rank import Copies
from ._once import once
from .lora import LoRA, LoRALinear

BLOCK = 2**22  # numbers of a weight that are copied in float32 at once: 16 MiB, and enough to fill a GPU


@method(
    "dora",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "m (W0 + s B A) x / |W0 + s B A|, s = alpha / r, a norm and an m for each row",
        count="r (in + out) + out a matrix",
        paper="arXiv 2402.09353",
    ),
)
@dataclass(frozen=True)
class DoRA(LoRA):
    """LoRA on the direction of the weights, beside a trained magnitude (Liu et al. 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start:
            raise ValueError("start is for methods whose checkpoint is a plain LoRA")

    def inject(self, model: nn.Module) -> Adaptation:
        copies = Copies()
        return swap(model, self.targets, lambda base, sites: DoRALinear(base, sites, self, copies))


class DoRALinear(LoRALinear):
    """A linear layer whose rows have a trained length and a direction with a low-rank update."""

    def __init__(
        self, base: nn.Module, sites: list[Site], settings: LoRA, copies: Copies | None = None
    ) -> None:
        super().__init__(base, sites, settings, copies)
        self.magnitude = nn.Parameter(self._squared_norms().sqrt())  # (adapted rows,)

    @torch.no_grad()
    def _squared_norms(self) -> Tensor:
        """Of the rows of W0 + s B A that are adapted: (adapted rows,), float32 under autocast too."""
        weight, found = weight_of(self.base), []
        kind = "cpu" if weight.is_meta else weight.device.type
        with torch.autocast(kind, enabled=False):
            for rows, pair, part in self.parts():
                w, a, b = weight[rows], self.a[pair].float(), self.b[part].float()
                own = self._own_squares(rows)
                cross = (_of_rows(w, functools.partial(_product, a)) * b).sum(1)
                square = ((b @ (a @ a.t())) * b).sum(1)
                found.append(own + 2 * self.scale * cross + self.scale**2 * square)
        return torch.cat(found)

    def _own_squares(self, rows: slice) -> Tensor:
        """|w|^2 of some rows of W0: anew in each pass only where W0 trains too."""
        weight: Any = self.base.weight

        def compute() -> Tensor:
            return _of_rows(weight_of(self.base)[rows], lambda block: block.square().sum(1))

        return compute() if weight.requires_grad else once(weight, ("|w|^2", rows.start, rows.stop), compute)

    def _excess(self) -> Tensor:
        """How much more than 1 each output is multiplied by: (out_features,)."""
        excess = self.magnitude / self._squared_norms().sqrt() - 1
        if self.whole:
            return excess
        return spread_vector(excess, self.rows, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        out = self.adapted(x)
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        moved = out if bias is None else out - bias.to(out.dtype)  # the bias keeps its size
        return torch.addcmul(out, moved, self._excess().to(out.dtype))

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """m (W0 + s B A) / |W0 + s B A|, in float32 and cast once."""
        weight = weight_of(self.base).float() + self.scale * self.up() @ self.a
        weight = weight * (1 + self._excess())[:, None]
        return plain(self.base, weight, self.base.bias)  # type: ignore[arg-type]

    # A rescaled weight is not a sum of updates: nothing to add to a shared layer, or to mix.
    add_to = None  # type: ignore[assignment]
    mixed = None  # type: ignore[assignment]


def _of_rows(weight: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of rows in float32, of all rows of a weight; one in another type is copied a block at a time."""
    if weight.dtype == torch.float32:
        return function(weight)
    return torch.cat([function(block.float()) for block in weight.split(max(1, BLOCK // weight.shape[1]))])


def _product(a: Tensor, rows: Tensor) -> Tensor:
    return rows @ a.t()


def spread_vector(values: Tensor, rows: list[slice], out_features: int) -> Tensor:
    """Values of the adapted rows in the places of all: (adapted rows,) to (out_features,), zero elsewhere."""
    whole = values.new_zeros(out_features)
    start = 0
    for part in rows:
        width = part.stop - part.start
        whole[part] = values[start : start + width]
        start += width
    return whole
