"""Choose the preset learning rates: on the validation split of `newsgroups`, by mean negative log-likelihood.

    python benchmarks/choose_presets.py [--steps 120] [--seeds 2] [--methods lora,ia3] [--head-rate 0.01]

First the head's rate, one for all methods, with each method at its middle rate; then each method's own: the middle and a
half decade to each side, and while the best lies at an edge one more beyond it. The test split is never read. Among
those within one standard error of the lowest loss the rate nearest to the middle is taken. Two minutes a method on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch

from peftbench import spec
from peftbench.execution import prepare
from peftbench.execution.finite import Diverged
from peftbench.execution.score import Scorer
from peftbench.execution.train import accelerator_for, train
from peftbench.measure.environment import describe, has_bfloat16
from peftbench.plugins import build, registry
from peftbench.records.runs import Budget, Run

CENTRES = {  # the middle of each method's grid: a guess made before anything was run
    "lora": 2e-3,
    "adapter-h": 2e-3,
    "prefix": 2e-3,
    "full": 1e-4,
    "rslora": 2e-3,
    "lora-plus": 6.3e-4,
    "lora-fa": 6.3e-3,
    "dora": 2e-3,
    "pissa": 6.3e-4,
    "adalora": 6.3e-3,
    "vera": 2e-2,
    "qlora": 2e-3,
    "adapter-l": 2e-3,
    "adapter-p": 2e-3,
    "adapter-d": 2e-3,
    "parallel-adapter": 2e-3,
    "bitfit": 2e-3,
    "ft-top2": 2e-4,
    "ln": 6.3e-3,
    "ia3": 2e-2,
    "prompt": 2e-2,
    "prefix-embed": 2e-2,
    "prefix-layer": 2e-2,
    "lora-prefix-embed": 2e-3,
    "lora-prefix-layer": 2e-3,
}
HEAD_RATES = (1e-3, 3e-3, 1e-2, 3e-2)


def loss_on_validation(run: Run, validation_items: int) -> float:
    """Train once and return the mean negative log-likelihood on the start of the validation split."""
    task = build.build_task(run.task)
    prepared = prepare.prepare(run, task.objective, run.device)
    encoded = prepare.encode(run, task, prepared.tokenizer)
    pad = {"input_ids": int(prepared.tokenizer.pad_token_id)}
    accelerator = accelerator_for(run.device, run.dtype)
    adaptation = prepared.adaptation
    try:
        train(prepared, encoded["train"], task.objective, run, pad, accelerator)
    except Diverged:
        return float("inf")
    frame = Scorer(adaptation.model, task.objective, pad, accelerator, 85).predict(encoded["validation"])
    return float(frame["nll"][:validation_items].mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--head-rate", type=float, help="skip the first part: this rate was chosen before")
    parser.add_argument("--methods", default=",".join(CENTRES), help="those whose rates are looked for")
    parser.add_argument("--reach", type=int, default=3, help="half decades from the centre, at most")
    asked = parser.parse_args()
    registry.load("method")
    centres = {method: CENTRES[method] for method in asked.methods.split(",")}
    budget = Budget("custom", asked.steps, None, 16, 1, 48)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "bfloat16" if has_bfloat16(device) else "float32"
    identity = {
        "task": registry.get("task", "newsgroups").source_sha256(),
        "data": "starter",
        "model": "starter",
    }

    def curve(
        method: str, rates: list[float], head_rates: list[float]
    ) -> list[tuple[float, float, float, float]]:
        """(rate, head rate, mean, standard error) of each pair of rates."""
        rows = []
        for rate, head_rate in zip(rates, head_rates, strict=True):
            losses = []
            for seed in range(asked.seeds):
                run = Run(
                    "training", str(spec.parse(method)), asked.model, "newsgroups", seed, rate, head_rate, 0.0, budget,
                    device, dtype, None, (), identity,
                )  # fmt: skip
                losses.append(loss_on_validation(run, 2000))
            error = statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else 0.0
            rows.append((rate, head_rate, statistics.fmean(losses), error))
            print(
                method, *(f"{x:.4g}" for x in rows[-1]), f"{time.monotonic() - began:.0f} s", file=sys.stderr
            )
        return rows

    began = time.monotonic()
    heads = (
        {}
        if asked.head_rate
        else {m: curve(m, [c] * len(HEAD_RATES), list(HEAD_RATES)) for m, c in centres.items()}
    )
    means = [
        statistics.fmean(rows[i][2] for rows in heads.values())
        for i in range(len(HEAD_RATES) if heads else 0)
    ]
    head_rate = asked.head_rate or HEAD_RATES[means.index(min(means))]
    found = describe(device)
    print("# Preset learning rates\n")
    print(
        f"`{asked.model}` on `newsgroups`, {asked.steps} steps of 16, at most 48 tokens, compute {dtype}; mean negative "
        f"log-likelihood on the validation split over {asked.seeds} seeds ± standard error. Test was not read. "
        f"{found['processor']}, torch {found['libraries']['torch']}, transformers {found['libraries']['transformers']}.\n"
    )
    if heads:
        print("## The head's rate, one for all methods\n")
        print("| head rate | " + " | ".join(f"{m} at {c:g}" for m, c in centres.items()) + " | mean |")
        print("|---" * (len(centres) + 2) + "|")
        for i, rate in enumerate(HEAD_RATES):
            print(
                f"| {rate:g} | "
                + " | ".join(f"{r[i][2]:.3f}" for r in heads.values())
                + f" | {means[i]:.3f} |"
            )
        print(f"\nChosen: {head_rate:g}.\n")
    print(f"## Each method's rate, with head rate {head_rate:g}\n")
    print("| method | rate: loss | chosen |\n|---|---|---|", flush=True)
    for method, centre in centres.items():
        rows: dict[int, tuple[float, float, float, float]] = {}  # half decades from the centre -> a trial
        wanted = [-1, 0, 1]
        while wanted:
            rates = [float(f"{centre * 10 ** (j / 2):.2g}") for j in wanted]
            rows |= zip(wanted, curve(method, rates, [head_rate] * len(rates)), strict=True)
            best = min(rows, key=lambda j: rows[j][2])
            wanted = [best + (1 if best > 0 else -1)] if best in (min(rows), max(rows)) else []
            wanted = [j for j in wanted if abs(j) <= asked.reach]
        near = [j for j in rows if rows[j][2] <= rows[best][2] + rows[best][3]]
        chosen = rows[min(near, key=lambda j: (abs(j), rows[j][2]))][0]
        cells = ", ".join(
            f"{r:g}: {mean:.3f} ±{error:.3f}" for r, _, mean, error in (rows[j] for j in sorted(rows))
        )
        edge = " (the edge of its grid)" if best in (min(rows), max(rows)) else ""
        print(f"| {method} | {cells} | {chosen:g}{edge} |", flush=True)


if __name__ == "__main__":
    main()
