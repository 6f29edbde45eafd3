"""Choose the quick budget: with which steps, batch size, seeds and scored items the default methods are shown to learn.

    python benchmarks/choose_budget.py STORE [--budgets 60x8,60x16,120x8]

Each budget trains `lora`, `adapter` and `full` with five seeds on `newsgroups` and `reuters-r8` and compares them, in paired negative
log-likelihood on validation, with the linear probe on the same items. The rule is in docs/results/budget.md, and was before
the first run. The test split is never read.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from on_validation import trials

from peftbench.comparison.request import Comparison
from peftbench.records.failed_seeds import failed_seeds
from peftbench.records.results import Result
from peftbench.stats.estimate import Estimate, Scores, estimate

METHODS, PROBE, TASKS = ("lora", "adapter-h", "full"), "head", ("newsgroups", "reuters-r8")
SEEDS = (3, 5)
SCORED = (500, 1_000)
STEP = 2.6  # forward passes that a training step's arithmetic is worth, by torch's counter, mean of the three methods


@dataclass(frozen=True)
class Losses:
    """Of one method on one task."""

    scores: Scores  # (seeds, items)
    groups: list[str]
    failed: dict[int, str]

    @classmethod
    def of(cls, results: list[Result]) -> Losses:
        frames = {result.record.run.seed: result.predictions() for result in results}
        whole = {seed: frame for seed, frame in frames.items() if frame is not None}
        assert len(whole) == len(frames), [r.record.error for r in results if r.record.status != "ok"]
        first = next(iter(whole.values()))
        by_seed = {seed: frame["nll"].to_numpy() for seed, frame in whole.items()}
        return cls(
            Scores.of_items(by_seed), list(first["group"]), failed_seeds(result.record for result in results)
        )

    def part(self, seeds: int, items: int) -> tuple[Scores, list[str]]:
        """Of the first seeds, on so many items that are evenly spread."""
        count = self.scores.parts.shape[1]
        chosen = np.linspace(0, count - 1, min(items, count)).round().astype(int)
        rows = self.scores.parts[:seeds, chosen]
        return Scores(self.scores.seeds[:seeds], rows, rows.mean(1)), [self.groups[i] for i in chosen]


def gain(method: Losses, probe: Losses, seeds: int, items: int) -> Estimate:
    """How much lower the method's loss is than the probe's."""
    mine, groups = method.part(seeds, items)
    its, _ = probe.part(seeds, items)
    difference = its.minus(mine)
    assert difference is not None
    return estimate(difference, groups)


def passes(steps: int, batch: int, seeds: int, items: int) -> int:
    """Forward passes of an item that the three methods and the probe take, which is what a processor's time goes to."""
    drawn = steps * batch
    return seeds * round(len(METHODS) * (STEP * drawn + items) + drawn + items)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--budgets", default="60x8,60x16,120x8", help="STEPSxBATCH, with commas")
    asked = parser.parse_args()
    budgets = [tuple(map(int, text.split("x"))) for text in asked.budgets.split(",")]
    print(
        "| steps x batch | seeds | scored | passes | shown better | failed | "
        + " | ".join(f"{task} {method}" for task in TASKS for method in METHODS)
        + " |\n"
        + "|---" * (6 + len(TASKS) * len(METHODS))
        + "|"
    )
    for steps, batch in budgets:
        found: dict[tuple[str, str], Losses] = {}
        for task in TASKS:
            comparison = Comparison(
                methods=(*METHODS, PROBE), tasks=(task,), baselines=False, seeds=max(SEEDS), steps=steps,
                batch_size=batch, profile=False, latency_grid=(),
            )  # fmt: skip
            results = trials(comparison, asked.store)
            for method in (*METHODS, PROBE):
                found[task, method] = Losses.of([r for r in results if r.record.run.method == method])
        for seeds in SEEDS:
            for items in SCORED:
                gains = {
                    (task, method): gain(found[task, method], found[task, PROBE], seeds, items)
                    for task in TASKS
                    for method in METHODS
                }
                intervals = {which: one.interval() for which, one in gains.items()}
                shown = sum(ends is not None and ends[0] > 0 for ends in intervals.values())
                failed = sum(seed < seeds for which in gains for seed in found[which].failed)
                cells = " | ".join(f"{one.value:+.3f} ±{one.half_width() or 0:.3f}" for one in gains.values())
                cost = passes(steps, batch, seeds, items)
                print(
                    f"| {steps} x {batch} | {seeds} | {items:,} | {cost:,} | {shown} of {len(gains)} | {failed} | {cells} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
