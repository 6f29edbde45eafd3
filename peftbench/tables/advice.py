"""Which method should one use? Those inside the user's limits, and of them the ones that are best or tied, with the evidence.

The best set is formed anew among the methods that are left. Where the runs can't decide, it is said, with how many seeds would:
an interval shrinks with the root of the seeds as far as it comes from them, and from the items not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..records.results import Result
from ..stats.estimate import Estimate
from .quantities import limited
from .table import Row, Table
from .tabulate import tables_of

REPORTED = "training"
Limits = Mapping[str, float]  # by the name of a measure, the most of it in the unit that it is kept in


@dataclass(frozen=True)
class Advice:
    """What can be said on one table."""

    table: Table  # of every method
    left: Table | None  # of the methods inside the limits; None where there is none
    excluded: tuple[str, ...]  # with the figure that is too large
    unknown: tuple[str, ...]  # whose figure was not measured
    undecided: Estimate | None  # the difference of the two of the best set that stand furthest apart


def limits_of(words: Mapping[str, str | None]) -> Limits:
    """Limits from the words of the command line, by the name of their measure: `16GB`, `2%`, `1,000,000`.

    Raises:
        UsageError: one is no such number.
    """
    known = limited()
    return {
        name: known[name][1].read(known[name][1].option, text)
        for name, text in words.items()
        if text is not None
    }


def advise_on(results: Iterable[Result], baseline: str, allowed: Limits) -> list[Advice]:
    """The advice on each table of some results."""
    found = list(results)
    advice = []
    for table in tables_of(found, baseline):
        excluded, unknown, left = [], [], set()
        for row in table.rows:
            why, lacking = _beyond(row, allowed)
            if row.score is None:
                excluded.append(f"{row.label}: {row.status}")
            elif row.failed_checks:
                excluded.append(f"{row.label}: fails its check {row.failed_checks[0].name!r}")
            elif row.failed_seeds:
                excluded.append(f"{row.label}: {len(row.failed_seeds)} of {row.seeds_good} seeds failed")
            elif why:
                excluded.append(f"{row.label}: {', '.join(why)}")
            elif lacking:
                unknown.append(f"{row.label}: {', '.join(lacking)}")
            else:
                left.add((row.method, row.learning_rate))
        ours = [r for r in found if r.record.run.kind != REPORTED or _who(r) in left]
        again = (
            next((t for t in tables_of(ours, baseline) if t.setting == table.setting), None) if left else None
        )
        closest = None if again is None else _furthest(again)
        if again is not None:  # what a row is called hangs on the rates beside it
            names = {(row.method, row.learning_rate): row.label for row in table.rows}
            rows = tuple(replace(row, label=names[row.method, row.learning_rate]) for row in again.rows)
            again = replace(again, rows=rows)
        advice.append(Advice(table, again, tuple(excluded), tuple(unknown), closest))
    return advice


def _furthest(table: Table) -> Estimate | None:
    """The paired difference of the best and the last of the best set."""
    best = sorted(
        (row for row in table.rows if row.mark), key=lambda row: row.score.value if row.score else 0.0
    )
    return table.pairwise.get((best[-1].label, best[0].label)) if len(best) > 1 else None


def _who(result: Result) -> tuple[str, float | None]:
    return result.record.run.method, result.record.run.learning_rate or None


def _beyond(row: Row, allowed: Limits) -> tuple[list[str], list[str]]:
    """Which limits a row exceeds, and for which its figure is not known."""
    why, lacking = [], []
    for name, (measure, _) in limited().items():
        most, figure = allowed.get(name), row.costs.of(measure)
        if most is None:
            continue
        if figure is None:
            lacking.append(measure.label)
        elif figure > most:
            why.append(f"{measure.label} {measure.with_unit(figure)}, above {measure.with_unit(most)}")
    return why, lacking
