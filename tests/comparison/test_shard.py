"""Parts of a comparison: together they are the whole, and what must stay together does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.cli.run import run_command
from peftbench.comparison import compare
from peftbench.comparison.shard import part_of
from peftbench.engine import named
from peftbench.records.merge import merge
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

Make = Callable[..., Run]


def planned(make_run: Make) -> list[Planned]:
    runs = [
        make_run("lora", model, kind=kind, seed=seed)
        for model in ("a", "b", "c")
        for kind in ("training", "tuning", "profile", "latency")
        for seed in range(5)
    ]
    return [Planned(run, False, 1, 1, None) for run in runs]


@pytest.mark.parametrize("by_cell", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_are_the_whole_once(count: int, by_cell: bool, make_run: Make) -> None:
    whole = planned(make_run)
    parts = [part_of(whole, (number, count), by_cell) for number in range(1, count + 1)]
    assert Counter(i.run.key for part in parts for i in part) == Counter(i.run.key for i in whole)
    for kinds in (("profile", "latency"), *([("training", "tuning")] if by_cell else [])):
        homes: dict[str, set[int]] = {}
        for number, part in enumerate(parts):
            for item in part:
                if item.run.kind in kinds:
                    homes.setdefault(item.run.model, set()).add(number)
        assert all(len(where) == 1 for where in homes.values())
    if not by_cell:
        sizes = [sum(i.run.kind in ("training", "tuning") for i in part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_sweep_of_rates_is_not_parted(make_run: Make) -> None:
    with pytest.raises(UsageError, match="of which there are 3; use --shard 1/3 or less"):
        part_of(planned(make_run), (1, 4), by_cell=True)
    costs_of_a, every_fourth = 10, 8
    assert len(part_of(planned(make_run), (1, 4), by_cell=False)) == costs_of_a + every_fourth


@pytest.mark.parametrize("by_cell", [False, True])
def test_costs_of_all_numbers_of_training_items_are_of_one_machine(by_cell: bool, make_run: Make) -> None:
    budget = make_run().budget
    whole = [
        Planned(make_run(kind=kind, budget=dataclasses.replace(budget, train_items=items)), False, 1, 1, None)
        for kind, sizes in (("training", (4, 100)), ("profile", (4, None)), ("latency", (None,)))
        for items in sizes
    ]
    parts = [part_of(whole, (number, 2), by_cell) for number in (1, 2)]
    assert [len(part) for part in parts] == [4, 1]
    if by_cell:
        with pytest.raises(UsageError, match="of which there are 2;"):
            part_of(whole, (1, 3), by_cell)


def test_a_part_without_runs_leaves_a_store_that_can_be_merged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "compare_all", lambda *given: [])
    monkeypatch.setattr(named, "engine_named", lambda name: nullcontext())
    run_command({"named": None, "shard": (3, 3), "store": str(tmp_path / "three")})
    assert "part 3 of 3: its 0 runs" in capsys.readouterr().out
    assert merge([Store(tmp_path / "three")], Store(tmp_path / "all")).taken == 0
