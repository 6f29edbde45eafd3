"""Scores by the number of training items."""

from __future__ import annotations

from pathlib import Path

from peftbench.execution.execute import execute
from peftbench.plugins import registry
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Conditions
from peftbench.render.flat import flat_rows
from peftbench.tables.tabulate import tabulate
from peftbench.tables.train_sizes import by_size

from ..support.plan import Make, sized
from ..support.results import result


def test_scores_by_size(make_run: Make, tmp_path: Path) -> None:
    results = []
    for method in ("lora", "full"):
        for size in (8, 30, None):
            if (method, size) == ("full", 30):
                continue
            run = sized(make_run(method, steps=2), size)
            out = tmp_path / f"{method}{size}"
            out.mkdir()
            results.append(Result(execute(run, out, Conditions()), out))
    tables = tabulate(results, "full", ("full",))
    assert sorted(table.settings["train_items"] or 0 for table in tables) == [0, 8, 30]
    (found,) = by_size(tables)
    assert found.sizes == (8, 30, None)
    assert [row is not None for row in found.rows["full"]] == [True, False, True]
    text = registry.get("report", "markdown").target(tables)
    assert "### accuracy % by training items, synthetic" in text and "from 30 training items" in text
    assert "test are whole" not in text  # which a budget with scored items makes untrue
    assert "| full     |" in text and "(30 training items) with tiny-encoder" in text
    flat = flat_rows(tables[0])
    assert flat[0]["train_items"] == tables[0].settings["train_items"]
    assert not by_size(tables[:1])


def test_sizes_of_other_data_are_not_put_together(make_run: Make, tmp_path: Path) -> None:
    results = []
    for size, data in ((8, "1"), (None, "2")):
        run = sized(
            make_run(steps=1, identity={"model": "m", "task": "1", "data": data, "method": "1"}), size
        )
        results.append(Result(Record(run, run.key, "failed", "x"), None))
    assert len(tabulate(results, "full", ())) == 2 and not by_size(tabulate(results, "full", ()))


def test_a_rate_of_each_size_makes_no_line_together(make_run: Make, tmp_path: Path) -> None:
    def lines(rate: float) -> list[str]:
        runs = [(make_run("lora", learning_rate=0.01), 8), (make_run("lora", learning_rate=rate), None)]
        made = [result(sized(run, size), tmp_path / str(rate), 0.5) for run, size in runs]
        return list(by_size(tabulate(made, "full", ()))[0].rows)

    assert lines(0.01) == ["lora"] and lines(0.02) == ["lora at 0.01", "lora at 0.02"]
