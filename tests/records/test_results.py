"""Scores that statistics are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from peftbench.records.results import method_scores
from peftbench.records.runs import Run

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
