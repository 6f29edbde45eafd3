"""LoRA+: LoRA whose B learns faster than its A. Hayou et al. 2024, arXiv 2402.12354, section 4.

    h = W0 x + (alpha / r) B A x,   learning rate of B = ratio x learning rate of A

Only the optimizer differs from LoRA: counts, merging and storage are the same. The run's learning rate is A's. The PEFT
library's `create_loraplus_optimizer` sets the same two rates (and one of its own for embeddings, which are not adapted
here).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, Preset, method

from .lora import LoRA


@method(
    "lora-plus",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(0.00063, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "W0 x + (alpha / r) B A x, B at ratio times A's learning rate",
        count="r (in + out) a matrix",
        paper="arXiv 2402.12354",
    ),
)
@dataclass(frozen=True)
class LoRAPlus(LoRA):
    """LoRA with a higher learning rate for B than for A (Hayou et al. 2024)."""

    ratio: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ratio > 0:
            raise ValueError(f"ratio must be above 0, not {self.ratio:g}")

    def inject(self, model: nn.Module) -> Adaptation:
        adaptation = super().inject(model)
        groups = {name: self.ratio for name in adaptation.params if name.endswith(".b")}
        return dataclasses.replace(adaptation, groups=groups)
