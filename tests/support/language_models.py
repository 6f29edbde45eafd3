"""Tiny language models with virtual tokens."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from peftbench import Adaptation

CAUSAL = ("gpt2", "llama", "qwen2", "opt")


def language_model(folder: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def vectors(model: Any) -> list[Tensor]:
    return [p.detach() for p in model.virtual_tokens.vectors]


def far(adaptation: Adaptation) -> None:
    """Numbers large enough that every virtual token matters."""
    generator = torch.Generator().manual_seed(4)
    for p in adaptation.params.values():
        p.data.copy_(torch.randn(p.shape, generator=generator) * 0.5)
