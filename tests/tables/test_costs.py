"""Costs of records in which something is not known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from peftbench.records.runs import Run
from peftbench.tables.costs import costs_of

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
