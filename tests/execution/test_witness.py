"""What training really did is counted, however it is cut into parts and whatever is scored on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from peftbench.execution.execute import execute
from peftbench.records.record import Record
from peftbench.records.runs import Conditions, Run

Make = Callable[..., Run]


def done(run: Run, folder: Path, curve_points: int = 0) -> Record:
    return execute(run, folder, Conditions(threads=1, curve_points=curve_points))


def outcomes(record: Record) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in record.checks or ()}


def failing(record: Record) -> dict[str, str]:
    return {check["name"]: check["detail"] for check in record.checks or () if check["outcome"] == "fail"}


def test_parts_of_a_step_and_a_curve_are_the_shared_budget(make_run: Make, tmp_path: Path) -> None:
    run = make_run("lora", steps=5)
    run = dataclasses.replace(run, budget=dataclasses.replace(run.budget, accumulate=2))
    record = done(run, tmp_path, curve_points=2)
    training = record.training or {}
    assert training["forward_passes"] == training["backward_passes"] == training["expected_passes"] == 10
    assert training["rows"] == training["expected_rows"] == 40
    assert (training["optimizer_steps"], training["other_optimizer_steps"]) == (5, 0)
    assert training["rate_factors"] == [1.0] and training["departures"] == []
    assert not failing(record)


def test_rates_that_a_method_declares_are_said_and_no_failure(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("lora-plus"), tmp_path)
    assert outcomes(record)["shared budget"] == "pass"
    (said,) = (record.training or {})["departures"]
    assert said.startswith("the learning rate times ")


def test_an_encoder_decoder_embeds_twice_a_pass(
    make_run: Make, checkpoint: Callable[[str], str], pairs: str, tmp_path: Path
) -> None:
    record = done(make_run("lora", checkpoint("t5"), task=pairs), tmp_path)
    assert (record.training or {})["forward_passes"] == 5 and not (record.training or {})["departures"]
    assert not failing(record)


def test_in_the_runs_own_type(make_run: Make, tmp_path: Path) -> None:
    record = done(make_run("lora", dtype="bfloat16"), tmp_path)
    assert outcomes(record)["merge"] == "pass", record.checks


def test_too_few_steps_blame_nobody(make_run: Make, tmp_path: Path) -> None:
    """A of LoRA has its first gradient in the second step."""
    assert outcomes(done(make_run("lora", steps=1), tmp_path))["all declared train"] == "not tested"
