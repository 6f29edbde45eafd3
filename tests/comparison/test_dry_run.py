"""A plan says what its seeds can decide."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats as scipy_stats

from peftbench.comparison.dry_run import plan_text, what_seeds_decide
from peftbench.comparison.request import Comparison
from peftbench.comparison.suite import Suite
from peftbench.engine.sweep import Execution
from peftbench.records.record import Record
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

METRIC = {"name": "accuracy", "higher_is_better": True, "is_share": True, "unit": "%"}


@pytest.fixture
def planned(make_run: Callable[..., Run]) -> list[Planned]:
    """Four methods and three seeds."""
    methods = ("full", "lora", "bitfit", "ia3")
    return [Planned(make_run(m, seed=s), False, 1, 1, None) for m in methods for s in range(3)]


def test_without_results_it_is_said_for_usual_spreads(planned: list[Planned], tmp_path: Path) -> None:
    (said,) = what_seeds_decide(planned, Store(tmp_path / "store"))
    least = scipy_stats.t.isf(0.025 / 3, 2) * math.sqrt(2 / 3)
    assert (
        f"spread by 0.3 points, 3 seeds show differences from about {0.3 * least:.1f} points on and 1 point needs"
        in said
    )
    assert f"; 1 points, 3 seeds show differences from about {least:.1f} points on and 1 point needs" in said
    (one,) = what_seeds_decide([item for item in planned if item.run.seed == 0], Store(tmp_path / "store"))
    assert "one seed shows no difference" in one
    store = Store(tmp_path / "store")
    suite = Suite((Comparison(("lora",), tune=0),), {})
    assert said in plan_text(suite, [planned], store, Execution())
    part = plan_text(suite, [planned[::2]], store, Execution(shard=(1, 2)))  # of two methods, say
    assert "0/" in part and "where seeds spread" not in part
    budget = dataclasses.replace(planned[0].run.budget, train_items=1000)
    few = [dataclasses.replace(i, run=dataclasses.replace(i.run, budget=budget)) for i in planned]
    assert f"{planned[0].run.task}, 1,000 training items, 4 methods" in what_seeds_decide(few, store)[0]
    alone = [item for item in planned if item.run.method == "full"]
    assert not what_seeds_decide(alone, Store(tmp_path / "store"))


def test_results_in_the_store_tell_the_spread(planned: list[Planned], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for item in planned[:6]:
        value = 0.8 + 0.02 * (item.run.seed - 1)
        made = Record(item.run, item.run.key, "ok", quality={"accuracy": value}, metric=METRIC)
        with store.staging() as folder:
            store.put(made, folder)
    (said,) = what_seeds_decide(planned, store)
    assert "spread by 2 points, 3 seeds show" in said and "needs 50, as those in the store do" in said
