"""LN tuning: gains and biases of the normalisation layers train. Zhao et al. 2024, arXiv 2312.11420.

    y = gain (x - mean) / std + bias,   gain and bias train;   RMSNorm: y = gain x / rms, gain trains

Every normalisation of the model, before, inside and after the blocks. 2 d a LayerNorm, d an RMSNorm:
(4 L + 2) d on BERT and on GPT-2. Values change and nothing is added, so there is no extra latency. The same as the
PEFT library's LN tuning, which trains copies beside the frozen layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, Preset, method, select, sites


@method(
    "ln",
    claims=Claims(identity_at_init=True, mergeable=True),
    preset=Preset(0.0063, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "gain (x - mean) / std + bias, gain and bias train",
        count="2 d a LayerNorm, d an RMSNorm",
        paper="arXiv 2312.11420",
    ),
)
@dataclass(frozen=True)
class LN:
    """The gains and biases of the model's normalisation layers (Zhao et al. 2024)."""

    def inject(self, model: nn.Module) -> Adaptation:
        inside = tuple(f"{site.name}." for site in sites(model, "norm"))
        return select(model, lambda name: name.startswith(inside))
