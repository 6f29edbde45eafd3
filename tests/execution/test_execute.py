"""One run from start to end: what stands in its record, phase by phase."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.errors import NotSupported
from peftbench.execution import reload, score
from peftbench.execution.execute import execute
from peftbench.execution.prepare import inject
from peftbench.execution.train import train
from peftbench.measure import energy
from peftbench.measure.memory import MemoryMeter
from peftbench.plugins import registry
from peftbench.records.record import FAIL, Check, Record
from peftbench.records.runs import Conditions, Run
from peftbench.tables.quantities import ENERGY, TRAIN_ENERGY


def test_energy_is_that_of_its_phase(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that takes 3 J to train and 8 J to score."""
    used = {"microjoules": 0.0}

    def taking(joules: float, phase: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*given: Any, **named: Any) -> Any:
            used["microjoules"] += joules * 1e6
            return phase(*given, **named)

        return metered

    monkeypatch.setattr(energy, "rapl", lambda powercap: {"package": used["microjoules"]})
    monkeypatch.setattr("peftbench.execution.execute.train", taking(3.0, train))
    monkeypatch.setattr(score.Scorer, "predict", taking(8.0, score.Scorer.predict))
    record = Record.from_text(execute(make_run(steps=1), tmp_path, Conditions()).to_text())
    assert record.scoring == {
        "items": 40,
        "rows": 40,
        "of_items": 40,
        "graph_is_base": False,
        "taken_by": "RAPL packages",
        "energy_j": 8.0,
    }
    assert record.constant is not None and record.constant["loss"] == pytest.approx(math.log(2), abs=0.05)
    assert 0.5 <= (record.constant["score"] or 0) <= 0.7  # two labels: of the 40 test items the commoner one
    assert ENERGY.of_runs([record]) == pytest.approx(0.2) and TRAIN_ENERGY.of_runs([record]) == 3.0


def test_memory_is_above_the_same_in_a_cost_run_as_in_training(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the base: what a method keeps beside it, as VeRA's frozen matrices, counts as the method's."""
    marks = []
    monkeypatch.setattr(
        MemoryMeter, "mark_model", lambda meter, model, added_bytes=0: marks.append(added_bytes)
    )
    for kind in ("training", "profile"):
        execute(make_run("vera", kind=kind, steps=1), tmp_path, Conditions())
    assert marks[0] == marks[1] > 10_000


def test_the_trained_model_is_gone_before_another_one_is_read(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of a size that just fits would not."""
    trained: list[weakref.ref[Any]] = []
    there: list[bool] = []

    def injected(*given: Any) -> Any:
        prepared = inject(*given)
        trained.append(weakref.ref(prepared.adaptation.model))
        return prepared

    def reloaded(*given: Any) -> list[Check]:
        there.append(trained[0]() is not None)
        return []

    monkeypatch.setattr("peftbench.execution.execute.inject", injected)
    monkeypatch.setattr(reload, "reloaded", reloaded)
    execute(make_run("full", steps=2), tmp_path, Conditions(curve_points=1))
    assert there == [False]


@pytest.mark.parametrize("method", ["prefix", "peft-boft"])
def test_claims_hold_over_a_bfloat16_base(
    method: str, make_run: Callable[..., Run], pairs: str, tmp_path: Path
) -> None:
    """What rounding a prefix, or a merged layer, adds is not what settling or merging is off by."""
    run = make_run(method, "tiny-decoder", task=pairs, dtype="bfloat16", weights="bfloat16")
    checks = {check["name"]: check for check in execute(run, tmp_path, Conditions()).checks or ()}
    assert [name for name, check in checks.items() if check["outcome"] == FAIL] == []
    if method == "peft-boft":
        assert checks["merge"]["figures"]["merge"] < 1e-3 < checks["merge"]["figures"]["cast"]


@pytest.mark.cuda
@pytest.mark.parametrize("model", ["tiny-encoder", "tiny-decoder"])
@pytest.mark.parametrize("method", sorted({*registry.load("method"), "peft-boft"} - {"peft"}))
def test_every_method_keeps_its_claims_on_a_gpu(
    method: str, model: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """In 16 bit from the checkpoint on, as large models are trained."""
    run = make_run(method, model, device="cuda", dtype="bfloat16", weights="bfloat16")
    try:
        record = execute(run, tmp_path, Conditions())
    except NotSupported:
        pytest.skip("not for this model")
    assert [check for check in record.checks or [] if check["outcome"] == FAIL] == []
    assert record.memory is not None and record.memory["train"]
    assert record.memory["train"]["taken_by"] == "cuda allocator"
