"""A stored latency process serves every comparison that has one of its methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from peftbench.comparison.held import Held
from peftbench.records.joint import joined
from peftbench.records.record import Record
from peftbench.records.runs import LatencyGrid, Planned, Run
from peftbench.records.store import Store

Make = Callable[..., Run]


def timed(make_run: Make, methods: str, seed: int = 0, **changes: object) -> Run:
    return joined([make_run(one, kind="latency", seed=seed, **changes) for one in methods.split()])


def put(store: Store, run: Run, **changes: object) -> None:
    record = dataclasses.replace(Record(run, run.key, "ok", started_at="now"), **changes)  # type: ignore[arg-type]
    with store.staging() as staging:
        store.put(record, staging)


def used(store: Store, run: Run) -> list[str]:
    return [item.run.method for item in Held(store).used_for([Planned(run, False, None, None, None)])]


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ([], "adapter lora", ["adapter,lora"]),
        (["lora"], "adapter lora", ["lora", "adapter"]),  # the one that came later is timed beside the base
        (["adapter lora prefix"], "lora", ["adapter,lora,prefix"]),
        (["adapter lora prefix", "lora"], "lora", ["lora"]),
        (["adapter", "lora"], "adapter lora", ["adapter", "lora"]),
        (["lora", "adapter lora"], "adapter ia3 lora prefix", ["adapter,lora", "ia3,prefix"]),
    ],
)
def test_what_is_stored_is_not_timed_again(
    make_run: Make, tmp_path: Path, stored: Sequence[str], asked: str, found: list[str]
) -> None:
    store = Store(tmp_path / "store")
    for methods in stored:
        put(store, timed(make_run, methods))
    assert used(store, timed(make_run, asked)) == found
    for item in Held(store).used_for([Planned(timed(make_run, asked), False, None, None, None)]):
        assert (store.get(item.run.key) is not None) == (item.run.method.replace(",", " ") in stored)
    assert used(store, timed(make_run, asked, seed=1)) == [asked.replace(" ", ",")]


def test_only_good_processes_of_the_same_pass_serve(make_run: Make, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    put(store, timed(make_run, "lora"), status="failed")
    put(store, timed(make_run, "lora prefix", grid=LatencyGrid(((9, 9),))))
    put(store, timed(make_run, "ia3 lora"), key="0" * 64)  # an older version's
    another = dict(make_run().identity) | {"method": "another source"}
    put(store, timed(make_run, "dora lora", identity=another))
    assert used(store, timed(make_run, "adapter lora")) == ["adapter,lora"]


def test_the_time_that_is_asked_for_now_counts(make_run: Make, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    put(store, timed(make_run, "lora prefix", grid=LatencyGrid(((1, 8),), budget_s=1.0)))
    run = timed(make_run, "lora", grid=LatencyGrid(((1, 8),), budget_s=9.0))
    (found,) = Held(store).used_for([Planned(run, False, None, None, None)])
    assert found.run.grid == run.grid and store.get(found.run.key) is not None


def test_a_method_that_a_process_left_out_is_timed(make_run: Make, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    put(store, timed(make_run, "lora prefix"), meters={"left_out": {"lora": "it raised"}})
    assert used(store, timed(make_run, "lora")) == ["lora"]
    assert used(store, timed(make_run, "prefix")) == ["lora,prefix"]
