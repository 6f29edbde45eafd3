"""Which seeds of a method failed: they ran to their end and learned nothing.

One seed in three that ends at chance makes the seeds two kinds, and no interval over three of them tells how often the
other kind comes. So such a seed is found by what it ended with, and statistics over it are not to be trusted.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from .record import Record

OF_CHANCE = 0.9  # of the loss of the best constant answer: a run that ends above it learned nothing
LAST = 0.25  # of the steps, whose mean loss is the end's: single steps are noise
NEAR = 0.005  # of a share: a score that is no further above the best constant answer's is at it


def failed_seeds(records: Iterable[Record]) -> dict[int, str]:
    """Why each of these finished runs failed that did, by seed."""
    return {record.run.seed: why for record in records if (why := why_failed(record)) is not None}


def why_failed(record: Record) -> str | None:
    """Why a finished run counts as failed; None: it learned, it has no steps, or its record is older than the question."""
    losses = (record.training or {}).get("losses")
    if record.status != "ok" or not losses or record.constant is None:
        return None
    chance, same = record.constant.get("loss"), record.constant.get("score")
    end = statistics.fmean(losses[-max(1, round(LAST * len(losses))) :])
    if chance is not None and end > OF_CHANCE * chance:
        return f"its loss ends at {end:.3g}, that of the best constant answer is {chance:.3g}"
    metric = record.metric or {}
    score = (record.quality or {}).get(metric.get("name", ""))
    if score is None or same is None:
        return None
    if metric["is_share"] and metric["higher_is_better"] and same > 1 - NEAR:
        return None  # one answer to all is right everywhere: to give it is all that there is to learn
    better = score - same if metric["higher_is_better"] else same - score
    if better <= (NEAR if metric["is_share"] else 0.0):
        return f"its {metric['name']} of {score:.3g} is that of the best constant answer, {same:.3g}"
    return None
