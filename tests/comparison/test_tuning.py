"""Equal tuning, seeds added in looks, and what tables make of them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftbench.comparison.tuning import SEEDS, tune
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Planned, Run
from peftbench.tables.rate_curve import rate_curve

from ..support.commands import TINY, peftbench

Make = Callable[..., Run]


class Bench:
    """Does trials by a known loss at each rate, and writes them down as results."""

    def __init__(self, folder: Path, losses: dict[str, Callable[[float], float]]) -> None:
        self.folder, self.losses = folder, losses
        self.done: list[Run] = []

    def __call__(self, planned: list[Planned]) -> list[Result]:
        import pandas as pd

        results = []
        for item in planned:
            run = item.run
            self.done.append(run)
            loss = self.losses[run.method](math.log10(run.learning_rate))
            if not math.isfinite(loss):
                results.append(Result(Record(run, run.key, "failed", "Diverged"), None))
                continue
            folder = self.folder / run.key
            folder.mkdir(exist_ok=True)
            draw = np.random.default_rng(run.seed)
            frame = pd.DataFrame({"nll": loss + draw.normal(0, 1e-3, 50), "group": np.arange(50).astype(str)})
            frame.to_parquet(folder / "predictions.parquet")
            results.append(Result(Record(run, run.key, "ok"), folder))
        return results


def reported(make_run: Make, *methods: str) -> list[Planned]:
    return [
        Planned(make_run(m, learning_rate=1e-3, seed=s), False, 1, 1, None, tunable=m != "head")
        for m in methods
        for s in range(2)
    ]


def test_an_edge_adds_a_rate_to_every_method_at_most_twice(make_run: Make, tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, {"lora": lambda r: abs(r + 2), "adapter": lambda r: abs(r + 3)}
    )  # best: 1e-2, 1e-3
    planned, trials = tune(reported(make_run, "lora", "adapter", "head"), 3, bench)
    rates = {item.run.method: item.run.learning_rate for item in planned}
    assert rates == {"lora": 1e-2, "adapter": 1e-3, "head": 1e-3}
    tried = {m: sorted({r.learning_rate for r in bench.done if r.method == m}) for m in ("lora", "adapter")}
    # lora: 1e-3 +- one, then 1e-2 (still an edge), then 3.2e-2; adapter as many, each time on its better side.
    assert tried["lora"] == [3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2] and len(tried["adapter"]) == 5
    assert len(trials) == 2 * 5 * len(SEEDS)
    assert all(run.kind == "tuning" and run.seed in SEEDS for run in bench.done)
    assert {run.scored_split for run in bench.done} == {"validation"}
    assert {item.run.scored_split for item in planned} == {"test"}


def test_no_edge_no_more_trials_and_divergence_is_survived(make_run: Make, tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"lora": lambda r: math.inf if r > -2.6 else abs(r + 3)})
    planned, trials = tune(reported(make_run, "lora"), 3, bench)
    assert {item.run.learning_rate for item in planned} == {1e-3} and len(trials) == 3 * len(SEEDS)
    (curve,) = [rate_curve(trials)]
    assert [t.reason for t in curve.trials] == [None, None, "Diverged"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


COMMON = [
    *TINY,
    "--latency-grid",
    "none",
    "--no-profile",
    "--methods",
    "lora",
    "--no-baselines",
    "--baseline",
    "adapter",
]


def test_tuning_end_to_end_reuses_its_runs(home: Path) -> None:
    tune = ["run", *COMMON, "--seeds", "2", "--store", "tuned", "--format", "json"]
    done = peftbench(*tune, "--tune", "1", cwd=home)
    assert done.returncode == 0, done.stderr
    before = {p.parent.parent.name for p in (home / "tuned").glob("*/*/record.json")}
    more = peftbench(*tune, "--tune", "3", cwd=home)
    assert more.returncode == 0, more.stderr
    (table,) = json.loads(more.stdout)
    after = {p.parent.parent.name for p in (home / "tuned").glob("*/*/record.json")}
    assert before < after
    for row in table["rows"]:
        assert row["tuned"] and row["tuning_trials"] in (3, 4, 5) and row["learning_rate"]
        curve = table["tuning"][row["label"]]
        assert {0, 1, -1} <= {t["half_decade"] for t in curve} and all(
            len(t["nll_by_seed"]) == 2 for t in curve
        )
    assert len({row["tuning_trials"] for row in table["rows"]}) == 1
    assert {row["reference"] for row in table["rows"]} == {"adapter-h"}
    assert any(row["difference"] is not None for row in table["rows"])
    assert any("tuned on validation" in note for note in table["footnotes"])
    trials = [Record.from_file(p) for p in (home / "tuned").glob("*/*/record.json")]
    folders = [p.parent for p in (home / "tuned").glob("*/*/record.json")]
    kept = [r.run.kind for r, f in zip(trials, folders, strict=True) if (f / "adapter.safetensors").exists()]
    assert "tuning" not in kept and "training" in kept
    again = peftbench(*tune, "--tune", "3", cwd=home)
    assert again.stdout == more.stdout
    report = peftbench("report", "--store", "tuned", "--baseline", "adapter", cwd=home)
    assert report.returncode == 0 and "tuned on validation" in report.stdout, report.stderr
    wrong = peftbench("report", "--store", "tuned", "--baseline", "adaptor", cwd=home)
    assert wrong.returncode == 2 and "did you mean 'adapter-h'" in wrong.stderr


def test_until_adds_seeds_and_says_so(home: Path) -> None:
    command = ["run", *COMMON, "--seeds", "2", "--format", "json", "--max-seeds", "4"]
    done = peftbench(*command, "--until", "0.001", "--store", "looks", cwd=home)
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)
    assert any("Seeds were added until differences of 0.001 points" in note for note in table["footnotes"])
    (same,) = json.loads(
        peftbench("report", "--store", "looks", "--baseline", "adapter", "--format", "json", cwd=home).stdout
    )
    assert same["footnotes"] == table["footnotes"]  # the rule is in the records
    easy = peftbench(*command, "--until", "100", "--store", "easy", cwd=home)
    assert {row["seeds_good"] for row in json.loads(easy.stdout)[0]["rows"]} == {2}


@pytest.mark.parametrize(
    ("given", "steps", "epochs", "seeds", "trials", "name"),
    [
        ({}, 120, None, 3, 0, "quick"),
        ({"budget": "standard"}, None, 1.0, 5, 3, "standard"),
        ({"budget": "standard", "seeds": 3, "tune": 0}, None, 1.0, 3, 0, "standard"),
        ({"budget": "standard", "learning_rate": 1e-3}, None, 1.0, 5, 0, "standard"),
        ({"steps": 7}, 7, None, 3, 0, "custom"),
        ({"epochs": 2.0}, None, 2.0, 3, 0, "custom"),
        ({"tune": 5}, 120, None, 3, 5, "quick"),
    ],
)
def test_budgets(given: Any, steps: Any, epochs: Any, seeds: int, trials: int, name: str) -> None:
    from peftbench.comparison.request import Comparison

    asked = Comparison(("lora",), **given)
    budget = asked.resolve_budget()
    assert (budget.steps, budget.epochs, asked.first_seeds, asked.trials, budget.name) == (
        steps, epochs, seeds, trials, name,
    )  # fmt: skip


def test_a_trial_has_a_key_of_its_own(make_run: Make) -> None:
    run = make_run()
    assert dataclasses.replace(run, kind="tuning").key != run.key
    assert dataclasses.replace(run, half_decade=2).key == run.key
