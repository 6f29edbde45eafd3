"""The table of roles in docs/models.md: which module each word means on a family, read off models without weights.

`python -m peftbench.inspection.roles_table docs/models.md` writes it between its two marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers
from torch import nn

from ..errors import NotSupported
from ..models.families import LINEAR_ROLES
from ..models.roles import Site, linear_sites, sites
from .methods_table import CONFIGS, WIDTHS, Maker, replaced

ROLES = (*LINEAR_ROLES, "attention")
OTHERS: dict[str, Maker] = {  # beside the families of the table of methods; of some the roles are read off their blocks
    "Gemma 2": lambda: transformers.Gemma2Config(**WIDTHS, num_key_value_heads=2, head_dim=8),
    "OLMo 2": lambda: transformers.Olmo2Config(**WIDTHS),
    "MPNet": lambda: transformers.MPNetConfig(**WIDTHS),
    "Mixtral": lambda: transformers.MixtralConfig(**WIDTHS, num_key_value_heads=2),
    "GLM-4-MoE": lambda: transformers.Glm4MoeConfig(**WIDTHS, num_key_value_heads=2, first_k_dense_replace=1),
    "ModernBERT": lambda: transformers.ModernBertConfig(**WIDTHS),
    "Phi-3": lambda: transformers.Phi3Config(**WIDTHS),
    "Phi-4": lambda: transformers.Phi3Config(**WIDTHS, num_key_value_heads=2),
    "GPT-NeoX": lambda: transformers.GPTNeoXConfig(**WIDTHS),
    "Falcon": lambda: transformers.FalconConfig(**WIDTHS),
    "GPT-J": lambda: transformers.GPTJConfig(n_embd=32, n_layer=2, n_head=4, rotary_dim=4, vocab_size=64),
    "StarCoder 2": lambda: transformers.Starcoder2Config(**WIDTHS, num_key_value_heads=2),
    "LFM2": lambda: transformers.Lfm2Config(**WIDTHS, num_key_value_heads=2),
    "DeepSeek-V3": lambda: transformers.DeepseekV3Config(
        **WIDTHS, num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8,
        n_routed_experts=4, moe_intermediate_size=16, first_k_dense_replace=1, n_group=1, topk_group=1, num_experts_per_tok=2,
    ),
}  # fmt: skip


def roles_table() -> str:
    """A Markdown table, a family a line: the modules by their names in a block, a slice of one with its number."""
    lines = [f"| family | {' | '.join(f'`{role}`' for role in ROLES)} |", "|---" * (len(ROLES) + 1) + "|"]
    for family, config in (CONFIGS | OTHERS).items():
        with torch.device("meta"):
            model: nn.Module = transformers.AutoModel.from_config(config())
        lines.append(f"| {family} | {' | '.join(_meaning(model, role) for role in ROLES)} |")
    return "\n".join(lines) + "\n"


def _meaning(model: nn.Module, role: str) -> str:
    """What plays a role in the first block; nothing where some block has none, or nobody can say."""
    try:
        found = sites(model, role)
        block = sites(model, "block")[0].name
    except NotSupported:
        return "refused"
    of_module = linear_sites(model)
    inside = [site for site in found if site.name.startswith(f"{block}.")]
    return ", ".join(_named(site, block, of_module.get(site.name, [])) for site in inside)


def _named(site: Site, block: str, of_module: list[Site]) -> str:
    name = f"`{site.name.removeprefix(block + '.')}`"
    return name if site.rows is None else f"{name} {of_module.index(site) + 1}/{len(of_module)}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(replaced(file.read_text(encoding="utf-8"), roles_table()), encoding="utf-8")
