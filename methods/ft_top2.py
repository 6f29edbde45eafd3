"""FT-Top2: fine-tuning of the last two blocks. Li and Liang 2021, arXiv 2101.00190; Hu et al. 2021, table 3.

    block i < L - 2: frozen;   block i >= L - 2: every weight trains

2 (12 d^2 + 13 d) parameters on GPT-2: what follows the blocks, such as the last LayerNorm, stays frozen. The
backward pass ends at the first trained block. In an encoder-decoder the last blocks are the decoder's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, NotSupported, Preset, method, select, sites


@method(
    "ft-top2",
    claims=Claims(identity_at_init=True, mergeable=True),
    preset=Preset(0.0002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts("the last two blocks train", count="2 (12 d^2 + 13 d) on GPT-2", paper="arXiv 2101.00190"),
)
@dataclass(frozen=True)
class FTTop2:
    """Every weight of the last blocks (Li and Liang 2021)."""

    blocks: int = 2

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ValueError(f"blocks must be 1 or more, not {self.blocks}")

    def inject(self, model: nn.Module) -> Adaptation:
        found = sites(model, "block")
        if self.blocks > len(found):
            raise NotSupported(
                f"the last {self.blocks} blocks were asked for, and this model has {len(found)}"
            )
        inside = tuple(f"{site.name}." for site in found[-self.blocks :])
        return select(model, lambda name: name.startswith(inside))
