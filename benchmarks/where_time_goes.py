"""Why LoRA costs what it costs: an unmerged layer taken apart, and a training step by kind of operator.

    python benchmarks/where_time_goes.py [--rounds 60] [--turns 10] [--processes 3]

First, one forward pass of `minilm-l6` at launch-bound sizes: the base, a wrapper that only calls it, the two low-rank
products with nothing around them (the least that any unmerged LoRA can do with torch's operators), LoRA here, and the
PEFT library's. Second, a step of LoRA and of full fine-tuning at a compute-bound size under torch's profiler. It explains
the figures of `against_peers.py`. Needs `pip install peft`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from typing import Any

import torch
from against_peers import percent, ratio, step_of, subject  # a script beside this one
from torch import Tensor, nn
from torch.nn import functional

from peftbench.measure.latency import into_own_memory, measure_latency, over_shared_weights
from peftbench.measure.turns import turns
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model

CELLS = ((1, 16), (4, 16))
STEP = (16, 128)
KINDS = {
    "products": ("addmm", "mm", "bmm", "linear", "mkl"),
    "attention": ("attention",),
    "update": ("adam", "foreach", "norm_except", "clip"),
    "activation": ("gelu",),
    "layer norm": ("layer_norm",),
    "dropout": ("dropout", "bernoulli"),
}


class Called(nn.Module):
    """A wrapper that does nothing but call its base."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out


class Products(nn.Module):
    """The base's product and the two low-rank ones, with weights already laid out and nothing checked."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.weight, self.bias = base.weight, base.bias
        self.down = nn.Parameter(torch.randn(base.in_features, 8).contiguous())
        self.up = nn.Parameter(torch.zeros(8, base.out_features))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.linear(x, self.weight, self.bias)
        out.view(-1, out.shape[-1]).addmm_(torch.mm(x.view(-1, x.shape[-1]), self.down), self.up, alpha=2.0)
        return out


def wrapped(base: nn.Module, kind: type[nn.Module]) -> nn.Module:
    tree = over_shared_weights(base)
    for name, layer in list(tree.named_modules()):
        if name.endswith((".query", ".value")):
            tree.set_submodule(name, kind(layer))
    return tree


def latency_child(rounds: int) -> dict[str, Any]:
    base = load_model(resolve_model("minilm-l6"), None, 0).model.requires_grad_(False)
    into_own_memory(base)
    variants = {
        "base": base,
        "a wrapper that only calls": wrapped(base, Called),
        "the two products alone": wrapped(base, Products),
        "LoRA here": subject("here", base),
        "PEFT": subject("peft", base),
    }
    for model in variants.values():
        model.eval()
    cells = measure_latency(variants, CELLS, torch.device("cpu"), rounds)
    return {f"{cell.batch}x{cell.length}": cell.ms for cell in cells}


def profile(names: tuple[str, ...], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a step by kind of operator; two steps at a time, in turns, so that the machine's moods cancel."""
    base = load_model(resolve_model("minilm-l6"), None, 0).model.requires_grad_(False)
    into_own_memory(base)
    steps = {name: step_of(name, subject(name, base).train(), *STEP, torch.float32) for name in names}
    found: dict[str, dict[str, float]] = {name: defaultdict(float) for name in names}
    for turn, order in enumerate(turns(names, 1 + rounds)):  # the first warms up
        for name in order:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
                for _ in range(2):
                    steps[name]()
            for event in seen.key_averages() if turn else []:
                kind = next(
                    (k for k, parts in KINDS.items() if any(p in event.key.lower() for p in parts)), "other"
                )
                found[name][kind] += event.self_cpu_time_total / (2 * rounds) / 1e3
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--child", action="store_true")
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(latency_child(asked.rounds)))
        return
    command = [sys.executable, __file__, "--child", "--rounds", str(asked.rounds)]
    children = [
        json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        for _ in range(asked.processes)
    ]
    names = [name for name in children[0]["1x16"] if name != "base"]
    print("| forward pass over base | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for size in children[0]:
        times = [child[size] for child in children]
        print(f"| {size} | " + " | ".join(percent(ratio(times, "base", name)) for name in names) + " |")
    found = profile(("here", "full"), asked.turns)
    kinds = [*KINDS, "other"]
    print(f"\n| a step at {STEP[0]}x{STEP[1]}, ms (profiled) | " + " | ".join(kinds) + " | all |")
    print("|---|" + "---|" * (len(kinds) + 1))
    for name, by_kind in found.items():
        row = [by_kind.get(kind, 0.0) for kind in kinds]
        print(f"| {name} | " + " | ".join(f"{ms:,.0f}" for ms in [*row, sum(row)]) + " |")
    quotients = [found["here"].get(kind, 0.0) / max(found["full"].get(kind, 0.0), 1e-9) for kind in kinds]
    whole = sum(found["here"].values()) / sum(found["full"].values())
    print("| here / full | " + " | ".join(f"{q:.2f}" for q in [*quotients, whole]) + " |")


if __name__ == "__main__":
    main()
