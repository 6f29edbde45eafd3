"""A latency process that died takes no method's latency with it: its methods are timed again, each in a process of its own.

One method may need more memory than there is, or stop the process; which one it was only a process without the others tells. A method's
part has one key in both, so that in a report its own process stands in the place of the one that died.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..records.joint import parts
from ..records.results import Result
from ..records.runs import Planned, Run


def one_by_one(planned: Sequence[Planned], results: Sequence[Result]) -> list[Planned]:
    """For each process of several methods that failed as a whole, one process a method."""
    dead = _dead(results)
    return [
        dataclasses.replace(item, run=part)
        for item in planned
        if item.run.key in dead
        for part in parts(item.run)
    ]


def without_dead(planned: Sequence[Planned], results: Sequence[Result]) -> tuple[list[Planned], list[Result]]:
    """The same without the processes in whose place others come."""
    dead = _dead(results)
    return (
        [item for item in planned if item.run.key not in dead],
        [result for result in results if result.record.key not in dead],
    )


def _dead(results: Sequence[Result]) -> set[str]:
    return {result.record.key for result in results if _is_dead(result.record.run, result.record.status)}


def _is_dead(run: Run, status: str) -> bool:
    return run.kind == "latency" and status == "failed" and len(parts(run)) > 1
