"""What tables are called where several stand in one place: task and model, and what else tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .table import Table


def titles_of(tables: Sequence[Table]) -> list[str]:
    """A title each; those that would be alike name the settings in which they differ."""
    short = [title_of(t.task, t.setting.budget.train_items, t.model) for t in tables]
    counts = Counter(short)
    found = []
    for table, title in zip(tables, short, strict=True):
        alike = [other for other, its in zip(tables, short, strict=True) if its == title]
        found.append(title if counts[title] == 1 else f"{title}, {_apart(table, alike)}")
    return found


def title_of(task: str, train_items: int | None, model: str) -> str:
    """A task with a model, and from how many training items where it was not all."""
    size = "" if train_items is None else f" ({train_items:,} training items)"
    return f"{task}{size} with {model}"


def _apart(table: Table, alike: Sequence[Table]) -> str:
    names = [
        name
        for name in table.settings
        if name != "name" and len({str(other.settings[name]) for other in alike}) > 1
    ]
    if not names:
        return f"table {1 + next(i for i, other in enumerate(alike) if other is table)}"
    return ", ".join(f"{name.replace('_', ' ')} {table.settings[name]}" for name in names)
