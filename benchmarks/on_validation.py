"""Runs that are scored on validation and never read the test split: what presets and budgets are chosen by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from peftbench.comparison.compare import planned_runs
from peftbench.comparison.request import Comparison
from peftbench.comparison.tuning import rate
from peftbench.engine.named import engine_named
from peftbench.engine.sweep import Execution, sweep
from peftbench.records.results import Result
from peftbench.records.store import Store


def trials(asked: Comparison, store: Path, half_decade: int = 0) -> list[Result]:
    """What a comparison asks for, so many half decades above its rates, scored on validation; what the store holds is not done again."""
    with engine_named() as engine:
        wanted = [
            dataclasses.replace(
                item,
                run=dataclasses.replace(
                    item.run,
                    kind="tuning",
                    half_decade=half_decade,
                    learning_rate=rate(item.run.learning_rate, half_decade),
                ),
            )
            for item in planned_runs(asked, engine, None)
            if item.run.kind == "training"
        ]
        done = sweep(wanted, Store(store), engine, Execution())
        return [Result(stored.record, stored.folder) for _, stored in done]
