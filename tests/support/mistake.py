"""What a mistaken method is: a plugin's file around the mistake, the kind of the mistake, and the check that finds it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

HEAD = '''
from dataclasses import dataclass
import copy, random
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from peftbench import Adaptation, Claims, Preset, method, plain, select, swap, weight_of

class Low(nn.Module):
    """A sound low-rank update."""
    def __init__(self, base, sites):
        super().__init__()
        out_features, in_features = weight_of(base).shape
        device = weight_of(base).device
        self.base = base
        self.layer = sites[0].layer if hasattr(sites[0], "layer") else 0
        self.a = nn.Parameter(torch.randn(4, in_features, device=device) * 0.02)
        self.b = nn.Parameter(torch.zeros(out_features, 4, device=device))

    def update(self, x):
        return x @ self.a.T.to(x.dtype) @ self.b.T.to(x.dtype)

    def forward(self, x):
        return self.base(x) + self.update(x)

    def fold(self):
        return plain(self.base, weight_of(self.base).float() + self.b @ self.a, self.base.bias)

def low(model, kind=Low):
    return swap(model, "query+value", kind)

'''
ALL = "identity_at_init=True, mergeable=True, exact_base=True, random_init=True"
UNMERGED = "identity_at_init=True, exact_base=True, random_init=True"


@dataclass(frozen=True)
class Mistake:
    """One mistake."""

    kind: str  # in the words of docs/results/checks.md
    check: str  # that finds it
    code: str  # a class `Layer`, or a function `inject(self, model)`
    claims: str = ALL
    in_every_run: bool = True  # else by `peftbench check` alone

    def source(self, name: str) -> str:
        """The file of a plugin."""
        code = textwrap.dedent(self.code).strip("\n")
        if "def inject(" not in code:
            code += "\n\ndef inject(self, model):\n    return low(model, Layer)\n"
        return (
            f"{HEAD}{code}\n\n@method({name!r}, Claims({self.claims}), Preset(1e-3, 'a test'))\n"
            "@dataclass(frozen=True)\nclass Method:\n    inject = inject\n"
        )


ITEM = "a prediction depends on more than its item"
FUTURE = "a causal model sees the future"
WRITTEN = "a model that writes loses its past"
IN_DECODERS = (FUTURE, WRITTEN)  # what no encoder shows
MERGED = "what is merged is not what was trained"
SPOILED = "merging spoils the base"
UNDECLARED = "trained, but not declared"
UNTRAINED = "declared, but not trained"
OTHERWISE = "what is scored is not what was trained"
UNSTORED = "not all that is needed is stored"
BUDGET = "the budget is not the budget"
TERMS = "the base is not trained on equal terms"
PROCESS = "the rest of the run is changed"
SEEDS = "seeds"
LATENCY = "latency that is not the trained model's"
