"""Whether a preset learning rate stands beside a cliff: how many of eight seeds learn nothing at it, and half a decade above.

    python benchmarks/cliffs.py FILE [--methods prefix,lora] [--above 1]

Trains at the quick budget on `newsgroups` and `reuters-r8` and looks at the training loss of the last quarter of the steps: above .9
of the loss of the best constant answer, or not a number, the seed failed. Neither validation nor test is read. The rule
(docs/results/cliffs.md): no seed may fail at the preset; where more than one of eight fails half a decade above, on either task, the preset is to be half
a decade lower. FILE keeps a line a run: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import statistics
from pathlib import Path

import torch

from peftbench.comparison.compare import planned_runs
from peftbench.comparison.request import Comparison
from peftbench.comparison.tuning import rate
from peftbench.engine.named import engine_named
from peftbench.execution import prepare
from peftbench.execution.constant import best_constant
from peftbench.execution.finite import Diverged
from peftbench.execution.train import accelerator_for, train
from peftbench.plugins import build, registry
from peftbench.records.failed_seeds import LAST, OF_CHANCE
from peftbench.records.runs import Run

TASKS, SEEDS = ("newsgroups", "reuters-r8"), 8


def end_over_chance(run: Run) -> float:
    """The training loss that a run ends with, as a share of that of one answer to all; infinite where it diverges."""
    import pandas as pd

    torch.set_num_threads(1)
    registry.load("method")
    task = build.build_task(run.task)
    prepared = prepare.prepare(run, task.objective, run.device)
    encoded = prepare.encode(run, task, prepared.tokenizer)
    pad = {"input_ids": int(prepared.tokenizer.pad_token_id)}
    accelerator = accelerator_for(run.device, run.dtype)
    try:
        seen = train(
            prepared.adaptation, prepared.head, encoded["train"], task.objective, run, pad, accelerator
        )
    except Diverged:
        return float("inf")
    chance = best_constant(task.objective, encoded["train"], pd.DataFrame())["loss"]
    assert chance is not None
    return statistics.fmean(seen.losses[-max(1, round(LAST * len(seen.losses))) :]) / chance


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--methods", default="prefix")
    parser.add_argument(
        "--above", type=int, default=1, help="half decades above the preset to look at, besides it"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    with engine_named() as engine:
        comparison = Comparison(
            methods=tuple(asked.methods.split(",")), tasks=TASKS, baselines=False, seeds=SEEDS, profile=False,
            latency_grid=(),
        )  # fmt: skip
        runs = [item.run for item in planned_runs(comparison, engine, None) if item.run.kind == "training"]
    places = {0, asked.above}
    wanted = [
        dataclasses.replace(run, learning_rate=rate(run.learning_rate, j), half_decade=j)
        for run in runs
        for j in places
    ]
    lines = asked.file.read_text().splitlines() if asked.file.exists() else []
    found = {line["key"]: line["end"] for line in map(json.loads, lines)}
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(asked.jobs, spawn) as pool, asked.file.open("a") as out:
        waiting = {pool.submit(end_over_chance, run): run for run in wanted if run.key not in found}
        for done in concurrent.futures.as_completed(waiting):
            run = waiting[done]
            found[run.key] = done.result()
            line = {
                "key": run.key, "method": run.method, "task": run.task, "seed": run.seed, "rate": run.learning_rate,
                "end": found[run.key],
            }  # fmt: skip
            print(json.dumps(line), file=out, flush=True)
    print(
        "| method | rate | "
        + " | ".join(f"{task}: failed of {SEEDS} | end / chance" for task in TASKS)
        + " |"
    )
    print("|---" * (2 + 2 * len(TASKS)) + "|")
    for method in dict.fromkeys(run.method for run in runs):
        for j in sorted(places):
            cells, of_rate = [], None
            for task in TASKS:
                those = [r for r in wanted if (r.method, r.task, r.half_decade) == (method, task, j)]
                ends = [found[r.key] for r in those]
                of_rate = those[0].learning_rate
                cells += [str(sum(end > OF_CHANCE for end in ends)), f"{min(ends):.2f} to {max(ends):.2f}"]
            print(f"| {method} | {of_rate:g}{' (preset)' if j == 0 else ''} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
