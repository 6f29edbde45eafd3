"""A metric that asks for a column has one beside the primary one, in every text report; others have none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from peftbench import PeftbenchError
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.render.columns import columns_of, text_rows
from peftbench.tables.table import Table
from peftbench.tables.tabulate import tabulate

from ..support.results import result, text

BLOCKS = 50
ACCURACY = {"name": "accuracy", "higher_is_better": True, "is_share": True, "unit": "%", "has_column": True}
UNREAD = {"name": "unread", "higher_is_better": False, "is_share": True, "unit": "%", "has_column": True}
METRES = {"name": "metres", "higher_is_better": False, "is_share": False, "unit": "m", "has_column": True}
HIDDEN = {**UNREAD, "name": "hidden", "has_column": False}


def with_further(one: Result, values: dict[str, float]) -> Result:
    """The same with further metrics, of which each block of items tells the same."""
    assert one.folder is not None and one.record.quality is not None
    blocks = pd.DataFrame({"block": range(BLOCKS), **values})
    blocks.to_parquet(one.folder / "pseudo_values.parquet")
    record = dataclasses.replace(
        one.record,
        quality=one.record.quality | values,
        metrics=[ACCURACY, UNREAD, METRES, HIDDEN],
    )
    return Result(record, one.folder)


@pytest.fixture
def table(make_run: Callable[..., Run], tmp_path: Path) -> Table:
    found = {"unread": 0.0, "metres": 2.5, "hidden": 0.5}
    results = [
        with_further(result(make_run(method), tmp_path, share), found)
        for method, share in (("full", 0.9), ("lora", 0.5))
    ]
    (made,) = tabulate(results, "full", ("full",))
    return made


def test_it_stands_behind_the_score_and_its_difference(table: Table) -> None:
    headers, body = text_rows(table)
    assert headers[1:5] == ["accuracy %", "vs full (p)", "unread %", "metres m"]
    row = next(line for line in body if line[0].text == "lora")
    assert [cell.text for cell in row[3:5]] == ["0.0 ±7.5", "2.500 ±0.000"]
    for report in ("markdown", "latex"):
        assert "unread" in text([table], report) and text([table], report).count("0.0 ") >= 2


def test_a_share_that_nobody_has_is_known_no_better_than_its_items_tell(table: Table) -> None:
    """None of fifty may well be one of fourteen: the interval of 0 is not 0, as that of the primary metric is not."""
    (unread,) = (row.quality["unread"] for row in table.rows if row.method == "lora")
    assert unread.value == 0 and 0.05 < (unread.half_width() or 0) < 0.08


def test_it_is_a_column_that_can_be_asked_for(table: Table) -> None:
    asked = dataclasses.replace(table, columns=("method", "unread", "hidden"))
    assert [column.header(asked) for column in columns_of(asked)] == ["method", "unread %", "hidden"]
    assert text_rows(asked)[1][0][1].text.startswith("0.0 ±")


def test_a_run_that_did_not_come_to_it_has_a_dash(table: Table) -> None:
    bare = dataclasses.replace(table, rows=tuple(dataclasses.replace(row, quality={}) for row in table.rows))
    assert {line[3].text for line in text_rows(bare)[1]} == {"–"}


def test_a_record_holds_it_as_a_truth_value(table: Table) -> None:
    record: Record = table.records[0]
    assert Record.from_text(record.to_text()).metrics == [ACCURACY, UNREAD, METRES, HIDDEN]
    strange: list[dict[str, Any]] = [{**UNREAD, "has_column": "yes"}]
    with pytest.raises(PeftbenchError, match="has_column"):
        Record.from_text(dataclasses.replace(record, metrics=strange).to_text())
    before = [{name: fact for name, fact in UNREAD.items() if name != "has_column"}]
    assert Record.from_text(dataclasses.replace(record, metrics=before).to_text()).metrics == before
