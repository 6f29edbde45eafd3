"""Model families whose modules are known by name: which one plays which role in a block."""

from __future__ import annotations

from dataclasses import dataclass, field

LINEAR_ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
QKV = frozenset(
    ("query", "key", "value")
)  # one projection's outputs: queries of all heads, then keys, then values
GATED = frozenset(("ffn_in",))  # both matrices of a gated feed-forward, one above the other


@dataclass(frozen=True)
class Family:
    """Regular expressions for the modules of a model family."""

    block: str  # on the full name; its first group is the layer's index
    roles: dict[str, str]  # on the name relative to the block, matched whole
    embedding: str  # on the full name
    fused: frozenset[str] = frozenset()  # roles that are played by slices of a module
    unclear: dict[str, str] = field(default_factory=dict)  # role -> why nothing can be said to play it


def _roles(attention: str, q: str, k: str, v: str, o: str, ffn_in: str, ffn_out: str) -> dict[str, str]:
    projections = zip(LINEAR_ROLES, (q, k, v, o, ffn_in, ffn_out), strict=True)
    return {"attention": attention, **dict(projections)}


def _bert(suffix: str = "") -> Family:
    own = r"attention\.self"
    return Family(
        block=r"(?:^|\.)encoder\.layer\.(\d+)$",
        roles=_roles(
            own,
            rf"{own}\.query{suffix}",
            rf"{own}\.key{suffix}",
            rf"{own}\.value{suffix}",
            r"attention\.output\.dense",
            r"intermediate\.dense",
            r"output\.dense",
        ),
        embedding=r"(?:^|\.)embeddings\.word_embeddings$",
    )


def _qkv(block: str, attention: str, out: str, ffn_in: str, ffn_out: str, embedding: str) -> Family:
    """The families that call their projections `q_proj`, `k_proj` and `v_proj`."""
    q, k, v = (rf"{attention}\.{letter}_proj" for letter in "qkv")
    return Family(block, _roles(attention, q, k, v, rf"{attention}\.{out}", ffn_in, ffn_out), embedding)


def _by_head(block: str, attention: str, embedding: str, own: bool = False) -> Family:
    """The families with one projection in which query, key and value follow each other head by head, or group by group.

    Args:
        own: it computes attention by itself, and not by one of the library's functions that others share.
    """
    one = f"{attention}.query_key_value holds query, key and value head by head, so none of them is a slice of it; take all-linear"
    roles = _roles(
        attention, "-", "-", "-", rf"{attention}\.dense", r"mlp\.dense_h_to_4h", r"mlp\.dense_4h_to_h"
    )
    named = {role: name for role, name in roles.items() if name != "-"}
    unclear = dict.fromkeys(("query", "key", "value"), one)
    if own:
        del named["attention"]
        unclear["attention"] = (
            "this family computes attention by itself, where nothing can be put beside its keys and values"
        )
    return Family(block, named, embedding, unclear=unclear)


_OF_LATENTS = "self_attn.kv_b_proj makes keys and values of one latent, head by head, so neither is a slice of it; take all-linear"
_LATENT = Family(  # DeepSeek's attention; its feed-forward differs from block to block
    r"(?:^|\.)layers\.(\d+)$",
    {
        "query": r"self_attn\.q(?:_b)?_proj",
        "attention_output": r"self_attn\.o_proj",
        "ffn_in": r"mlp\.(?:gate|up)_proj",
        "ffn_out": r"mlp\.down_proj",
    },
    r"(?:^|\.)embed_tokens$",
    unclear={
        **dict.fromkeys(("key", "value"), _OF_LATENTS),
        "attention": "the keys and values of this family are made of one latent and differ in width",
    },
)
_LLAMA = _qkv(
    r"(?:^|\.)layers\.(\d+)$",
    r"self_attn",
    "o_proj",
    r"mlp\.(?:gate|up)_proj",
    r"mlp\.down_proj",
    r"(?:^|\.)embed_tokens$",
)
FAMILIES: dict[str, Family] = {
    "bert": _bert(),
    "roberta": _bert(),
    "xlm-roberta": _bert(),
    "electra": _bert(),
    "deberta-v2": _bert("_proj"),
    "distilbert": Family(
        r"(?:^|\.)transformer\.layer\.(\d+)$",
        _roles(
            "attention",
            r"attention\.q_lin",
            r"attention\.k_lin",
            r"attention\.v_lin",
            r"attention\.out_lin",
            r"ffn\.lin1",
            r"ffn\.lin2",
        ),
        r"(?:^|\.)embeddings\.word_embeddings$",
    ),
    "gpt2": Family(
        r"(?:^|\.)h\.(\d+)$",
        _roles(
            "attn",
            r"attn\.c_attn",
            r"attn\.c_attn",
            r"attn\.c_attn",
            r"attn\.c_proj",
            r"mlp\.c_fc",
            r"mlp\.c_proj",
        ),
        r"(?:^|\.)wte$",
        fused=QKV,
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "phi3": Family(
        r"(?:^|\.)layers\.(\d+)$",
        _roles(
            "self_attn",
            r"self_attn\.qkv_proj",
            r"self_attn\.qkv_proj",
            r"self_attn\.qkv_proj",
            r"self_attn\.o_proj",
            r"mlp\.gate_up_proj",
            r"mlp\.down_proj",
        ),
        r"(?:^|\.)embed_tokens$",
        fused=QKV | GATED,
    ),
    "modernbert": Family(
        r"(?:^|\.)layers\.(\d+)$",
        _roles("attn", r"attn\.Wqkv", r"attn\.Wqkv", r"attn\.Wqkv", r"attn\.Wo", r"mlp\.Wi", r"mlp\.Wo"),
        r"(?:^|\.)tok_embeddings$",
        fused=QKV | GATED,
    ),
    "falcon": _by_head(r"(?:^|\.)h\.(\d+)$", "self_attention", r"(?:^|\.)word_embeddings$", own=True),
    "bloom": _by_head(r"(?:^|\.)h\.(\d+)$", "self_attention", r"(?:^|\.)word_embeddings$", own=True),
    "gpt_neox": _by_head(r"(?:^|\.)layers\.(\d+)$", "attention", r"(?:^|\.)embed_in$"),
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "opt": _qkv(
        r"(?:^|\.)decoder\.layers\.(\d+)$", "self_attn", "out_proj", "fc1", "fc2", r"(?:^|\.)embed_tokens$"
    ),
    "vit": _qkv(
        r"(?:^|\.)layers\.(\d+)$",
        "attention",
        "o_proj",
        r"mlp\.fc1",
        r"mlp\.fc2",
        r"(?:^|\.)patch_embeddings\.projection$",
    ),
    "t5": Family(
        r"(?:^|\.)block\.(\d+)$",
        _roles(
            r"layer\.0\.SelfAttention",
            r"layer\.0\.SelfAttention\.q",
            r"layer\.0\.SelfAttention\.k",
            r"layer\.0\.SelfAttention\.v",
            r"layer\.0\.SelfAttention\.o",
            r"layer\.[12]\.DenseReluDense\.wi(?:_[01])?",
            r"layer\.[12]\.DenseReluDense\.wo",
        ),
        r"(?:^|\.)shared$",
    ),
}
