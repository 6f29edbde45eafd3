"""Prompt tuning: trained embeddings before the tokens. Lester et al. 2021, arXiv 2104.08691, section 2.

    f([P; E(x)]),   P (l, d) started at the embeddings of tokens drawn from the vocabulary

l d parameters. Does not merge: every call is l tokens longer. In T5 the prompt stands before the encoder's tokens alone. The
PEFT library has the same for causal models; in encoders it puts the prompt before the first token, where poolers read, here
the prompt follows it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftbench import Adaptation, Claims, Facts, NotSupported, PeftExport, Preset, layer_stream, method

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

    length: int = dataclasses.field(default=16, metadata={"size": True})

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

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        """The library's prompt tuning, which is the same in language models alone."""
        model: Any = adaptation.model
        generates = getattr(model, "get_output_embeddings", lambda: None)() is not None
        if getattr(model.config, "is_encoder_decoder", False) or not generates:
            raise NotSupported(
                "the library puts a prompt before an encoder's first token, and its classifiers of decoders read the last "
                "place of a padded text: only language models have the same prompt there"
            )
        (vectors,) = adaptation.params.values()
        config = {
            "peft_type": "PROMPT_TUNING",
            "num_virtual_tokens": self.length,
            "token_dim": vectors.shape[1],
            "num_layers": model.config.num_hidden_layers,
            "num_attention_heads": model.config.num_attention_heads,
            "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM",
        }
        return PeftExport(config, {"prompt_embeddings": vectors.detach().clone()})
