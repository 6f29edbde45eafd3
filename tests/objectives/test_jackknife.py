"""Pseudo-values stand for items where a metric is no mean over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from peftbench import Classification
from peftbench.objectives.jackknife import BLOCKS, pseudo_values
from peftbench.stats.estimate import (
    Scores,
    estimate,
)

from ..support.estimate import by_seed


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
    """Macro-F1 of 80 items in 40 groups, 3 seeds: 92 % or more of 150 nominal 95 % intervals hold the truth, which may be
    more: seeds that hardly differ have two degrees of freedom all the same."""
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
    assert covered / 150 >= 0.92, covered


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
