"""`peftbench verify`: a stored run done again, and whether it comes out as it did.

With the same versions, processor and threads every prediction is to be the same, bit for bit. Elsewhere, or where something changed, the
new score is to lie within the stored run's interval over items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import UsageError
from ..execution.launch import executed
from ..execution.restore import load_sources, where_it_was
from ..measure.environment import describe
from ..models.resolve import resolve_model
from ..plugins import build
from ..records.differences import differing, differing_software
from ..records.record import NOT_REPRODUCED, Record, between_0_and_1, check_verifiable
from ..records.results import Result, method_scores
from ..records.runs import Conditions
from ..stats.estimate import estimate

PLACES = (
    "processor",
    "threads",
    "gpu",
    "driver",
    "cuda",
    "platform",
)  # of the environment that results may depend on
# What a run looks at beside its own task, which must come out the same, too.
BESIDE = {"forgetting": "what it forgets of another text", "retained": "what it retains of other tasks"}


@dataclass(frozen=True)
class Reproduction:
    """What came of it."""

    outcome: str  # "bit for bit", "within its interval" or "not reproduced"
    metric: str
    then: float
    now: float
    half_width: float | None  # of the stored run's own interval, over items
    changed_items: int  # whose prediction or likelihood is another one
    items: int
    differs: tuple[str, ...]  # what is not as it was

    @property
    def reproduced(self) -> bool:
        return self.outcome != NOT_REPRODUCED


def verify(folder: Path, out: Path, plugins: Sequence[str], data_dir: str | None) -> Reproduction:
    """Do the run in `folder` again, its files in `out`, and compare.

    Raises:
        UsageError: its method, task, data or model are not here.
    """
    record = Record.from_file(folder / "record.json")
    check_verifiable(record)
    load_sources(record.run, plugins)
    run = record.run if data_dir is None else dataclasses.replace(record.run, data_dir=data_dir)
    with where_it_was(run):
        revision = resolve_model(run.model).revision
        now = build.run_identity(run.method, revision, build.task_identity(run.task))
        identity = {**record.run.identity, **now}
        conditions = Conditions(curve_points=len(record.curve or ()))
        again = executed(dataclasses.replace(run, identity=identity), out, conditions)
    again = Record.from_text(again.to_text())  # as the stored one was written and read
    return compare_runs(Result(record, folder), Result(again, out), _differences(record, identity))


def compare_runs(then: Result, now: Result, differs: Sequence[str]) -> Reproduction:
    """The verdict on a run that was done twice."""
    metric = (then.record.metric or {"name": "nll"})["name"]
    if metric not in (then.record.quality or {}):  # of a trial whose metric is dear
        metric = "nll"
    before, after = (float((result.record.quality or {})[metric]) for result in (then, now))
    one, other = then.predictions(), now.predictions()
    if one is None or other is None:
        raise UsageError(
            "the predictions of this run are missing in its folder; run it again into another --store"
        )
    changed = _changed(one, other)
    scores = method_scores([then], [then.record.run.seed])
    half = None
    if scores is not None and metric in scores.figures:
        share = between_0_and_1(then.record.metric or {"is_share": False}) and metric != "nll"
        half = estimate(scores.figures[metric], scores.groups[metric], share=share).half_width()
    beside = [
        said for name, said in BESIDE.items() if getattr(then.record, name) != getattr(now.record, name)
    ]
    outcome = NOT_REPRODUCED
    if changed == 0 and before == after and not beside:
        outcome = "bit for bit"
    elif _are_same_items(one, other) and half is not None and abs(after - before) <= half:
        outcome = "within its interval"
    return Reproduction(outcome, metric, before, after, half, changed, len(one), (*differs, *beside))


def _are_same_items(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether both were asked the same: a score on other items says nothing of this one."""
    names = [name for name in ("item", "reference") if name in one or name in other]
    return len(one) == len(other) and all(
        name in one and name in other and _column_equal(one[name], other[name]).all() for name in names
    )


def _changed(one: pd.DataFrame, other: pd.DataFrame) -> int:
    if len(one) != len(other):
        return max(len(one), len(other))
    same = np.ones(len(one), bool)
    for column in ("item", "prediction", "nll", "group"):
        if (column in one) != (column in other):
            return len(one)
        if column in one:
            same &= _column_equal(one[column], other[column])
    return int((~same).sum())


def _column_equal(one: pd.Series[Any], other: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """By item; what is predicted or wanted of one may be several numbers."""
    then, now = one.to_numpy(), other.to_numpy()
    equal = then == now if then.dtype != object else list(map(np.array_equal, then, now))
    return np.asarray(equal, bool)


def _differences(record: Record, identity: dict[str, Any]) -> list[str]:
    names = {
        "method": "the method's source",
        "task": "the task's source",
        "data": "the data",
        "model": "the model's files",
    }
    found = [said for name, said in names.items() if record.run.identity.get(name) != identity[name]]
    found += (
        ["the version of the program, which computes some results differently"] if record.is_older else []
    )
    then, now, sides = record.environment, describe(record.run.device), ("then", "now")
    return found + differing_software(then, now, sides) + differing(then, now, PLACES, sides)
