"""What a table shows, in one or two sentences: what its marks say, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Sequence

from ..stats.estimate import ALPHA
from ..tables.table import MARGIN, Row, Table


def in_words(table: Table) -> str:
    """Which rows are best, which can't be told apart, which are worse; empty where there is nothing to compare."""
    judged = [row for row in table.rows if row.score is not None and row.sound]
    left_out = [row for row in table.rows if row.score is not None and not row.sound]
    said = [_of_judged(table, judged)] if len(judged) > 1 else []
    if left_out and said:
        said.append(f"Not judged: {_and(left_out)}, because a check fails or seeds learned nothing.")
    return " ".join(filter(None, said))


def _of_judged(table: Table, rows: Sequence[Row]) -> str:
    by_mark = {mark: [row for row in rows if row.mark == mark] for mark in ("best", "equivalent", "open", "")}
    if not any(by_mark[mark] for mark in ("best", "equivalent", "open")):
        why = why_untested(table, rows)
        return f"{why[0].upper()}{why[1:]}."
    if by_mark["best"]:
        return f"{_and(by_mark['best'])} is shown to be the best of these {len(rows)} in {table.metric}."
    within = f"to the top within {MARGIN * 100:g} point" if table.is_share else "exactly"
    equal, unclear, worse = by_mark["equivalent"], by_mark["open"], by_mark[""]
    parts = []
    if len(equal) > 1:
        parts.append(f"{_and(equal)} are among the best and equal {within}")
    if unclear:
        others = [*(equal if len(equal) == 1 else []), *unclear]
        if len(equal) > 1:
            parts.append(f"{_and(others)} can't be told from the best with these seeds and items")
        elif _by_p_alone(table, others):
            parts.append(f"each of {_and(others)} may be the best, as far as these seeds and items tell")
        else:
            parts.append(f"{_and(others)} can't be told apart with these seeds and items")
    if worse:
        parts.append(f"{_and(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse")
    return f"In {table.metric}, {'; '.join(parts)}.{_by_p_alone(table, [*equal, *unclear])}"


def _by_p_alone(table: Table, among_the_best: Sequence[Row]) -> str:
    """Of rows that are not shown to be worse than the best of all, those whose p says that they differ from the reference."""
    differ = [row for row in among_the_best if row.p_holm is not None and row.p_holm <= ALPHA]
    if not differ:
        return ""
    one = len(differ) == 1
    return (
        f" By its p, {_and(differ)} differs from {table.reference}"
        if one
        else f" By their p, {_and(differ)} differ from {table.reference}"
    ) + ": p compares with that one alone, and the best set all pairs, which asks for more."


def why_untested(table: Table, rows: Sequence[Row]) -> str:
    """Why none of several rows of a table could be tested against another."""
    if any(paired.one_group for paired in table.pairwise.values()):
        return "all test items are in one group, which can't show a difference between methods on others"
    if max(row.seeds_good for row in rows) < 2:
        return "one seed can't show a difference between methods: run it with --seeds 3 or more"
    return "no two methods have two seeds in common, which could show a difference: run them with the same --seeds"


def _and(rows: Sequence[Row]) -> str:
    names = [row.label for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
