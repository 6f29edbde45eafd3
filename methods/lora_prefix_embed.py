"""LoRA and trained embeddings before and after the tokens, together. Hu et al. 2021, arXiv 2106.09685, appendix E.

r (in + out) parameters a matrix and d (l_p + l_i): the paper's LoRA+PE. Does not merge, because the virtual tokens do not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from peftbench import Adaptation, Claims, Facts, Preset, method
from peftbench.models.adaptation import together

from .lora import LoRA
from .prefix_embed import PrefixEmbed


@method(
    "lora-prefix-embed",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "lora and prefix-embed together",
        count="r (in + out) a matrix + d (l_p + l_i)",
        paper="arXiv 2106.09685",
    ),
)
@dataclass(frozen=True)
class LoRAPrefixEmbed:
    """LoRA with prefix-embedding tuning (Hu et al. 2021)."""

    rank: int = dataclasses.field(default=8, metadata={"size": True})
    alpha: float = 16.0
    targets: str = "query+value"
    prefix: int = 8
    infix: int = 4

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[PrefixEmbed, LoRA]:
        """The two methods, in the order in which they go in: the roles of an unknown family are read off plain layers.

        Raises:
            ValueError: one of them refuses its settings.
        """
        return PrefixEmbed(self.prefix, self.infix), LoRA(self.rank, self.alpha, targets=self.targets)

    def inject(self, model: nn.Module) -> Adaptation:
        return together(*(part.inject(model) for part in self.parts()))
