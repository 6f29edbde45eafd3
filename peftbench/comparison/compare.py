"""A comparison from its plan to its results: tuned, run, and extended by seeds where asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..engine.local import make_plan, worker
from ..engine.sweep import ALONE, Execution, sweep
from ..records.record import FAIL, Record
from ..records.results import Result
from ..records.runs import Planned
from ..records.store import Store, Stored
from ..stats.sequential import SeedSchedule
from ..tables.table import Table
from ..tables.tabulate import tables_of
from .latency_request import LatencyRequest, check_latency_request
from .request import Comparison, check_request
from .tuning import tune


@dataclasses.dataclass(frozen=True)
class Compared:
    """What came of a comparison."""

    results: list[Result]  # trials of learning rates among them
    reference: str | None  # the SPEC that differences are taken to
    sequence: SeedSchedule | None

    @property
    def tables(self) -> list[Table]:
        return tables_of(self.results, self.reference or "", self.sequence)

    @property
    def good(self) -> bool:
        """Whether every reported run is, and keeps what its method claims; a trial may diverge."""
        return all(
            r.record.status == "ok" and not any(c["outcome"] == FAIL for c in r.record.checks or ())
            for r in self.results
            if r.record.run.kind != "tuning"
        )


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
    check_request(asked)
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
    asked: LatencyRequest,
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
    check_latency_request(asked)
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
    check_request(asked)
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
        at_rates, results = tune(ours, count, do)
        tuned += at_rates
        trials += results
    return tuned, trials


def _more_seeds(
    planned: list[Planned], results: list[Result], reference: str | None, sequence: SeedSchedule
) -> list[Planned]:
    """The runs of the next look, for each table that does not resolve yet what is asked."""
    more = []
    for table in tables_of(results, reference or "", sequence):
        cell = table.setting.cell
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
