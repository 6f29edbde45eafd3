"""Which roles each decoder family of the installed transformers has, and which families are refused for all of them.

    python benchmarks/families.py > docs/results/families.md

Each model is made of its default config with at most four blocks, without weights. A config that makes no model is listed with the reason.
"""

from __future__ import annotations

import signal
import warnings
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from peftbench.errors import NotSupported
from peftbench.models.families import LINEAR_ROLES
from peftbench.models.roles import ALL_LINEAR, experts, sites

BLOCKS, SECONDS = 4, 30
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    with_roles, refused, not_made = [], [], []
    for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            model = without_weights(family)
        except Exception as error:  # noqa: BLE001  whatever a config without a checkpoint's values raises
            not_made.append(f"`{family}` ({' '.join(str(error).split())[:60]})")
            continue
        has = [role for role in LINEAR_ROLES if isinstance(asked(model, role), list)]
        whole = asked(model, ALL_LINEAR)
        share = sum(size for _, size in experts(model)) / sum(p.numel() for p in model.parameters())
        cells = [
            family,
            ", ".join(has) if len(has) < len(LINEAR_ROLES) else "all six",
            f"{share:.0%}" if share else "",
        ]
        if isinstance(whole, list):
            with_roles.append(
                f"| `{cells[0]}` | {cells[1] or 'none'} | {len(whole) // blocks(model)} | {cells[2]} |"
            )
        else:
            refused.append(f"- `{family}`: {whole.split('; known families')[0]}")
    print(f"# Decoder families of transformers {transformers.__version__}\n\n`python benchmarks/families.py`: {len(with_roles)} have "
          "linear layers in one stack of blocks. *Roles*: those that every block has. *Linear layers*: of a block, on average, what "
          "`targets=all-linear` takes. *Experts*: the share of the weights (of the default sizes, four blocks) in tensors of three "
          "dimensions, to which no method adds. That a role is known does not say that every method was trained on the family.\n")  # fmt: skip
    print("| family | roles | linear layers | experts |\n|---|---|---|---|")
    print("\n".join(with_roles))
    print(f"\n## Refused: {len(refused)}\n\n" + "\n".join(refused))
    print(f"\n## Not made from a default config: {len(not_made)}\n\n{', '.join(not_made)}")


def without_weights(family: str) -> nn.Module:
    config: Any = transformers.AutoConfig.for_model(family)
    for part in (config, getattr(config, "text_config", None)):
        for name in LAYERS:
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, min(getattr(part, name), BLOCKS))
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with torch.device("meta"):
            model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        signal.alarm(0)
    return model


def late(*_: Any) -> None:
    raise TimeoutError(f"takes more than {SECONDS} s")


def asked(model: nn.Module, roles: str) -> Any:
    """The places, or why there are none."""
    try:
        return sites(model, roles)
    except NotSupported as error:
        return str(error)


def blocks(model: nn.Module) -> int:
    return len(sites(model, "block"))


if __name__ == "__main__":
    main()
