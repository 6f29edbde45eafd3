"""What an engine can be asked to do, as typed data that travels to it. How each is done is not known here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from ..from_json import from_json
from ..records.runs import Conditions, Run
from .protocol import Capacity


@dataclass(frozen=True)
class Job:
    """One piece of work."""

    name: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Plan(Job):
    """From a comparison, as asked for, to its runs."""

    name = "plan"
    asked: dict[str, Any]  # `Comparison` as JSON
    capacity: Capacity


@dataclass(frozen=True)
class PlanLatency(Job):
    """From a latency measurement, as asked for, to its processes."""

    name = "plan of latency"
    asked: dict[str, Any]  # `LatencyRequest` as JSON
    capacity: Capacity


@dataclass(frozen=True)
class Execute(Job):
    """One planned run; its answer is its record."""

    name = "run"
    run: Run
    conditions: Conditions


@dataclass(frozen=True)
class CheckPlugin(Job):
    """Whether a method keeps its claims, or a task holds up."""

    name = "check"
    what: str  # SPEC, or a file
    plugins: tuple[str, ...]
    data_dir: str | None


@dataclass(frozen=True)
class Verify(Job):
    """A stored run, done again."""

    name = "verification"
    folder: str
    plugins: tuple[str, ...]
    data_dir: str | None
    threads: int | None  # of the stored run


@dataclass(frozen=True)
class Export(Job):
    """What a stored run trained, as files that other programs read."""

    name = "export"
    folder: str
    to: str
    merged: bool
    step: int | None  # after which; None: at the end
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class Analyze(Job):
    """Low-rank updates of a stored run or a checkpoint, and what two of them share."""

    name = "analysis"
    one: str
    other: str | None
    only: str | None
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class Look(Job):
    """What devices there are."""

    name = "look at the devices"


JOBS: dict[str, type[Job]] = {
    job.name: job for job in (Plan, PlanLatency, Execute, CheckPlugin, Verify, Export, Analyze, Look)
}


def job_from_json(message: dict[str, Any]) -> Job:
    """The job that `Job.to_json` wrote."""
    kind = JOBS[message["name"]]
    return from_json(kind, {name: value for name, value in message.items() if name != "name"})
