"""The statistics against closed forms and against a small simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from peftbench.stats.estimate import (
    Scores,
    after_warmup,
    best_set_marks,
    estimate,
    holm,
    paired_estimates,
)

from ..support.estimate import by_seed


def test_one_seed_and_items_alone_is_the_t_interval_of_a_mean() -> None:
    scores = np.array([[0.0, 1.0, 1.0, 1.0, 0.0, 1.0]])
    found = estimate(by_seed(scores), list("abcdef"))
    low, high = scipy_stats.t.interval(0.95, 5, scores.mean(), scipy_stats.sem(scores[0]))
    assert found.half_width() == pytest.approx((high - low) / 2)
    assert found.df == pytest.approx(5)
    assert found.p_two_sided() is None  # never a test on items alone


def test_one_item_and_seeds_alone_is_the_t_interval_over_seeds() -> None:
    scores = np.array([[1.0], [2.0], [4.0]])
    found = estimate(by_seed(scores), ["only"])
    assert found.variance == pytest.approx(np.var([1, 2, 4], ddof=1) / 3) and found.df == 2
    t = (7 / 3) / math.sqrt(found.variance or 0)
    assert found.p_two_sided() == pytest.approx(2 * scipy_stats.t.sf(t, 2))


def test_one_seed_and_one_item_leave_nothing_to_say() -> None:
    found = estimate(by_seed(np.array([[1.0]])), ["only"])
    assert found.half_width() is None and found.p_two_sided() is None


def test_variances_add_and_df_are_satterthwaites() -> None:
    scores = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
    found = estimate(by_seed(scores), ["f", "f", "g", "h"])
    v1 = np.var([0.75, 0.5, 0.5], ddof=1) / 3
    e = scores.mean(0) - scores.mean()
    v2 = 3 / 2 * ((e[0] + e[1]) ** 2 + e[2] ** 2 + e[3] ** 2) / 16
    assert found.variance == pytest.approx(v1 + v2)
    assert found.df == pytest.approx((v1 + v2) ** 2 / (v1**2 / 2 + v2**2 / 2))


def test_holm_equals_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def made(mean: float, seed: int, noise: float = 0.0, items: int = 400) -> Scores:
    """Scores of 3 seeds with a shared item difficulty and a seed effect."""
    own = np.random.default_rng(seed)
    difficulty = np.random.default_rng(0).normal(0, 0.3, items)
    return by_seed(mean + difficulty + own.normal(0, noise, (3, 1)) + own.normal(0, 0.05, (3, items)))


def marks(scores: list[Scores], higher_is_better: bool) -> list[str]:
    groups = [str(i) for i in range(400)]
    return best_set_marks(scores, paired_estimates(scores, groups), higher_is_better, 0.01)


def test_marks_of_the_best_set() -> None:
    alone = marks([made(0.8, 1), made(0.7, 2), made(0.6, 3)], True)
    assert alone == ["best", "", ""]
    equal = marks([made(0.8, 1), made(0.801, 2), made(0.6, 3)], True)
    assert equal == ["equivalent", "equivalent", ""]
    noisy = marks([made(0.8, 1), made(0.79, 7, noise=0.1), made(0.6, 3)], True)
    assert noisy[:2] == ["open", "open"] and noisy[2] == ""
    lower = marks([made(0.8, 1), made(0.7, 2)], False)
    assert lower == ["", "best"]
    first = [by_seed(made(0.8, 1).parts[:1]), by_seed(made(0.7, 2).parts[:1])]
    assert marks(first, True) == ["", ""]


def test_coverage_and_false_positives_by_simulation() -> None:
    """Crossed seeds and grouped items, 3 and 3 seeds: a nominal 95 % interval covers 92 to 99 %; 600 repetitions."""
    draw = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 5).astype(str)
    covered = positive = 0
    for _ in range(600):
        item = np.repeat(draw.normal(0, 0.3, 40), 5) + draw.normal(0, 0.3, 200)
        a = item + draw.normal(0, 0.02, (3, 1)) + draw.normal(0, 0.2, (3, 200))
        b = item + draw.normal(0, 0.02, (3, 1)) + draw.normal(0, 0.2, (3, 200))
        one, difference = estimate(by_seed(a), groups), estimate(by_seed(a - b), groups)
        covered += abs(one.value) <= (one.half_width() or 0)
        positive += (difference.p_two_sided() or 1) < 0.05
    assert 0.92 <= covered / 600 <= 0.99
    assert positive / 600 <= 0.08


def test_warmup_is_dropped() -> None:
    assert after_warmup([9.0, *[1.0] * 19]).tolist() == [1.0] * 18
    assert after_warmup([9.0, 1.0]).tolist() == [1.0] and after_warmup([9.0]).tolist() == [9.0]
