"""Scores by the number of training items: the low-data curve of each method (Hu et al. 2021, Table 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..records.setting import Setting
from .table import Row, Table


@dataclass(frozen=True)
class Sizes:
    """The tables of one task that differ in the training items alone."""

    model: str
    task: str
    metric: str
    is_share: bool
    unit: str
    sizes: tuple[int | None, ...]  # ascending; None, all items, is the last
    rows: Mapping[str, tuple[Row | None, ...]]  # by method: its row at each size


def by_size(tables: Sequence[Table]) -> list[Sizes]:
    """One for each task, model and budget that was trained with two numbers of items or more."""
    alike: dict[Setting, list[Table]] = {}
    for table in tables:
        alike.setdefault(table.setting.all_but_size, []).append(table)
    found = []
    for group in alike.values():
        by_items = {table.setting.budget.train_items: table for table in group}
        if len(by_items) < 2:
            continue
        sizes = sorted(by_items, key=lambda size: float("inf") if size is None else size)
        labels = dict.fromkeys(row.method for table in group for row in table.rows)
        rows = {m: tuple(_row(by_items[size], m) for size in sizes) for m in labels}
        first = group[0]
        found.append(
            Sizes(first.model, first.task, first.metric, first.is_share, first.unit, tuple(sizes), rows)
        )
    return found


def _row(table: Table, method: str) -> Row | None:
    """Of several rates of one method the one that tuning chose."""
    rows = [row for row in table.rows if row.method == method and row.score is not None]
    return next((row for row in rows if row.tuned), rows[0] if rows else None)
