"""LoRA and trained activations at extra places of every layer, together. Hu et al. 2021, arXiv 2106.09685, appendix E.

r (in + out) parameters a matrix and L d (l_p + l_i): the paper's LoRA+PL. Does not merge, because the virtual tokens do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftbench import Claims, Facts, Preset, method

from .lora import LoRA
from .lora_prefix_embed import LoRAPrefixEmbed
from .prefix_layer import PrefixLayer


@method(
    "lora-prefix-layer",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(0.002, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts(
        "lora and prefix-layer together",
        count="r (in + out) a matrix + L d (l_p + l_i)",
        paper="arXiv 2106.09685",
    ),
)
@dataclass(frozen=True)
class LoRAPrefixLayer(LoRAPrefixEmbed):
    """LoRA with prefix-layer tuning (Hu et al. 2021)."""

    def parts(self) -> tuple[PrefixLayer, LoRA]:
        return PrefixLayer(self.prefix, self.infix), LoRA(self.rank, self.alpha, targets=self.targets)
