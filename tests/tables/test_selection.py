"""A report selects once: what must not change a figure does not, and where it would have to guess it says so."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from peftbench.errors import UsageError
from peftbench.inspection.stored_runs import reference_among
from peftbench.records.joint import joined
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import LatencyGrid, Run
from peftbench.records.store import Store
from peftbench.render.columns import arranged
from peftbench.stats.estimate import ALPHA
from peftbench.stats.sequential import SeedSchedule
from peftbench.tables.gate import judge, limit_of
from peftbench.tables.pairs import pair
from peftbench.tables.summary import summarise
from peftbench.tables.table import Table
from peftbench.tables.tabulate import tabulate

from ..support.results import ENVIRONMENT, result, text

IDENTITY = {"model": "m", "task": "1", "data": "1", "method": "1"}
WORLDS: dict[str, dict[str, Any]] = {  # in what a setting departs from the first one, under the same names or not
    "first": {},
    "another model": {"model": "tiny-decoder"},
    "another task": {"task": "copy"},
    "more steps": {"steps": 9},
    "a wider batch": {"batch_size": 16},
    "another length": {"max_length": 20},
    "other data of that name": {"identity": {**IDENTITY, "data": "2"}},
    "another model of that name": {"identity": {**IDENTITY, "model": "2"}},
    "another data type": {"dtype": "bfloat16"},
}  # fmt: skip
OWN_PASSES = ("another model", "another task", "another model of that name")


@pytest.fixture
def world(make_run: Callable[..., Run], tmp_path: Path) -> Callable[[str], list[Result]]:
    """Two seeds of two methods in one setting, with what their passes and steps cost; each setting has figures of its own."""

    def made(name: str) -> list[Result]:
        changes = dict(WORLDS[name])
        sizes = {key: changes.pop(key) for key in ("batch_size", "max_length") if key in changes}
        number = list(WORLDS).index(name)

        def run(method: str, **more: Any) -> Run:
            one = make_run(method, **{"identity": IDENTITY, **changes, **more})
            return dataclasses.replace(one, budget=dataclasses.replace(one.budget, **sizes))

        found = []
        for method, share in (("lora", 0.5), ("ia3", 0.6)):
            for seed in range(2):
                found.append(result(run(method, seed=seed), tmp_path / name, share, noise=seed + number))
            passes = number if name in OWN_PASSES else 0
            times = {"base": [10.0] * 40, method: [11.0 + passes] * 40}
            cell = {"batch": 1, "length": 8, "ms": times, "refusal": None}
            grid = LatencyGrid(((1, 8),))
            inside = {"memory_by_kind": {"activations_bytes": 1000 + number}, "flops": []}
            for kind, section in (("latency", {"latency": [cell]}), ("profile", {"profile": inside})):
                beside = run(method, kind=kind, grid=grid if kind == "latency" else None)
                if kind == "latency":  # which is in float32
                    beside = dataclasses.replace(beside, dtype="float32")
                found.append(
                    Result(
                        Record(
                            beside, beside.key, "ok", environment=ENVIRONMENT, started_at=method, **section
                        ),
                        None,
                    )
                )
        return found

    return made


def aged(results: Iterable[Result], seed: int) -> list[Result]:
    """The same in another order, done at other moments."""
    shuffled = list(results)
    random.Random(seed).shuffle(shuffled)
    return [
        dataclasses.replace(one, record=dataclasses.replace(one.record, started_at=f"2026-01-{day + 1:02d}"))
        for day, one in enumerate(shuffled)
    ]


def of(results: Iterable[Result], reference: str = "ia3") -> list[Table]:
    return tabulate(results, reference, ("full", "head"))


def said(table: Table) -> str:
    """All that a reader sees of a table, its title left out, which tells it from others."""
    return text([table], "markdown").split("\n", 1)[1] + text([table], "csv") + text([table], "html")


def test_a_store_with_many_settings_gives_the_tables_of_stores_with_one_each(
    world: Callable[[str], list[Result]],
) -> None:
    alone = {name: world(name) for name in WORLDS}
    together = of(aged(itertools.chain.from_iterable(alone.values()), 1))
    assert len(together) == len(WORLDS)
    by_setting = {table.setting: table for table in together}
    for name, results in alone.items():
        (table,) = of(results)
        assert by_setting[table.setting].rows == table.rows, name
        assert by_setting[table.setting].caption == table.caption
    kinds = {table.rows[0].costs.memory_by_kind["activations"] for table in together}
    assert len(kinds) == len(WORLDS)  # no step of another setting
    titles = [line for line in text(together, "markdown").splitlines() if line.startswith("### ")]
    assert len(set(titles)) == len(titles)


def test_neither_order_nor_age_nor_sorting_changes_a_figure(world: Callable[[str], list[Result]]) -> None:
    results = [*world("first"), *world("more steps"), *world("another task")]
    expected = text(of(results), "markdown")
    for seed in range(3):
        tables = of(aged(results, seed))
        assert text(tables, "markdown") == expected
        by_score = arranged(tables, None, "score:desc")
        assert [t.shown_rows[0].method for t in by_score] == ["ia3"] * 3
        assert [t.rows for t in by_score] == [t.rows for t in tables]
        assert summarise(by_score) == summarise(tables)


def test_processes_of_an_older_version_are_not_averaged_with_the_present_ones(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    trained = [result(make_run("lora", seed=seed), tmp_path, 0.8) for seed in range(2)]
    old = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, key=f"old {r.record.key}"))
        for r in trained
    ]
    (paired,) = pair([*old, *trained], trained).pairs
    assert paired.figures[0].change.value == 0 and paired.seeds_a == 2
    timed = []
    for process, (ms, key) in enumerate([(11.0, ""), (11.0, ""), (15.0, "older")]):
        latency = make_run("lora", seed=process, kind="latency")
        cell = {"batch": 1, "length": 8, "ms": {"base": [10.0] * 40, "lora": [ms] * 40}, "refusal": None}
        timed.append(Result(Record(latency, key or latency.key, "ok", latency=[cell]), None))
    (table,) = of([*trained, *timed], "full")
    assert table.rows[0].costs.latency[0].unmerged_ms == 11.0
    assert "1 of the 3 runs" in of([*trained, timed[-1]], "full")[0].caption


def test_a_metric_that_is_called_as_a_column_changes_no_other_figure(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    results = []
    for seed in range(2):
        one = result(make_run("lora", seed=seed), tmp_path, 0.8)
        assert one.folder is not None
        names = ("confidence", "score", "step", "step_ms", "task")
        blocks = pd.DataFrame({"block": np.arange(20), **{name: [0.25] * 20 for name in names}})
        blocks.to_parquet(one.folder / "pseudo_values.parquet")
        quality = {**(one.record.quality or {}), **dict.fromkeys(names, 0.25)}
        results.append(dataclasses.replace(one, record=dataclasses.replace(one.record, quality=quality)))
    row = json.loads(text(of(results), "json"))[0]["rows"][0]
    assert row["score"] == 0.8 and row["confidence"] == 0.95 and row["step_ms"] == 50.0
    assert {row[f"{name} (metric)"] for name in names} == {0.25}
    paired = pair(results, results)
    for limit in ("score:-1.0", "step:+5%", "score (metric):-1.0", "step (metric):-1.0"):
        judge([limit_of(limit)], paired.pairs)


def test_another_method_changes_no_other_row(
    world: Callable[[str], list[Result]], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    results = world("first")
    more = [result(make_run("adapter", seed=s, identity=IDENTITY), tmp_path / "more", 0.9) for s in range(2)]
    (before,), (after,) = of(results), of([*more, *results])
    for row in before.rows:
        other = after.labelled(row.label)
        assert other is not None
        # Of all comparisons together, and so of how many there are: Holm's p and the marks.
        assert other == dataclasses.replace(row, p_holm=other.p_holm, mark=other.mark)


def tried(run: Run, folder: Path, loss: float) -> list[Result]:
    """Two trials of a rate on validation."""
    found = []
    for seed in (1000, 1001):
        trial = dataclasses.replace(run, kind="tuning", seed=seed, half_decade=round(run.learning_rate * 1e3))
        one = result(trial, folder, 0.5)
        frame = pd.read_parquet(one.folder / "predictions.parquet") if one.folder else pd.DataFrame()
        frame.assign(nll=loss + 1e-3 * (frame["item"] % 7)).to_parquet(
            folder / trial.key / "predictions.parquet"
        )
        found.append(one)
    return found


def test_the_reference_is_the_tuned_rate_or_the_one_named_and_never_guessed(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    rates = {0.001: 0.2, 0.002: 0.8}
    runs = [
        result(make_run(method, seed=seed, learning_rate=rate), tmp_path, share, noise=seed)
        for rate, share in rates.items()
        for method in ("ia3", "lora")
        for seed in range(2)
    ]
    trials = [*tried(runs[2].record.run, tmp_path, 0.9), *tried(runs[6].record.run, tmp_path, 0.1)]
    for seed in range(2):
        (table,) = of(aged(runs, seed), "lora")
        assert table.reference is None and all(row.difference is None for row in table.rows)
        assert "lora has the learning rates 0.001 and 0.002" in table.footnotes[0] and len(table.rows) == 4
        (table,) = of(aged(runs, seed), "lora at 0.001")
        assert (
            table.reference == "lora at 0.001"
            and "Differences are to lora at learning rate 0.001" in table.caption
        )
        assert table.rows[1].difference and table.rows[1].difference.value == pytest.approx(0.6)
        (table,) = of(aged([*runs, *trials], seed), "lora")
        # Of the tuned method its tuned rate alone, which is the reference; of the other one both.
        assert [row.label for row in table.rows] == ["ia3 at 0.001", "ia3 at 0.002", "lora"]
        assert table.reference == "lora" and table.rows[2].learning_rate == 0.002 and table.rows[2].tuned
        assert any(
            "other learning rates, which are not shown: lora at 0.001" in note for note in table.footnotes
        )
    begun = dataclasses.replace(runs[2].record.run, learning_rate=0.005)  # interrupted after its first seed
    (as_before,) = of([*runs, *trials, *tried(begun, tmp_path, 0.05)[:1]], "lora")
    assert (
        as_before.reference == "lora" and as_before.rows[2].tuned and as_before.footnotes == table.footnotes
    )
    assert reference_among(runs, "lora at 2e-3") == "lora at 0.002"
    with pytest.raises(UsageError, match=r"lora has the learning rates 0.001, 0.002"):
        reference_among(runs, "lora at 0.5")


def test_a_rule_for_adding_seeds_holds_for_all_who_look(
    world: Callable[[str], list[Result]], tmp_path: Path
) -> None:
    results = [r for r in world("first") if r.record.run.kind == "training"]
    rule, wider = SeedSchedule(5.0, 2, 12), SeedSchedule(9.0, 2, 4)
    store = Store(tmp_path / "store")
    stored = []
    for one in results:
        with store.staging() as staging:
            (staging / "predictions.parquet").write_bytes((one.folder or staging).joinpath("predictions.parquet").read_bytes())  # fmt: skip
            stored.append(store.put(one.record, staging))
    assert of(results)[0].alpha == ALPHA
    seen = store.look_at(stored[0], dataclasses.asdict(rule))
    assert store.look_at(seen, dataclasses.asdict(rule)) is seen  # noted once
    again = [Result(one.record, one.folder) for one in store.all()]
    (table,) = of(again)
    assert table.alpha == rule.alpha(2) < ALPHA and text([table], "markdown") == text(tabulate(results, "ia3", (), rule), "markdown")  # fmt: skip
    store.look_at(store.find(seen.record.key), dataclasses.asdict(wider))
    (table,) = of(Result(one.record, one.folder) for one in store.all())
    assert table.alpha == rule.alpha(2) and sum("Seeds were added" in note for note in table.footnotes) == 2


def test_budgets_are_no_tasks(make_run: Callable[..., Run], tmp_path: Path) -> None:
    def runs(share: float, **changes: Any) -> list[Result]:
        length = changes.pop("max_length", 32)
        found = []
        for method, its in (("lora", share), ("ia3", 0.5)):
            for seed in range(2):
                run = make_run(method, seed=seed, **changes)
                run = dataclasses.replace(run, budget=dataclasses.replace(run.budget, max_length=length))
                found.append(result(run, tmp_path, its))
        return found

    two = [*runs(0.9), *runs(0.7, task="copy")]
    expected = summarise(of(two))[0].methods
    more = [*two, *runs(0.1, steps=24), *runs(0.2, steps=27)]
    assert [summary.methods for summary in summarise(of(more))] == [expected]
    longer = [*two, *runs(0.3, max_length=64), *runs(0.4, max_length=64, task="copy")]
    first, second = summarise(of(longer))
    assert first.methods == expected and second.methods != expected
    # A second version of a task's data can't be chosen for the reader.
    other = runs(0.3, identity={**two[0].record.run.identity, "data": "2"})
    assert not summarise(of([*two, *other]))


def test_what_b_lacks_is_named_and_passes_no_gate(make_run: Callable[..., Run], tmp_path: Path) -> None:
    def runs(side: str, steps: Iterable[int], seeds: int = 2) -> list[Result]:
        return [
            result(make_run("ia3", seed=seed, steps=n, task="synthetic"), tmp_path / side, 0.5)
            for n in steps
            for seed in range(seeds)
        ]

    paired = pair(runs("a", (4, 6)), runs("b", (4,)))
    assert [one.label for one in paired.pairs] == ["ia3 on synthetic with tiny-encoder, steps 4"]
    assert paired.gone == ("ia3 on synthetic with tiny-encoder, steps 6",)
    paired = pair(runs("c", (4,), 3), runs("d", (4,), 1))
    assert paired.gone == ("ia3 on synthetic with tiny-encoder, seeds 1, 2",)
    assert not pair(runs("e", (4, 6)), runs("f", (8,))).pairs  # which of the two is a guess
    assert pair(runs("g", (4,)), runs("h", (8,))).unlike  # one each: paired, and said to be unlike


def test_a_row_that_fails_a_check_takes_no_mark(make_run: Callable[..., Run], tmp_path: Path) -> None:
    def runs(merge: str) -> list[Result]:
        return [
            result(
                make_run(m, seed=s), tmp_path / merge, share, noise=s, merge=merge if m == "lora" else "pass"
            )
            for m, share in (("lora", 0.9), ("ia3", 0.7), ("full", 0.3))
            for s in range(3)
        ]

    sound, broken = runs("pass"), runs("fail")
    assert {row.method: row.mark for row in of(sound)[0].rows}["lora"] == "best"
    marks = {row.method: row.mark for row in of(broken)[0].rows}
    assert marks["lora"] == "" and marks["ia3"] == "best"
    (one,) = (p for p in pair(sound, broken).pairs if p.method == "lora")
    assert one.problem and "'merge' fails" in one.problem


def test_columns_are_what_another_program_makes_of_the_records(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """A column of each kind from the raw files by arithmetic of its own, and every format says the same."""
    draw = np.random.default_rng(0)
    results = []
    for method in ("lora", "full"):
        for seed in range(3):
            one = result(make_run(method, seed=seed), tmp_path, 0.5)
            assert one.folder is not None
            frame = pd.read_parquet(one.folder / "predictions.parquet")
            frame["score"] = draw.integers(0, 2, len(frame)).astype(float)
            frame["nll"] = draw.random(len(frame))
            frame.to_parquet(one.folder / "predictions.parquet")
            training = {**(one.record.training or {}), "step_s": (draw.random(20) + 0.1).tolist()}
            results.append(
                dataclasses.replace(one, record=dataclasses.replace(one.record, training=training))
            )
    records: dict[str, list[tuple[dict[str, Any], pd.DataFrame]]] = {}
    for one in results:
        raw = json.loads(one.record.to_text())
        frame = pd.read_parquet((one.folder or tmp_path) / "predictions.parquet")
        records.setdefault(raw["run"]["method"], []).append((raw, frame))

    def mean(method: str, column: str) -> float:
        return statistics.fmean(f for _, frame in records[method] for f in frame[column])

    steps = [s for raw, _ in records["lora"] for s in raw["training"]["step_s"][2:]]
    tokens = [t for raw, _ in records["lora"] for t in raw["training"]["tokens"][2:]]
    expected = {
        "score": mean("lora", "score"),
        "difference": mean("lora", "score") - mean("full", "score"),
        "nll": mean("lora", "nll"),
        "nll_difference": mean("lora", "nll") - mean("full", "nll"),
        "adapter_parameters": records["lora"][0][0]["parameters"]["adapter"],
        "stored_bytes": records["lora"][0][0]["parameters"]["stored_bytes"],
        "train_peak_bytes": statistics.median(r["memory"]["train"]["peak_above_model_bytes"] for r, _ in records["lora"]),
        "step_ms": statistics.median(steps) * 1e3,
        "tokens_per_s": sum(tokens) / sum(steps),
    }  # fmt: skip
    tables = of(results, "full")
    by_csv = next(r for r in csv.DictReader(io.StringIO(text(tables, "csv"))) if r["method"] == "lora")
    by_json = next(r for r in json.loads(text(tables, "json"))[0]["rows"] if r["method"] == "lora")
    for name, value in expected.items():
        assert float(by_csv[name]) == pytest.approx(value, rel=1e-6), name
        assert by_json[name] == pytest.approx(value, rel=1e-6), name
    (line,) = (one for one in text(tables, "markdown").splitlines() if one.startswith("| lora"))
    assert f"{expected['score'] * 100:.1f} ±" in line and f"{expected['difference'] * 100:+.1f} ±" in line
    assert f"{expected['step_ms']:.1f} (" in line and f"{expected['tokens_per_s']:,.0f} |" in line


def test_a_run_of_an_older_version_gives_way_to_the_same_of_this_one(
    world: Callable[[str], list[Result]],
) -> None:
    """After an update a store holds both: a seed is counted once, in whatever order they were done."""
    results = world("first")
    old = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, key=f"old {r.record.key}"))
        for r in results
    ]
    (expected,) = of(results)
    for number in range(2):
        (table,) = of(aged([*results, *old], number))
        assert [row.seeds_tried for row in table.rows] == [2, 2]
        assert table.caption == expected.caption and table.rows == expected.rows
    (only_old,) = of(old)
    assert "ANOTHER VERSION" in only_old.caption
    old_costs = [old[i] if r.record.run.kind == "profile" else r for i, r in enumerate(results)]
    count, said = sum(r.record.run.kind == "profile" for r in results), of(old_costs)[0].caption
    assert f" {count} of the {count + len(expected.records) + 2} runs are of ANOTHER VERSION" in said, said
    timed = [r.record for r in old if r.record.run.kind == "latency"]
    in_turns = dataclasses.replace(timed[0], run=joined([record.run for record in timed]))
    others = [r for r in old if r.record.run.kind != "latency"]
    assert (
        f"{len(others) + 1} of the {len(others) + 1} runs" in of([*others, Result(in_turns, None)])[0].caption
    )
