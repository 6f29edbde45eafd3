"""LoRA's training step here against the PEFT library's, and against its own plain formula: same model, weights' shapes, batch
and data type, interleaved.

    python benchmarks/lora_step_against_peft.py [--rounds 120]

Goal: the 95 % interval of the ratio to the library reaches 1.00 or below. In float32 on a CPU the plain formula is what runs.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from peftbench.methods.lora import LoRALinear  # noqa: TID251  the layer itself is timed
from torch import nn

from peftbench.execution import prepare
from peftbench.measure.environment import describe, has_bfloat16
from peftbench.measure.turns import turns
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.models.streams import init_streams
from peftbench.plugins import build, registry
from peftbench.stats.slowdown import slowdown

BATCH, LENGTH, WARMUP = 16, 48, 15


def step_of(model: nn.Module, compute: torch.dtype) -> Callable[[], float]:
    """A function that does one training step on a fixed batch and returns its seconds."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, weight_decay=0.0, fused=True)
    tokens = torch.randint(1000, 20000, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[::2, -8:] = 0
    labels = torch.arange(BATCH) % 2
    model.train()

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", compute, enabled=compute != torch.float32):
            logits = model(input_ids=tokens, attention_mask=mask).logits
            loss = nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - started

    return step


def ours(objective: Any) -> nn.Module:
    method, _ = build.build_method("lora")
    loaded = load_model(resolve_model("minilm-l6"), objective, seed=0)
    with init_streams(0, "lora"):
        adaptation = method.inject(loaded.model)
    prepare.freeze_all_but(adaptation, loaded.head)
    return adaptation.model


class Formula(LoRALinear):  # type: ignore[misc]
    """Computed by its own `update`, which is the plain formula."""

    def update(self, flat: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return super().update(flat, out)  # type: ignore[no-any-return]


def by_formula(objective: Any) -> nn.Module:
    model = ours(objective)
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.__class__ = Formula
    return model


def theirs(objective: Any) -> nn.Module:
    import peft

    loaded = load_model(resolve_model("minilm-l6"), objective, seed=0)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], modules_to_save=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = peft.inject_adapter_in_model(config, loaded.model)
    for parameter in loaded.head.values():
        parameter.requires_grad_(True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=120)
    asked = parser.parse_args()
    objective = registry.get("task", "rotten-tomatoes").target().objective
    found = describe("cpu")
    print(f"{found['processor']}, {found['threads']} threads, torch {found['libraries']['torch']}\n")
    print(
        "| compute | here, ms | PEFT library, ms | ratio here / PEFT (95 %) | ratio here / formula (95 %) | trained here / PEFT |\n"
        "|---|---|---|---|---|---|"
    )
    for compute in [torch.float32] + ([torch.bfloat16] if has_bfloat16("cpu") else []):
        models = {"ours": ours(objective), "theirs": theirs(objective), "formula": by_formula(objective)}
        sizes = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in models.values()]
        steps = {name: step_of(model, compute) for name, model in models.items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn, order in enumerate(turns(list(steps), WARMUP + asked.rounds)):
            for name in order:
                seconds = steps[name]()
                if turn >= WARMUP:
                    times[name].append(seconds)
        ratios = []
        for other in ("theirs", "formula"):
            ratio = slowdown([(times[other], times["ours"])])
            low, high = ratio.interval()
            ratios.append(f"{1 + ratio.value:.3f} ({1 + low:.3f} to {1 + high:.3f})")
        medians = [sorted(values)[len(values) // 2] * 1e3 for values in times.values()]
        shown = " | ".join(
            [str(compute).removeprefix("torch."), *(f"{ms:.1f}" for ms in medians[:2]), *ratios]
        )
        print(f"| {shown} | {sizes[0]:,} / {sizes[1]:,} |")


if __name__ == "__main__":
    main()
