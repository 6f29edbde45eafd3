"""Latency takes more fresh processes until it is decided or its time is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from peftbench.comparison.more_processes import more_processes
from peftbench.records.joint import joined
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import LatencyGrid, Planned, Run

Make = Callable[..., Run]
BUDGET_S = 30.0
GRID = LatencyGrid(((1, 8),), rounds=15, budget_s=BUDGET_S / 3)
NONE, SOME, WIDE = [1.000, 1.001, 0.999], [1.095, 1.100, 1.105], [1.00, 1.03, 1.01]


def process(
    make_run: Make, number: int, ratios: dict[str, list[float]], seconds: float
) -> tuple[Planned, Result]:
    """Process `number` of the methods of which it has a ratio to the base."""
    its = {method: of[number] for method, of in ratios.items() if number < len(of)}
    run = joined([make_run(method, kind="latency", seed=number, grid=GRID) for method in its])
    base = 10 + np.random.default_rng(number).normal(0, 0.01, 15)
    times = {"base": base.tolist()} | {method: (base * ratio).tolist() for method, ratio in its.items()}
    cell = {"batch": 1, "length": 8, "ms": times, "refusal": None}
    record = Record(run, run.key, "ok", latency=[cell], meters={"timed_s": seconds})
    return Planned(run, False, None, None, None), Result(record, None)


def done(
    make_run: Make, ratios: dict[str, list[float]], seconds: float
) -> tuple[list[Planned], list[Result]]:
    """Training runs of the methods, and all their processes."""
    count = max(map(len, ratios.values()))
    made = [process(make_run, number, ratios, seconds) for number in range(count)]
    trained = [Planned(make_run(method), False, None, None, None) for method in ratios]
    return [*trained, *(item for item, _ in made)], [result for _, result in made]


@pytest.mark.parametrize(
    ("ratios", "seconds", "more"),
    [
        (NONE, 2.0, 0),  # shown to be none
        (SOME, 2.0, 0),  # shown to be some
        (WIDE, 2.0, 1),
        (WIDE, BUDGET_S / 3, 0),  # a fourth would be too long
        (WIDE, BUDGET_S / 4, 1),
        ([1.00, 1.06] * 4 + [1.03], 1.0, 0),  # as many as there may be
    ],
)
def test_as_many_as_are_needed(make_run: Make, ratios: list[float], seconds: float, more: int) -> None:
    planned, results = done(make_run, {"lora": ratios}, seconds)
    found = more_processes(planned, results)
    assert [item.run.seed for item in found] == [len(ratios)] * more
    failed = dataclasses.replace(results[0].record, status="failed")
    assert not more_processes(planned, [Result(failed, None), *results[1:]])
    assert not more_processes(planned, results[1:])  # the time-out of one, say


def test_methods_that_are_decided_leave_the_turns(make_run: Make) -> None:
    ratios = {"adapter": SOME, "lora": WIDE, "prefix": WIDE}
    planned, results = done(make_run, ratios, 2.0)
    (fourth,) = more_processes(planned, results)
    assert (fourth.run.method, fourth.run.seed) == ("lora,prefix", 3)
    ratios["lora"], ratios["prefix"] = [*WIDE, 1.02], [*WIDE, 1.015, 1.01]
    planned, results = done(make_run, ratios, 2.0)
    assert "prefix" in results[4].record.run.method and not more_processes(planned, results[:4])
    lora = [item.run.method for item in more_processes(planned, results)]
    assert lora == ["lora,prefix"]
    asked = [item for item in planned if item.run.kind == "latency" or item.run.method == "prefix"]
    assert [item.run.method for item in more_processes(asked, results)] == ["prefix"]


def test_a_method_that_came_later_has_its_own_time(make_run: Make) -> None:
    """Those that were there have spent theirs, and stay as they are."""
    first = done(make_run, {"lora": WIDE}, BUDGET_S / 3)
    later = done(make_run, {"adapter": WIDE}, 1.0)
    planned, results = [*first[0], *later[0]], [*first[1], *later[1]]
    assert [(item.run.method, item.run.seed) for item in more_processes(planned, results)] == [("adapter", 3)]
