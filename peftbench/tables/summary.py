"""What several tasks say together of the methods that all of them tried, against one reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..records.setting import Setting
from ..stats.estimate import ALPHA, Estimate, mean_estimate
from .table import MARGIN, Row, Table
from .titles import described, told_apart

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
    setting: Setting  # of its first task
    apart: str = ""  # what tells it from another summary of the same model


def summarise(tables: Sequence[Table]) -> list[Summary]:
    """One summary for each setting that has tables of two tasks or more; only task, data and the task's own length may differ."""
    alike: dict[tuple[object, ...], list[Table]] = {}
    for table in tables:
        anchor = table.labelled(table.reference)
        if anchor is not None:
            alike.setdefault((anchor.method, table.setting.all_but_task), []).append(table)
    groups = [part for group in alike.values() for part in _once_a_task(group)]
    found = [one for group in groups if (one := _summary(group)) is not None]
    apart = told_apart([(one.model, described(one.setting.all_but_task)) for one in found])
    return [replace(one, apart=said) for one, said in zip(found, apart, strict=True)]


def _once_a_task(tables: Sequence[Table]) -> list[list[Table]]:
    """Each task once: where one stands there at several lengths, each length is a summary of its own.

    Where two tables of a task differ in its data alone, none of the two can be chosen, and there is no summary.
    """
    if len({table.task for table in tables}) == len(tables):
        return [list(tables)]
    by_length: dict[int, list[Table]] = {}
    for table in tables:
        by_length.setdefault(table.setting.budget.max_length, []).append(table)
    return [group for group in by_length.values() if len({table.task for table in group}) == len(group)]


def _summary(group: Sequence[Table]) -> Summary | None:
    shares = [table for table in group if table.is_share]
    reference = shares[0].labelled(shares[0].reference) if len(shares) > 1 else None
    if reference is None:
        return None
    rows = _rows(shares)
    summaries = (
        _reference(name, its) if name == reference.method else _method(name, its)
        for name, its in rows.items()
    )
    return Summary(
        model=shares[0].model,
        reference=reference.method,
        tasks=tuple(table.task for table in shares),
        left_out=tuple(table.task for table in group if not table.is_share),
        methods=tuple(summary for summary in summaries if summary is not None),
        setting=shares[0].setting,
    )


Placed = list[tuple[Table, Row]]


def _rows(tables: Sequence[Table]) -> dict[str, Placed]:
    """One row a table for each method; where the rates are neither tuned everywhere nor the same, for each rate by itself."""
    found: dict[str, Placed] = {}
    for method in dict.fromkeys(row.method for table in tables for row in table.rows):
        every = [(t, row) for t in tables for row in t.rows if row.method == method and row.score is not None]
        chosen = [(t, row) for t in tables if (row := t.row_of(method)) is not None]
        rates = {row.learning_rate for _, row in chosen}
        if len(chosen) == len({id(t) for t, _ in every}) and (
            len(rates) < 2 or all(r.tuned for _, r in chosen)
        ):
            found[method] = chosen
            continue
        for table, row in every:
            found.setdefault(f"{method} at {row.learning_rate:g}", []).append((table, row))
    return found


def _method(name: str, placed: Placed) -> MethodSummary | None:
    compared = [(1.0 if t.higher_is_better else -1.0, row.difference) for t, row in placed if row.difference]
    if len(compared) < 2:
        return None
    values = np.asarray([sign * difference.value for sign, difference in compared])
    # Each task is one observation: the t over tasks asks what another task would say.
    overall = mean_estimate(values)
    outcomes = [
        _outcome(1.0 if t.higher_is_better else -1.0, row.difference) if _sound(t, row) else "undecided"
        for t, row in placed
        if row.difference
    ]
    ranks = [_rank(table, row) for table, row in placed if row.difference]
    return MethodSummary(
        name,
        len(compared),
        overall,
        outcomes.count("win"),
        outcomes.count("tie"),
        outcomes.count("loss"),
        float(np.mean(ranks)),
    )


def _reference(name: str, placed: Placed) -> MethodSummary | None:
    """What the others are compared with: its rank alone."""
    ranks = [_rank(table, row) for table, row in placed]
    return MethodSummary(name, len(ranks), None, 0, 0, 0, float(np.mean(ranks))) if len(ranks) > 1 else None


def _sound(table: Table, row: Row) -> bool:
    """Whether its difference decides anything: a row that fails a check or lost seeds to chance, or whose reference did, does not."""
    anchor = table.labelled(table.reference)
    return row.sound and anchor is not None and anchor.sound


def _outcome(sign: float, difference: Estimate) -> str:
    half, inner = difference.half_width(), difference.half_width(2 * ALPHA)
    if half is None or inner is None or not difference.decides:
        return "undecided"
    value = sign * difference.value
    if abs(value) + inner <= MARGIN:
        return "tie"
    return "win" if value > half else "loss" if value < -half else "undecided"


def _rank(table: Table, row: Row) -> float:
    """Its place among the rows of its table; equal scores share the mean of their places."""
    assert row.score is not None
    sign = 1.0 if table.higher_is_better else -1.0
    scores = [sign * other.score.value for other in table.rows if other.score]
    mine = sign * row.score.value
    return 1 + sum(s > mine for s in scores) + (sum(s == mine for s in scores) - 1) / 2
