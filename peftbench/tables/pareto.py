"""The measures that plots put on their axes, with intervals, and which methods are on the front of any two.

A method is on the front when no other is at least as good in both measures and better in one. With uncertainty that has three answers: surely
on it (each other one is shown to be worse in one of the two), surely off it (some other one is shown to be better in one and not worse in the
other), or maybe. Scores of two methods are compared by their paired difference, which is sharper than two intervals beside each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .axes import Axis
from .quantities import SCORE
from .table import Table

SURELY, MAYBE, OFF = "surely", "maybe", "off"


def front(table: Table, x: Axis, y: Axis) -> list[str | None]:
    """For each row whether it is on the front: `surely`, `maybe` or `off`; None where it lacks one of the two, or is not sound."""
    return fronts(table, (x, y))[x.name, y.name]


def fronts(table: Table, axes: Sequence[Axis]) -> dict[tuple[str, str], list[str | None]]:
    """The front of every two axes, in the order given."""
    shown = {axis.name: _shown(table, axis) for axis in axes}
    sound = [i for i, row in enumerate(table.rows) if row.sound]
    return {
        (x.name, y.name): _front(x, y, shown[x.name], shown[y.name], sound)
        for x, y in itertools.combinations(axes, 2)
    }


def _front(x: Axis, y: Axis, by_x: _Shown, by_y: _Shown, sound: Sequence[int]) -> list[str | None]:
    have = [i for i in sound if x.values[i] is not None and y.values[i] is not None]
    found: list[str | None] = [None] * len(x.values)
    for i in have:
        others = [j for j in have if j != i]
        # Shown to be better than i in one measure and not worse in the other.
        if any(
            (by_x.worse[i][j] and by_y.not_worse[j][i]) or (by_y.worse[i][j] and by_x.not_worse[j][i])
            for j in others
        ):
            found[i] = OFF
        elif all(by_x.worse[j][i] or by_y.worse[j][i] for j in others):
            found[i] = SURELY
        else:
            found[i] = MAYBE
    return found


@dataclass(frozen=True)
class _Shown:
    """What a measure shows of every two rows, (rows, rows): that the first is worse, and that it is not."""

    worse: list[list[bool]]
    not_worse: list[list[bool]]


def _shown(table: Table, axis: Axis) -> _Shown:
    rows = range(len(table.rows))
    gaps = [[_gap(table, axis, i, j) for j in rows] for i in rows]
    return _Shown(
        [[gap is not None and gap[1] < 0 for gap in line] for line in gaps],
        [[gap is not None and gap[0] >= 0 for gap in line] for line in gaps],
    )


def _gap(table: Table, axis: Axis, i: int, j: int) -> tuple[float, float] | None:
    """Between which two numbers row i is better than row j; None where that is not known."""
    sign = 1.0 if axis.higher_is_better else -1.0
    if axis.name == SCORE:
        paired = table.pairwise.get((table.rows[i].label, table.rows[j].label))
        if paired is not None:
            half = paired.half_width() if paired.decides else None
            return None if half is None else (sign * paired.value - half, sign * paired.value + half)
    one, other = axis.values[i], axis.values[j]
    if one is None or other is None or None in (one.low, one.high, other.low, other.high):
        return None
    ends = (sign * (one.low - other.high), sign * (one.high - other.low))  # type: ignore[operator]
    return min(ends), max(ends)
