"""What carries jobs to where they are done: the one seam between the program and any machine.

An engine is started with nothing, is given typed jobs (`engine.jobs`), and tells of them in events. When the event `exit` of a
job comes, the job's folder holds what it left: its files, `answer.json`, and `log.txt` with all that it printed. The program
asks the engine what devices there are, and never the machine that it runs on itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    from .jobs import Job


class Event(TypedDict, total=False):
    """What a job says. `job` is always there, beside one kind of news."""

    job: int  # its number
    phase: str  # what it does from now on: load, train, score, ...
    step: int  # how far the phase is,
    of: int  # and where it ends
    download: str  # what comes from the network,
    done_bytes: int  # how far it is,
    of_bytes: int  # and where it ends
    memory: dict[str, int]  # resident_bytes, and allocated_bytes of a GPU
    notice: str  # a line for the user
    again: bool  # it was lost on its way, and is begun anew
    unwritable: str  # a disk that every further job would fail on
    started: dict[str, Any]  # a run, as the sweep hands it to an engine
    exit: int  # the last event: 0, a status, or minus the number of a signal


@dataclass(frozen=True)
class Device:
    """Devices of one kind where the jobs are done."""

    kind: str  # "cpu" or "cuda"
    count: int  # GPUs; of "cpu" always 1
    memory_bytes: int  # of each; of "cpu" what the system grants a process
    bfloat16: bool  # whether products in bfloat16 run at speed


@dataclass(frozen=True)
class Capacity:
    """What an engine has to give, the preferred kind of device first."""

    devices: tuple[Device, ...]
    cores: int  # that jobs may share
    apart: bool = False  # each job waits for a machine of its own, or a part of one, however many there are
    at_once: int | None = None  # jobs that it does at the same time; None: as many as there is room for

    def device(self, kind: str) -> Device | None:
        """The devices of a kind, "auto" for the preferred one; None where there are none."""
        if kind == "auto":
            return self.devices[0]
        return next((device for device in self.devices if device.kind == kind), None)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Capacity:
        devices = tuple(Device(**one) for one in data["devices"])
        return cls(devices, data["cores"], data["apart"], data.get("at_once"))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Engine(Protocol):
    """Carries jobs and listens to them; several may be at work at once."""

    def start(self, job: Job, out: Path) -> int:
        """Begin a job whose files go into the folder `out`; returns its number."""

    def events(self, timeout_s: float | None = None) -> list[Event]:
        """What the jobs have said since; waits for something, at most `timeout_s`.

        Raises:
            PeftbenchError: the engine itself is lost.
        """

    def kill(self, number: int) -> None:
        """End a job now; its exit is an event like any other's. One that has ended is left alone."""

    def close(self) -> None:
        """End everything. May be called twice."""

    def capacity(self) -> Capacity:
        """What devices there are where the jobs are done."""


@runtime_checkable
class Scripted(Protocol):
    """An engine that hands a script to a scheduler."""

    def script(self) -> str:
        """The script, without the job."""
