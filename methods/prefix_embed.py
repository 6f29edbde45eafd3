"""Prefix-embedding tuning: trained embeddings before and after the tokens. Hu et al. 2021, arXiv 2106.09685, section 5.1.

    f([P; E(x); I]),   P (l_p, d) the prefix, I (l_i, d) the infix, Gaussian

d (l_p + l_i) parameters; the embedding-only form of Li & Liang 2021, arXiv 2101.00190, section 7.2. The spread of the start
is that of the model's word embeddings, unless `init_std` is given. Does not merge. A causal model reads its answer at the
last infix token; where the tokens stand otherwise: `_virtual_tokens.py`. The PEFT library has no infix.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn

from peftbench import Adaptation, Claims, Facts, Preset, method

from ._virtual_tokens import add_virtual_tokens, normal, stack_of


@method(
    "prefix-embed",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(0.02, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts("f([P; E(x); I])", count="d (l_p + l_i)", paper="arXiv 2106.09685"),
)
@dataclass(frozen=True)
class PrefixEmbed:
    """Trained embeddings before and after the tokens (Hu et al. 2021)."""

    prefix: int = dataclasses.field(default=8, metadata={"size": True})
    infix: int = 8
    init_std: float | None = None

    def __post_init__(self) -> None:
        if min(self.prefix, self.infix) < 0 or self.prefix + self.infix < 1:
            raise ValueError(
                f"prefix and infix must be 0 or more and not both 0: {self.prefix}, {self.infix}"
            )
        if self.init_std is not None and self.init_std <= 0:
            raise ValueError(f"init_std must be above 0, not {self.init_std}")

    def inject(self, model: nn.Module) -> Adaptation:
        return add_virtual_tokens(model, self.prefix, self.infix, self.sets(model))

    def sets(self, model: nn.Module) -> list[Tensor]:
        """The start of what trains: (prefix + infix, width) each."""
        _, embedding, _ = stack_of(model)
        weight: Tensor = embedding.module.weight  # type: ignore[assignment]
        count, width = self.prefix + self.infix, weight.shape[1]
        return [normal(count, width, self.init_std, embedding, "virtual_tokens.0")]
