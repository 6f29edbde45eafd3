"""Latency takes more fresh processes until it is decided or its time is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from peftbench import defaults
from peftbench.comparison.more_processes import more_processes
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Planned, Run


@pytest.mark.parametrize(
    ("ratios", "wall_s", "more"),
    [
        ([1.000, 1.001, 0.999], 2.0, 0),  # shown to be none
        ([1.095, 1.100, 1.105], 2.0, 0),  # shown to be some
        ([1.00, 1.03, 1.01], 2.0, 1),
        ([1.00, 1.03, 1.01], defaults.LATENCY_BUDGET_S / 3, 0),  # a fourth would be too long
        ([1.00, 1.03, 1.01], defaults.LATENCY_BUDGET_S / 4, 1),
        ([1.00, 1.06] * 4 + [1.03], 1.0, 0),  # as many as there may be
    ],
)
def test_as_many_as_are_needed(
    make_run: Callable[..., Run], ratios: list[float], wall_s: float, more: int
) -> None:
    planned, results = [], []
    for process, ratio in enumerate(ratios):
        run = make_run("lora", kind="latency", seed=process)
        base = 10 + np.random.default_rng(process).normal(0, 0.01, 15)
        times = {"base": base.tolist(), "lora": (base * ratio).tolist()}
        cell = {"batch": 1, "length": 8, "ms": times, "refusal": None}
        planned.append(Planned(run, False, None, None, None))
        results.append(Result(Record(run, run.key, "ok", latency=[cell], wall_s=wall_s), None))
    found = more_processes(planned, results)
    assert [item.run.seed for item in found] == [len(ratios)] * more
    failed = dataclasses.replace(results[0].record, status="failed")
    assert not more_processes(planned, [Result(failed, None), *results[1:]])
    assert not more_processes(planned, results[1:])  # the time-out of one, say
