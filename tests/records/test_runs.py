"""The key of a run is what determines its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from peftbench.records.runs import LatencyGrid, Run

Make = Callable[..., Run]


def test_the_key_is_what_determines_the_result(make_run: Make) -> None:
    run = make_run()
    same = (
        dataclasses.replace(run, plugins=("elsewhere.py",)),
        dataclasses.replace(run, budget=dataclasses.replace(run.budget, name="another name")),
        dataclasses.replace(run, grid=LatencyGrid(((9, 9),))),
    )
    assert {r.key for r in same} == {run.key}
    others = (
        dataclasses.replace(run, seed=1),
        dataclasses.replace(run, learning_rate=1.0),
        dataclasses.replace(run, dtype="bfloat16"),
        dataclasses.replace(run, method="lora:rank=4"),
        dataclasses.replace(run, budget=dataclasses.replace(run.budget, steps=6)),
        *(dataclasses.replace(run, identity={**run.identity, part: "changed"}) for part in run.identity),
    )
    assert len({run.key, *(r.key for r in others)}) == len(others) + 1


def test_latency_does_not_depend_on_data_or_training(make_run: Make) -> None:
    run = make_run(kind="latency")
    same = (
        dataclasses.replace(run, learning_rate=9.0),
        dataclasses.replace(run, identity={**run.identity, "data": "other"}),
    )
    assert {r.key for r in same} == {run.key}
    assert dataclasses.replace(run, grid=LatencyGrid(((9, 9),))).key != run.key
    assert dataclasses.replace(run, seed=1).key != run.key  # another process
