"""Which roles each decoder family of the installed transformers has, and which families are refused for all of them.

    python benchmarks/families.py > docs/results/families.md

Each model is made of its default config with at most four blocks, without weights. A config that makes no model is listed with the reason.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import transformers
from torch import nn

from peftbench.models.families import LINEAR_ROLES
from peftbench.models.roles import ALL_LINEAR, experts, sites

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.families import FAMILIES, asked, without_weights


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    with_roles, refused, not_made = [], [], []
    for family in FAMILIES:
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


def blocks(model: nn.Module) -> int:
    return len(sites(model, "block"))


if __name__ == "__main__":
    main()
