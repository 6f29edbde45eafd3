"""Scores that statistics are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peftbench.records.results import Result, method_scores
from peftbench.records.runs import Run
from peftbench.stats.estimate import estimate

from ..support.results import result


def test_pseudo_values_of_unequal_groups_know_how_little_they_tell(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    one = result(make_run("lora"), tmp_path, 0.8)
    assert one.folder is not None
    frame = pd.read_parquet(one.folder / "predictions.parquet")
    frame["group"] = np.where(np.arange(200) < 150, "a", np.where(np.arange(200) < 175, "b", "c"))
    frame.to_parquet(one.folder / "predictions.parquet")
    pd.DataFrame({"block": [0, 1, 2], "accuracy": [0.7, 0.8, 0.9]}).to_parquet(
        one.folder / "pseudo_values.parquet"
    )
    found = method_scores([one], [0])
    assert found is not None and found.groups["nll"].effective_count == pytest.approx(
        1 / (0.75**2 + 2 * 0.125**2)
    )
    assert found.groups["accuracy"].count == 3 and found.groups["accuracy"].df == found.groups["nll"].df


def test_of_one_group_of_items_a_metric_that_is_no_mean_has_its_seeds(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Without its only group nothing is left, so there are no pseudo-values; the figure is known all the same."""
    found = []
    for seed, f1 in enumerate((0.5, 0.7)):
        one = result(make_run("lora", seed=seed), tmp_path, 0.8)
        assert one.folder is not None
        frame = pd.read_parquet(one.folder / "predictions.parquet").assign(group="a").drop(columns="score")
        frame.to_parquet(one.folder / "predictions.parquet")
        pd.DataFrame(columns=["block", "f1"]).to_parquet(one.folder / "pseudo_values.parquet")
        record = dataclasses.replace(one.record, quality={"f1": f1, "nll": 0.5})
        found.append(Result(record, one.folder))
    scores = method_scores(found, [0, 1])
    assert scores is not None
    told = estimate(scores.figures["f1"], scores.groups["f1"], share=True)
    assert (
        told.value == pytest.approx(0.6)
        and told.variance == pytest.approx(0.01)
        and len(told.parts or ()) == 1
    )
