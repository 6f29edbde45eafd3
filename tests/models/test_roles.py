"""Roles: the same word means the same place in every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from peftbench import NotSupported, UsageError
from peftbench.models.roles import LINEAR_ROLES, ROLES, sites

SMALL: dict[str, Any] = {"vocab_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"hidden_size": 32, "intermediate_size": 64, **SMALL}
CONFIGS: dict[str, Any] = {
    "bert": transformers.BertConfig(**WIDE),
    "roberta": transformers.RobertaConfig(**WIDE),
    "deberta-v2": transformers.DebertaV2Config(**WIDE),
    "distilbert": transformers.DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "gpt2": transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4),
    "llama": transformers.LlamaConfig(**WIDE),
    "mistral": transformers.MistralConfig(**WIDE),
    "qwen2": transformers.Qwen2Config(**WIDE),
    "opt": transformers.OPTConfig(hidden_size=32, ffn_dim=64, word_embed_proj_dim=32, **SMALL),
    "vit": transformers.ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    ),
    "t5": transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
}


def build(family: str) -> nn.Module:
    return without_weights(CONFIGS[family])


@pytest.mark.parametrize("family", CONFIGS)
def test_every_role_is_played_once_a_block(family: str) -> None:
    model = build(family)
    blocks = 4 if family == "t5" else 2  # encoder and decoder
    for role in LINEAR_ROLES:
        per_block = 2 if role == "ffn_in" and family in ("llama", "mistral", "qwen2") else 1
        found = sites(model, role)
        assert len(found) == blocks * per_block, role
        assert {s.layer for s in found} == {0, 1}
    assert len(sites(model, "attention")) == len(sites(model, "block")) == blocks
    assert sites(model, "embedding") and sites(model, "norm")


def test_a_fused_projection_is_three_slices_of_one_module() -> None:
    found = sites(build("gpt2"), "value+query")
    assert [(s.role, s.part) for s in found] == [("query", (0, 3)), ("value", (2, 3))] * 2
    assert len({s.name for s in found}) == 2


def shape(layer: Any) -> tuple[int, ...]:
    return tuple(layer.weight.shape)


def test_shapes_fit_the_roles() -> None:
    """The feed-forward widens and narrows again: a pattern that picked attention's output would not."""
    for family in ("bert", "deberta-v2", "distilbert", "llama", "opt", "vit", "t5"):
        model = build(family)
        assert {shape(s.module) for s in sites(model, "ffn_in")} == {(64, 32)}, family
        assert {shape(s.module) for s in sites(model, "ffn_out")} == {(32, 64)}, family


def test_an_unknown_family_is_discovered_or_refused(checkpoint: Callable[[str], str]) -> None:
    known: Any = build("llama")
    known.config.model_type = "strange"
    with pytest.raises(
        NotSupported, match=r"'strange' has no known roles, and .* 'ffn_in'|modules could play"
    ):
        sites(build_strange(gated=True), "query+ffn_in")
    assert len(sites(build_strange(gated=True), "query")) == 2
    found = sites(build_strange(gated=False), "query+ffn_out")
    assert [s.name for s in found] == [
        "layers.0.att.q_proj",
        "layers.0.fc2",
        "layers.1.att.q_proj",
        "layers.1.fc2",
    ]


def build_strange(gated: bool) -> Any:
    """A stack of blocks with common names; with two candidates for `ffn_in` if `gated`."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.att = nn.ModuleDict(
                {name: nn.Linear(4, 4) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
            )
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)
            if gated:
                self.up_proj = nn.Linear(4, 8)

    model: Any = nn.Module()
    model.layers = nn.ModuleList([Block(), Block()])
    model.config = transformers.PretrainedConfig()
    model.config.model_type = "strange"
    return model


@pytest.mark.parametrize("family", ["Gemma2", "Olmo", "Cohere", "Granite", "StableLm"])
def test_a_gated_feed_forward_is_two_matrices_everywhere(family: str) -> None:
    model = without_weights(getattr(transformers, f"{family}Config")(**WIDE, num_key_value_heads=2))
    found = sites(model, "ffn_in")
    assert [s.name for s in found if s.layer == 1] == ["layers.1.mlp.gate_proj", "layers.1.mlp.up_proj"]
    assert {shape(s.module) for s in found} == {(64, 32)}


def test_blocks_without_a_role_are_named() -> None:
    dense_first = transformers.Glm4MoeConfig(
        **{**WIDE, "num_hidden_layers": 3}, first_k_dense_replace=1, moe_intermediate_size=16, n_routed_experts=4
    )  # fmt: skip
    model = without_weights(dense_first)
    assert len(sites(model, "query+value")) == 6
    for role in ("ffn_in", "ffn_out"):
        with pytest.raises(NotSupported, match=rf"no '{role}' in layer 1, 2 as it has in others \(layers.0"):
            sites(model, role)
    hybrid = without_weights(transformers.Qwen3NextConfig(**{**WIDE, "num_hidden_layers": 4}))
    for role in ("query", "attention"):
        with pytest.raises(NotSupported, match="in layer 0, 1, 2 as"):
            sites(hybrid, role)


def test_one_stack_of_two_is_not_the_model() -> None:
    sizes: dict[str, Any] = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 64), ("attention_heads", 4))}  # fmt: skip
    with pytest.raises(NotSupported, match=r"more than one stack of blocks \(decoder.layers, encoder.layers"):
        sites(without_weights(transformers.BartConfig(vocab_size=50, d_model=32, **sizes)), "query")
    both = build_strange(
        gated=False
    )  # an image's blocks with common names, and a text's that are called otherwise
    both.text = nn.ModuleList(
        [
            transformers.models.bert.modeling_bert.BertSelfAttention(
                transformers.BertConfig(hidden_size=4, num_attention_heads=1)
            )
        ]
    )
    for name in ("query", "key", "value"):
        both.text[0].add_module(f"W{name}", both.text[0]._modules.pop(name))
    with pytest.raises(NotSupported, match=r"more than one stack of blocks \(layers, text\)"):
        sites(both, "query")


def test_what_stands_beside_experts_is_not_the_feed_forward() -> None:
    model = without_weights(transformers.HunYuanMoEV1Config(**WIDE, num_experts=4, head_dim=8))
    with pytest.raises(NotSupported, match="0 modules could play 'ffn_in'"):
        sites(model, "ffn_in")


def without_weights(config: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = transformers.AutoModel.from_config(config)
    return model


def test_unknown_roles_are_named() -> None:
    with pytest.raises(UsageError, match="unknown role 'quary'; did you mean 'query'"):
        sites(build("bert"), "quary+value")
    with pytest.raises(UsageError, match="twice"):
        sites(build("bert"), "query+query")
    assert len(ROLES) == 10
