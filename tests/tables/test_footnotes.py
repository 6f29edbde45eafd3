"""What a reviewer would ask stands under the table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Budget
from peftbench.records.setting import PART
from peftbench.tables.pairs import pair
from peftbench.tables.tabulate import tabulate

from ..support.plan import Make
from ..support.results import result

NARROW, WIDE = (Budget("custom", 5, None, size, size, 32) for size in (1, 128))  # as many parts as items


def test_a_departure_from_the_shared_budget_is_said_whoever_wrote_the_method(
    make_run: Make, tmp_path: Path
) -> None:
    found = result(make_run("lora"), tmp_path, 0.8)
    said = "2 forward passes a step instead of 1"
    training = {**(found.record.training or {}), "departures": [said]}
    changed = Result(dataclasses.replace(found.record, training=training), found.folder)
    (table,) = tabulate([changed, result(make_run("full"), tmp_path, 0.8)], "full", ())
    assert f"lora: departs from the shared budget: {said}." in table.footnotes
    assert sum("departs" in note for note in table.footnotes) == 1


def test_of_two_methods_without_seeds_the_one_that_trains_nothing_is_not_said_to_be_solved(
    make_run: Make, tmp_path: Path
) -> None:
    frozen, head = (result(make_run(name), tmp_path, 0.8, seedless=True) for name in ("frozen", "head"))
    nothing: dict[str, int | None] = {"adapter": 0, "head": 0, "stored_bytes": 0}
    frozen = dataclasses.replace(frozen, record=dataclasses.replace(frozen.record, parameters=nothing))
    (table,) = tabulate([frozen, head], "full", ())
    (as_it_is,) = (note for note in table.footnotes if "nothing trained" in note)
    (solved,) = (note for note in table.footnotes if "solved to convergence" in note)
    assert as_it_is.startswith("frozen: ") and solved.startswith("head: ")


def test_the_caption_says_which_part_was_scored_and_not_that_answers_share_a_question(
    make_run: Make, tmp_path: Path
) -> None:
    def caption(budget: Budget = NARROW, /, **scoring: int) -> str:
        found = result(make_run("lora", budget=budget), tmp_path / str((budget, scoring)), 0.8)
        record = dataclasses.replace(found.record, scoring={**scoring, "energy_j": None})
        return tabulate([Result(record, found.folder)], "full", ())[0].caption

    assert "scored on" not in caption(items=12, rows=36, of_items=36)  # three answers a question
    assert ", scored on 18 of 36 test rows." in caption(items=6, rows=18, of_items=36)
    for part in ({"items": 6, "of_items": 36}, {"items": 6, "rows": 6, "of_items": 36}):
        assert ", scored on 6 of 36 test items." in caption(**part)
    # A part of a step has an item at least: the 100 items that there are make 100 parts.
    assert ", each step in 100 parts" in caption(WIDE, items=6)


def test_seconds_of_runs_that_shared_the_machine_are_said_to_be(make_run: Make, tmp_path: Path) -> None:
    def note(jobs: int) -> str:
        rows = []
        for name in ("lora", "full"):
            found = result(make_run(name), tmp_path / f"{name}{jobs}", 0.8)
            curve = [{"step": 20, "train_s": 1.0, "accuracy": 0.8}]
            there = {**found.record.environment, "jobs": jobs}
            rows.append(
                Result(dataclasses.replace(found.record, curve=curve, environment=there), found.folder)
            )
        return next(note for note in tabulate(rows, "full", ())[0].footnotes if note.startswith("s to full"))

    assert "up to 2 of them at once" in note(2) and "at once" not in note(1)


def test_a_measurement_that_failed_is_said_and_what_stands_in_its_place(
    make_run: Make, tmp_path: Path
) -> None:
    """Costs are then of the seeds' runs, which shared the machine, beside rows that were measured alone."""
    rows = [result(make_run(name), tmp_path, 0.8) for name in ("lora", "full")]
    told = rows[0].record
    alone, slow = (make_run("lora", kind=kind) for kind in ("profile", "latency"))
    costs = Record(alone, alone.key, "ok", training=told.training, environment=told.environment)
    bad = make_run("full", kind="profile")
    (table,) = tabulate(
        [
            *rows,
            Result(costs, None),
            Result(Record(bad, bad.key, "failed", "ValueError: x"), None),
            Result(Record(slow, slow.key, "failed", "timed out"), None),
        ],
        "full",
        (),
    )
    said = "\n".join(table.footnotes)
    assert (
        "full: its cost run failed: ValueError: x." in said
        and "lora: its latency run failed: timed out." in said
    )
    assert "Costs of full come from the seeds' runs" in said


def test_parts_of_the_test_split_that_versions_choose_differently_are_not_paired(
    make_run: Make, tmp_path: Path
) -> None:
    """Items of one are not those of the other, nor as many: in one table they would be paired by their places."""
    budget = Budget("custom", 5, None, 8, 1, 32, scored_items=190)
    results, old = [], []
    for seed in range(2):
        for method, share in (("full", 0.8), ("lora", 0.6)):
            one = result(make_run(method, seed=seed, budget=budget), tmp_path, share, noise=seed)
            scoring = {"items": 200, "rows": 200, "of_items": 300, "energy_j": None}
            results.append(dataclasses.replace(one, record=dataclasses.replace(one.record, scoring=scoring)))
    for one in results:
        folder = tmp_path / f"old {one.record.key}"
        folder.mkdir()
        assert one.folder is not None
        pd.read_parquet(one.folder / "predictions.parquet")[50:].to_parquet(folder / "predictions.parquet")
        scoring = {"items": 150, "rows": 150, "of_items": 300, "energy_j": None}
        old.append(
            dataclasses.replace(
                one, folder=folder, record=dataclasses.replace(one.record, key=folder.name, scoring=scoring)
            )
        )
    lora = [r for r in results if r.record.run.method == "lora"]
    (alone,) = tabulate(lora, "full", ())
    (mixed,) = tabulate(lora + old, "full", ())
    assert mixed.rows == alone.rows and "2 runs are not in this table: another version" in mixed.footnotes[-1]
    (only_old,) = tabulate(old, "full", ())
    assert len(only_old.rows) == 2 and only_old.rows[1].difference is not None
    assert pair(old, results).unlike == (PART,) and not pair(old, old).unlike
    whole = [
        dataclasses.replace(
            r, record=dataclasses.replace(r.record, key="0", scoring={"items": 200, "of_items": 200})
        )
        for r in results
    ]
    assert {r.record.part_scored for r in whole} == {(True, 200)}


def test_a_cell_that_was_not_timed_says_why(make_run: Make, tmp_path: Path) -> None:
    found = result(make_run("lora"), tmp_path, 0.8)
    timed = make_run("lora", kind="latency")
    cell = {"batch": 1, "length": 999, "ms": {}, "refusal": "the model takes at most 512 tokens"}
    slow = Record(timed, timed.key, "ok", latency=[cell], environment=found.record.environment)
    (table,) = tabulate([found, Result(slow, None)], "lora", ())
    assert "1x999 was not timed: the model takes at most 512 tokens." in table.footnotes
