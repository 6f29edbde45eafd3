"""What a table tells of other tasks: figures by hand, what is joined, and where they are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from peftbench.plugins import registry
from peftbench.records.results import RETAINED, RETAINED_PSEUDO_VALUES, Result
from peftbench.records.runs import Run
from peftbench.render.columns import arranged, text_rows
from peftbench.render.flat import flat_rows
from peftbench.tables.axes import axes_of
from peftbench.tables.gate import FAILED, INCONCLUSIVE, PASSED, judge, limit_of
from peftbench.tables.pairs import pair
from peftbench.tables.tabulate import tabulate

from ..support.results import result

Make = Callable[..., Run]
ACCURACY = {"name": "acc", "higher_is_better": True, "is_share": True, "unit": "%"}
ERROR = {"name": "rmse", "higher_is_better": False, "is_share": False, "unit": "m"}
BEFORE = np.arange(40) % 4 < 2  # of 40 items each in a group of its own: half are right


def looked(
    one: Result, after: Sequence[np.ndarray[Any, Any]], metrics: Sequence[dict[str, Any]] = (ACCURACY,)
) -> Result:
    """The same run with scores of other tasks after training, item by item."""
    assert one.folder is not None
    frames, told = [], []
    for place, (scores, metric) in enumerate(zip(after, metrics, strict=True)):
        items = pd.DataFrame({"task": place, "item": range(40), "group": [f"g{i}" for i in range(40)]})
        frames.append(
            items.assign(
                score_before=BEFORE.astype(float),
                score_after=scores.astype(float),
                nll_before=1.0,
                nll_after=1.5,
            )
        )
        figures = [{metric["name"]: float(its.mean())} for its in (BEFORE, scores)]
        told.append({"metric": metric, "items": 40, "before": figures[0], "after": figures[1]})
    pd.concat(frames).to_parquet(one.folder / RETAINED)
    blocks = {
        "task": np.zeros(0, int),
        "block": np.zeros(0, int),
        "before": np.zeros(0),
        "after": np.zeros(0),
    }
    pd.DataFrame(blocks).to_parquet(one.folder / RETAINED_PSEUDO_VALUES)
    return dataclasses.replace(one, record=dataclasses.replace(one.record, retained=told))


@pytest.fixture
def make(make_run: Make) -> Make:
    def of(
        method: str,
        seed: int = 0,
        retain: tuple[str, ...] = ("quiz:of=x,y",),
        source: str = "1",
        items: int = 40,
    ) -> Run:
        retain_items = items if retain else 0
        run = make_run(method, seed=seed, retain=retain, retain_items=retain_items)
        sources = {"retain": "\n".join([source] * len(retain))} if retain else {}
        return dataclasses.replace(run, identity={**run.identity, **sources})

    return of


def lost(count: int) -> np.ndarray[Any, Any]:
    """What is right after the first `count` right items were lost."""
    return BEFORE & (np.cumsum(BEFORE) > count)


def test_it_is_the_paired_difference_over_seeds_and_items(make: Make, tmp_path: Path) -> None:
    results = [looked(result(make("lora", seed), tmp_path, 0.8), [lost(2 + 2 * seed)]) for seed in (0, 1)]
    results.append(looked(result(make("full"), tmp_path, 0.7, seedless=True), [BEFORE]))
    (table,) = tabulate(results, "full", ())
    rows = {row.method: row for row in table.rows}
    (task,) = table.retained
    assert (task.spec, task.items, task.shown_metric) == ("quiz:of=x,y", 40, "acc %")
    found, nothing = rows["lora"].retained[task.name], rows["full"].retained[task.name]
    assert found.before == 0.5 and found.after == pytest.approx(0.5 - 3 / 40)
    assert found.difference.value == pytest.approx(-3 / 40) and found.difference.seeds == 2
    seeds, items = found.difference.parts or ()
    assert seeds.variance == pytest.approx(np.var([2 / 40, 4 / 40], ddof=1) / 2)
    mean = (lost(2).astype(float) + lost(4)) / 2 - BEFORE  # paired: what stays as it was tells of no spread
    assert items.variance == pytest.approx(np.var(mean, ddof=1) / 40)
    assert found.nll_difference.value == 0.5
    assert (nothing.difference.value, nothing.difference.half_width()) == (0.0, 0.0)
    assert nothing.difference.seeds == 2  # one run stands for all seeds


def test_where_it_is_shown(make: Make, tmp_path: Path) -> None:
    two = ("quiz:of=x,y", "quiz:of=x:y")  # whose columns would have one name
    results = [
        looked(result(make(method, retain=two), tmp_path, 0.8), [lost(2), lost(4) * 2.0], (ACCURACY, ERROR))
        for method in ("lora", "full")
    ]
    (table,) = tabulate(results, "full", ())
    first, second = (task.name for task in table.retained)
    assert first == "retained_quiz_of_x_y" and second.startswith(f"{first}_") and "," not in second + first
    headers, body = text_rows(table)
    place = headers.index("retained quiz:of=x,y: acc %")
    assert body[0][place].text.startswith("-5.0 ±") and body[0][place + 1].text.startswith("+0.300 ±")
    flat = flat_rows(table)[0]
    assert (flat[first], flat[f"{first}_before"], flat[f"{first}_after"]) == (pytest.approx(-0.05), 0.5, 0.45)
    assert flat[f"{first}_half_width"] > 0 and flat[f"{first}_nll"] == 0.5
    (chosen,) = arranged([table], f"method,{second}", f"{second}:desc")
    assert text_rows(chosen)[0] == ["method", "retained quiz:of=x:y: rmse m"]
    axes = {axis.name: axis for axis in axes_of(table)}
    assert axes[first].higher_is_better and not axes[second].higher_is_better
    shown = axes[first].values[0]
    assert shown is not None and shown.value == pytest.approx(-5.0)
    text = registry.get("report", "markdown").target([table])
    assert (
        "Before: quiz:of=x,y acc % 50.0 (40 items); quiz:of=x:y rmse m 0.5 (40 items, lower is better)."
        in text
    )
    assert "retained quiz" in registry.get("report", "html").target([table])


def test_scores_of_other_data_or_of_more_items_are_not_joined(make: Make, tmp_path: Path) -> None:
    one = looked(result(make("lora"), tmp_path, 0.8), [lost(2)])
    others: tuple[dict[str, Any], ...] = ({"source": "2"}, {"items": 30}, {"retain": ()})
    for place, other in enumerate(others):
        beside = result(make("full", **other), tmp_path / str(place), 0.8)
        more = result(make("ia3"), tmp_path / str(place), 0.8)
        results = [
            looked(more, [lost(3)]),
            looked(beside, [BEFORE]) if other.get("retain") is None else beside,
        ]
        (table,) = tabulate([one, *results], "full", ())
        has = {row.method: bool(row.retained) for row in table.rows}
        assert has == {"lora": True, "ia3": True, "full": False} and len(table.retained) == 1


def test_a_run_that_looked_stands_for_the_one_that_did_not(make: Make, tmp_path: Path) -> None:
    plain = result(make("lora", retain=()), tmp_path, 0.8)
    looks = looked(result(make("lora"), tmp_path, 0.8), [lost(2)])
    for order in ([plain, looks], [looks, plain]):
        (table,) = tabulate(order, "full", ())
        assert table.rows[0].seeds_tried == 1 and table.rows[0].retained


def test_a_gate_judges_what_is_retained_after_training(make: Make, tmp_path: Path) -> None:
    a = [looked(result(make("lora", seed), tmp_path / "a", 0.8), [lost(2)]) for seed in (0, 1)]
    b = [looked(result(make("lora", seed), tmp_path / "b", 0.8), [lost(12)]) for seed in (0, 1)]
    name = "retained_quiz_of_x_y"
    (both,) = pair(a, b).pairs
    (figure,) = both.named(name)
    assert figure.a == 0.45 and figure.b == pytest.approx(0.2) and figure.points == 100.0
    assert figure.change.value == pytest.approx(-0.25) and figure.change.seeds == 2
    limit = limit_of(f"{name}:-1.0")
    assert [judge([limit], pair(*sides).pairs)[0].outcome for sides in ((a, b), (a, a), (b, a))] == [
        FAILED,
        PASSED,
        PASSED,
    ]
    plain = [result(make("lora", seed, retain=()), tmp_path / "c", 0.8) for seed in (0, 1)]
    (alone,) = pair(a, plain).pairs
    assert name in alone.lacking and judge([limit], [alone])[0].outcome == INCONCLUSIVE


def test_without_it_a_table_says_nothing_of_it(make: Make, tmp_path: Path) -> None:
    (table,) = tabulate([result(make("lora", retain=()), tmp_path, 0.8)], "full", ())
    assert table.retained == () and "etained" not in registry.get("report", "markdown").target([table])
