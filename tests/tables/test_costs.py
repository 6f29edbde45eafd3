"""Costs of records in which something is not known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.records.runs import Run
from peftbench.tables.costs import costs_of
from peftbench.tables.quantities import TRAIN_ENERGY, TRAIN_S

from ..support.results import result


def test_a_gradient_norm_that_was_not_finite_is_left_out(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    record = result(make_run(), tmp_path, 0.8).record
    norms = (record.training or {})["gradient_norms"]
    known = dataclasses.replace(
        record, training={**(record.training or {}), "gradient_norms": [None, 0.5, *norms[2:]]}
    )
    none = dataclasses.replace(
        record, training={**(record.training or {}), "gradient_norms": [None] * len(norms)}
    )
    assert costs_of([known], [], []).clipped_share == (len(norms) - 2) / (len(norms) - 1)
    assert costs_of([none], [], []).clipped_share is None


def test_a_whole_run_is_not_said_to_warm_up_over_and_over(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Two steps of a second each, then 20 ms: 24 steps of a cost run, 500 of the training run. Energy goes with the time."""
    trained = result(make_run(), tmp_path, 0.8).record
    trained = dataclasses.replace(trained, training={**(trained.training or {}), "steps": 500})
    told = {**(trained.training or {}), "steps": 24, "step_s": [1.0] * 2 + [0.02] * 22, "energy_j": 24.4}
    alone = dataclasses.replace(trained, training=told)
    costs = costs_of([trained], [alone], [])
    assert costs.of(TRAIN_S) == pytest.approx(2 + 498 * 0.02)
    assert costs.of(TRAIN_ENERGY) == pytest.approx(24.4 / 2.44 * (2 + 498 * 0.02))
