"""The same comparison from Python: `peftbench.run(methods=["lora", "adapter"])` returns a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from . import defaults, registry
from .comparison import Comparison, check
from .engine import execute_plan, make_plan, worker
from .flat import flat_rows
from .runs import Planned
from .store import Store, Stored
from .table import Result, Table, tabulate


def run(
    methods: Sequence[str] = tuple(defaults.METHODS.split(",")),
    model: str = defaults.MODEL,
    task: str = defaults.TASK,
    *,
    seeds: int = defaults.SEEDS,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = defaults.BATCH_SIZE,
    max_length: int = defaults.MAX_LENGTH,
    lr: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    baselines: bool = True,
    latency_grid: tuple[tuple[int, int], ...] | None = None,
    plugins: Sequence[str | Path] = (),
    store: str | Path = defaults.STORE,
) -> pd.DataFrame:
    """Compare methods and return one row a method, units in the column names.

    What the store already holds is not run again. Needs no `if __name__ == "__main__"`.

    Raises:
        UsageError: something asked for does not exist; nothing was run.
    """
    comparison = Comparison(
        methods=tuple(methods),
        models=(model,),
        tasks=(task,),
        seeds=seeds,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        max_length=max_length,
        learning_rate=lr,
        device=device,
        dtype=dtype,
        baselines=baselines,
        latency_grid=latency_grid,
        plugins=tuple(str(path) for path in plugins),
    )
    results, _ = compare(comparison, Store(Path(store)))
    return pd.DataFrame([row for table in tables(results) for row in flat_rows(table)])


def compare(
    asked: Comparison,
    store: Store,
    planned_watch: Callable[[list[Planned]], None] = lambda planned: None,
    watch: Callable[[dict[str, Any]], None] = lambda event: None,
    done: Callable[[Planned, Stored], None] = lambda planned, stored: None,
) -> tuple[list[Result], list[Planned]]:
    """Plan and run a comparison; its records, and the plan."""
    check(asked)
    results = []
    with worker() as works:
        planned = make_plan(asked, works)
        planned_watch(planned)
        for item, stored in execute_plan(planned, store, works, watch):
            done(item, stored)
            results.append(Result(stored.record, stored.folder))
    return results, planned


def tables(results: Iterable[Result], reference: str = defaults.REFERENCE) -> list[Table]:
    """The comparison tables of some records."""
    return tabulate(results, reference, defaults.BASELINES)


def render(made: Sequence[Table], report: str) -> str:
    """The tables as text, by the report of that name."""
    text: str = registry.get("report", report).target(made)
    return text
