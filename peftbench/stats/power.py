"""What a number of seeds can decide, and how many a question needs.

A difference passes a test where it reaches the interval's half-width at the level that the number of comparisons leaves:
Holm's method tests the largest of m at alpha / m. What seeds bring to the variance shrinks with their number, and its
degrees of freedom grow; what the test items bring stays.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from . import weighted_t
from .estimate import ALPHA, Estimate, Part

MOST_SEEDS = 50  # beyond it more seeds are no advice


def half_width_at(seen: Estimate, seeds: int, alpha: float = ALPHA) -> float | None:
    """Half of the interval that so many seeds would give, if seeds and items varied as they were seen to."""
    if seen.parts is None or not seen.decides:
        return None
    parts = [
        (part.variance, part.df)
        if part.of_items
        else (part.variance * seen.seeds / seeds, part.df * (seeds - 1) / (seen.seeds - 1))
        for part in seen.parts
    ]
    return float(weighted_t.half_width(parts, alpha))


def seeds_for(seen: Estimate, difference: float, alpha: float = ALPHA) -> int | None:
    """The fewest seeds, 2 or more, at which a difference of this size passes; None where not before `MOST_SEEDS`."""
    for seeds in range(2, MOST_SEEDS + 1):
        half = half_width_at(seen, seeds, alpha)
        if half is not None and half <= abs(difference):
            return seeds
    return None


def seeds_that_decide(seen: Estimate, alpha: float = ALPHA) -> int | None:
    """At how many seeds, more than there are, a difference would pass if it stayed; None where not before `MOST_SEEDS`."""
    needed = None if seen.value == 0 else seeds_for(seen, seen.value, alpha)
    return None if needed is None else max(needed, seen.seeds + 1)


def smallest_difference(seen: Sequence[Estimate], alpha: float = ALPHA) -> float | None:
    """From which size on one of these differences passes Holm's method, at their median spread; None where nothing can."""
    halves = [h for one in seen if one.decides and (h := one.half_width(alpha / len(seen))) is not None]
    return statistics.median(halves) if halves else None


def of_spread(spread: float, seeds: int) -> Estimate:
    """A difference of 0 between two methods whose seeds spread by this standard deviation, test items left aside."""
    return Estimate(0.0, (Part(2 * spread**2 / seeds, seeds - 1.0),), seeds)
