"""What tables are called where several stand in one place: task and model, and what else tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..records.setting import Setting
from .table import Table


def titles_of(tables: Sequence[Table]) -> list[str]:
    """A title each; those that would be alike name the settings in which they differ."""
    short = [title_of(t.task, t.setting.budget.train_items, t.model) for t in tables]
    apart = told_apart([(title, described(t.setting)) for title, t in zip(short, tables, strict=True)])
    return [f"{title}, {said}" if said else title for title, said in zip(short, apart, strict=True)]


def title_of(task: str, train_items: int | None, model: str) -> str:
    """A task with a model, and from how many training items where it was not all."""
    size = "" if train_items is None else f" ({train_items:,} training items)"
    return f"{task}{size} with {model}"


def told_apart(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """For each of some things, in words, where what is known of it differs from those of the same name; empty where it is alone."""
    found = []
    for place, (name, own) in enumerate(named):
        alike = [other for its, other in named if its == name]
        names = [key for key in own if len({str(other[key]) for other in alike}) > 1]
        said = ", ".join(f"{key} {_written(own[key])}" for key in names)
        if not names and len(alike) > 1:
            said = f"no. {1 + sum(its == name for its, _ in named[:place])}"
        found.append(said)
    return found


def described(setting: Setting) -> dict[str, Any]:
    """By its name for a reader, all that tells settings apart beside model and task."""
    budget = {name: value for name, value in setting.budget.__dict__.items() if name != "name"}
    versions = {f"{name} version": text for name, text in setting.versions().items()}
    return {
        name.replace("_", " "): value
        for name, value in {**setting.conditions(), **budget, **versions}.items()
    }


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
