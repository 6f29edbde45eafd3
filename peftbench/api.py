"""The same comparison from Python: `peftbench.run(methods=["lora", "adapter"])` returns a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import defaults
from .comparison.compare import compare
from .comparison.request import Comparison
from .engine.named import engine_named
from .engine.sweep import Execution
from .records.store import Store
from .render.flat import flat_rows

if TYPE_CHECKING:
    import pandas as pd


def run(
    methods: Sequence[str] = tuple(defaults.METHODS.split(",")),
    model: str = defaults.MODEL,
    task: str = defaults.TASK,
    *,
    budget: str = defaults.BUDGET,
    seeds: int | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    tune: int | None = None,
    batch_size: int = defaults.BATCH_SIZE,
    max_length: int | None = None,
    train_sizes: Sequence[int | None] = (None,),
    attention: str | None = None,
    checkpoint_activations: bool = False,
    forgetting: str | None = None,
    lr: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    jobs: int = 1,
    timeout: float | None = None,
    baselines: bool = True,
    baseline: str | None = None,
    until: float | None = None,
    latency_grid: tuple[tuple[int, int], ...] | None = None,
    curve: int = 0,
    profile: bool = True,
    plugins: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    store: str | Path = defaults.STORE,
) -> pd.DataFrame:
    """Compare methods and return one row a method, units in the column names.

    What the store already holds is not run again. Needs no `if __name__ == "__main__"`.

    Raises:
        UsageError: something asked for does not exist; nothing was run.
    """
    import pandas as pd

    comparison = Comparison(
        methods=tuple(methods),
        models=(model,),
        tasks=(task,),
        budget=budget,
        seeds=seeds,
        steps=steps,
        epochs=epochs,
        tune=tune,
        batch_size=batch_size,
        max_length=max_length,
        train_sizes=tuple(train_sizes),
        attention=attention,
        checkpointing=checkpoint_activations,
        forgetting=forgetting,
        learning_rate=lr,
        device=device,
        dtype=dtype,
        jobs=jobs,
        baselines=baselines,
        baseline=baseline,
        until=until,
        latency_grid=latency_grid,
        profile=profile,
        plugins=tuple(str(path) for path in plugins),
        data_dir=None if data_dir is None else str(Path(data_dir).expanduser().resolve()),
    )
    with engine_named() as engine:
        how = Execution(jobs=jobs, timeout_s=timeout, curve_points=curve)
        compared = compare(comparison, Store(Path(store)), engine, how)
    return pd.DataFrame([row for table in compared.tables for row in flat_rows(table)])
