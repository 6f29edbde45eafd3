"""Seeds that ran to their end and learned nothing are found by what they ended with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from peftbench.records.failed_seeds import failed_seeds, why_failed
from peftbench.records.record import Record
from peftbench.records.runs import Run

ACCURACY = {"name": "accuracy", "higher_is_better": True, "is_share": True, "unit": "%"}
RMSE = {"name": "rmse", "higher_is_better": False, "is_share": False, "unit": ""}
CHANCE = {"loss": 0.693, "score": 0.51}


def record(run: Run, losses: list[float], score: float, **changes: Any) -> Record:
    made = Record(run, run.key, "ok", training={"losses": losses}, quality={"accuracy": score, "rmse": score})
    return dataclasses.replace(made, **{"metric": ACCURACY, "constant": CHANCE, **changes})


@pytest.mark.parametrize(
    ("losses", "score", "said"),
    [
        ([0.7] * 30 + [0.3] * 10, 0.85, None),
        ([0.7] * 40, 0.85, "its loss ends at 0.7, that of the best constant answer is 0.693"),
        ([0.3] * 30 + [0.69] * 10, 0.85, "its loss ends at 0.69"),  # it fell back
        ([0.69] * 30 + [0.3] * 10, 0.51, "its accuracy of 0.51 is that of the best constant answer, 0.51"),
        ([0.69] * 30 + [0.3] * 10, 0.49, "its accuracy"),  # the rarer label for all
        ([0.69] * 30 + [0.3] * 10, 0.52, None),
        ([0.7], 0.85, "its loss ends"),
    ],
)
def test_a_run_that_ends_at_chance_failed(make_run: Callable[..., Run], losses: list[float], score: float, said: str | None) -> None:  # fmt: skip
    why = why_failed(record(make_run("lora"), losses, score))
    assert why is None if said is None else why is not None and why.startswith(said)


def test_lower_may_be_better(make_run: Callable[..., Run]) -> None:
    run, chance = make_run("lora"), {"loss": None, "score": 2.0}
    assert why_failed(record(run, [1.0], 1.9, metric=RMSE, constant=chance)) is None
    assert why_failed(record(run, [1.0], 2.0, metric=RMSE, constant=chance)) is not None


def test_what_tells_nothing_is_not_judged(make_run: Callable[..., Run]) -> None:
    run = make_run("lora")
    assert why_failed(record(run, [0.7], 0.5, constant=None)) is None  # of an older program
    assert why_failed(record(run, [9.0], 0.9, constant={"loss": None, "score": None})) is None
    assert why_failed(record(run, [0.7], 0.5, training={"fit_s": 1.0})) is None  # solved, not trained
    no_room = {"loss": 0.7, "score": 1.0}  # all answers are one
    assert why_failed(record(run, [0.3], 1.0, constant=no_room)) is None
    assert why_failed(record(run, [0.7], 0.5, status="failed")) is None


def test_failed_seeds_by_seed(make_run: Callable[..., Run]) -> None:
    runs = [record(make_run("prefix", seed=s), [loss], 0.8) for s, loss in enumerate((0.3, 0.69, 0.2))]
    assert list(failed_seeds(runs)) == [1]
