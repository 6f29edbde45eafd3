"""Full fine-tuning: every weight trains. The baseline that the others are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, Preset, method, select


@method(
    "full",
    claims=Claims(identity_at_init=True, mergeable=True),
    preset=Preset(
        1e-4,
        source="newsgroups validation, 120 steps of 16, 5 half decades, 2 seeds: docs/results/presets.md",
    ),
    facts=Facts("W x, every W trains", count="all", paper=""),
)
@dataclass(frozen=True)
class Full:
    """Every weight of the model trains."""

    def inject(self, model: nn.Module) -> Adaptation:
        return select(model)
