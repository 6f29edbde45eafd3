"""One method that stops the process of all costs the others nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from peftbench.comparison.compare import compare
from peftbench.comparison.one_by_one import one_by_one, without_dead
from peftbench.comparison.request import Comparison
from peftbench.engine.named import engine_named
from peftbench.records.joint import joined
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

STOPS = '''
import os
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("stops", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Stops(LoRA):
    """Ends its process at a batch of 13."""
    def inject(self, model):
        def look(module, inputs, given):
            if len(given["input_ids"]) == 13:
                os._exit(9)
        model.register_forward_pre_hook(look, with_kwargs=True)
        return super().inject(model)
'''


def test_a_process_that_died_is_replaced_by_one_a_method(make_run: Callable[..., Run]) -> None:
    alone = [make_run(method, kind="latency", seed=1) for method in ("lora", "prefix")]
    runs = [make_run("lora"), joined(alone), dataclasses.replace(joined(alone), seed=2), alone[0]]
    planned = [Planned(run, False, None, None, None) for run in runs]
    records = [
        Record(run, run.key, status)
        for run, status in zip(runs, ("ok", "failed", "ok", "failed"), strict=True)
    ]
    results = [Result(record, None) for record in records]
    assert [item.run for item in one_by_one(planned, results)] == alone
    left, kept = without_dead(planned, results)
    assert [item.run for item in left] == [result.record.run for result in kept] == [runs[0], *runs[2:]]


def test_the_others_are_timed_all_the_same(cache: object, tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(STOPS)
    asked = Comparison(
        ("stops", "lora"), ("tiny-encoder",), ("synthetic",), baselines=False, seeds=1, steps=2, profile=False,
        latency_grid=((13, 8),), latency_budget_s=0.1, plugins=(str(tmp_path / "stops.py"),),
    )  # fmt: skip
    store = Store(tmp_path / "runs")
    with engine_named() as engine:
        compared = compare(asked, store, engine)
        (table,) = compared.tables
        rows = {row.label: row.costs.latency for row in table.rows}
        assert rows["lora"][0].unmerged and not rows["stops"]
        notes = [note for note in table.footnotes if "latency run" in note]
        assert notes == ["stops: 3 of its 3 latency runs failed: ended with status 9."]
        assert not compared.good
        held = {stored.record.key for stored in store.all()}
        again = compare(asked, store, engine)
    assert {stored.record.key for stored in store.all()} == held  # nothing is done twice
    assert again.tables[0].footnotes == table.footnotes
