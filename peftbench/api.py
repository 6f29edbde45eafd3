"""The same comparison from Python: `peftbench.run(methods=["lora", "adapter"])` returns a pandas DataFrame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import defaults, latency_asked, registry, tuning
from .comparison import Comparison, check
from .engine import make_plan, worker
from .errors import UsageError
from .flat import flat_rows
from .latency_asked import LatencyAsked
from .latency_table import LatencyTable
from .outcomes import FAIL
from .record import Record
from .results import Result
from .runs import Planned
from .sequence import Sequence as SeedSequence
from .store import Store, Stored
from .sweep import ALONE, Execution, sweep
from .table import Table, tabulate

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Compared:
    """What came of a comparison."""

    results: list[Result]  # trials of learning rates among them
    reference: str | None  # the SPEC that differences are taken to
    sequence: SeedSequence | None

    @property
    def tables(self) -> list[Table]:
        return tables(self.results, self.reference or "", self.sequence)

    @property
    def good(self) -> bool:
        """Whether every reported run is, and keeps what its method claims; a trial may diverge."""
        return all(
            r.record.status == "ok" and not any(c["outcome"] == FAIL for c in r.record.checks or ())
            for r in self.results
            if r.record.run.kind != "tuning"
        )


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
    compared = compare(
        comparison, Store(Path(store)), Execution(jobs=jobs, timeout_s=timeout, curve_points=curve)
    )
    return pd.DataFrame([row for table in compared.tables for row in flat_rows(table)])


def compare(
    asked: Comparison,
    store: Store,
    how: Execution = ALONE,
    planned_watch: Callable[[list[Planned]], None] = lambda planned: None,
    watch: Callable[[dict[str, Any]], None] = lambda event: None,
    done: Callable[[Planned, Stored], None] = lambda planned, stored: None,
) -> Compared:
    """Plan a comparison, tune it where asked, run it, and add seeds where asked.

    `planned_watch` is called with each list of runs before they are done, `done` after each run.

    Raises:
        UsageError: something asked for does not exist, or the store can't be written.
    """
    check(asked)
    sequence = asked.sequence
    how = dataclasses.replace(how, sequence=dataclasses.asdict(sequence) if sequence else None)
    with worker() as works:

        def do(planned: list[Planned]) -> list[Result]:
            planned_watch(planned)
            results = []
            for item, stored in sweep(planned, store, works, how, watch):
                done(item, stored)
                results.append(Result(stored.record, stored.folder))
            return results

        planned = make_plan(asked, works)
        reference = next((item.run.method for item in planned if item.reference), None)
        results: list[Result] = []
        if asked.trials:
            planned, results = _tune(planned, asked.trials, do)
        results += do(planned)
        while sequence is not None and (more := _more_seeds(planned, results, reference, sequence)):
            results += do(more)
            planned += more
    return Compared(results, reference, sequence)


def compare_latency(
    asked: LatencyAsked,
    store: Store,
    how: Execution = ALONE,
    planned_watch: Callable[[list[Planned]], None] = lambda planned: None,
    watch: Callable[[dict[str, Any]], None] = lambda event: None,
    done: Callable[[Planned, Stored], None] = lambda planned, stored: None,
) -> list[Record]:
    """Measure inference of several methods over one shared base, in some fresh processes.

    Raises:
        UsageError: something asked for does not exist, or the store can't be written.
    """
    latency_asked.check(asked)
    records = []
    with worker() as works:
        planned = make_plan(asked, works, "plan latency")
        planned_watch(planned)
        for item, stored in sweep(planned, store, works, how, watch):
            done(item, stored)
            records.append(stored.record)
    return records


def plan_only(asked: Comparison) -> list[Planned]:
    """What a comparison would run, at preset learning rates.

    Raises:
        UsageError: something asked for does not exist.
    """
    check(asked)
    with worker() as works:
        return make_plan(asked, works)


def _tune(
    planned: list[Planned], count: int, do: Callable[[list[Planned]], list[Result]]
) -> tuple[list[Planned], list[Result]]:
    """Each model, task and number of training items has a grid of its own."""
    tuned: list[Planned] = []
    trials: list[Result] = []
    for cell in dict.fromkeys(item.run.cell for item in planned):
        ours = [item for item in planned if item.run.cell == cell]
        at_rates, results = tuning.tune(ours, count, do)
        tuned += at_rates
        trials += results
    return tuned, trials


def _more_seeds(
    planned: list[Planned], results: list[Result], reference: str | None, sequence: SeedSequence
) -> list[Planned]:
    """The runs of the next look, for each table that does not resolve yet what is asked."""
    more = []
    for table in tables(results, reference or "", sequence):
        cell = (table.model, table.task, table.settings["train_items"])
        ours = [item for item in planned if item.run.cell == cell and item.run.kind == "training"]
        have = {item.run.seed for item in ours if item.seeded}
        target = sequence.next_look(len(have))
        if target is None or table.resolution is None or _points(table, table.resolution) <= sequence.resolve:
            continue
        first = [item for item in ours if item.seeded and item.refusal is None and item.run.seed == 0]
        more += [
            dataclasses.replace(item, run=dataclasses.replace(item.run, seed=seed))
            for seed in range(len(have), target)
            for item in first
        ]
    return more


def _points(table: Table, value: float) -> float:
    return value * 100 if table.is_share else value


def tables(
    results: Iterable[Result], reference: str = defaults.REFERENCE, sequence: SeedSequence | None = None
) -> list[Table]:
    """The comparison tables of some records."""
    return tabulate(results, reference, defaults.BASELINES, sequence)


def render_latency(made: Sequence[LatencyTable], report: str) -> str:
    """The same of latency tables.

    Raises:
        UsageError: the report has none.
    """
    latency = registry.get("report", report).declared.latency
    if latency is None:
        raise UsageError(f"report {report!r} has no latency tables; use --format markdown, csv or json")
    text: str = latency(made)
    return text


def render(made: Sequence[Table], report: str) -> str | bytes:
    """The tables as text, or as the bytes of a file, by the report of that name."""
    text: str | bytes = registry.get("report", report).target(made)
    return text
