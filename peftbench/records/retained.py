"""Scores on the tasks that a run looks at beside its own, before and after: what the difference between the two is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow

from ..stats.estimate import Groups, Scores
from .results import RETAINED, RETAINED_PSEUDO_VALUES, Result, numbers, of_blocks

MOMENTS = ("before", "after")


@dataclass(frozen=True)
class RetainedScores:
    """Of one method on one other task, by seed."""

    before: Scores
    after: Scores
    groups: Groups  # of their parts
    nll: Scores  # after minus before, item by item
    items: Groups  # of those items


@dataclass(frozen=True)
class _Look:
    """What one run tells of the task."""

    told: dict[str, Any]  # in its record
    items: pyarrow.Table
    blocks: pyarrow.Table  # none where the metric is a mean over items, or all of them are of one group


def retained_scores(
    placed: Sequence[tuple[Result, int]], metric: str, seeds: Sequence[int]
) -> RetainedScores | None:
    """The scores of the runs of one method; one that does not depend on the seed stands for all of `seeds`. None: nothing tells.

    Args:
        placed: the runs, each with the task's place in its `Run.retain`.
        metric: the task's primary one.
    """
    looks = {r.record.run.seed: look for r, place in placed if (look := _look(r, place)) is not None}
    if not looks:
        return None
    if placed[0][0].seedless:
        looks = dict.fromkeys(seeds or looks, next(iter(looks.values())))
    order = sorted(looks)
    first = looks[order[0]]
    groups = of_items = Groups.of(numbers(first.items, "group"))
    found = {}
    for moment in MOMENTS:
        values = [looks[seed].told[moment][metric] for seed in order]
        if not np.isnan(numbers(first.items, f"score_{moment}")).any():
            parts = [numbers(looks[seed].items, f"score_{moment}") for seed in order]
        elif len(first.blocks):
            parts = [numbers(looks[seed].blocks, moment) for seed in order]
        else:  # the seeds alone speak
            parts = [np.full(len(first.items), value) for value in values]
        found[moment] = Scores(
            tuple(order), np.stack(parts).astype(np.float64), np.asarray(values, np.float64)
        )
    if len(first.blocks):
        groups = of_blocks(numbers(first.blocks, "block"), groups)
    nll = {s: numbers(its.items, "nll_after") - numbers(its.items, "nll_before") for s, its in looks.items()}
    return RetainedScores(found["before"], found["after"], groups, Scores.of_items(nll), of_items)


def _look(result: Result, place: int) -> _Look | None:
    told = (result.record.retained or [])[place : place + 1]
    items, blocks = (result.table(name) for name in (RETAINED, RETAINED_PSEUDO_VALUES))
    if not told or items is None or blocks is None:
        return None
    return _Look(told[0], _of_task(items, place), _of_task(blocks, place))


def _of_task(table: pyarrow.Table, place: int) -> pyarrow.Table:
    return table.filter(pyarrow.array(numbers(table, "task") == place))
