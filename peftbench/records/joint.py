"""Latency of several methods is taken in one process, in turns. Its run names them all; tables read it method by method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import spec
from .record import Record
from .runs import Run

if TYPE_CHECKING:
    from .results import Result

BETWEEN = ", "  # the identities of several methods; one of them may hold spaces


def joined(runs: Sequence[Run]) -> Run:
    """One latency run of the methods of several, which differ in nothing else."""
    if len(runs) == 1:
        return runs[0]
    return dataclasses.replace(
        runs[0],
        method=",".join(run.method for run in runs),
        identity={**runs[0].identity, "method": BETWEEN.join(run.identity["method"] for run in runs)},
        commits={name: commit for run in runs for name, commit in run.commits.items()},
    )


def parts(run: Run) -> list[Run]:
    """The same for each method alone: a method's part has one key, whichever others took turns with it."""
    if run.kind != "latency":
        return [run]
    methods = [str(one) for one in spec.parse_list(run.method)]
    sources = str(run.identity.get("method", "")).split(BETWEEN)
    if len(methods) < 2 or len(methods) != len(sources):  # or of a version that wrote it otherwise
        return [run]
    return [
        dataclasses.replace(run, method=method, identity={**run.identity, "method": source})
        for method, source in zip(methods, sources, strict=True)
    ]


def record_parts(record: Record) -> list[Record]:
    """The record of each method of a process. One that was left out there has a failed one."""
    runs = parts(record.run)
    if runs == [record.run]:
        return [record]
    left_out = (record.meters or {}).get("left_out") or {}
    found = [
        dataclasses.replace(record, run=run, key=record.key if record.is_older else run.key) for run in runs
    ]
    return [
        dataclasses.replace(part, status="failed", reason=left_out[part.run.method], latency=None)
        if part.run.method in left_out
        else part
        for part in found
    ]


def by_method(results: Sequence[Result]) -> list[Result]:
    """Results of which each is of one method."""
    return [
        dataclasses.replace(result, record=record)
        for result in results
        for record in record_parts(result.record)
    ]
