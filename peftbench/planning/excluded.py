"""Which planned runs a suite leaves out: by any name of a method or task, and by the values of its fields, be they defaults."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

from .. import spec
from ..comparison.exclusion import Exclusion
from ..plugins import registry
from ..records.runs import Planned
from .places import spelled


def marked(planned: Iterable[Planned], exclusions: Sequence[Exclusion]) -> list[Planned]:
    """The same runs, each with the numbers of the exclusions that mean it.

    Raises:
        UsageError: an exclusion names what does not exist.
    """
    if not exclusions:
        return list(planned)
    is_of = functools.cache(_is_of)
    models = [None if one.model is None else spelled(one.model) for one in exclusions]
    found = []
    for item in planned:
        meant = (
            number
            for number, (one, model) in enumerate(zip(exclusions, models, strict=True))
            if model in (None, item.run.model)
            and is_of("method", item.run.method, one.method)
            and is_of("task", item.run.task, one.task)
        )
        found.append(dataclasses.replace(item, left_out=tuple(meant)))
    return found


def _is_of(kind: str, text: str, wanted: str | None) -> bool:
    """Whether setting the fields that `wanted` names would change nothing."""
    if wanted is None:
        return True
    mine, its = spec.parse(text), spec.parse(wanted)
    entry = registry.get(kind, mine.name)
    if entry.name != registry.get(kind, its.name).name:
        return False
    so = spec.Spec(mine.name, tuple({**dict(mine.fields), **dict(its.fields)}.items()))
    return bool(spec.build(so, entry.target, kind) == spec.build(mine, entry.target, kind))
