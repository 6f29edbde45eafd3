"""A comparison from its plan to its results: tuned, run, and extended by seeds where asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from ..engine.answers import ask
from ..engine.jobs import Plan, PlanLatency
from ..engine.protocol import Engine, Event
from ..engine.sweep import ONE_BY_ONE, Execution, sweep
from ..errors import UsageError
from ..records.joint import by_method
from ..records.record import FAIL, Record
from ..records.results import Result
from ..records.runs import Planned
from ..records.store import Store, Stored
from ..stats.sequential import SeedSchedule
from ..tables.table import Table
from ..tables.tabulate import tables_of
from .held import Held
from .latency_request import LatencyRequest, check_latency_request
from .more_processes import more_processes
from .one_by_one import one_by_one, without_dead
from .request import Comparison, check_request
from .shard import part_of
from .suite import Suite
from .tuning import tune


@dataclasses.dataclass(frozen=True)
class Compared:
    """What came of a comparison."""

    results: list[Result]  # trials of learning rates among them
    planned: list[Planned]  # the reported runs, at the rates that they were done at
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
            for r in by_method(self.results)
            if r.record.run.kind != "tuning"
        )


class Watcher(Protocol):
    """Follows a comparison from its plan to its last record."""

    def planned(self, planned: list[Planned]) -> None:
        """Called with each list of runs before they are done."""

    def event(self, event: Event) -> None:
        """What a run says while it is done."""

    def done(self, item: Planned, stored: Stored) -> None:
        """Called after each run."""


class _Nobody:
    def planned(self, planned: list[Planned]) -> None: ...
    def event(self, event: Event) -> None: ...
    def done(self, item: Planned, stored: Stored) -> None: ...


class _Once:
    """A watcher that hears of each run once before it is done, however many comparisons it is in."""

    def __init__(self, watcher: Watcher) -> None:
        self.event, self._watcher = watcher.event, watcher
        self._known, self._done = set[str](), set[str]()

    def planned(self, planned: list[Planned]) -> None:
        new = {item.run.key: item for item in planned if item.run.key not in self._known}
        self._known |= new.keys()
        if new or not planned:
            self._watcher.planned(list(new.values()))

    def done(self, item: Planned, stored: Stored) -> None:
        if item.run.key not in self._done:
            self._done.add(item.run.key)
            self._watcher.done(item, stored)


NOBODY = _Nobody()
T = TypeVar("T")
Selection = Callable[[list[Planned]], list[Planned]]


def compare(
    asked: Comparison,
    store: Store,
    engine: Engine,
    how: Execution = ONE_BY_ONE,
    watcher: Watcher = NOBODY,
    select: Selection = lambda planned: planned,
) -> Compared:
    """Plan a comparison, tune it where asked, run it, and add seeds where asked.

    Args:
        select: from the planned runs to those that are to be done, or to others made of them.

    Raises:
        UsageError: something asked for does not exist, or the store can't be written.
    """
    return carry_out(asked, select(planned_part(asked, engine, how)), store, engine, how, watcher)


def compare_all(
    suite: Suite,
    store: Store,
    engine: Engine,
    how: Execution = ONE_BY_ONE,
    watcher: Watcher = NOBODY,
) -> list[Compared]:
    """The same of several comparisons: all of them are planned before the first run begins.

    Comparisons with one reference, be it that some lack it, and one rule for adding seeds come back as one, in whose tables their rows
    stand together.

    Raises:
        UsageError: something asked for does not exist, or the store can't be written.
    """
    plans = planned_parts(suite, engine, how)
    for planned in plans:  # before the first run begins
        _check_jobs(planned, how, engine)
    watcher = _Once(watcher)
    if len(plans) > 1:  # a tuned one's runs are known after its trials
        parts = zip(suite.comparisons, plans, strict=True)
        watcher.planned([item for asked, its in parts if not asked.trials for item in its])
    done = [
        carry_out(asked, planned, store, engine, how, watcher)
        for asked, planned in zip(suite.comparisons, plans, strict=True)
        if planned
    ]
    together: dict[Any, list[Compared]] = {}
    for one in done:
        others = [c.reference for c in done if c.sequence == one.sequence]
        reference = one.reference or next(filter(None, others), None)
        together.setdefault((reference, one.sequence), []).append(one)
    return [
        Compared(
            _once(its, lambda c: c.results, lambda r: r.record.key),
            _once(its, lambda c: c.planned, lambda p: p.run.key),
            *what,
        )
        for what, its in together.items()
    ]


def _once(parts: list[Compared], of: Callable[[Compared], list[T]], key: Callable[[T], str]) -> list[T]:
    """What is in several parts, once."""
    return list({key(one): one for part in parts for one in of(part)}.values())


def carry_out(
    asked: Comparison,
    planned: list[Planned],
    store: Store,
    engine: Engine,
    how: Execution,
    watcher: Watcher = NOBODY,
) -> Compared:
    """Do the runs of a comparison, and those that its results ask for.

    Raises:
        UsageError: the store can't be written.
    """
    sequence = asked.sequence
    how = dataclasses.replace(how, sequence=dataclasses.asdict(sequence) if sequence else None)
    held = Held(store)
    planned = held.used_for(planned)
    _check_jobs(planned, how, engine)

    def do(runs: list[Planned]) -> list[Result]:
        return [
            Result(stored.record, stored.folder) for stored in _followed(runs, store, engine, how, watcher)
        ]

    reference = next((item.run.method for item in planned if item.reference), None)
    results: list[Result] = []
    if asked.trials:
        planned, results = _tune(planned, asked.trials, do)
    results += do(planned)
    if again := held.used_for(one_by_one(planned, results)):
        planned, results = without_dead(planned, results)
        results += do(again)
        planned += again
    # A part of the runs does not tell what is decided.
    while how.shard is None and (timed := held.used_for(more_processes(planned, results))):
        results += do(timed)
        planned += timed
    while sequence is not None and (more := _more_seeds(planned, results, reference, sequence)):
        results += do(more)
        planned += more
    return Compared(results, planned, reference, sequence)


def compare_latency(
    asked: LatencyRequest,
    store: Store,
    engine: Engine,
    how: Execution = ONE_BY_ONE,
    watcher: Watcher = NOBODY,
) -> list[Record]:
    """Measure inference of several methods over one shared base, in some fresh processes.

    Raises:
        UsageError: something asked for does not exist, or the store can't be written.
    """
    check_latency_request(asked)
    job = PlanLatency(asked.to_json(), engine.capacity())
    planned = [Planned.from_json(item) for item in ask(job, engine, how.timeout_s)["planned"]]
    return [stored.record for stored in _followed(planned, store, engine, how, watcher)]


def planned_part(asked: Comparison, engine: Engine, how: Execution) -> list[Planned]:
    """The same of the part that is to be done.

    Raises:
        UsageError: there is no such part.
    """
    if how.shard is not None:
        _check_shard(asked)
    planned = planned_runs(asked, engine, how.timeout_s)
    return planned if how.shard is None else part_of(planned, how.shard, bool(asked.trials))


def _check_shard(asked: Comparison) -> None:
    if asked.sequence is not None:
        raise UsageError(
            "--until looks at all runs together; leave it out of --shard, and use it after peftbench merge"
        )


def planned_parts(suite: Suite, engine: Engine, how: Execution) -> list[list[Planned]]:
    """The runs of each comparison that are not left out.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run.
    """
    plans = suite.kept([planned_runs(asked, engine, how.timeout_s) for asked in suite.comparisons])
    if how.shard is None:
        return plans
    for asked in suite.comparisons:
        _check_shard(asked)
    together = {item.run.key: item for plan in plans for item in plan}
    tunes = any(asked.trials for asked in suite.comparisons)
    mine = {item.run.key for item in part_of(list(together.values()), how.shard, tunes)}
    return [[item for item in plan if item.run.key in mine] for plan in plans]


def planned_runs(asked: Comparison, engine: Engine, timeout_s: float | None = None) -> list[Planned]:
    """What a comparison would run, at preset learning rates.

    Raises:
        UsageError: something asked for does not exist, or nothing of it can run; the message is the plan's own.
    """
    check_request(asked)
    answer = ask(Plan(asked.to_json(), engine.capacity()), engine, timeout_s)
    return [Planned.from_json(item) for item in answer["planned"]]


def _followed(
    planned: list[Planned], store: Store, engine: Engine, how: Execution, watcher: Watcher
) -> Iterator[Stored]:
    watcher.planned(planned)
    for item, stored in sweep(planned, store, engine, how, watcher.event):
        watcher.done(item, stored)
        yield stored


def _check_jobs(planned: list[Planned], how: Execution, engine: Engine) -> None:
    if how.checkpoint_every and engine.capacity().apart:
        raise UsageError(
            "--checkpoint-every keeps the state beside the store, where jobs of a cluster can't be relied on to see it; leave it out"
        )
    if how.checkpoint_every and any(item.run.ranks > 1 for item in planned):
        raise UsageError(
            "--checkpoint-every does not serve runs in several processes (--gpus-per-run) yet; leave one of them out"
        )
    if engine.capacity().apart:
        return
    most = engine.capacity().at_once
    if most is not None and how.jobs is not None and how.jobs > most:
        raise UsageError(
            f"--jobs {how.jobs}: this engine does {most} at a time; leave it out, or take another --engine"
        )
    gpus = engine.capacity().device("cuda")
    on_gpu = any(item.run.device == "cuda" for item in planned)
    if on_gpu and gpus is not None and how.jobs is not None and how.jobs > gpus.count:
        raise UsageError(
            f"--jobs {how.jobs} needs a GPU for each run, and this machine has {gpus.count}; use --jobs {gpus.count}"
        )


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
    finished = {result.record.run.method for result in results if result.record.status == "ok"}
    for table in tables_of(results, reference or "", sequence):
        cell = table.setting.cell
        ours = [item for item in planned if item.run.cell == cell and item.run.kind == "training"]
        have = {item.run.seed for item in ours if item.seeded}
        target = sequence.next_look(len(have))
        if target is None or table.resolution is None or _points(table, table.resolution) <= sequence.resolve:
            continue
        first = [
            item
            for item in ours
            if item.seeded and item.refusal is None and item.run.seed == 0 and item.run.method in finished
        ]
        more += [
            dataclasses.replace(item, run=dataclasses.replace(item.run, seed=seed))
            for seed in range(len(have), target)
            for item in first
        ]
    return more


def _points(table: Table, value: float) -> float:
    return value * 100 if table.is_share else value
