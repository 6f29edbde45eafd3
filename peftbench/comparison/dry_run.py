"""What a command would do: every run with its parameter counts, and what the store already holds of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..engine.sweep import Execution, is_missing
from ..records.runs import Planned
from ..records.store import Store
from ..tables.rate_curve import grid
from .tuning import EXTENSIONS, trial_runs


def plan_text(planned: Sequence[Planned], trials: int, store: Store, how: Execution) -> str:
    """A line for each method and kind of run, and the number of runs that are to be done."""
    body = plan_rows(planned, trials, store, how)
    text = tabulate(body, headers="keys", tablefmt="github", disable_numparse=True)
    total = sum(row["to do"] for row in body)
    notes = [f"{total} of {len(planned) + len(_trials(planned, trials))} runs to do; nothing was run."]
    if trials:
        notes.append(
            "Reported runs take the rate that tuning chooses; a choice at the edge of a grid adds up to "
            f"{EXTENSIONS} more rates to every method."
        )
    return "\n".join([text, "", *notes]) + "\n"


def plan_rows(planned: Sequence[Planned], trials: int, store: Store, how: Execution) -> list[dict[str, Any]]:
    """The lines alone."""
    everything = [*_trials(planned, trials), *planned]
    lines: dict[tuple[Any, ...], list[Planned]] = {}
    for item in everything:
        run = item.run
        lines.setdefault((*run.cell, run.kind, run.method), []).append(item)
    body = []
    for (model, task, size, kind, method), items in lines.items():
        states = [(item, store.get(item.run.key)) for item in items]
        missing = sum(is_missing(item, stored, how) for item, stored in states)
        failed = sum(stored is not None and stored.record.status == "failed" for _, stored in states)
        first = items[0]
        rates = sorted({item.run.learning_rate for item in items})
        body.append(
            {
                "model": model,
                "task": task if size is None else f"{task}, {size:,} training items",
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


def _trials(planned: Sequence[Planned], count: int) -> list[Planned]:
    first: dict[tuple[Any, ...], Planned] = {}
    for item in planned:
        if item.tunable:
            first.setdefault((*item.run.cell, item.run.method), item)
    return [run for item in first.values() for j in grid(count) for run in trial_runs(item, j)]


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
