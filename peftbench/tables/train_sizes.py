"""Scores by the number of training items: the low-data curve of each method (Hu et al. 2021, Table 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..records.setting import Setting
from .table import Row, Table
from .titles import described, told_apart


@dataclass(frozen=True)
class Sizes:
    """The tables of one task that differ in the training items alone."""

    model: str
    task: str
    metric: str
    is_share: bool
    unit: str
    sizes: tuple[int | None, ...]  # ascending; None, all items, is the last
    rows: Mapping[str, tuple[Row | None, ...]]  # by method, or method at a rate: its row at each size
    apart: str = ""  # what tells it from another one of the same task and model


def by_size(tables: Sequence[Table]) -> list[Sizes]:
    """One for each task, model and budget that was trained with two numbers of items or more."""
    alike: dict[Setting, list[Table]] = {}
    for table in tables:
        alike.setdefault(table.setting.all_but_size, []).append(table)
    groups = [group for group in alike.values() if len(group) > 1]
    settings = [group[0].setting.all_but_size for group in groups]
    apart = told_apart([(f"{one.task} with {one.model}", described(one)) for one in settings])
    return [_sizes(group, said) for group, said in zip(groups, apart, strict=True)]


def _sizes(group: Sequence[Table], apart: str) -> Sizes:
    by_items = {table.setting.budget.train_items: table for table in group}
    sizes = sorted(by_items, key=lambda size: float("inf") if size is None else size)
    rows: dict[str, tuple[Row | None, ...]] = {}
    for method in dict.fromkeys(row.method for table in group for row in table.rows):
        chosen = tuple(by_items[size].row_of(method) for size in sizes)
        there = [row for row in chosen if row is not None]
        at_one_rate = len({row.learning_rate for row in there}) < 2 or all(row.tuned for row in there)
        if at_one_rate and len(there) == sum(bool(_scored(table, method)) for table in group):
            rows[method] = chosen
            continue
        rates = sorted({row.learning_rate or 0.0 for table in group for row in _scored(table, method)})
        for rate in rates:  # of several rates none of which was tuned, each by itself
            its = (_scored(by_items[size], method) for size in sizes)
            rows[f"{method} at {rate:g}"] = tuple(
                next((row for row in scored if row.learning_rate == rate), None) for scored in its
            )
    first = group[0]
    return Sizes(first.model, first.task, first.metric, first.is_share, first.unit, tuple(sizes), rows, apart)


def _scored(table: Table, method: str) -> list[Row]:
    return [row for row in table.rows if row.method == method and row.score is not None]
