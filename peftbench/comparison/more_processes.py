"""Latency in as many fresh processes as its precision needs, as long as there is time for them.

Rounds of one process share its memory placement and its neighbours, so that more of them tell little: what narrows an interval
is more processes. A method that is decided leaves the turns. Methods that began in one process share its time, and what the store holds
counts as spent: the same command stops at the same place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .. import defaults
from ..records.joint import joined, parts, record_parts
from ..records.record import Record
from ..records.results import Result
from ..records.runs import Planned, Run
from ..tables.costs import latencies


def more_processes(planned: Sequence[Planned], results: Sequence[Result]) -> list[Planned]:
    """One more process for each set of methods of which some are not decided yet, where there is time.

    Args:
        planned: with the training runs, whose methods are those that are asked for: a stored process may hold others.
    """
    done = {result.record.key: result.record for result in results}
    more = []
    for by_method in _sets(planned):
        items = {item.run.key: item for timed in by_method.values() for item, _ in timed}
        records = [done[key] for key in items if key in done]
        if len(records) < len(items) or any(record.status != "ok" for record in records):
            continue
        count = max(len(timed) for timed in by_method.values())
        first = next(iter(items.values()))
        undecided = [
            timed[0][1]
            for method, timed in sorted(by_method.items())
            if not _is_decided(method, [done[item.run.key] for item, _ in timed])
        ]
        spent_s = sum(_timed_s(record) for record in records)
        if (
            undecided
            and count < defaults.MOST_LATENCY_PROCESSES
            and spent_s * (1 + 1 / count) <= _budget_s(first.run)
        ):
            more.append(dataclasses.replace(first, run=dataclasses.replace(joined(undecided), seed=count)))
    return more


def _sets(planned: Sequence[Planned]) -> list[dict[str, list[tuple[Planned, Run]]]]:
    """By method its processes, each with the method's part in it; one set for all methods that began together."""
    asked = {
        (item.run.model, item.run.task, item.run.method) for item in planned if item.run.kind == "training"
    }
    found: dict[tuple[str, str, str], dict[str, list[tuple[Planned, Run]]]] = {}
    begun: dict[tuple[str, str, str], str] = {}  # the key of a method's first process
    for item in planned:
        if item.run.kind != "latency" or item.refusal is not None:
            continue
        for part in parts(item.run):
            model, task, method = part.model, part.task, part.method
            if (model, task, method) in asked:
                first = begun.setdefault((model, task, method), item.run.key)
                found.setdefault((model, task, first), {}).setdefault(method, []).append((item, part))
    return list(found.values())


def _is_decided(method: str, records: Sequence[Record]) -> bool:
    its = [part for record in records for part in record_parts(record) if part.run.method == method]
    return all(cell.is_decided for cell in latencies([part for part in its if part.status == "ok"]))


def _timed_s(record: Record) -> float:
    """Seconds of its rounds; an older record tells only how long the whole process took."""
    timed: float | None = (record.meters or {}).get("timed_s", record.wall_s)
    return timed or 0.0


def _budget_s(run: Run) -> float:
    """For all processes of a set together."""
    assert run.grid is not None and run.grid.budget_s is not None  # every plan of a comparison says
    return run.grid.budget_s * defaults.LATENCY_PROCESSES
