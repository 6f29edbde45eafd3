"""A figure of quality: what it is called, which way is better, how it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True)
class Metric:
    """A figure of quality. Shares and correlations are stored as they are and shown times 100."""

    name: str
    higher_is_better: bool = True
    is_share: bool = True
    unit: str = "%"  # behind its name in a table
    has_column: bool = False  # also where it is not the primary one: without it that one can't be read

    @property
    def facts(self) -> dict[str, Any]:
        """What a record keeps of it, so that a table needs no list of metrics."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Metric)}


OF_EVERY_TASK = "nll"
M = TypeVar("M", bound=Metric)


def chosen(given: Sequence[str | M], known: Mapping[str, M]) -> tuple[M, ...]:
    """The metrics of a task, general ones by name and its own as they are; the first is the primary one.

    Raises:
        ValueError: there is none, two have one name, one has that of the likelihood, or a name is not known.
    """
    if not given:
        raise ValueError("a task needs a metric")
    if strange := [name for name in given if isinstance(name, str) and name not in known]:
        raise ValueError(f"unknown metric {strange[0]!r}; known: {', '.join(known)}")
    found = tuple(known[one] if isinstance(one, str) else one for one in given)
    names = [metric.name for metric in found]
    if OF_EVERY_TASK in names:
        raise ValueError(
            f"every task has {OF_EVERY_TASK!r}, the negative log-likelihood an item; call the metric otherwise"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"metric {twice[0]!r} is there twice")
    return found
