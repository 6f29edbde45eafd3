"""What compiled steps give, and when they pay for the compiling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.tables.compiled import Compiled, compiled_of
from peftbench.tables.tabulate import tabulate

from ..support.results import result, text

Make = Callable[..., Run]


def of(run: Run, compiled: dict[str, Any]) -> Record:
    training = {
        "steps": 2,
        "step_s": [0.02, 0.02],
        "data_s": [0.0, 0.0],
        "tokens": [9, 9],
        "gradient_norms": [1.0, 1.0],
    }
    return Record(run, run.key, "ok", training=training, profile={"compiled": compiled})


def test_compiling_pays_after_its_time_over_what_a_step_saves(make_run: Make, tmp_path: Path) -> None:
    faster = {"eager_s": [0.020, 0.050], "compiled_s": [0.015, 0.035], "compile_s": 9.995}
    run = make_run("lora", kind="profile", compile=True)
    found = compiled_of([of(run, faster)])
    assert isinstance(found, Compiled)
    assert found.step_ms == pytest.approx(25) and found.ratio == pytest.approx((20 / 15 + 50 / 35) / 2)
    assert found.pays_after_steps == 1_000
    slower = compiled_of([of(run, faster | {"eager_s": [0.010, 0.010]})])
    assert isinstance(slower, Compiled) and slower.pays_after_steps is None
    assert compiled_of([of(run, {"refusal": "no compiler"})]) == "no compiler"
    records = [of(run, faster), of(make_run("ia3", kind="profile", compile=True), {"refusal": "no compiler"})]
    trained = [result(make_run(method), tmp_path, 0.7) for method in ("lora", "ia3")]
    (table,) = tabulate([*trained, *(Result(record, None) for record in records)], "lora", ())
    shown = text([table], "markdown")
    assert "lora 1.38 times as fast, compiled in 10.0 s, pays after 1,000 steps" in shown
    assert "ia3 not possible (no compiler)" in shown and "compiled step ms" in shown
    (plain,) = tabulate(trained, "lora", ())
    assert "ompiled" not in text([plain], "markdown")
