"""Whether training waits for its data: data time beside step time, padding, and how soon a second run trains.

    python benchmarks/feeding.py [--pairs minilm-l6:rotten-tomatoes,...] [--steps 30]

Goals: data time below 2 % of step time; padding below 15 %; the second run of a task trains within 2 seconds of its
process's start (warm worker, cached tokens). The first row of each pair may download and tokenise; figures are of the second
run, another seed, in the same program. `ready s` is from the run's start to its first training step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from peftbench.comparison.compare import compare
from peftbench.comparison.request import Comparison
from peftbench.engine.named import engine_named
from peftbench.engine.protocol import Event
from peftbench.records.runs import Planned
from peftbench.records.store import Store, Stored

PAIRS = (
    "minilm-l6:rotten-tomatoes,minilm-l6:newsgroups,minilm-l6:reuters-r8,minilm-l6:boolq,"
    "smollm2-135m-instruct-q4:xsum-1k"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    print("| model | task | step ms | data ms | data / step | padding | ready s |")
    print("|---|---|---|---|---|---|---|")
    for pair in asked.pairs.split(","):
        model, task = pair.split(":", 1)
        writes = model.startswith("smollm2")
        # What is written is not looked at here, and would take the longest.
        spec = f"{task}:inputs=8:beams=1:max_new_tokens=1" if writes else task
        # A step of the language model is long on a processor: few of them, of few items.
        print(row(model, task, spec, *((4, 4) if writes else (asked.steps, 16))), flush=True)


class Starts:
    """How long each run takes from its start to its first training step."""

    def __init__(self) -> None:
        self.begun: dict[int, float] = {}
        self.ready_s: list[float] = []

    def planned(self, planned: list[Planned]) -> None: ...
    def done(self, item: Planned, stored: Stored) -> None: ...
    def event(self, event: Event) -> None:
        if "started" in event:
            self.begun[event["job"]] = time.monotonic()
        if event.get("phase") == "train":
            self.ready_s.append(time.monotonic() - self.begun[event["job"]])


def row(model: str, task: str, spec: str, steps: int, batch_size: int) -> str:
    """The figures of one pair."""
    starts = Starts()
    comparison = Comparison(
        ("lora",), models=(model,), tasks=(spec,), steps=steps, batch_size=batch_size, seeds=2, baselines=False, latency_grid=(), profile=False
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, engine_named() as engine:
        results = compare(comparison, Store(Path(folder)), engine, watcher=starts).results
    training = results[-1].record.training
    assert training is not None
    step, data = np.median(training["step_s"]), np.median(training["data_s"])
    padding = 1 - sum(training["tokens"]) / sum(training["padded_tokens"])
    figures = (
        f"{step * 1e3:,.0f} | {data * 1e3:.2f} | {data / step:.2%} | {padding:.1%} | {starts.ready_s[-1]:.2f}"
    )
    return f"| {model} | {task} | {figures} |"


if __name__ == "__main__":
    main()
