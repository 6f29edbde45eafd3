"""Rank-stabilised LoRA. Kalajdzievski 2023, arXiv 2312.03732, theorem 3.2.

    h = W0 x + (alpha / sqrt(r)) B A x

LoRA with another scale, so that the size of gradients does not shrink as the rank grows. r (in + out) parameters a
matrix; merges. At one rank it is LoRA with an alpha that is sqrt(r) times as large; the default alpha gives the scale
that `lora` has at rank 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from peftbench import Claims, Facts, Preset, method

from .lora import LoRA


@method(
    "rslora",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts("W0 x + (alpha / sqrt(r)) B A x", count="r (in + out) a matrix", paper="arXiv 2312.03732"),
)
@dataclass(frozen=True)
class RsLoRA(LoRA):
    """LoRA scaled by alpha / sqrt(rank) (Kalajdzievski 2023)."""

    alpha: float = 5.66

    @property
    def scale(self) -> float:
        return self.alpha / math.sqrt(self.rank)
