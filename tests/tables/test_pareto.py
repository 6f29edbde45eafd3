"""The axes of the plots, and which methods are on a front surely, maybe or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.render.columns import arranged
from peftbench.render.flat import flat_rows
from peftbench.tables.axes import Axis, Value, axes_of
from peftbench.tables.pareto import MAYBE, OFF, SURELY, front
from peftbench.tables.table import Table
from peftbench.tables.tabulate import tabulate

from ..support.results import result


@pytest.fixture
def table(make_run: Callable[..., Run], tmp_path: Path) -> Table:
    """Three methods, three seeds: `full` clearly best, `adapter` in the middle, `bitfit` last; seeds move all alike."""
    runs = [
        result(make_run(method, seed=seed), tmp_path, share, noise=seed)
        for method, share in (("adapter", 0.70), ("bitfit", 0.50), ("full", 0.90))
        for seed in range(3)
    ]
    (made,) = tabulate(runs, "full", ("full",))
    return made


def exactly(*numbers: float | None) -> Axis:
    return axis(*(None if n is None else (n, n, n) for n in numbers))


def axis(*values: tuple[float, float | None, float | None] | None) -> Axis:
    return Axis("cost", "cost", False, False, tuple(None if v is None else Value(*v) for v in values))


def score(table: Table) -> Axis:
    return next(m for m in axes_of(table) if m.name == "score")


def test_each_answer_of_a_front(table: Table) -> None:
    y = score(table)
    assert [row.method for row in table.rows] == ["adapter", "bitfit", "full"]
    # The worse, the cheaper: all are on it. Each is shown to be cheaper or better than each other one.
    assert front(table, exactly(2, 1, 3), y) == [SURELY, SURELY, SURELY]
    # The best is the cheapest: nothing else is on it.
    assert front(table, exactly(2, 3, 1), y) == [OFF, OFF, SURELY]
    # As cheap, and better: not worse in one, better in the other.
    assert front(table, exactly(1, 1, 1), y) == [OFF, OFF, SURELY]
    # Costs that can't be told apart may go either way for who is worse in quality, and not for who is best.
    wide = axis((2, 0.5, 3.5), (2, 0.5, 3.5), (2, 0.5, 3.5))
    assert front(table, wide, y) == [MAYBE, MAYBE, SURELY]
    # One run tells no spread, so nothing is shown by it.
    assert front(table, axis((2, None, None), (1, None, None), (3, None, None)), y) == [
        MAYBE,
        MAYBE,
        SURELY,
    ]
    assert front(table, exactly(2, None, 3), y) == [SURELY, None, SURELY]


def test_one_seed_puts_nobody_surely_on_or_off(make_run: Callable[..., Run], tmp_path: Path) -> None:
    runs = [
        result(make_run(method, seed=0), tmp_path / "one", share)
        for method, share in (("lora", 0.7), ("bitfit", 0.3), ("full", 0.95))
    ]
    (table,) = tabulate(runs, "full", ("full",))
    assert front(table, exactly(1, 1, 1), score(table)) == [MAYBE, MAYBE, MAYBE]
    assert all(value is not None and value.low is None for value in score(table).values)


def test_scores_are_compared_by_their_paired_difference(table: Table) -> None:
    """The intervals of two scores overlap by far more than that of their difference, where seeds move both alike."""
    y = score(table)
    lora, full = y.values[0], y.values[2]
    assert lora is not None and full is not None
    touching = dataclasses.replace(y, values=(Value(70, 40, 100), y.values[1], Value(90, 40, 100)))
    assert front(table, exactly(1, 1, 1), touching)[0] == OFF  # by `pairwise`
    alone = dataclasses.replace(table, pairwise={})
    assert front(alone, exactly(1, 1, 1), touching)[0] == MAYBE


def test_where_more_is_better_the_front_turns_around(table: Table) -> None:
    up = dataclasses.replace(exactly(1, 2, 3), higher_is_better=True)
    assert front(table, up, score(table)) == [OFF, OFF, SURELY]


def test_axes_say_what_the_table_says_with_intervals_over_seeds(table: Table) -> None:
    found = {one.name: one for one in axes_of(table)}
    row = table.rows[0]
    value = found["score"].values[0]
    assert row.score is not None and value is not None and value.high is not None
    assert value.value == row.score.value * 100
    assert (value.low, value.high) == pytest.approx([100 * end for end in row.score.interval() or ()])
    assert found["peak"].values[0] == Value(500.0, 500.0, 500.0) and found["stored"].values[0] == Value(
        297.616, 297.616, 297.616
    )
    assert "forgetting" not in found and "unmerged_1x8" not in found


def test_costs_are_drawn_from_the_runs_that_the_table_takes_them_from(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Cost runs, where there are some: the seeds' runs shared the machine."""
    seeds = [result(make_run("lora", seed=seed), tmp_path, 0.7) for seed in range(3)]
    seeds += [_own_pass(result(make_run("full", seed=seed), tmp_path, 0.9)) for seed in range(3)]
    told: dict[str, Any] = {**(seeds[0].record.training or {}), "steps": 10}
    alone = [
        Result(
            Record(run, run.key, "ok", training={**told, "step_s": [ms / 1e3] * 10}, memory={"train": None}),
            None,
        )
        for process, ms in enumerate((80, 50, 50))
        for run in [make_run("lora", seed=process, kind="profile")]
    ]
    slow = make_run("lora", kind="latency")
    cell = {"batch": 1, "length": 8, "ms": {"base": [1.0] * 40, "lora": [1.2] * 40}, "refusal": None}
    timed = Result(Record(slow, slow.key, "ok", latency=[cell]), None)
    (table,) = tabulate([*seeds, *alone, timed], "full", ("full",))
    found = {one.name: one for one in axes_of(table)}
    lora, full = found["step"].values
    half = scipy_stats.t.isf(0.025, 2) * 30 / 3  # the deviation of 80, 50, 50 is 30 / sqrt 3
    assert lora is not None and (lora.low, lora.value, lora.high) == pytest.approx((60 - half, 60, 60 + half))
    assert full == Value(50.0, 50.0, 50.0)  # it has no cost run: of its seeds
    whole = found["train_s"].values[0]  # twice the steps of a cost run
    assert whole is not None and whole.value == pytest.approx((1.6 + 1.0 + 1.0) / 3)
    # A pass that is the base's own is not timed, and takes nothing longer: so it is on the front, alone.
    assert found["unmerged_1x8"].values[1] == Value(0.0, 0.0, 0.0) and "merged_1x8" not in found
    assert front(table, score(table), found["unmerged_1x8"]) == [OFF, SURELY]
    assert [row["slowdown"] for row in flat_rows(table)] == pytest.approx([0.2, 0.0])
    assert [row.method for row in arranged([table], None, "slowdown")[0].shown_rows] == ["full", "lora"]


def _own_pass(one: Result) -> Result:
    scoring = {"items": 200, "graph_is_base": True, "energy_j": None}
    return Result(dataclasses.replace(one.record, scoring=scoring), one.folder)
