"""What a command would do: every run with its parameter counts, and what the store already holds of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from ..engine.sweep import Execution, is_missing
from ..records.failed_seeds import why_failed
from ..records.runs import Planned
from ..records.store import Store
from ..stats.estimate import ALPHA
from ..stats.power import MOST_SEEDS, of_spread, seeds_for, smallest_difference
from ..tables.rate_curve import grid
from ..tables.table import MARGIN
from .estimate import time_in_words
from .held import Held
from .suite import Suite
from .tuning import EXTENSIONS, trial_runs

USUAL_SPREADS = (0.3, 1.0)  # points that seeds of a task lie apart by, where nothing is known of it


def plan_text(suite: Suite, plans: Sequence[Sequence[Planned]], store: Store, how: Execution) -> str:
    """A line for each method and kind of run, and the number of runs that are to be done."""
    runs = _runs(suite, plans, store)
    states = _states(runs, store, how)
    body = _rows(runs, states, how)
    text = tabulate(body, headers="keys", tablefmt="github", disable_numparse=True)
    to_do = [item for item in runs if states[item.run.key].to_do]
    notes = [f"{len(to_do)} of {len(runs)} runs to do; nothing was run."]
    notes += [time_in_words(to_do, store)] if to_do else []
    if any(asked.trials for asked in suite.comparisons):
        notes.append(
            "Reported runs use the learning rate that tuning chooses; a choice at the edge of a grid adds up to "
            f"{EXTENSIONS} more rates to every method."
        )
    if how.shard is None:  # a part has not all methods and seeds
        notes += what_seeds_decide([item for item in runs if item.run.kind != "tuning"], store)
    return "\n".join([text, "", *notes]) + "\n"


def plan_rows(
    suite: Suite, plans: Sequence[Sequence[Planned]], store: Store, how: Execution
) -> list[dict[str, Any]]:
    """The lines alone."""
    runs = _runs(suite, plans, store)
    return _rows(runs, _states(runs, store, how), how)


def _runs(suite: Suite, plans: Sequence[Sequence[Planned]], store: Store) -> list[Planned]:
    """Those of all comparisons, trials of learning rates first, each once."""
    held = Held(store)
    found: dict[str, Planned] = {}
    for asked, planned in zip(suite.comparisons, plans, strict=True):
        used = held.used_for(planned)
        found |= {item.run.key: item for item in [*_trials(used, asked.trials), *used]}
    return list(found.values())


@dataclass(frozen=True)
class _State:
    """What the store says of a run."""

    to_do: bool
    failed: bool


def _states(runs: Sequence[Planned], store: Store, how: Execution) -> dict[str, _State]:
    """By key; each record is read once."""
    found = {}
    for item in runs:
        stored = store.get(item.run.key)
        failed = stored is not None and stored.record.status == "failed"
        found[item.run.key] = _State(is_missing(item, stored, how), failed)
    return found


def _rows(runs: Sequence[Planned], states: Mapping[str, _State], how: Execution) -> list[dict[str, Any]]:
    budgets = {_budget(item) for item in runs} - {""}
    lines: dict[tuple[Any, ...], list[Planned]] = {}
    for item in runs:
        run = item.run
        lines.setdefault((*run.cell, _budget(item), run.kind, run.method), []).append(item)
    body = []
    for (model, task, size, budget, kind, method), items in lines.items():
        missing = sum(states[item.run.key].to_do for item in items)
        failed = sum(states[item.run.key].failed for item in items)
        first = items[0]
        rates = sorted({item.run.learning_rate for item in items})
        body.append(
            {
                "model": model,
                "task": _sized(task, size),
                **({"budget": budget} if len(budgets) > 1 else {}),
                "run": kind,
                "method": method,
                "learning rate": ""
                if kind in ("latency", "profile")
                else ", ".join(f"{rate:g}" for rate in rates if rate),
                "seeds": "" if kind in ("latency", "profile") else len({item.run.seed for item in items}),
                "trained": _count(first.adapter_parameters),
                "head": _count(first.head_parameters),
                "stored": first.refusal
                or f"{len(items) - missing - failed * (not how.retry_failed)}/{len(items)}"
                + (f", {failed} failed" if failed else ""),
                "to do": missing,
            }
        )
    return body


def _budget(item: Planned) -> str:
    """Of what is trained: comparisons of a suite may differ in it."""
    budget = item.run.budget
    if item.run.kind not in ("training", "tuning"):
        return ""
    length = f"{budget.steps} steps" if budget.steps is not None else f"{budget.epochs:g} epochs"
    return f"{length} of {budget.batch_size}"


def what_seeds_decide(planned: Sequence[Planned], store: Store) -> list[str]:
    """A line for each model and task of several methods: which differences its seeds can show, and what `MARGIN` would need."""
    cells: dict[tuple[Any, ...], list[Planned]] = {}
    for item in planned:
        if item.run.kind == "training" and item.refusal is None:
            cells.setdefault(item.run.cell, []).append(item)
    said = []
    for (model, task, size), items in cells.items():
        methods = len({item.run.method for item in items})
        seeds = len({item.run.seed for item in items if item.seeded})
        if methods < 2 or not seeds:
            continue
        seen = _spread_in_store(items, store)
        spreads = USUAL_SPREADS if seen is None else (seen,)
        source = "" if seen is None else ", as those in the store do"
        shown = "; ".join(_decides(spread, seeds, methods - 1) for spread in spreads)
        said.append(
            f"{model}, {_sized(task, size)}, {methods} methods, without the spread of test items: where seeds spread by {shown}{source}."
        )
    return said


def _sized(task: str, items: int | None) -> str:
    return task if items is None else f"{task}, {items:,} training items"


def _decides(spread: float, seeds: int, comparisons: int) -> str:
    """What so many seeds can tell of so many differences, in points; none where there is one seed."""
    needed = seeds_for(of_spread(spread, MOST_SEEDS), MARGIN * 100, ALPHA / comparisons)
    question = f"{MARGIN * 100:g} point needs {needed if needed is not None else f'more than {MOST_SEEDS}'}"
    if seeds < 2:
        return f"{spread:.2g} points, one seed shows no difference and {question}"
    least = smallest_difference([of_spread(spread, seeds)] * comparisons)
    return (
        f"{spread:.2g} points, {seeds} seeds show differences from about {least:.1f} points on and {question}"
    )


def _spread_in_store(items: Sequence[Planned], store: Store) -> float | None:
    """How far the seeds of these methods lie apart, in points: the median of their standard deviations; None where none tells."""
    by_method: dict[str, list[float]] = {}
    for item in items:
        stored = store.get(item.run.key, 0) if item.seeded else None
        record = None if stored is None else stored.record
        if record is None or record.status != "ok" or not record.metric or why_failed(record):
            continue
        value = (record.quality or {}).get(record.metric["name"])
        if value is not None and record.metric["is_share"]:
            by_method.setdefault(item.run.method, []).append(100 * value)
    spreads = [statistics.stdev(values) for values in by_method.values() if len(values) > 1]
    return statistics.median(spreads) if spreads and statistics.median(spreads) > 0 else None


def _trials(planned: Sequence[Planned], count: int) -> list[Planned]:
    first: dict[tuple[Any, ...], Planned] = {}
    for item in planned:
        if item.tunable:
            first.setdefault((*item.run.cell, item.run.method), item)
    return [run for item in first.values() for j in grid(count) for run in trial_runs(item, j)]


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
