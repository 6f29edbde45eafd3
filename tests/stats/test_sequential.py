"""Seeds added in looks: what each may spend, and that the rate of errors is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peftbench.stats.estimate import ALPHA, Groups, estimate
from peftbench.stats.sequential import SeedSchedule

from ..support.estimate import by_seed


def test_looks_spend_no_more_than_alpha() -> None:
    rule = SeedSchedule(1.0, first=3, cap=12)
    assert rule.looks() == [3, 5, 8, 12]
    assert [rule.next_look(k) for k in (3, 5, 8, 12)] == [5, 8, 12, None]
    assert sum(rule.alpha(k) for k in rule.looks()) == pytest.approx(ALPHA)
    assert SeedSchedule(1.0, first=5, cap=5).looks() == [5] and SeedSchedule(1.0, 5, 5).alpha(
        5
    ) == pytest.approx(0.05)


def test_stopping_when_it_pleases_keeps_the_error_rate() -> None:
    """No true difference; stop at the first look that is significant: at most 5 % of 600 tries, within their noise."""
    draw, rule = np.random.default_rng(3), SeedSchedule(0.1, 3, 12)
    groups = Groups.of([str(i) for i in range(60)])
    wrong = naive = 0
    for _ in range(600):
        difference = draw.normal(0, 0.3, 60) + draw.normal(0, 0.05, (12, 1)) + draw.normal(0, 0.1, (12, 60))
        looks = [(k, estimate(by_seed(difference[:k]), groups)) for k in rule.looks()]
        wrong += any(abs(one.value) >= (one.half_width(rule.alpha(k)) or 0) for k, one in looks)
        naive += any(abs(one.value) >= (one.half_width() or 0) for _, one in looks)
    assert wrong / 600 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)
    assert naive > wrong
