"""A run reads its base once, a trial checks what it needs, and a check that runs out of memory is not tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.execution import execute as executed
from peftbench.execution import prepare, relations, reload
from peftbench.execution.execute import execute
from peftbench.records.record import PASS, Check
from peftbench.records.runs import Conditions, Run

ALONE = Conditions(threads=1)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of the runs that read a base, each time that one did."""
    seen: list[str] = []

    def load(run: Run, *arguments: Any) -> Any:
        seen.append(run.method)
        return prepare.load_base(run, *arguments)

    for module in (executed, reload):
        monkeypatch.setattr(module, "load_base", load)
    return seen


def test_a_base_that_is_as_it_was_is_read_once(
    make_run: Callable[..., Run], loads: list[str], tmp_path: Path
) -> None:
    for method in ("lora", "full"):
        (tmp_path / method).mkdir()
        checks = execute(make_run(method), tmp_path / method, ALONE).checks
        outcomes = {one["name"]: one["outcome"] for one in checks or ()}
        assert outcomes["save and load"] == "pass" and "fail" not in outcomes.values()
    assert loads == ["lora", "full", "full"]


def test_a_base_that_keeps_a_hook_is_read_anew(make_run: Callable[..., Run]) -> None:
    run = make_run("lora")
    for hooked in (False, True):
        loaded = prepare.load_base(run, prepare.objective_of(run), "cpu")
        prepared = prepare.inject(run, loaded, "cpu")
        if hooked:
            loaded.model.register_forward_hook(lambda *_: None)
        again = reload.base_again(run, loaded, prepared, [Check("base unchanged", PASS)])
        assert again is (None if hooked else loaded)


def test_a_trial_is_not_loaded_again(make_run: Callable[..., Run], loads: list[str], tmp_path: Path) -> None:
    record = execute(make_run("full", kind="tuning"), tmp_path, ALONE)
    assert loads == ["full"] and record.quality is not None
    assert "save and load" not in {one["name"] for one in record.checks or ()}


def test_a_check_without_memory_is_not_tested(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(relations, "each_alone", none_left)
    monkeypatch.setattr(reload, "inject", none_left)
    record = execute(make_run("lora"), tmp_path, ALONE)
    outcomes = {one["name"]: one["outcome"] for one in record.checks or ()}
    assert record.status == "ok" and "fail" not in outcomes.values()
    assert {name for name, outcome in outcomes.items() if outcome == "not tested"} == {
        "items alone", "settings", "seed", "save and load",
    }  # fmt: skip
