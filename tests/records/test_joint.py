"""A process of several methods is read method by method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from peftbench.records.joint import joined, parts, record_parts
from peftbench.records.record import Record
from peftbench.records.runs import Run


def test_what_is_joined_comes_apart(make_run: Callable[..., Run]) -> None:
    sources = {"lora:rank=4": "a1 b2", "adapter": "c3"}  # with the hash of a file that the first one reads
    runs = [
        make_run(method, kind="latency", identity={"model": "m", "method": source})
        for method, source in sources.items()
    ]
    together = joined(runs)
    assert together.method == "lora:rank=4,adapter" and parts(together) == runs
    assert [part.key for part in parts(together)] == [run.key for run in runs] != [together.key]
    assert joined(runs[:1]) == runs[0] and parts(runs[0]) == runs[:1]


def test_a_method_that_was_left_out_failed_and_the_others_did_not(make_run: Callable[..., Run]) -> None:
    run = joined([make_run(method, kind="latency") for method in ("adapter", "lora")])
    cell = {"batch": 1, "length": 8, "ms": {"base": [1.0], "lora": [1.1]}, "refusal": None}
    record = Record(run, run.key, "ok", latency=[cell], meters={"left_out": {"adapter": "it raises"}})
    adapter, lora = record_parts(record)
    assert (adapter.status, adapter.reason, adapter.latency) == ("failed", "it raises", None)
    assert (lora.status, lora.latency, lora.key) == ("ok", [cell], lora.run.key)
    older = record_parts(dataclasses.replace(record, key="older"))
    assert [part.key for part in older] == ["older", "older"]
