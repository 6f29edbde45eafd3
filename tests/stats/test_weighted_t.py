"""Intervals and p-values from several variances, each with its degrees of freedom."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from peftbench.stats.weighted_t import half_width, p_two_sided


def test_one_part_is_students_t() -> None:
    assert half_width([(4.0, 2.0)], 0.05) == pytest.approx(2 * scipy_stats.t.isf(0.025, 2))
    assert p_two_sided(3.0, [(4.0, 2.0)]) == pytest.approx(2 * scipy_stats.t.sf(1.5, 2))
    assert p_two_sided(0.0, [(0.0, 2.0)]) == 1.0 and p_two_sided(0.1, [(0.0, 2.0)]) == 0.0


def test_an_interval_excludes_0_where_p_says_so() -> None:
    parts = [(1.0, 2.0), (0.5, 400.0)]
    for alpha in (0.5, 0.05, 0.002, 1e-6):
        edge = half_width(parts, alpha)
        assert p_two_sided(edge, parts) == pytest.approx(alpha) == p_two_sided(-edge, parts)
    squares = scipy_stats.t.isf(0.025, 2) ** 2 + 0.5 * scipy_stats.t.isf(0.025, 400) ** 2
    assert half_width(parts, 0.05) ** 2 == pytest.approx(squares)
    assert p_two_sided(0.0, parts) == 1.0 and p_two_sided(math.inf, parts) == 0.0
    assert p_two_sided(1.0, []) == 0.0 and p_two_sided(0.0, []) == 1.0 and half_width([], 0.05) == 0


def test_it_errs_no_more_than_it_says_wherever_the_variance_comes_from() -> None:
    """Tests at .002, as of 25 methods, on 3 seeds: 200,000 draws at each share of the seeds in the variance."""
    draw = np.random.default_rng(0)
    for share in (0.02, 0.2, 0.5, 0.9, 0.99):
        seen = share * draw.chisquare(2, 200_000) / 2
        error = draw.standard_normal(200_000)
        wrong = np.mean(np.abs(error) > half_width([(seen, 2.0), (1 - share, 499.0)], 0.002))
        assert wrong <= 0.0024, share


@pytest.mark.parametrize("df", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("distance", [0.1, 0.27, 0.272, 0.5, 0.9])
def test_a_p_value_far_out_in_the_tail_is_found(distance: float, df: float) -> None:
    """Seeds that tie exactly, at the ceiling say, leave the items' variance alone: 27 of its roots are p below 1e-160."""
    p = p_two_sided(distance, [(0.0, df), (1e-4, 1e5)])
    assert p == pytest.approx(max(1e-290, 2 * scipy_stats.t.sf(distance / 0.01, 1e5)), rel=1e-6)
