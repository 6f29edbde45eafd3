"""Roles: the same word means the same place in every family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from peftbench import NotSupported, UsageError
from peftbench.models.families import LINEAR_ROLES
from peftbench.models.roles import ROLES, sites, told_of_experts

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
    width = shape(found[0].module)[0]
    slices = [("query", (0, width)), ("value", (2 * width, 3 * width))]
    assert [(s.role, s.rows) for s in found] == slices * 2
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


def deepseek(**more: Any) -> nn.Module:
    sizes: dict[str, Any] = {
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "n_group": 1,
        "topk_group": 1,
    }
    few: dict[str, Any] = {
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    }
    return without_weights(
        transformers.DeepseekV3Config(**WIDE, **sizes, **few, num_key_value_heads=4, **more)
    )


def test_slices_of_a_fused_projection_and_of_a_gated_feed_forward() -> None:
    for config in (
        transformers.Phi3Config(**WIDE, pad_token_id=0),
        transformers.ModernBertConfig(**WIDE, pad_token_id=0),
    ):
        model = without_weights(config)
        rows = [[site.rows for site in sites(model, role) if site.layer == 1] for role in LINEAR_ROLES]
        ffn = shape(sites(model, "ffn_in")[0].module)[0] // 2
        gated = [(0, ffn), (ffn, 2 * ffn)]
        assert rows == [[(0, 32)], [(32, 64)], [(64, 96)], [None], gated, [None]], config.model_type
        assert {shape(site.module) for site in sites(model, "query")} == {(96, 32)}
    fewer = without_weights(transformers.Phi3Config(**WIDE, pad_token_id=0, num_key_value_heads=2))
    rows = [
        [site.rows for site in sites(fewer, role) if site.layer == 1] for role in ("query", "key", "value")
    ]
    assert rows == [[(0, 32)], [(32, 48)], [(48, 64)]]


@pytest.mark.parametrize(("role", "same"), [("query", "key"), ("key", "query"), ("value", None)])
def test_slices_of_fewer_keys_are_what_the_model_takes_for_them(role: str, same: str | None) -> None:
    """Without queries, or without keys, attention is even; without values nothing comes of it."""
    config = transformers.Phi3Config(
        **WIDE, pad_token_id=0, num_key_value_heads=2, eos_token_id=1, bos_token_id=1
    )
    torch.manual_seed(0)
    model: Any = transformers.Phi3Model(config).eval()

    def attended(without: str | None) -> torch.Tensor:
        changed = copy.deepcopy(model)
        for site in sites(changed, without) if without else ():
            with torch.no_grad():
                site.module.weight[slice(*site.rows or ())] = 0.0  # type: ignore[operator]
        seen: list[torch.Tensor] = []
        changed.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        changed(input_ids=torch.arange(2, 10)[None], use_cache=False)
        return seen[0]

    found = attended(role)
    if same is None:
        assert not found.any()
    else:
        even = torch.stack([attended(None)[0, 0], found[0, 0]])  # the first token attends to itself alone
        torch.testing.assert_close(even[0], even[1])
        torch.testing.assert_close(found, attended(same))
        assert not torch.allclose(found, attended(None), atol=1e-4)


def test_what_holds_query_key_and_value_head_by_head_is_no_slices() -> None:
    for config in (
        transformers.GPTNeoXConfig(**WIDE),
        transformers.FalconConfig(hidden_size=32, **SMALL),
        transformers.BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4),
    ):
        model = without_weights(config)
        with pytest.raises(NotSupported, match="query_key_value holds query, key and value head by head"):
            sites(model, "query+value")
        assert len(sites(model, "attention_output+ffn_in+ffn_out")) == 6
    assert len(sites(without_weights(transformers.GPTNeoXConfig(**WIDE)), "attention")) == 2
    with pytest.raises(NotSupported, match="computes attention by itself"):
        sites(model, "attention")
    for latent in (deepseek(q_lora_rank=16), deepseek(q_lora_rank=None)):
        assert next(s.name.rpartition(".")[2] for s in sites(latent, "query")) in ("q_b_proj", "q_proj")
        with pytest.raises(NotSupported, match="one latent, head by head"):
            sites(latent, "value")
        with pytest.raises(
            NotSupported, match="no 'ffn_in' in layer 1 .* experts are tensors of three dimensions"
        ):
            sites(latent, "ffn_in")


def test_all_linear_layers_of_the_blocks(checkpoint: Callable[[str], str]) -> None:
    names = [site.name for site in sites(build("llama"), "all-linear")]
    assert len(names) == 14 and names[0] == "layers.0.self_attn.q_proj"
    fused = sites(build("gpt2"), "all-linear")
    assert len(fused) == 8 and all(site.rows is None for site in fused)
    assert {site.layer for site in sites(deepseek(q_lora_rank=16), "all-linear")} == {0, 1}
    with pytest.raises(UsageError, match="or all-linear"):
        sites(build("llama"), "all-linear+query")


def test_experts_are_named_and_their_share_said() -> None:
    for config in (
        transformers.MixtralConfig(**WIDE, num_key_value_heads=2, num_local_experts=4),
        transformers.Qwen3MoeConfig(**WIDE, num_key_value_heads=2, num_experts=4, moe_intermediate_size=16),
    ):
        model = without_weights(config)
        assert len(sites(model, "query+value")) == 4
        with pytest.raises(
            NotSupported, match=r"experts are tensors of three dimensions \(layers.0.mlp.experts"
        ):
            sites(model, "ffn_in")
        own = sum(p.numel() for name, p in model.named_parameters() if "experts" in name)
        share = own / sum(p.numel() for p in model.parameters())
        assert f"{share:.0%} of the model's weights" in told_of_experts(model)[0]
    assert not told_of_experts(build("llama"))


@pytest.mark.parametrize(
    "family", ["Gemma2", "Gemma3Text", "Olmo", "Cohere", "Granite", "StableLm", "SmolLM3", "Qwen3"]
)
def test_a_gated_feed_forward_is_two_matrices_everywhere(family: str) -> None:
    model = without_weights(
        getattr(transformers, f"{family}Config")(**WIDE, num_key_value_heads=2, pad_token_id=0)
    )
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
