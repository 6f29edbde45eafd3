"""Prompt tuning: trained embeddings before the tokens. Lester et al. 2021, arXiv 2104.08691, section 2.

    f([P; E(x)]),   P (l, d) started at the embeddings of tokens drawn from the vocabulary

l d parameters. Does not merge: every call is l tokens longer. In T5 the prompt stands before the encoder's tokens alone. The
PEFT library has the same for causal models; in encoders it puts the prompt before the first token, where poolers read, here
the prompt follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftbench import Adaptation, Claims, Facts, Preset, layer_stream, method

from ._virtual_tokens import add_virtual_tokens, stack_of


@method(
    "prompt",
    claims=Claims(exact_base=True, random_init=True),
    preset=Preset(0.02, source="newsgroups validation, 120 steps of 16, 2 seeds: docs/results/presets.md"),
    facts=Facts("f([P; E(x)])", count="l d", paper="arXiv 2104.08691"),
)
@dataclass(frozen=True)
class Prompt:
    """Trained embeddings before the tokens (Lester et al. 2021)."""

    length: int = 16

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be 1 or more, not {self.length}")

    def inject(self, model: nn.Module) -> Adaptation:
        _, embedding, _ = stack_of(model)
        weight: Tensor = embedding.module.weight  # type: ignore[assignment]
        prompt = torch.empty(self.length, weight.shape[1], device=weight.device)
        if not weight.is_meta:
            with layer_stream("prompt"):
                drawn = torch.randint(len(weight), (self.length,))
            prompt.copy_(weight.detach()[drawn.to(weight.device)])
        return add_virtual_tokens(model, self.length, 0, [prompt])
