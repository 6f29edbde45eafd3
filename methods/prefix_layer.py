"""Prefix-layer tuning: trained activations at extra places, at every layer. Hu et al. 2021, arXiv 2106.09685, section 5.1.

    h^0 = [P^0; E(x); I^0],   h^l = block_l([P^(l-1); h^(l-1) at the tokens; I^(l-1)])

What a block computes at the virtual places is thrown away and replaced by the next block's own trained vectors:
L d (l_p + l_i) parameters in L sets, the first of which are embeddings. Not `prefix`, which trains keys and values and twice
as many numbers. A causal model reads its answer at the last token, so there the infix stands before that one; read at the
infix, the answer would hold the last block's work alone. In T5 the encoder's blocks alone have vectors. Does not merge; the
PEFT library has no such method. The counts that the paper prints for GPT-3 are 1 to 8 % above its own formula, the reason
is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from peftbench import Claims, Facts, Preset, method

from ._virtual_tokens import normal, stack_of
from .prefix_embed import PrefixEmbed


@method(
    "prefix-layer",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(0.063, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "h^l = block_l([P^(l-1); h^(l-1) at the tokens; I^(l-1)])",
        count="L d (l_p + l_i)",
        paper="arXiv 2106.09685",
    ),
)
@dataclass(frozen=True)
class PrefixLayer(PrefixEmbed):
    """Trained activations at extra places, at every layer (Hu et al. 2021)."""

    def sets(self, model: nn.Module) -> list[Tensor]:
        _, embedding, blocks = stack_of(model)
        width = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        later = [
            normal(self.prefix + self.infix, width, self.init_std, embedding, f"virtual_tokens.{layer}")
            for layer in range(1, len(blocks))
        ]
        return [*super().sets(model), *later]
