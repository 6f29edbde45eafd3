"""Slow-downs and their intervals, against truth that is known beforehand."""

from __future__ import annotations

import numpy as np

from peftbench.stats.slowdown import slowdown


def test_intervals_of_three_processes_cover_the_truth() -> None:
    """Processes differ (memory placement), rounds drift: the interval must cover both."""
    draw, hits, none = np.random.default_rng(0), 0, 0
    for _ in range(200):
        processes = []
        for _ in range(3):
            own = draw.normal(0, 0.005)
            drift = np.exp(np.cumsum(draw.normal(0, 0.01, 40)))
            base = drift * np.exp(draw.normal(0, 0.02, 40))
            other = drift * np.exp(np.log(1.2) + own + draw.normal(0, 0.02, 40))
            processes.append((list(base), list(other)))
        low, high = slowdown(processes).interval()
        hits += low < 0.2 < high
        none += slowdown(processes).is_none(0.02)
    assert hits / 200 > 0.92 and none == 0  # 95 % nominal; binomial error of 200 is 1.5 points
    assert slowdown([([1.0] * 40, [1.0] * 40)]).interval() == (0.0, 0.0)


def test_noise_does_not_pass_for_equivalence() -> None:
    draw = np.random.default_rng(0)
    noisy = [(list(draw.lognormal(0, 0.5, 40)), list(draw.lognormal(0, 0.5, 40))) for _ in range(3)]
    assert not slowdown(noisy).is_none(0.02)
