"""How long runs that are still to be done will take, by what the store holds of runs like them."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from ..records.in_words import span_in_words
from ..records.record import Record
from ..records.runs import Planned, Run
from ..records.store import Store

SAME, CELL, STEPS, NOTHING = "same", "cell", "steps", "nothing"


def time_in_words(missing: Sequence[Planned], store: Store) -> str:
    """A sentence for a plan.

    Args:
        missing: the runs that are to be done.
    """
    records = [stored.record for stored in store.all()] if store.root.is_dir() else []
    walls: defaultdict[Hashable, list[float]] = defaultdict(list)
    steps: defaultdict[Hashable, list[Record]] = defaultdict(list)
    for record in records:
        if record.status != "ok" or record.wall_s is None:
            continue
        for place in _places(record.run):
            walls[place].append(record.wall_s)
        if record.run.kind == "profile" and (record.training or {}).get("step_s"):
            steps[_step(record.run)].append(record)
    taken, sources = 0.0, Counter[str]()
    for item in missing:
        if item.refusal is not None:
            continue
        seconds, source = _of_run(item.run, walls, steps)
        taken += seconds
        sources[source] += 1
    return _said(taken, sources)


def _said(taken: float, sources: Counter[str]) -> str:
    ways = {
        SAME: "{} as like runs in the store took",
        CELL: "{} as runs of other methods took",
        STEPS: "{} by the steps of cost runs, without loading and scoring",
        NOTHING: "{} like none there",
    }
    if sources.total() == sources[NOTHING]:
        return "How long they take is not known: the store holds no runs like them."
    said = ", ".join(way.format(f"{sources[source]:,}") for source, way in ways.items() if sources[source])
    return f"About {span_in_words(taken)}, one after the other: {said}."


def _of_run(
    run: Run, walls: dict[Hashable, list[float]], steps: dict[Hashable, list[Record]]
) -> tuple[float, str]:
    for place, source in zip(_places(run), (SAME, CELL), strict=True):
        if place in walls:
            return statistics.median(walls[place]), source
    if run.kind in ("training", "tuning") and (found := steps.get(_step(run))):
        training = found[-1].training or {}
        count = run.budget.resolve_steps(run.budget.train_items or training["train_items"])
        return count * statistics.median(training["step_s"]), STEPS
    return 0.0, NOTHING


def _places(run: Run) -> tuple[Hashable, Hashable]:
    """What runs that take about as long have in common: those of one method, and those of any."""
    budget = None if run.kind == "latency" else dataclasses.replace(run.budget, name="")
    cell = (run.kind, run.model, run.task, run.device, run.dtype, run.threads, run.ranks, budget)
    return (*cell, run.method), cell


def _step(run: Run) -> Hashable:
    return run.model, run.task, run.method, run.device, run.dtype, dataclasses.replace(run.budget.of_a_step, name="", steps=None, epochs=None)  # fmt: skip
