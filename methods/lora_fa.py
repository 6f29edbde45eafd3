"""LoRA-FA: LoRA with a frozen A. Zhang et al. 2023, arXiv 2308.03303, section 3.

    h = W0 x + (alpha / r) B A x,   A drawn and frozen, B (out, r) zero and trained

The input of A need not be kept for backward, so the adapted layers save r instead of `in` numbers a token. r out trained
a matrix; stored are r (in + out), since A is drawn and not learned but the result depends on it. Merges.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn

from peftbench import Adaptation, Claims, Facts, Preset, method

from .lora import LoRA


@method(
    "lora-fa",
    claims=Claims(identity_at_init=True, mergeable=True, exact_base=True, random_init=True),
    preset=Preset(0.0063, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "W0 x + (alpha / r) B A x, A frozen",
        count="r out a matrix",
        paper="arXiv 2308.03303",
        stored="what trains, and A",
    ),
)
@dataclass(frozen=True)
class LoRAFA(LoRA):
    """LoRA with a frozen A: fewer activations kept (Zhang et al. 2023)."""

    def inject(self, model: nn.Module) -> Adaptation:
        adaptation = super().inject(model)
        frozen: dict[str, Tensor] = {
            name: p.detach() for name, p in adaptation.params.items() if name.endswith(".a")
        }
        params = {name: p for name, p in adaptation.params.items() if name not in frozen}
        return dataclasses.replace(adaptation, params=params, frozen=frozen)
