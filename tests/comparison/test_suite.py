"""From a suite and what is typed beside it to comparisons, and from their runs to one table."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.cli.app import main
from peftbench.comparison.compare import compare_all, planned_parts
from peftbench.comparison.dry_run import plan_rows, plan_text
from peftbench.comparison.suite import Suite
from peftbench.engine.named import engine_named
from peftbench.engine.sweep import Execution
from peftbench.errors import UsageError
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

TINY: dict[str, Any] = {
    "model": "tiny-encoder", "task": "synthetic", "latency_grid": "none", "profile": False, "seeds": 2,
}  # fmt: skip


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Suite]:
    def of(text: str, **given: Any) -> Suite:
        file = tmp_path / "one.toml"
        file.write_text(text, encoding="utf-8")
        return Suite.of(given, str(file))

    return of


def test_words_with_several_values_are_comparisons(suite: Callable[..., Suite]) -> None:
    asked = suite(
        "steps = [4, 8]\npacking = [true, false]\nmethods = 'lora:rank=2|4,bitfit'\ntrain-size = [10, 'all']"
    )
    assert [(c.steps, c.packing) for c in asked.comparisons] == [(4, True), (4, False), (8, True), (8, False)]
    assert {c.methods for c in asked.comparisons} == {("lora:rank=2", "lora:rank=4", "bitfit")}
    assert {c.train_sizes for c in asked.comparisons} == {(10, None)}


def test_what_is_typed_holds(suite: Callable[..., Suite]) -> None:
    text = """
    steps = [4, 8]
    jobs = 1
    [[model]]
    name = "tiny-encoder"
    [[model]]
    name = "tiny-decoder"
    batch-size = 2
    steps = 3
    [[method]]
    name = "lora"
    lr = 1e-3
    """
    both = suite(text)
    assert [(c.models, c.steps, c.batch_size, c.learning_rate) for c in both.comparisons] == [
        (("tiny-encoder",), 4, None, 1e-3),
        (("tiny-encoder",), 8, None, 1e-3),
        (("tiny-decoder",), 3, 2, 1e-3),
    ]
    assert both.words["jobs"] == 1
    (one,) = suite(text, steps="5", model="tiny-decoder", lr="0.5", methods="bitfit").comparisons
    assert (one.models, one.steps, one.batch_size, one.learning_rate, one.methods) == (
        ("tiny-decoder",), 5, 2, 0.5, ("bitfit",),
    )  # fmt: skip


def test_what_is_typed_holds_over_what_can_not_stand_beside_it(suite: Callable[..., Suite]) -> None:
    text = "steps = 3\n[[method]]\nname = 'lora'\nlr = 0.1"
    (one,) = suite(text, epochs="1").comparisons
    assert (one.steps, one.epochs, one.learning_rate) == (None, 1.0, 0.1)
    (one,) = suite(text, tune="3").comparisons
    assert (one.tune, one.learning_rate) == (3, None)


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("steps = []", {}, "suite '.*one.toml': steps has no value"),
        ("jobs = [1, 2]", {}, r"suite '.*': jobs is of the whole suite and takes one value, not \[1, 2\]"),
        ("steps = 'x'", {}, "suite '.*': --steps must be a whole number, not 'x'"),
        ("steps = 3\nepochs = 1.0", {}, "suite '.*': --steps and --epochs exclude each other"),
        ("steps = 3", {"steps": "x"}, "^--steps must be a whole number"),
        ('quiet = "yes"', {}, "suite '.*': --quiet must be True or False, not 'yes'"),
        (
            f"steps = {list(range(1, 200))}\nseeds = {list(range(1, 200))}",
            {},
            "39,601 comparisons, above 10,000",
        ),
    ],
)
def test_mistakes_are_named(text: str, given: dict[str, Any], said: str, suite: Callable[..., Suite]) -> None:
    with pytest.raises(UsageError, match=said):
        suite(text, **given)


def test_a_slip_of_the_finger_is_asked_about(suite: Callable[..., Suite]) -> None:
    large = suite("methods = 'lora:rank=1|2|3|4:alpha=1|2|3|4|5'\nseeds = [100]\nbaselines = false")
    large.check_count(yes=True)
    with pytest.raises(UsageError, match="this is 2,020 training runs or more; add --yes"):
        suite("methods = 'lora:rank=1|2|3|4:alpha=1|2|3|4|5'\nseeds = 101\nbaselines = false").check_count(
            False
        )
    large.check_count(yes=False)


def test_combinations_are_left_out_by_what_they_are(suite: Callable[..., Suite]) -> None:
    """By any name of a method, and by the values of its fields, be they defaults."""
    words = """
    model = "tiny-encoder"
    methods = "lora,lora:rank=4,adapter"
    task = ["synthetic", "synthetic:train_items=64"]
    seeds = 1
    baselines = false
    profile = false
    latency-grid = "none"
    """

    def left(*tables: str) -> list[str]:
        asked = suite(words + "\n".join(f"[[exclude]]\n{table}" for table in tables))
        with engine_named("inline") as engine:
            (kept,) = planned_parts(asked, engine, Execution())
        return [f"{item.run.method} {item.run.task}" for item in kept]

    small = "synthetic:train_items=64"
    assert left("method = 'lora:rank=8'\nmodel = 'tiny-encoder'") == [
        "lora:rank=4 synthetic", "adapter-h synthetic", f"lora:rank=4 {small}", f"adapter-h {small}",
    ]  # fmt: skip
    assert left(f"method = 'adapter'\ntask = '{small}'", "method = 'lora'") == ["adapter-h synthetic"]
    narrow = suite(words + "[[exclude]]\nmethod = 'adapter'", methods="lora")
    with engine_named("inline") as engine:
        assert len(planned_parts(narrow, engine, Execution())[0]) == 2
    for table, said in (
        ("method = 'bitfit'", "of method 'bitfit' leaves out nothing"),
        ("model = 'tiny-decoder'", "of model 'tiny-decoder' leaves out nothing"),
        ("model = 'tiny-encoder'", "leaves no method to run"),
        ("method = 'lara'", "unknown method 'lara'; did you mean"),
        ("method = 'lora:rnk=4'", "unknown field of method 'lora': 'rnk'"),
    ):
        with pytest.raises(UsageError, match=said):
            left(table)


def test_comparisons_of_a_suite_stand_in_one_table(suite: Callable[..., Suite], tmp_path: Path) -> None:
    """Each run once, though two comparisons ask for it; a plan says what is to do and how long like runs took."""
    asked = suite(
        "[[method]]\nname = 'lora'\nlr = [0.01, 0.001]\n[[method]]\nname = 'bitfit'", **TINY, steps="2"
    )
    store, how = Store(tmp_path / "runs"), Execution()
    heard: list[int] = []

    class Watcher:
        def planned(self, planned: list[Planned]) -> None:
            heard.append(len(planned))

        def event(self, event: Any) -> None: ...

        def done(self, item: Planned, stored: Any) -> None:
            heard.append(-1)

    with engine_named("inline") as engine:
        plans = planned_parts(asked, engine, how)
        assert "How long they take is not known" in plan_text(asked, plans, store, how)
        (compared,) = compare_all(asked, store, engine, how, Watcher())
        (table,) = compared.tables
        assert sum(row["to do"] for row in plan_rows(asked, plans, store, how)) == 0
        more = suite("methods = 'lora'\nseeds = 3", **{**TINY, "seeds": 3}, steps="2", lr="0.01")
        text = plan_text(more, planned_parts(more, engine, how), store, how)
    assert {row.method for row in table.rows} >= {"bitfit", "full", "head"}
    assert len(table.rows) == 5 and sum("lora" in row.method for row in table.rows) == 2
    runs = {item.run.key for plan in plans for item in plan}
    assert sum(n for n in heard if n > 0) == len(runs) == -sum(n for n in heard if n < 0)
    assert re.search(r"About \d+ s, one after the other: 3 as like runs in the store took\.", text)


def test_the_runs_of_one_comparison_are_those_of_the_command(
    make_run: Callable[..., Run], suite: Callable[..., Suite]
) -> None:
    with engine_named("inline") as engine:
        words = {**TINY, "methods": "lora:rank=4", "steps": 2}
        typed = planned_parts(Suite.of(words, None), engine, Execution())
        text = "model = 'tiny-encoder'\ntask = 'synthetic'\nlatency-grid = 'none'\nprofile = false\nseeds = 2\nsteps = 2\n"
        in_file = planned_parts(suite(text + "[[method]]\nname = 'lora'\nrank = 4"), engine, Execution())
    assert [dataclasses.asdict(item) for item in typed[0]] == [
        dataclasses.asdict(item) for item in in_file[0]
    ]


def test_a_method_that_is_left_out_is_not_timed_either(suite: Callable[..., Suite]) -> None:
    words = {**TINY, "latency_grid": "1x8", "seeds": 1}
    asked = suite("methods = 'lora,bitfit,adapter'\n[[exclude]]\nmethod = 'adapter'", **words, steps="2")
    with engine_named("inline") as engine:
        (planned,) = planned_parts(asked, engine, Execution())
    latency = [item.run.method for item in planned if item.run.kind == "latency"]
    assert set(latency) == {"lora"} and not any("adapter" in item.run.method for item in planned)


def test_machines_share_the_runs_of_all_comparisons(suite: Callable[..., Suite]) -> None:
    """Each run is of one part, exclusions hold in each, and no part is left without work for that the comparisons are small."""
    text = "[[method]]\nname = 'lora'\nlr = [0.1, 0.2, 0.3, 0.4]\n[[exclude]]\nmethod = 'head'"
    asked = suite(text, **{**TINY, "seeds": 1}, steps="2")
    with engine_named("inline") as engine:
        whole = {i.run.key for plan in planned_parts(asked, engine, Execution()) for i in plan}
        parts = [
            {i.run.key for plan in planned_parts(asked, engine, Execution(shard=(n, 3))) for i in plan}
            for n in (1, 2, 3)
        ]
    assert set.union(*parts) == whole and sum(map(len, parts)) == len(whole) == 5
    assert all(1 <= len(part) <= 2 for part in parts)


def test_a_reference_with_a_rate_of_its_own_is_there_once(
    suite: Callable[..., Suite], tmp_path: Path
) -> None:
    """As in peft-mc: the table has differences."""
    text = """
    baseline = "lora:rank=4"
    baselines = false
    [[method]]
    name = "lora:rank=4"
    lr = 1e-4
    [[method]]
    name = "bitfit"
    lr = [1e-3, 2e-3]
    """
    asked = suite(text, **TINY, steps="2")
    with engine_named("inline") as engine:
        plans = planned_parts(asked, engine, Execution())
        assert [{i.run.method for i in plan} for plan in plans] == [{"lora:rank=4"}, {"bitfit"}, {"bitfit"}]
        (compared,) = compare_all(asked, Store(tmp_path / "runs"), engine)
    (table,) = compared.tables
    assert table.reference == "lora:rank=4" and len(table.rows) == 3
    assert sum(row.nll_difference is not None for row in table.rows) == 2


def test_a_mistake_in_the_last_comparison_costs_nothing(suite: Callable[..., Suite], tmp_path: Path) -> None:
    text = "gpus-per-run = [1, 2]\nmethods = 'lora'\nbaselines = false\ncheckpoint-every = 1"
    asked = suite(text, **TINY, steps="2")
    store = Store(tmp_path / "runs")
    with engine_named("inline") as engine, pytest.raises(UsageError, match="does not serve runs in several"):
        compare_all(asked, store, engine, Execution(checkpoint_every=1))
    assert not store.root.exists()


def test_from_the_command_line_what_is_not_typed_is_the_suites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one.toml"
    words = "task = 'synthetic'\nlatency-grid = 'none'\nprofile = false\nbaselines = false\nseeds = 2\nsteps = 2\nquiet = true\n"
    file.write_text(
        words + "model = 'tiny-encoder'\nmethods = 'lora:rank=2|3'\nformat = 'csv'\nengine = 'inline'\n"
    )
    command = ["run", str(file), "--store", str(tmp_path / "runs"), "--seeds", "1"]
    with pytest.raises(SystemExit) as left:
        main(command)
    said = capsys.readouterr()
    head, *rows = csv.reader(said.out.splitlines())
    methods = [row[head.index("method")] for row in rows]
    assert left.value.code == 0 and methods == ["lora:rank=2", "lora:rank=3"], said
    assert said.err == "" and len(list((tmp_path / "runs").glob("*/0001"))) == 2
    with pytest.raises(SystemExit) as left:
        main([*command, "--suite", "quick"])
    assert left.value.code == 2 and "are two suites; name one" in capsys.readouterr().err
