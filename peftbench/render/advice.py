"""Advice as a few lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..stats.estimate import Estimate
from ..stats.power import seeds_that_decide
from ..tables.advice import Advice
from ..tables.quantities import STORED
from ..tables.table import Row
from .columns import score, with_interval
from .in_words import why_untested


def advice_text(advice: Sequence[Advice]) -> str:
    """A few lines for each table."""
    return "\n".join(_one(item) for item in advice)


def _one(item: Advice) -> str:
    table = item.table
    percent = 100.0 if table.is_share else 1.0
    unit = f" {table.unit}" if table.unit else ""
    lines = [f"{table.task} with {table.model}, by {table.metric}{unit}. {table.caption}"]
    good = [row for row in (item.left.rows if item.left else ()) if row.score is not None]
    best = [row for row in good if row.mark] or good  # where nothing is marked, nothing was tested
    if not good:
        lines.append("  no method is inside the limits")
    elif len(good) == 1:
        lines.append(f"  use {good[0].label}: {_shown(good[0], percent)}, the only one inside the limits")
    elif item.left is not None and not any(row.mark for row in good):
        lines.append(
            f"  {why_untested(item.left, good)}; they are {', '.join(_shown(row, percent) for row in good)}"
        )
    elif len(best) == 1:
        lines.append(
            f"  use {best[0].label}: {score(best[0], percent).text}, better than every other one inside the limits"
        )
    else:
        lines.append(
            f"  these can't be told from the best: {', '.join(_shown(row, percent) for row in _by_cost(best))}"
        )
        lines.append(
            f"  the cheapest of them to store is {_by_cost(best)[0].label}; {_decides(item.undecided, percent, len(good) - 1)}"
        )
    others = [row for row in good if row not in best]
    if others:
        lines.append(f"  behind: {', '.join(_shown(row, percent) for row in others)}")
    lines += [f"  beyond a limit, or without a result: {what}" for what in item.excluded]
    lines += [f"  not measured, so not judged: {what}" for what in item.unknown]
    return "\n".join(lines) + "\n"


def _shown(row: Row, percent: float) -> str:
    assert row.score is not None
    return f"{row.label} {with_interval(row.score, percent, sign='')}"


def _by_cost(rows: Sequence[Row]) -> list[Row]:
    stored = {row.label: row.costs.of(STORED) for row in rows}
    return sorted(rows, key=lambda row: math.inf if (size := stored[row.label]) is None else size)


def _decides(difference: Estimate | None, percent: float, others: int) -> str:
    """How many seeds would tell the two that stand furthest apart, if any would."""
    if difference is None or difference.value == 0:
        return "nothing tells them apart"
    said = f"the furthest apart differ by {with_interval(difference, percent, sign='')}"
    needed = seeds_that_decide(difference, 2 * difference.alpha / others)  # as the best set is formed
    if needed is None:
        return f"{said}, which more seeds alone would not resolve on these items"
    return f"{said}: about {needed} seeds would resolve that, if it stayed"
