"""Which method should one use? Those inside the user's limits, and of them the ones that are best or tied, with the evidence.

The best set is formed anew among the methods that are left. Where the runs can't decide, it is said, with how many seeds would:
an interval shrinks with the root of the seeds as far as it comes from them, and from the items not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..records.results import Result, method_scores
from ..records.setting import setting_of
from ..stats.estimate import Estimate, estimate
from .table import Row, Table
from .tabulate import tables_of

REPORTED = "training"
UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Limits:
    """What a method may cost at most; None: anything."""

    peak_bytes: float | None = None  # of training, as the meter of the device counts it
    slowdown: float | None = None  # share, merged where a method merges, in the worst cell of the grid
    stored_bytes: float | None = None
    trained: float | None = None  # numbers


ANYTHING = Limits()


@dataclass(frozen=True)
class Advice:
    """What can be said on one table."""

    table: Table  # of every method
    left: Table | None  # of the methods inside the limits; None where there is none
    excluded: tuple[str, ...]  # with the figure that is too large
    unknown: tuple[str, ...]  # whose figure was not measured
    undecided: Estimate | None  # the difference of the two of the best set that stand furthest apart


def limits_of(vram: str | None, slowdown: str | None, stored: str | None, trained: str | None) -> Limits:
    """Limits from the words of the command line: `16GB`, `2%`, `10MB`, `1000000`.

    Raises:
        UsageError: one is no such number.
    """
    return Limits(
        peak_bytes=None if vram is None else _bytes("--max-vram", vram),
        slowdown=None if slowdown is None else _share("--max-slowdown", slowdown),
        stored_bytes=None if stored is None else _bytes("--max-stored", stored),
        trained=None if trained is None else _number("--max-trained", trained.replace(",", "")),
    )


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
        closest = None if again is None else _furthest(again, ours)
        advice.append(Advice(table, again, tuple(excluded), tuple(unknown), closest))
    return advice


def _furthest(table: Table, results: Sequence[Result]) -> Estimate | None:
    """The paired difference of the best and the last of the best set."""
    best = sorted(
        (r for r in table.rows if r.mark and r.score), key=lambda r: r.score.value if r.score else 0.0
    )
    if len(best) < 2:
        return None
    of = {
        row.method: [r for r in results if _reported(r, table) and _who(r) == (row.method, row.learning_rate)]
        for row in best
    }
    seeds = sorted(
        {r.record.run.seed for its in of.values() for r in its if r.record.status == "ok" and not r.seedless}
    )
    last, first = (method_scores(of[row.method], seeds) for row in (best[0], best[-1]))
    if last is None or first is None:
        return None
    difference = first.figures[table.metric].minus(last.figures[table.metric])
    return None if difference is None else estimate(difference, first.groups[table.metric])


def _who(result: Result) -> tuple[str, float | None]:
    return result.record.run.method, result.record.run.learning_rate or None


def _reported(result: Result, table: Table) -> bool:
    """Whether it is one of the runs that the table reports."""
    return result.record.run.kind == REPORTED and setting_of(result.record.run) == table.setting


def _beyond(row: Row, allowed: Limits) -> tuple[list[str], list[str]]:
    """Which limits a row exceeds, and for which its figure is not known."""
    cells = (cell.merged or cell.unmerged for cell in row.costs.latency)
    slow = [slowdown.value for slowdown in cells if slowdown is not None]
    figures: list[tuple[str, float | None, float | None, Callable[[float], str]]] = [
        ("train peak", row.costs.train_peak_bytes, allowed.peak_bytes, lambda n: f"{n / 1e6:,.0f} MB"),
        ("slow-down", max(slow) if slow else None, allowed.slowdown, lambda n: f"{n:+.1%}"),
        ("stored", row.costs.stored_bytes, allowed.stored_bytes, lambda n: f"{n / 1e3:,.0f} kB"),
        ("trained", row.costs.adapter_parameters, allowed.trained, lambda n: f"{n:,.0f}"),
    ]  # fmt: skip
    why, lacking = [], []
    for name, value, most, said in figures:
        if most is None:
            continue
        if value is None:
            lacking.append(name)
        elif value > most:
            why.append(f"{name} {said(value)}, above {said(most)}")
    return why, lacking


def _bytes(option: str, text: str) -> float:
    found = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", text)
    if found is None or found[2].lower() not in UNITS:
        raise UsageError(f"{option} {text!r} is no size; write it as in 16GB or 500MB")
    return _number(option, found[1]) * UNITS[found[2].lower()]


def _share(option: str, text: str) -> float:
    if not text.strip().endswith("%"):
        raise UsageError(f"{option} {text!r} is no share; write it as in 2%")
    return _number(option, text.strip()[:-1]) / 100


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0 or math.isinf(value):
        raise UsageError(f"{option} {text!r} is no number above 0")
    return value
