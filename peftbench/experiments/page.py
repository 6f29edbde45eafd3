"""Experiments: what one is asked, what it gives back, and when a statement of a paper counts as shown.

A statement is tested from both sides. Holm's correction is over all statements of one page; the side that is then below .05
decides: confirmed or contradicted; else it is undecided, which is a good answer. What is counted and not sampled is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.protocol import Engine
from ..render.columns import Cell
from ..stats.estimate import ALPHA, Estimate, holm

CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "contradicted", "undecided"
NOT_TESTABLE = "not testable here"
Sides = tuple[float | None, float | None]  # p_true and p_false of a `Statement`


@dataclass(frozen=True)
class Asked:
    """What an experiment is given."""

    scale: str  # one of SCALES: model, data and budget
    store: Path  # runs that are there are not done again
    engine: Engine  # does the others
    data_dir: str | None = None  # a folder of published data sets
    model: str | None = None  # in place of the scale's own
    dtype: str | None = None  # of the compute, in place of the experiment's own
    say: Callable[[str], None] = lambda text: None  # progress


@dataclass(frozen=True)
class Statement:
    """One statement of the paper with its test."""

    says: str  # the paper's statement, in our words, with its place
    test: str  # what would confirm and what would contradict it
    evidence: str  # the figures
    p_true: float | None  # of the data if it were not so: small confirms. None: not testable here
    p_false: float | None  # of the data if it were so: small contradicts


@dataclass(frozen=True)
class PageTable:
    """A table of a page."""

    title: str
    headers: tuple[str, ...]
    body: tuple[tuple[Cell, ...], ...]
    left: int = 1  # columns that stand to the left


@dataclass(frozen=True)
class Picture:
    """A figure of a page."""

    title: str
    svg: str


@dataclass(frozen=True)
class Page:
    """What an experiment found."""

    title: str
    caption: str  # model, data, budget and machine
    tables: tuple[PageTable, ...]
    statements: tuple[Statement, ...]
    differs: tuple[str, ...]  # from the paper's setting
    pictures: tuple[Picture, ...] = ()

    @property
    def how_judged(self) -> str:
        """What a reader of the verdicts needs to know."""
        tested = sum(one.p_true is not None and one.p_false is not None for one in self.statements)
        return (
            f"A verdict needs a p below {ALPHA:g} after Holm's correction over the {tested} statements tested here, so an interval alone "
            "can look decided where its statement is not."
        )

    @property
    def verdicts(self) -> list[str]:
        return verdicts_of(self.statements)


def verdicts_of(statements: Sequence[Statement], alpha: float = ALPHA) -> list[str]:
    """The verdict of each."""
    sides = [(s.p_true, s.p_false) for s in statements if s.p_true is not None and s.p_false is not None]
    adjusted = iter(holm([min(both) for both in sides]))  # only one of the two can be an error
    found = []
    for one in statements:
        if one.p_true is None or one.p_false is None:
            found.append(NOT_TESTABLE)
        elif next(adjusted) > alpha:
            found.append(UNDECIDED)
        else:
            found.append(CONFIRMED if one.p_true < one.p_false else CONTRADICTED)
    return found


def exactly(true: bool) -> tuple[float, float]:
    """`p_true` and `p_false` of what is counted."""
    return (0.0, 1.0) if true else (1.0, 0.0)


def above(estimate: Estimate, limit: float) -> Sides:
    """`p_true` and `p_false` of the statement that a mean lies above a limit: an end of its 95 % interval decides."""
    p = _p_above(estimate, limit)
    return (None, None) if p is None else (min(1.0, 2 * p), min(1.0, 2 * (1 - p)))


def inside(estimate: Estimate, margin: float) -> Sides:
    """The same of the statement that a mean lies within +-margin.

    Confirmed where the 90 % interval lies inside, which is two one-sided tests; contradicted where the 95 % interval lies beyond
    one of the ends.
    """
    turned = replace(estimate, value=-estimate.value)
    low, high = _p_above(estimate, -margin), _p_above(turned, -margin)
    if low is None or high is None:
        return None, None
    return max(low, high), min(1.0, 2 * min(1 - low, 1 - high))


def picked(sides: Sides, confirms: int = 1, contradicts: int = 1) -> Sides:
    """Both sides where one of the two things compared is the best of so many on the very scores that test it (Bonferroni).

    Args:
        confirms: how many it was picked from, where picking helps to confirm.
        contradicts: the same where it helps to contradict.
    """
    p_true, p_false = sides
    if p_true is None or p_false is None:
        return sides
    return min(1.0, confirms * p_true), min(1.0, contradicts * p_false)


def _p_above(estimate: Estimate, limit: float) -> float | None:
    """One-sided p of the data if the mean were at the limit or below; None where there is no spread to tell."""
    return replace(estimate, value=estimate.value - limit).p_above_zero()
