"""Which module plays which role in a model family, so that methods speak in roles and never in module names.

`lora:targets=query+value` means the same on BERT and on Llama. A fused projection (GPT-2's `c_attn`) is one module
with a site for each of its slices, and `ffn_in` both matrices of a gated feed-forward. Families that stand in the table are
exact; of an unknown one each role is read off its blocks where it has one candidate there, and refused where it has not. Either
way every block has to have it: a model of which some blocks lack a role is refused for that role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from ..errors import NotSupported, UsageError, unknown

LINEAR_ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
ROLES = (*LINEAR_ROLES, "attention", "block", "embedding", "norm")


@dataclass(frozen=True)
class Site:
    """One place in a model: a module, or one of the equal slices of its output features."""

    role: str
    name: str  # dotted name in the model
    module: nn.Module = field(compare=False, repr=False)
    layer: int | None  # index of the block; None outside the blocks
    part: tuple[int, int] | None = None  # (index, count) among equal slices of the output; None: all of it


@dataclass(frozen=True)
class Family:
    """Regular expressions for the modules of a model family."""

    block: str  # on the full name; its first group is the layer's index
    roles: dict[str, str]  # on the name relative to the block, matched whole
    embedding: str  # on the full name
    fused: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # role -> (index, count) of its output slice
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
        fused={"query": (0, 3), "key": (1, 3), "value": (2, 3)},
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
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


# What the linear layers of a block are called in the wild. Used for a family that is not in the table.
_COMMON = {
    "query": r"(?:.*\.)?(?:q_proj|query|query_proj|q_lin|q)",
    "key": r"(?:.*\.)?(?:k_proj|key|key_proj|k_lin|k)",
    "value": r"(?:.*\.)?(?:v_proj|value|value_proj|v_lin|v)",
    "attention_output": r"(?:.*att\w*\.)(?:.*\.)?(?:o_proj|out_proj|out_lin|dense|o)",
    "ffn_in": r"(?:.*\.)?(?:gate_proj|up_proj|gate_up_proj|fc1|lin1|c_fc|wi|wi_0|wi_1|intermediate\.dense)",
    "ffn_out": r"(?:.*\.)?(?:down_proj|fc2|lin2|wo|(?<!attention\.)output\.dense)",
}
PARTIAL = r"expert|shared_mlp"  # of layers that see some tokens, or stand beside those that do
GATED = ({"gate_proj", "up_proj"}, {"wi_0", "wi_1"})  # two matrices of one feed-forward


def family_of(model: nn.Module) -> Family:
    """The family of a transformers model, from the table or discovered.

    Raises:
        NotSupported: the family is not in the table and has no one stack of blocks.
    """
    model_type = str(model.config.model_type)  # type: ignore[union-attr]
    return FAMILIES.get(model_type) or _discover(model, model_type)


def sites(model: nn.Module, roles: str) -> list[Site]:
    """The places that play `roles`, written `query+value`, in the order of the model's modules.

    Raises:
        UsageError: no such role.
        NotSupported: the model's family has no known roles, nothing plays one of those asked for, or not in every block.
    """
    asked = [role.strip() for role in roles.split("+")]
    for role in asked:
        if role not in ROLES:
            raise unknown("role", role, ROLES, "targets are roles joined by +, as in query+value")
    if len(set(asked)) < len(asked):
        raise UsageError(f"targets {roles!r} name a role twice")
    family = family_of(model)
    everything = list(_all_sites(model, family))
    kind = model.config.model_type  # type: ignore[union-attr]
    for role in asked:
        if role in family.unclear:
            raise NotSupported(family.unclear[role])
        playing = [site for site in everything if site.role == role]
        if not playing:
            raise NotSupported(
                f"targets {roles!r} match nothing: no module of this {kind} model plays {role!r}"
            )
        if role in family.roles and (lacking := _blocks_without(playing, everything)):
            raise NotSupported(
                f"targets {roles!r}: this {kind} model has no {role!r} in layer {', '.join(map(str, lacking))} as it has in others "
                f"({playing[0].name}); name roles that all of its blocks have"
            )
    return [site for site in everything if site.role in asked]


def _blocks_without(playing: list[Site], everything: list[Site]) -> list[int | None]:
    """The layers in which fewer modules play a role than in others."""
    blocks = [site for site in everything if site.role == "block"]
    counts = [sum(site.name.startswith(f"{block.name}.") for site in playing) for block in blocks]
    return sorted(
        {block.layer for block, count in zip(blocks, counts, strict=True) if count < max(counts)},
        key=lambda layer: -1 if layer is None else layer,
    )


def linear_sites(model: nn.Module) -> dict[str, list[Site]]:
    """By module name the linear roles that it plays, several where it is fused; nothing of a family without known roles."""
    found: dict[str, list[Site]] = {}
    try:
        for site in _all_sites(model, family_of(model)):
            if site.role in LINEAR_ROLES:
                found.setdefault(site.name, []).append(site)
    except NotSupported:
        return {}
    return found


def _all_sites(model: nn.Module, family: Family) -> Iterator[Site]:
    layer: int | None = None
    block = ""
    for name, module in model.named_modules():
        if match := re.search(family.block, name):
            layer, block = int(match[1]), name
            yield Site("block", name, module, layer)
        elif block and name.startswith(f"{block}."):
            inner = name[len(block) + 1 :]
            for role, pattern in family.roles.items():
                if re.fullmatch(pattern, inner):
                    yield Site(role, name, module, layer, family.fused.get(role))
        elif re.search(family.embedding, name):
            yield Site("embedding", name, module, None)
        if type(module).__name__.endswith("Norm"):
            yield Site("norm", name, module, layer if block and name.startswith(f"{block}.") else None)


def _discover(model: nn.Module, model_type: str) -> Family:
    """Read the roles of an unknown family off the names in its stack of equal blocks."""
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(m) for m in module}) == 1
    ]
    refusal = f"the model family {model_type!r} has no known roles"
    advice = "known families: " + ", ".join(FAMILIES)
    if not stacks:
        raise NotSupported(f"{refusal} and no stack of equal blocks; {advice}")
    name, stack = max(stacks, key=lambda item: sum(p.numel() for p in item[1].parameters()))
    beside = [
        other
        for other, module in stacks
        if not f"{other}.".startswith(f"{name}.") and any(_attends(block) for block in module)
    ]
    if beside:
        raise NotSupported(f"{refusal} and more than one stack of blocks ({name}, {beside[0]}); {advice}")
    roles: dict[str, str] = {}
    unclear: dict[str, str] = {}
    for role in _COMMON:
        # The first block that has any says what it is called; `sites` looks whether all have it.
        candidates = next(filter(None, (_candidates(block, role) for block in stack)), [])
        if len(candidates) == 1 or _is_gated(candidates):
            roles[role] = "|".join(map(re.escape, candidates))
        else:
            said = f"{len(candidates)} modules could play {role!r}"
            listed = f": {', '.join(candidates[:4])}" if candidates else ""
            unclear[role] = f"{refusal}, and {said}{listed}; {advice}"
    if "query" in roles:
        roles["attention"] = roles["query"].rpartition(r"\.")[0] or r"-"
    else:
        unclear["attention"] = unclear["query"]
    embedding = next((n for n, m in model.named_modules() if isinstance(m, nn.Embedding)), "-")
    return Family(
        block=rf"^{re.escape(name)}\.(\d+)$",
        roles=roles,
        embedding=rf"^{re.escape(embedding)}$",
        unclear=unclear,
    )


def _attends(block: nn.Module) -> bool:
    """Whether a block is one of a model's, whatever its layers are called: not a list of experts or of convolutions."""
    return bool(_candidates(block, "query")) or any("Attention" in type(m).__name__ for m in block.modules())


def _candidates(block: nn.Module, role: str) -> list[str]:
    """The linear layers of a block that go by a common name of a role. One expert of several is not the feed-forward."""
    linear = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in linear if re.fullmatch(_COMMON[role], name) and not re.search(PARTIAL, name)]


def _is_gated(candidates: list[str]) -> bool:
    """Whether they are the two matrices of one gated feed-forward."""
    parents = {name.rpartition(".")[0] for name in candidates}
    return len(candidates) == 2 and len(parents) == 1 and {n.rpartition(".")[2] for n in candidates} in GATED
