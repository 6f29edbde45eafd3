"""Records read back as they were, in strict JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from peftbench import PeftbenchError
from peftbench.records.record import Record
from peftbench.records.runs import Run

Make = Callable[..., Run]


def test_a_record_reads_back_as_it_was(make_run: Make) -> None:
    run = make_run()
    record = Record(run, run.key, "ok", training={"losses": [1.0, 0.5]}, quality={"accuracy": 0.75})
    assert Record.from_text(record.to_text()) == record


def test_json_is_strict(make_run: Make) -> None:
    run = make_run()
    text = Record(run, run.key, "failed", quality={"a": float("nan"), "b": float("inf")}).to_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["quality"] == {
        "a": None,
        "b": None,
    }


def test_schemas_are_named() -> None:
    with pytest.raises(PeftbenchError, match="schema 7, this program reads 4"):
        Record.from_text('{"schema": 7}')
