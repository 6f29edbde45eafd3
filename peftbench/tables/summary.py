"""What several tasks say together of the methods that all of them tried, against one reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..stats.estimate import ALPHA, Estimate
from .table import MARGIN, Row, Table

RANKED_TASKS = 10  # mean ranks over fewer tasks are mostly chance, and are said to be


@dataclass(frozen=True)
class MethodSummary:
    """One method over the tasks that it and the reference finished."""

    method: str
    tasks: int
    difference: (
        Estimate | None
    )  # mean of the tasks' differences, better is positive, with a t over tasks; None of the reference itself
    wins: int  # the task's interval is above 0
    ties: int  # shown equal: inside +-1 point
    losses: int  # below 0
    mean_rank: float  # 1 is best

    @property
    def undecided(self) -> int:
        """Tasks that show neither a difference nor equality."""
        return self.tasks - self.wins - self.ties - self.losses


@dataclass(frozen=True)
class Summary:
    """The methods of one model over its tasks."""

    model: str
    reference: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]  # tasks whose metric is not a share: their units do not add
    methods: tuple[MethodSummary, ...]


def summarise(tables: Sequence[Table]) -> list[Summary]:
    """One summary for each model, device, data type and reference that has tables of two tasks or more."""
    by_model: dict[tuple[object, ...], list[Table]] = {}
    for table in tables:
        by_model.setdefault((table.reference, table.setting.all_but_task), []).append(table)
    found = []
    for group in by_model.values():
        shares = [table for table in group if table.is_share]
        if len({table.task for table in shares}) < 2 or not shares[0].reference:
            continue
        methods = dict.fromkeys(row.method for table in shares for row in table.rows)
        reference = shares[0].reference
        found_of = (_reference(m, shares) if m == reference else _method(m, shares) for m in methods)
        summaries = [summary for summary in found_of if summary is not None]
        left_out = tuple(table.task for table in group if not table.is_share)
        tasks = tuple(dict.fromkeys(table.task for table in shares))
        found.append(Summary(shares[0].model, reference, tasks, left_out, tuple(summaries)))
    return found


def _method(method: str, tables: Sequence[Table]) -> MethodSummary | None:
    rows = [(table, row) for table in tables if (row := _row(table, method)) and row.difference]
    if len(rows) < 2:
        return None
    signed = [(1.0 if table.higher_is_better else -1.0, row) for table, row in rows]
    values = np.asarray([sign * row.difference.value for sign, row in signed if row.difference])
    # Each task is one observation: the t over tasks asks what another task would say.
    overall = Estimate(
        float(values.mean()), float(values.var(ddof=1) / len(values)), len(values) - 1.0, len(values)
    )
    outcomes = [_outcome(sign, row.difference) for sign, row in signed if row.difference]
    ranks = [_rank(table, row) for table, row in rows]
    return MethodSummary(
        method,
        len(rows),
        overall,
        outcomes.count("win"),
        outcomes.count("tie"),
        outcomes.count("loss"),
        float(np.mean(ranks)),
    )


def _reference(method: str, tables: Sequence[Table]) -> MethodSummary | None:
    """What the others are compared with: its rank alone."""
    ranks = [_rank(table, row) for table in tables if (row := _row(table, method)) is not None]
    return MethodSummary(method, len(ranks), None, 0, 0, 0, float(np.mean(ranks))) if len(ranks) > 1 else None


def _outcome(sign: float, difference: Estimate) -> str:
    half, inner = difference.half_width(), difference.half_width(2 * ALPHA)
    if half is None or inner is None or difference.seeds < 2:
        return "undecided"
    value = sign * difference.value
    if abs(value) + inner <= MARGIN:
        return "tie"
    return "win" if value > half else "loss" if value < -half else "undecided"


def _row(table: Table, method: str) -> Row | None:
    return next((row for row in table.rows if row.method == method and row.score is not None), None)


def _rank(table: Table, row: Row) -> float:
    """Its place among the rows of its table; equal scores share the mean of their places."""
    assert row.score is not None
    sign = 1.0 if table.higher_is_better else -1.0
    scores = [sign * other.score.value for other in table.rows if other.score]
    mine = sign * row.score.value
    return 1 + sum(s > mine for s in scores) + (sum(s == mine for s in scores) - 1) / 2
