"""What seeds can decide, against t quantiles from the book."""

from __future__ import annotations

import math

import pytest
from scipy import stats as scipy_stats

from peftbench.stats.estimate import Estimate, Part
from peftbench.stats.power import half_width_at, of_spread, seeds_for, seeds_that_decide, smallest_difference


def test_the_smallest_difference_is_the_half_width_of_the_first_test_of_holm() -> None:
    seen = [Estimate(0.1, (Part(v, 2.0),), 3) for v in (1e-4, 2e-4, 9e-4)]
    assert smallest_difference(seen) == pytest.approx(scipy_stats.t.isf(0.025 / 3, 2) * math.sqrt(2e-4))
    assert smallest_difference([]) is None
    assert smallest_difference([Estimate(0.1, (Part(1e-4, 9.0, of_items=True),), 1)]) is None  # one seed


def test_the_seeds_that_a_difference_needs() -> None:
    """Seeds that spread by half a point, one point asked for, four methods against one: t(.00625; k - 1) .707 / sqrt(k)."""
    seen = of_spread(0.5, 3)
    needed = seeds_for(seen, 1.0, 0.05 / 4)
    by_hand = next(k for k in range(2, 50) if scipy_stats.t.isf(0.00625, k - 1) * math.sqrt(0.5 / k) <= 1)
    assert needed == by_hand and seeds_for(seen, 100.0) == 2 and seeds_for(seen, 0.01) is None
    assert half_width_at(seen, 3) == pytest.approx(scipy_stats.t.isf(0.025, 2) * math.sqrt(0.5 / 3))


def test_what_items_bring_stays() -> None:
    items = Part(1e-4, 1e6, of_items=True)
    coarse = Estimate(0.02, (Part(1e-6, 2.0), items), 3)
    assert seeds_for(coarse, 0.02) is not None and seeds_for(coarse, 0.0195) is None
    assert seeds_that_decide(coarse) == 4  # more than there are
    assert seeds_that_decide(Estimate(0.0, (items,), 3)) is None
