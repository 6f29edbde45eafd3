"""The statistics against closed forms and against a small simulation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from peftbench.stats.estimate import (
    Groups,
    Scores,
    after_warmup,
    best_set_marks,
    difference_of,
    estimate,
    holm,
    mean_estimate,
    paired_estimates,
    variances,
)
from peftbench.stats.weighted_t import half_width

from ..support.estimate import by_seed


def test_one_seed_and_items_alone_is_the_t_interval_of_a_mean() -> None:
    scores = np.array([[0.0, 1.0, 1.0, 1.0, 0.0, 1.0]])
    found = estimate(by_seed(scores), list("abcdef"))
    low, high = scipy_stats.t.interval(0.95, 5, scores.mean(), scipy_stats.sem(scores[0]))
    assert found.interval() == pytest.approx((low, high))
    assert found.half_width() == pytest.approx((high - low) / 2)
    assert found.p_two_sided() is None  # never a test on items alone


def test_one_group_of_items_has_an_interval_over_seeds_and_decides_nothing() -> None:
    """Its variance over items has no degrees of freedom."""
    scores = np.array([[1.0], [2.0], [4.0]])
    found = estimate(by_seed(scores), ["only"])
    (part,) = found.parts or ()
    assert part.variance == pytest.approx(np.var([1, 2, 4], ddof=1) / 3) and part.df == 2
    assert found.half_width() == pytest.approx(scipy_stats.t.isf(0.025, 2) * math.sqrt(part.variance))
    assert found.p_two_sided() is None and found.p_above_zero() is None
    assert difference_of(estimate(by_seed(scores), ["a"]), mean_estimate([1.0, 2.0])).p_two_sided() is None
    methods = [by_seed(scores + 10 * i + np.ones(8)) for i in range(2)]
    for groups, marks in (("aaaaaaaa", ["", ""]), ("abcdefgh", ["", "best"])):
        assert best_set_marks(methods, paired_estimates(methods, list(groups)), True, 0.01) == marks


def test_items_that_all_differ_by_the_same_tell_what_their_sign_tells() -> None:
    """All right against all wrong, on a few items: no variance, and no certainty."""
    for items, marks in ((4, ["open", "open"]), (6, ["best", ""]), (100, ["best", ""])):
        methods, groups = (
            [by_seed(np.full((3, items), x)) for x in (0.9, 0.0)],
            [str(i) for i in range(items)],
        )
        pairs = paired_estimates(methods, groups)
        assert pairs[0, 1].p_two_sided() == pytest.approx(2.0 ** (1 - items))
        assert pairs[0, 1].half_width() == pytest.approx(0.9 if items < 6 else 0)
        assert best_set_marks(methods, pairs, True, 0.01) == marks
    assert paired_estimates([methods[0]] * 2, groups)[0, 1].p_two_sided() == 1.0


def test_one_seed_and_one_item_leave_nothing_to_say() -> None:
    found = estimate(by_seed(np.array([[1.0]])), ["only"])
    assert found.half_width() is None and found.p_two_sided() is None


def test_seeds_and_items_each_keep_their_degrees_of_freedom() -> None:
    scores = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
    of_seeds, of_items = estimate(by_seed(scores), ["f", "f", "g", "h"]).parts or ()
    assert of_seeds.variance == pytest.approx(np.var([0.75, 0.5, 0.5], ddof=1) / 3) and of_seeds.df == 2
    e = scores.mean(0) - scores.mean()
    shares = np.array([2, 1, 1]) / 4
    left = (shares**2 * (1 - 2 * shares + (shares**2).sum())).sum() / (
        shares**2
    ).sum()  # of items that are alike
    squares = ((e[0] + e[1]) ** 2 + e[2] ** 2 + e[3] ** 2) / 16
    assert of_items.variance == pytest.approx(squares / left)
    assert of_items.df == pytest.approx(16 / 6 - 1) and of_items.of_items and not of_seeds.of_items


def test_groups_of_one_size_are_counted() -> None:
    groups = Groups.of(["a", "a", "b", "b", "c", "c"])
    assert groups.effective_count == pytest.approx(3) and groups.correction == pytest.approx(3 / 2)
    assert Groups.of(["a"] * 98 + ["b"] * 2).df == 1.0  # two groups, but hardly more than one
    assert dataclasses.replace(groups, effective=2.5).df == 1.5


def test_an_own_score_stays_between_its_ends() -> None:
    """Wilson's interval; at the ceiling itself as many items alone allow."""
    groups = [str(i) for i in range(200)]
    right = np.tile(np.arange(200) >= 2, (3, 1)).astype(float)
    near = estimate(by_seed(right), groups, share=True)
    low, high = near.interval() or (0, 0)
    plain = estimate(by_seed(right), groups).half_width() or 0
    assert low < 0.99 - plain and 0.99 < high < 1 and near.half_width() == pytest.approx(0.99 - low)
    wilson = scipy_stats.binomtest(198, 200).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=5e-4)
    low, high = estimate(by_seed(np.ones((3, 200))), groups, share=True).interval() or (0, 0)
    assert high == 1.0 and low == pytest.approx(1 - 3.84 / 204, abs=1e-3)
    far = estimate(by_seed(np.tile([1.0, 0.0], (3, 500))), [str(i) for i in range(1000)], share=True)
    assert far.half_width() == pytest.approx(1.96 * 0.5 / math.sqrt(1000), rel=5e-3)


def test_seeds_are_left_out_by_their_number() -> None:
    left = Scores.of_items({3: np.array([1.0]), 5: np.array([0.0]), 8: np.array([1.0])}).without({5})
    assert left is not None and left.seeds == (3, 8) and left.values.tolist() == [1.0, 1.0]
    assert left.without({3, 8}) is None


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


def test_equal_within_the_margin_is_corrected_for_the_number_of_methods() -> None:
    """The same pair, equal by itself, is not shown equal among many."""
    pair = [made(0.8, 1, noise=0.0012), made(0.8, 2, noise=0.0012)]
    assert marks(pair, True) == ["equivalent", "equivalent"]
    assert marks(pair + [made(0.3 + 0.01 * i, 10 + i) for i in range(24)], True)[:2] == ["open", "open"]


def test_families_of_tests_keep_their_error_by_simulation() -> None:
    """8 methods without a difference, 3 seeds that spread far beyond the items: Holm rejects in 5 % of tables, 2,000 of them."""
    draw, groups = np.random.default_rng(1), Groups.of([str(i) for i in range(20)])
    seeds, items = draw.normal(0, 0.05, (2000, 8, 3, 1)), draw.normal(0, 0.01, (2000, 8, 1, 20))
    scores = seeds + items + draw.normal(0, 0.01, (2000, 8, 3, 20))
    found = scores[:, 1:] - scores[:, :1]
    mean = found.mean((2, 3))
    of_seeds, of_items = variances(found.mean(3), found.mean(2) - mean[..., None], groups)
    parts = [(of_seeds, 2.0), (of_items, groups.df)]
    assert np.mean((np.abs(mean) > half_width(parts, 0.05 / 7)).any(1)) <= 0.06
    assert 0.93 <= np.mean(np.abs(mean) <= half_width(parts, 0.05)) <= 0.97
    one = estimate(by_seed(found[0, 0]), groups)
    assert one.variance == pytest.approx(of_seeds[0, 0] + of_items[0, 0])  # what is simulated is what is used


def test_warmup_is_dropped() -> None:
    assert after_warmup([9.0, *[1.0] * 19]).tolist() == [1.0] * 18
    assert after_warmup([9.0, 1.0]).tolist() == [1.0] and after_warmup([9.0]).tolist() == [9.0]
