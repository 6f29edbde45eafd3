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


def test_what_is_retained_is_in_the_key_where_it_is_asked_for(make_run: Make) -> None:
    run = make_run()
    assert dataclasses.replace(run, retain_items=9).key == run.key  # of no task
    looks = [
        dataclasses.replace(run, retain=retain, retain_items=items)
        for retain, items in ((("a",), 9), (("a",), 8), (("b",), 9), (("a", "b"), 9))
    ]
    assert len({run.key, *(one.key for one in looks)}) == 5
    named = dataclasses.replace(run, identity={**run.identity, "retain": "x\ny"}, retain=("a", "b"))
    assert named.retained_sources == ["x", "y"] and looks[0].retained_sources == [""]
    assert named.without_looks == run and run.without_looks is run
    moved = [
        dataclasses.replace(looks[0], retain=(f"csv:path={place}",), places=(place,))
        for place in ("one/b.csv", "/other/b.csv")
    ]
    assert moved[0].key == moved[1].key and moved[0].named_as(moved[1]).retain == moved[1].retain
