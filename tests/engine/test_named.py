"""Engines by name: a new one is one file behind an entry point."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.comparison.compare import compare
from peftbench.comparison.request import Comparison
from peftbench.engine.inline import InlineEngine
from peftbench.engine.named import GROUP, engine_named, names
from peftbench.engine.protocol import Capacity, Device
from peftbench.jobs import inline_engine
from peftbench.records.store import Store


class Elsewhere(InlineEngine):
    """As a cluster would be: it has other devices than this machine."""

    def capacity(self) -> Capacity:
        return Capacity((Device("cuda", 2, 10**9, True), Device("cpu", 1, 10**9, False)), cores=64)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("an_engine")
    module.make, module.broken = (lambda: Elsewhere(inline_engine()._do)), None
    monkeypatch.setitem(sys.modules, "an_engine", module)
    points = importlib.metadata.EntryPoints(
        [
            importlib.metadata.EntryPoint("elsewhere", "an_engine:make", GROUP),
            importlib.metadata.EntryPoint("lost", "no_such_module:make", GROUP),
        ]
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: points.select(**wanted))


@pytest.mark.usefixtures("elsewhere")
def test_an_entry_point_is_an_engine_and_is_asked_what_devices_there_are(tmp_path: Path) -> None:
    assert names() == ["elsewhere", "inline", "local", "lost", "ray", "slurm"]
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic:train_items=64:test_items=40",), steps=2, seeds=1,
        baselines=False, profile=False, latency_grid=(), device="cpu",
    )  # fmt: skip
    with engine_named("elsewhere") as engine:
        compared = compare(asked, Store(tmp_path / "runs"), engine)
    assert compared.good and compared.results[0].record.run.dtype == "float32"  # its CPU has no bfloat16


@pytest.mark.usefixtures("elsewhere")
def test_what_there_is_not_is_said_in_a_line() -> None:
    with (
        pytest.raises(UsageError, match="unknown engine 'loacl'; did you mean 'local'"),
        engine_named("loacl"),
    ):
        pass
    with (
        pytest.raises(UsageError, match="engine 'lost' does not import: ModuleNotFoundError"),
        engine_named("lost"),
    ):
        pass


@pytest.mark.usefixtures("elsewhere")
def test_runs_at_once_are_limited_by_the_engines_gpus(tmp_path: Path) -> None:
    from peftbench.engine.sweep import Execution

    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic",), baselines=False, latency_grid=()
    )
    with (
        engine_named("elsewhere") as engine,
        pytest.raises(
            UsageError, match="--jobs 3 needs a GPU for each run, and this machine has 2; use --jobs 2"
        ),
    ):
        compare(asked, Store(tmp_path / "runs"), engine, Execution(jobs=3))
