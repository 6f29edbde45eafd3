"""Results of a comparison, made by hand: tables whose every figure is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from peftbench.plugins import registry
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Budget, Run
from peftbench.tables.table import Table
from peftbench.tables.tabulate import tabulate

LIBRARIES = {"python": "3.11", "torch": "2.13", "transformers": "5.23", "peftbench": "0.1.0"}


KINDS = {
    "weights": 91_000_000,
    "gradients": 0,
    "optimizer": 600_000,
    "activations": 95_000_000,
    "other": 8_000_000,
}


ENVIRONMENT = {"libraries": LIBRARIES, "gpu": None, "processor": "a processor", "threads": 2, "machine": "m"}


def result(
    run: Run, folder: Path, accuracy: float, seedless: bool = False, noise: int = 0, merge: str = "pass"
) -> Result:
    """A finished training run: the first items of each hundred are right."""
    folder = folder / run.key
    folder.mkdir(parents=True)
    right = np.arange(200) % 100 < round(accuracy * 100) + noise
    frame = pd.DataFrame({"item": np.arange(200), "prediction": 1, "reference": right.astype(int), "nll": 0.5,
                          "score": right.astype(float), "group": (np.arange(200) % 50).astype(str)})  # fmt: skip
    frame.to_parquet(folder / "predictions.parquet")
    steps = {"losses": [0.7] * 20, "gradient_norms": [2.0] * 20, "step_s": [0.05] * 20, "data_s": [0.001] * 20,
             "tokens": [300] * 20, "padded_tokens": [320] * 20, "steps": 20, "train_items": 100}  # fmt: skip
    peak = {"taken_by": "kernel high-water mark", "peak_allocated_bytes": None, "peak_reserved_bytes": None,
            "peak_resident_bytes": 900_000_000, "peak_above_model_bytes": 500_000_000}  # fmt: skip
    return Result(
        Record(
            run,
            run.key,
            "ok",
            claims={"seedless": seedless},
            parameters={
                "adapter": 73728,
                "head": 770,
                "model": 22713986,
                "stored": 73728,
                "stored_bytes": 297616,
            },
            memory={"train": peak, "score": peak},
            training={"fit_s": 3.0, "fit_items": 100, "train_items": 100, "steps": 20} if seedless else steps,
            quality={"accuracy": float(right.mean()), "nll": 0.5},
            metric={"name": "accuracy", "higher_is_better": True, "is_share": True, "unit": "%"},
            environment=ENVIRONMENT,
            checks=[
                {
                    "name": "identity at init",
                    "outcome": "not claimed" if seedless else "pass",
                    "detail": "bitwise",
                },
                {"name": "merge", "outcome": merge, "detail": "differs by 0.9 of what the adapter changes"},
            ],
        ),
        folder,
    )


@pytest.fixture
def tables(make_run: Callable[..., Run], tmp_path: Path) -> list[Table]:
    budget = Budget("quick", 20, None, 16, 1, 48)

    def run(method: str, seed: int, rate: float = 1e-3, **changes: Any) -> Run:
        return make_run(method, "a-model", seed, task="a-task", learning_rate=rate, budget=budget, **changes)

    results = []
    for seed in range(3):
        results += [
            result(run("lora", seed), tmp_path, 0.80, noise=seed, merge="fail" if seed == 1 else "pass"),
            result(run("full", seed, 1e-4), tmp_path, 0.83, noise=seed),
        ]
    results.append(result(run("head", 0, 0.0), tmp_path, 0.76, seedless=True))
    broken = run("adapter", 0)
    for seed in range(3):
        failed = dataclasses.replace(broken, seed=seed)
        results.append(
            Result(
                Record(
                    failed,
                    failed.key,
                    "failed",
                    "OutOfMemoryError: too large",
                    "train",
                    7,
                    environment=ENVIRONMENT,
                ),
                None,
            )
        )
    refused = run("prefix", 0)
    results.append(Result(Record(refused, refused.key, "not supported", "no roles"), None))
    times = {
        "base": [1.0] * 40,
        "copy of the base": [1.0] * 40,
        "lora": [1.1] * 40,
        "lora merged": [1.0] * 40,
    }
    for process in range(3):
        latency = run("lora", process, kind="latency")
        cell = {"batch": 1, "length": 8, "ms": times, "refusal": None}
        results.append(Result(Record(latency, latency.key, "ok", latency=[cell]), None))
    inside = run("lora", 0, kind="profile")
    profile = {
        "memory_by_kind": {
            **{f"{kind}_bytes": size for kind, size in KINDS.items()},
            "operator": "aten.mm.default",
            "allocator_peak_bytes": None,
        },
        "flops": [{"padded_tokens": n, "flops": 20_000 * n} for n in (100, 200, 400)],
    }
    results.append(Result(Record(inside, inside.key, "ok", profile=profile), None))
    return tabulate(results, "full", ("full", "head"))


def text(tables: list[Table], report: str) -> str:
    made: str = registry.get("report", report).target(tables)
    return made


STRANGE = "<script>alert(1)</script> | a\\b & 50% $x$ #1 _{~^} **b** \x1b[31m\x00 名前"


def hostile(tables: list[Table]) -> list[Table]:
    """The same with a strange text wherever a name or an error comes from outside."""
    rows = tuple(
        dataclasses.replace(row, label=STRANGE, reason=STRANGE if row.reason else None)
        for row in tables[0].rows
    )
    changes: dict[str, Any] = {
        "setting": dataclasses.replace(tables[0].setting, task=STRANGE, model=STRANGE),
        "reference": STRANGE,
        "caption": STRANGE,
        "footnotes": (STRANGE,),
    }
    return [dataclasses.replace(tables[0], rows=rows, **changes)]
