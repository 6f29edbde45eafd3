"""Scores on other tasks, before and after, from files: by item, by blocks of items, or by seeds alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peftbench.records.record import Record
from peftbench.records.results import RETAINED, RETAINED_PSEUDO_VALUES, Result
from peftbench.records.retained import retained_scores
from peftbench.records.runs import Run
from peftbench.stats.estimate import estimate

Make = Callable[..., Run]


def looked(run: Run, folder: Path, after: float, groups: int, blocks: int, seedless: bool = False) -> Result:
    """A run with two other tasks of one figure `f`; the first of a mean over items, the second of pseudo-values."""
    folder.mkdir(parents=True)
    items = pd.DataFrame(
        {"item": range(8), "group": [f"g{i % groups}" for i in range(8)], "nll_before": 1.0, "nll_after": 2.0}
    )
    means = items.assign(task=0, score_before=np.arange(8) / 8, score_after=after)
    texts = items.assign(task=1, score_before=np.nan, score_after=np.nan)
    pd.concat([means, texts]).to_parquet(folder / RETAINED)
    by_block = {
        "task": 1,
        "block": np.arange(blocks),
        "before": np.arange(blocks) / 10,
        "after": np.full(blocks, after),
    }
    pd.DataFrame(by_block).astype({"task": "int64"}).to_parquet(folder / RETAINED_PSEUDO_VALUES)
    told = {"metric": {}, "items": 8, "before": {"f": 0.5}, "after": {"f": after}}
    claims = {"seedless": seedless}
    return Result(Record(run, run.key, "ok", claims=claims, retained=[told, told]), folder)


def test_a_mean_over_items_is_told_item_by_item(make_run: Make, tmp_path: Path) -> None:
    results = [looked(make_run(seed=s), tmp_path / str(s), 0.2 + s / 10, 8, 4) for s in (1, 0)]
    found = retained_scores([(result, 0) for result in results], "f", (0, 1))
    assert found is not None and found.before.seeds == found.after.seeds == (0, 1)
    assert found.before.parts.tolist() == [[i / 8 for i in range(8)]] * 2
    assert found.after.parts[1].tolist() == [0.2 + 0.1] * 8 and found.after.values.tolist() == [
        0.2,
        0.2 + 0.1,
    ]
    assert (found.groups.count, found.nll.parts.tolist()) == (8, [[1.0] * 8] * 2)


def test_another_figure_is_told_by_blocks(make_run: Make, tmp_path: Path) -> None:
    one = looked(make_run(), tmp_path / "one", 0.2, 4, 4)
    found = retained_scores([(one, 1)], "f", (0,))
    assert found is not None and found.before.parts.tolist() == [[0.0, 0.1, 0.2, 0.3]]
    assert found.after.values.tolist() == [0.2] and found.groups.count == 4 and found.items.count == 4
    change = found.after.minus(found.before)
    assert (
        change is not None and estimate(change, found.groups).value == 0.2 - 0.5
    )  # of the figures themselves


def test_of_one_group_the_seeds_alone_speak(make_run: Make, tmp_path: Path) -> None:
    results = [looked(make_run(seed=s), tmp_path / str(s), 0.2 + s, 1, 0) for s in (0, 1)]
    found = retained_scores([(result, 1) for result in results], "f", (0, 1))
    change = None if found is None else found.after.minus(found.before)
    assert found is not None and change is not None
    told = estimate(change, found.groups)
    assert told.value == pytest.approx(0.2) and told.parts is not None and len(told.parts) == 1


def test_what_is_not_there_is_none(make_run: Make, tmp_path: Path) -> None:
    one = looked(make_run(), tmp_path / "one", 0.2, 8, 4)
    (tmp_path / "one" / RETAINED).unlink()
    failed = dataclasses.replace(one, record=dataclasses.replace(one.record, status="failed"))
    assert retained_scores([], "f", (0,)) is None
    assert retained_scores([(one, 0), (failed, 0)], "f", (0,)) is None


def test_a_run_that_no_seed_changes_stands_for_all(make_run: Make, tmp_path: Path) -> None:
    one = looked(make_run("head"), tmp_path / "one", 0.2, 8, 4, seedless=True)
    found = retained_scores([(one, 0)], "f", (0, 1, 2))
    assert found is not None and found.after.seeds == (0, 1, 2)
