"""Steps under torch.compile beside eager ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from peftbench.execution.execute import execute
from peftbench.records.record import Record
from peftbench.records.runs import ALONE, Run

Make = Callable[..., Run]


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_cost_run_times_compiled_steps_beside_eager_ones(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the compiler's front end alone: its code generator takes a minute."""
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    run = make_run("lora", model="tiny-decoder", kind="profile", steps=4, compile=True)
    record = execute(run, tmp_path, ALONE)
    found = (record.profile or {})["compiled"]
    assert len(found["eager_s"]) == len(found["compiled_s"]) == 4
    assert found["compile_s"] > sum(found["compiled_s"])  # which is why it has to pay
    assert counter.frame_count and "memory_by_kind" in (record.profile or {})
    Record.from_text(record.to_text())


def test_what_can_not_be_compiled_is_a_reason_and_no_failed_run(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any) -> Any:
        raise RuntimeError("no C++\ncompiler")

    monkeypatch.setattr(torch, "compile", broken)
    record = execute(make_run("lora", kind="profile", steps=2, seed=1, compile=True), tmp_path, ALONE)
    assert record.status == "ok" and len((record.training or {})["step_s"]) == 2
    assert record.profile == {"compiled": {"refusal": "RuntimeError: no C++ compiler"}}
    Record.from_text(record.to_text())
