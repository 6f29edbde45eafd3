"""The learning rates of a method, and which of them is chosen."""

from __future__ import annotations

import numpy as np

from peftbench.comparison.tuning import rate
from peftbench.stats.estimate import Scores
from peftbench.tables.rate_curve import RateCurve, Trial, grid

ITEMS = 200


def trial(half_decade: int, loss: float | None, noise: float = 0.0) -> Trial:
    draw = np.random.default_rng(half_decade + 100)
    losses = None
    if loss is not None:
        item = np.random.default_rng(0).normal(0, 0.3, ITEMS)
        losses = Scores.of_items({s: loss + item + draw.normal(0, noise, ITEMS) for s in (1000, 1001)})
    return Trial(half_decade, rate(1e-3, half_decade), losses, None if losses else "Diverged")


def of(losses: dict[int, float | None], noise: float = 0.0) -> RateCurve:
    trials = tuple(trial(j, losses[j], noise) for j in sorted(losses))
    return RateCurve(trials, tuple(str(i) for i in range(ITEMS)))


def test_a_larger_grid_holds_the_smaller_one() -> None:
    assert grid(5) == [0, 1, -1, 2, -2]
    assert all(set(grid(k)) < set(grid(k + 1)) for k in range(1, 8))
    assert [rate(2e-3, j) for j in (-2, -1, 0, 1, 2)] == [2e-4, 6.3e-4, 2e-3, 6.3e-3, 2e-2]


def test_the_best_is_chosen_and_within_one_error_the_centre() -> None:
    clear = of({-1: 0.9, 0: 0.6, 1: 0.5})
    assert clear.chosen is not None and clear.chosen.half_decade == 1 and clear.edge
    noisy = of({-1: 0.9, 0: 0.505, 1: 0.5}, noise=0.5)
    assert noisy.chosen is not None and noisy.chosen.half_decade == 0 and not noisy.edge


def test_a_rate_that_diverges_is_a_bad_rate() -> None:
    curve = of({-1: 0.9, 0: 0.6, 1: None})
    assert curve.chosen is not None and curve.chosen.half_decade == 0 and not curve.edge
    assert of({0: None, 1: None, -1: None}).chosen is None
    assert of({0: None, 1: None, -1: None}).next_half_decade in (-2, 2)


def test_one_more_trial_goes_to_the_own_side() -> None:
    assert of({-1: 0.9, 0: 0.6, 1: 0.5}).next_half_decade == 2
    assert of({-1: 0.5, 0: 0.6, 1: 0.9}).next_half_decade == -2
    assert of({-1: 0.8, 0: 0.5, 1: 0.7}).next_half_decade == 2  # in the middle: the better neighbour's side
    assert of({-1: 0.6, 0: 0.5, 1: 0.7}).next_half_decade == -2
