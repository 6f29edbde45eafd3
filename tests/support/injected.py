"""Methods let into a model by their SPEC alone, and models without weights at the papers' sizes."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from peftbench import Adaptation, spec
from peftbench.models.streams import init_streams
from peftbench.plugins import registry


def build(text: str) -> Any:
    parsed = spec.parse(text)
    return spec.build(parsed, registry.get("method", parsed.name).target, "method")


def inject(text: str, model: nn.Module, seed: int = 0) -> Adaptation:
    with init_streams(seed, text):
        adaptation: Adaptation = build(text).inject(model)
    return adaptation


def fill(adaptation: Adaptation) -> None:
    """Numbers in every trained tensor: B is zero at the start."""
    generator = torch.Generator().manual_seed(3)
    for p in adaptation.params.values():
        p.data.copy_(torch.randn(p.shape, generator=generator) * 0.1)


def meta(model: type[Any], config: Any) -> Any:
    with torch.device("meta"):
        return model(config)


def roberta(large: bool) -> Any:
    sizes = (1024, 24, 16, 4096) if large else (768, 12, 12, 3072)
    width, layers, heads, ffn = sizes
    config = transformers.RobertaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=ffn,
        vocab_size=50265,
    )
    return meta(transformers.RobertaForSequenceClassification, config)


def gpt2(large: bool) -> Any:
    width, layers, heads = (1280, 36, 20) if large else (1024, 24, 16)
    return meta(
        transformers.GPT2LMHeadModel, transformers.GPT2Config(n_embd=width, n_layer=layers, n_head=heads)
    )
