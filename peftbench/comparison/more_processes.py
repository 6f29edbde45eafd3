"""Latency in as many fresh processes as its precision needs, as long as there is time for them.

Rounds of one process share its memory placement and its neighbours, so that more of them tell little: what narrows an interval
is more processes. Each method has the same time, and what the store holds counts as spent: the same command stops at the same place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .. import defaults
from ..records.results import Result
from ..records.runs import Planned
from ..tables.costs import latencies


def more_processes(planned: Sequence[Planned], results: Sequence[Result]) -> list[Planned]:
    """One more process for each method whose latency is not decided yet, where there is time."""
    by_graph: dict[tuple[str, ...], list[Planned]] = {}
    for item in planned:
        if item.run.kind == "latency" and item.refusal is None:
            by_graph.setdefault((item.run.model, item.run.task, item.run.method), []).append(item)
    done = {result.record.key: result.record for result in results}
    more = []
    for items in by_graph.values():
        records = [done[item.run.key] for item in items if item.run.key in done]
        if len(records) < len(items) or any(record.status != "ok" for record in records):
            continue
        spent_s = sum(record.wall_s or 0.0 for record in records)
        if (
            len(items) < defaults.MOST_LATENCY_PROCESSES
            and spent_s * (1 + 1 / len(items)) <= defaults.LATENCY_BUDGET_S
            and not all(cell.is_decided for cell in latencies(records))
        ):
            run = dataclasses.replace(items[0].run, seed=len(items))
            more.append(dataclasses.replace(items[0], run=run))
    return more
