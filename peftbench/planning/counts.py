"""What is known of a method on a model before anything runs, from the model without weights."""

from __future__ import annotations

import copy
import dataclasses
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import spec
from ..engine.protocol import Device
from ..errors import NotSupported, PeftbenchError, UsageError
from ..execution import prepare
from ..measure.parameters import count, count_parameters
from ..models.load import Loaded
from ..objectives.base import Objective
from ..plugins import registry
from ..records.runs import Run
from . import feasibility


@dataclass(frozen=True)
class Counts:
    """Of one method on one model and task."""

    adapter: int | None  # numbers that train beside the head
    head: int | None
    refusal: str | None  # why the method can't serve the model here
    has_steps: bool  # it trains in steps, and is not solved in one go
    whole_split: bool = False  # what solves it sees every item of the training split, whatever the budget
    model: int | None = None  # numbers of the whole model
    stored: int | None = None  # numbers that are saved of the method
    graph_is_base: bool = False  # at inference it is the base with other numbers in it


class Bases:
    """Models without weights: one is read once, and every method of a model and task gets a copy of it."""

    def __init__(self) -> None:
        self._last: tuple[Any, Loaded] | None = None

    def copy_for(self, run: Run, objective: Objective | None) -> Loaded:
        """The run's model on the meta device, for nobody else."""
        of = (run.model, run.task, run.weights, run.attention, run.kind == "latency")
        if self._last is None or self._last[0] != of:
            self._last = (of, prepare.load_base(run, objective, "meta"))
        loaded = self._last[1]
        model, head = copy.deepcopy((loaded.model, loaded.head))
        return dataclasses.replace(loaded, model=model, head=head)


def counts_of(run: Run, device: Device, bases: Bases) -> Counts:
    """Let the run's method into its model on the meta device, and see whether it fits the device.

    Raises:
        UsageError: what the method was asked for is wrong.
    """
    model = None
    try:
        objective = prepare.objective_of(run)
        loaded = bases.copy_for(run, objective)
        model = count(loaded.model.parameters())
        if (long := feasibility.why_too_long(loaded.model, objective, run)) is not None:
            raise NotSupported(long)
        try:
            prepared = prepare.inject(run, loaded, "meta")
        except NotSupported:
            raise
        except PeftbenchError as error:
            raise UsageError(f"{run.method}: {error}") from error
        except Exception as error:
            raise NotSupported(_raised(error, run.method)) from error
        has_steps = prepared.adaptation.fit is None
        trains = has_steps and run.kind != "latency"
        if (reason := feasibility.why_not_fitting(prepared, trains, device, run)) is not None:
            raise NotSupported(reason)
    except NotSupported as error:
        return Counts(None, None, str(error), False, model=model)
    counted = count_parameters(prepared.adaptation, prepared.head, prepared.base)
    whole_split, same = prepared.adaptation.whole_split, prepared.graph_is_base
    return Counts(counted.adapter, counted.head, None, has_steps, whole_split, model, counted.stored, same)


def _raised(error: Exception, method: str) -> str:
    """What a method's inject raised, and where in its own file, if it was there."""
    own = registry.get("method", spec.parse(method).name).path.name
    frames = traceback.extract_tb(error.__traceback__)
    at = next((f for f in reversed(frames) if Path(f.filename).name == own), frames[-1])
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"its inject() raises {said} ({Path(at.filename).name}, line {at.lineno})"
