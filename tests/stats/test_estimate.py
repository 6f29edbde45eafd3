"""The statistics against closed forms and against a small simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from peftbench import Classification
from peftbench.objectives.jackknife import BLOCKS, pseudo_values
from peftbench.stats.estimate import (
    Floats,
    Scores,
    after_warmup,
    best_set_marks,
    estimate,
    holm,
    paired_estimates,
)


def by_seed(rows: Floats) -> Scores:
    """Scores of seeds 0, 1, ... from a row each."""
    return Scores.of_items(dict(enumerate(rows)))


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


def test_pseudo_values_of_a_mean_are_its_items() -> None:
    """Of a mean, the pseudo-value of an item is its score; so the jackknife gives what items give."""
    draw = np.random.default_rng(0)
    right = draw.random(60) < 0.7
    frame = pd.DataFrame(
        {"prediction": right.astype(int), "reference": 1, "group": np.arange(60).astype(str), "nll": 0.0}
    )
    objective = Means()
    found = pseudo_values(objective, frame, objective.score(*_columns(frame)))
    assert list(found.columns) == ["block", "share"] and len(found) == 60
    items = np.zeros(60)
    items[np.unique(frame["group"], return_inverse=True)[1]] = (
        right  # blocks are numbered by their group's name
    )
    assert found.sort_values("block")["share"].to_numpy() == pytest.approx(items)
    one = Scores((0,), found["share"].to_numpy()[None], np.array([right.mean()]))
    direct = estimate(by_seed(right[None].astype(float)), list(frame["group"]))
    jackknifed = estimate(one, [str(i) for i in range(60)])
    assert jackknifed.half_width() == pytest.approx(direct.half_width()) and jackknifed.value == direct.value


def test_many_groups_share_blocks_and_methods_share_them_too() -> None:
    frame = pd.DataFrame({"prediction": 1, "reference": 1, "group": np.arange(5000).astype(str), "nll": 0.0})
    objective = Means()
    found = pseudo_values(objective, frame, objective.score(*_columns(frame)))
    assert 90 < len(found) <= BLOCKS
    shuffled = frame.sample(frac=1, random_state=1)
    again = pseudo_values(objective, shuffled, objective.score(*_columns(shuffled)))
    assert again["block"].tolist() == found["block"].tolist()


def test_the_jackknife_interval_of_f1_covers() -> None:
    """Macro-F1 of 80 items in 40 groups, 3 seeds: 92 to 99 % of 150 nominal 95 % intervals hold the truth."""
    draw = np.random.default_rng(5)
    objective = Classification(labels=("a", "b"))
    truth = f1_of(draw, 400_000)[0]
    covered = 0
    for _ in range(150):
        groups = np.repeat(np.arange(40), 2).astype(str)
        reference = (draw.random(80) < 0.3).astype(int)
        values, parts = [], []
        for _ in range(3):
            prediction = np.where(draw.random(80) < 0.8, reference, 1 - reference)
            frame = pd.DataFrame(
                {"prediction": prediction, "reference": reference, "group": groups, "score": 0.0, "nll": 0.0}
            )
            quality = objective.score(*_columns(frame))
            values.append(quality["macro_f1"])
            parts.append(pseudo_values(objective, frame, quality)["macro_f1"].to_numpy())
        scores = Scores((0, 1, 2), np.stack(parts), np.asarray(values))
        found = estimate(scores, [str(i) for i in range(40)])
        covered += abs(found.value - truth) <= (found.half_width() or 0)
    assert 0.92 <= covered / 150 <= 0.99, covered


def f1_of(draw: np.random.Generator, items: int) -> tuple[float, int]:
    """The macro-F1 that the simulation draws from, and its size."""
    reference = (draw.random(items) < 0.3).astype(int)
    prediction = np.where(draw.random(items) < 0.8, reference, 1 - reference)
    return Classification(labels=("a", "b")).score(prediction, reference)["macro_f1"], items


class Means(Classification):
    """An objective whose only figure is a mean, under a name that no column has."""

    def __init__(self) -> None:
        super().__init__(labels=("a", "b"))

    def score(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"share": float(np.mean(predictions == references))}


def _columns(frame: pd.DataFrame) -> tuple[Any, Any]:
    return frame["prediction"].to_numpy(), frame["reference"].to_numpy()
