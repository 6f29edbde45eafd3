"""What a reviewer would ask stands under the table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from peftbench.records.results import Result
from peftbench.tables.tabulate import tabulate

from ..support.plan import Make
from ..support.results import result


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
