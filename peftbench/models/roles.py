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
from itertools import accumulate, pairwise
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from ..errors import NotSupported, UsageError, unknown
from .families import FAMILIES, LINEAR_ROLES, QKV, Family

ALL_LINEAR = "all-linear"  # in place of roles: every linear layer of the blocks, fused ones whole
ROLES = (*LINEAR_ROLES, "attention", "block", "embedding", "norm")


@dataclass(frozen=True)
class Site:
    """One place in a model: a module, or a slice of its output features."""

    role: str
    name: str  # dotted name in the model
    module: nn.Module = field(compare=False, repr=False)
    layer: int | None  # index of the block; None outside the blocks
    rows: tuple[int, int] | None = None  # of its weight, from and to; None: all of them


# What the linear layers of a block are called in the wild. Used for a family that is not in the table.
_COMMON = {
    "query": r"(?:.*\.)?(?:q_proj|query|query_proj|q_lin|q)",
    "key": r"(?:.*\.)?(?:k_proj|key|key_proj|k_lin|k)",
    "value": r"(?:.*\.)?(?:v_proj|value|value_proj|v_lin|v)",
    "attention_output": r"(?:.*att\w*\.)(?:.*\.)?(?:o_proj|out_proj|out_lin|dense|o)",
    "ffn_in": r"(?:.*\.)?(?:(?<!att\.)(?<!attn\.)gate_proj|up_proj|gate_up_proj|fc1|lin1|c_fc|fc_in|wi|wi_0|wi_1|w1|w3|intermediate\.dense|dense_h_to_4h)",
    "ffn_out": r"(?:.*\.)?(?:down_proj|fc2|lin2|fc_out|wo|w2|mlp\.c_proj|(?<!attention\.)output\.dense|dense_4h_to_h)",
}
PARTIAL = r"expert|shared_mlp"  # of layers that see some tokens, or stand beside those that do
GATED = ({"gate_proj", "up_proj"}, {"wi_0", "wi_1"}, {"w1", "w3"})  # two matrices of one feed-forward


def family_of(model: nn.Module) -> Family:
    """The family of a transformers model, from the table or discovered.

    Raises:
        NotSupported: the family is not in the table and has no one stack of blocks.
    """
    config: Any = model.config
    known = FAMILIES.get(str(config.model_type))
    if known is None:
        return _discover(model, str(config.model_type))
    return known


def _slices(role: str, module: nn.Module, config: Any) -> list[tuple[int, int]]:
    """The rows of a fused module's weight that play a role. Keys and values may have fewer heads than queries."""
    if role in QKV:
        heads = config.num_attention_heads
        of_keys = getattr(config, "num_key_value_heads", None) or heads
        shares = {"query": heads, "key": of_keys, "value": of_keys}
    else:
        shares = {"gate": 1, "up": 1}
    out_features = module.nf if isinstance(module, Conv1D) else getattr(module, "out_features", None)
    if not isinstance(out_features, int):  # a wrapper that a method put there, which is no place any more
        return []
    unit, rest = divmod(out_features, sum(shares.values()))
    if rest:
        raise NotSupported(
            f"the {out_features} outputs of a fused projection are no whole slices for {', '.join(shares)}"
        )
    ends = [unit * end for end in accumulate(shares.values(), initial=0)]
    return [
        rows for name, rows in zip(shares, pairwise(ends), strict=True) if role not in QKV or name == role
    ]


def sites(model: nn.Module, roles: str) -> list[Site]:
    """The places that play `roles`, written `query+value`, or `all-linear`, in the order of the model's modules.

    Raises:
        UsageError: no such role.
        NotSupported: the model's family has no known roles, nothing plays one of those asked for, or not in every block.
    """
    asked = [role.strip() for role in roles.split("+")]
    if asked == [ALL_LINEAR]:
        return _all_linear(model)
    for role in asked:
        if role not in ROLES:
            raise unknown(
                "role", role, ROLES, f"targets are roles joined by +, as in query+value, or {ALL_LINEAR}"
            )
    if len(set(asked)) < len(asked):
        raise UsageError(f"targets {roles!r} name a role twice")
    family = family_of(model)
    everything = list(_all_sites(model, family))
    kind = model.config.model_type  # type: ignore[union-attr]
    for role in asked:
        if role in family.unclear:
            raise NotSupported(family.unclear[role] + _said_of_experts(model, role))
        playing = [site for site in everything if site.role == role]
        if not playing:
            raise NotSupported(
                f"targets {roles!r} match nothing: no module of this {kind} model plays {role!r}"
                + _said_of_experts(model, role)
            )
        if role in family.roles and (lacking := _blocks_without(playing, everything)):
            raise NotSupported(
                f"targets {roles!r}: this {kind} model has no {role!r} in layer {', '.join(map(str, lacking))} as it has in others "
                f"({playing[0].name}); name roles that all of its blocks have, or {ALL_LINEAR}{_said_of_experts(model, role)}"
            )
    return [site for site in everything if site.role in asked]


def _all_linear(model: nn.Module) -> list[Site]:
    """Every linear layer of the blocks, whole."""
    found = [
        Site("linear", f"{block.name}.{name}", module, block.layer)
        for block in sites(model, "block")
        for name, module in block.module.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not _is_read_by_another(block.module, name)
    ]
    if not found:
        raise NotSupported(
            f"targets {ALL_LINEAR!r} match nothing: the blocks of this model have no linear layers"
        )
    return found


def _is_read_by_another(block: nn.Module, name: str) -> bool:
    """Whether the module around a layer takes its weight itself, as Mamba's mixers do: what is put in its place would not be seen."""
    around, _, own = name.rpartition(".")
    return own == "dt_proj" and "Mamba" in type(block.get_submodule(around)).__name__


def experts(model: nn.Module) -> list[tuple[str, int]]:
    """The names and sizes of weights that hold all experts of a block together, as (experts, ..., ...): no linear layer has them."""
    return [(name, p.numel()) for name, p in model.named_parameters() if p.ndim == 3 and "expert" in name]


def told_of_experts(model: nn.Module) -> list[str]:
    """What a reader should know of a model with such weights."""
    found = experts(model)
    if not found:
        return []
    share = sum(size for _, size in found) / sum(p.numel() for p in model.parameters())
    named = f"experts in tensors of three dimensions ({found[0][0]})"
    return [
        f"{share:.0%} of the model's weights are {named}; methods that add to linear layers leave them as they are"
    ]


def _said_of_experts(model: nn.Module, role: str) -> str:
    found = experts(model) if role in ("ffn_in", "ffn_out") else []
    return (
        f"; its experts are tensors of three dimensions ({found[0][0]}), to which no method adds"
        if found
        else ""
    )


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
                    fused = role in family.fused
                    for rows in _slices(role, module, model.config) if fused else (None,):
                        yield Site(role, name, module, layer, rows)
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
