"""The same files seen from two folders: one row, one table, one pair, with all of their figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.records.joint import joined
from peftbench.records.record import Record
from peftbench.records.results import Result, alike
from peftbench.records.runs import Run
from peftbench.records.spelling import named_as, spelled_alike
from peftbench.tables.pairs import pair
from peftbench.tables.tabulate import tables_of

from ..support.results import result

Make = Callable[..., Run]
SEEN_FROM = ("data", "/home/b/work/data")  # on two machines


@pytest.fixture
def seen(make_run: Make) -> Make:
    """A run of files that lie in a folder."""

    def made(folder: str, method: str = "lora:start={}/ad", **changes: Any) -> Run:
        places = tuple(f"{folder}/{name}" for name in ("ad", "bert", "d.csv"))
        task = f"csv:path={folder}/d.csv"
        identity = dict.fromkeys(("model", "task", "data", "method"), "1")
        return make_run(
            method.format(folder), f"{folder}/bert", task=task, places=places, identity=identity, **changes
        )

    return made


def timed(runs: list[Run]) -> Record:
    """A process in which the methods of some runs took turns."""
    times = {"base": [10.0] * 40} | {
        name: [ms] * 40 for run in runs for name, ms in ((run.method, 12.0), (f"{run.method} merged", 10.0))
    }
    cell = {"batch": 1, "length": 8, "ms": times, "refusal": None}
    run = joined(runs)
    return Record(run, run.key, "ok", latency=[cell], meters={"adapter_parameters": {runs[0].method: 7}})


def test_a_report_and_a_gate_take_them_for_one(seen: Make, tmp_path: Path) -> None:
    sides = []
    for seed, folder in enumerate(SEEN_FROM):
        one = [result(seen(folder, seed=seed), tmp_path, 0.8)]
        in_turns = [seen(folder, kind="latency", seed=seed), seen(folder, "ia3", kind="latency", seed=seed)]
        sides.append([*one, Result(timed(in_turns), None)])
    (table,) = tables_of(alike([*sides[1], *sides[0]]))
    assert (table.task, table.model) == ("csv:path=data/d.csv", "data/bert")
    assert [(row.label, row.seeds_good) for row in table.rows] == [("lora:start=data/ad", 2)]
    (cell,) = table.rows[0].costs.latency
    assert (cell.unmerged_ms, cell.merged_ms, cell.unmerged and cell.unmerged.processes) == (
        12.0,
        10.0,
        2,
    )
    assert "ANOTHER VERSION" not in table.caption
    again = [result(seen(SEEN_FROM[1], seed=0), tmp_path / "b", 0.8)]
    (paired,) = pair(sides[0], again).pairs
    assert paired.seeds == 1 and paired.figures[0].change.value == 0


def test_other_files_of_that_name_are_others(seen: Make) -> None:
    runs = [seen(folder) for folder in SEEN_FROM]
    for name in ("model", "data", "method"):
        other = dataclasses.replace(runs[1], identity={**runs[1].identity, name: "another"})
        one, two = spelled_alike([Record(run, run.key, "ok") for run in (runs[0], other)])
        assert (one.run, two.key) == (runs[0], two.run.key)
        assert {"model": two.run.model, "data": two.run.task, "method": two.run.method}[name].count(
            "/home/b"
        ) == 1


def test_a_stored_process_is_shown_in_the_words_of_today(seen: Make) -> None:
    """The same command in another folder found its latency in the store, and showed none of it."""
    then, now = ([seen(folder, kind="latency"), seen(folder, "ia3", kind="latency")] for folder in SEEN_FROM)
    shown, expected = named_as(timed(then), joined(now)), timed(now)
    assert (shown.key, shown.latency, shown.meters) == (expected.key, expected.latency, expected.meters)


def test_a_task_that_is_retained_is_named_in_one_way(seen: Make) -> None:
    runs = []
    for folder in SEEN_FROM:
        run = seen(folder)
        retain = (f"csv:path={folder}/e.csv", "quiz", f"csv:path={folder}/f.csv")
        identity = {**run.identity, "retain": "1\n2\n3"}
        places = (*run.places, f"{folder}/e.csv", f"{folder}/f.csv")
        runs.append(dataclasses.replace(run, retain=retain, retain_items=5, identity=identity, places=places))
    assert runs[0].key == runs[1].key
    for one in spelled_alike([Record(run, run.key, "ok") for run in runs[::-1]]):
        assert (
            one.run.retain == ("csv:path=data/e.csv", "quiz", "csv:path=data/f.csv")
            and one.run.key == one.key
        )
    other = dataclasses.replace(runs[1], identity={**runs[1].identity, "retain": "1\n2\n4"})
    _, two = spelled_alike([Record(run, run.key, "ok") for run in (runs[0], other)])
    assert two.run.retain[2] == "csv:path=/home/b/work/data/f.csv"
