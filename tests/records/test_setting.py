"""What tells tables apart, field by field, and what passes, steps and comparisons are the same for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from peftbench.records.runs import Budget, LatencyGrid, Run
from peftbench.records.setting import comparable_in, setting_of

IDENTITY = {"model": "m", "task": "1", "data": "1", "method": "1"}
CHANGES: dict[str, dict[str, Any]] = {
    "model": {"model": "tiny-decoder"},
    "task": {"task": "copy"},
    "device": {"device": "cuda"},
    "dtype": {"dtype": "bfloat16"},
    "head rate": {"head_learning_rate": 1.0},
    "attention": {"attention": "eager"},
    "checkpointing": {"checkpointing": True},
    "packing": {"packing": True},
    "optimizer": {"optimizer": "adamw-8bit"},
    "steps": {"budget": Budget("custom", 6, None, 8, 1, 32)},
    "train items": {"budget": Budget("custom", 5, None, 8, 1, 32, train_items=9)},
    "length": {"budget": Budget("custom", 5, None, 8, 1, 33)},
    "batch": {"budget": Budget("custom", 5, None, 9, 1, 32)},
    "data": {"identity": {**IDENTITY, "data": "2"}},
    "task's version": {"identity": {**IDENTITY, "task": "2"}},
    "model's files": {"identity": {**IDENTITY, "model": "2"}},
    "budget's name": {"budget": Budget("quick", 5, None, 8, 1, 32)},
    "method": {"method": "full", "identity": {**IDENTITY, "method": "2"}},
    "rate": {"learning_rate": 1.0},
    "weight decay": {"weight_decay": 1.0},
    "seed": {"seed": 3},
    "forgetting": {"forgetting": "synthetic"},
    "retain": {"retain": ("synthetic",), "retain_items": 9},
}
SAME_TABLE = {"budget's name", "method", "rate", "weight decay", "seed", "forgetting", "retain"}
ANOTHER_PASS = {"model", "task", "device", "attention", "task's version", "model's files"}
ANOTHER_STEP = ANOTHER_PASS | {"dtype", "checkpointing", "packing", "optimizer", "steps", "data"}
SUMMED_UP = SAME_TABLE | {"task", "data", "task's version", "length"}


@pytest.mark.parametrize("name", CHANGES)
def test_each_field_tells_apart_what_it_should(name: str, make_run: Callable[..., Run]) -> None:
    run = make_run(identity=IDENTITY)
    one, other = setting_of(run), setting_of(dataclasses.replace(run, **CHANGES[name]))
    assert (one == other) == (name in SAME_TABLE)
    assert (hash(one) == hash(other)) == (name in SAME_TABLE)
    assert (one.forward_pass != other.forward_pass) == (name in ANOTHER_PASS)
    assert (one.training_step != other.training_step) == (name in ANOTHER_STEP | {"length", "batch"})
    assert (one.all_but_size == other.all_but_size) == (name in SAME_TABLE | {"train items"})
    assert (one.all_but_task == other.all_but_task) == (name in SUMMED_UP)
    alike = comparable_in(run) == comparable_in(dataclasses.replace(run, **CHANGES[name]))
    # Model and task are what a pair is made by; a preset's decay is what a difference may come from.
    assert alike == (name in SAME_TABLE - {"weight decay"} | {"model", "task"})


def test_inference_is_compared_without_a_budget(make_run: Callable[..., Run]) -> None:
    run = make_run(kind="latency", grid=LatencyGrid(((1, 8),), execution="compile"))
    other = dataclasses.replace(run, budget=Budget("custom", 6, None, 8, 1, 32))
    assert comparable_in(run) == comparable_in(other) and comparable_in(run)["execution"] == "compile"
