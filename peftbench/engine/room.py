"""How many runs there is room for at once: each has cores of its own and memory, or a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records.record import Record
from ..records.runs import MEASURED_ALONE, Planned, Run
from .protocol import Engine

MOST_IN_A_QUEUE = 256  # runs; many schedulers take arrays of a thousand at most
SPARE = 1.25  # of the memory that runs were seen to take: so much must be there for them


class Room:
    """Of one sweep, on the machine that its engine stands for."""

    def __init__(
        self, jobs: int, cores: int | None = None, memory_bytes: int = 0, apart: bool = False
    ) -> None:
        """`cores` and `memory_bytes` that runs share; None: as many runs as `jobs` says, whatever they take. `apart`: they share nothing."""
        self.jobs, self.cores, self.memory_bytes, self.apart = jobs, cores, memory_bytes, apart
        self.seen_bytes: dict[str, int] = {}  # most that a process with that model took

    @classmethod
    def of(cls, planned: Iterable[Planned], jobs: int | None, engine: Engine) -> Room:
        """As many at once as were asked for, of runs on several GPUs as many as there are GPUs for; else a run a GPU, or as many as the cores and the memory allow."""
        capacity = engine.capacity()
        if capacity.apart:
            return cls(MOST_IN_A_QUEUE if jobs is None else jobs, apart=True)
        if capacity.at_once is not None:
            return cls(capacity.at_once)
        on_gpus = [item.run for item in planned if item.run.device == "cuda"]
        most = max((run.ranks for run in on_gpus), default=1)
        gpus = capacity.device("cuda")
        fitting = 1 if gpus is None else max(1, gpus.count // most)
        if jobs is not None:
            return cls(min(jobs, fitting) if most > 1 else jobs)  # each has GPUs of its own
        if on_gpus:
            return cls(fitting)
        processor = capacity.device("cpu")
        return cls(capacity.cores, capacity.cores, 0 if processor is None else processor.memory_bytes)

    def has(self, run: Run, others: Sequence[Run]) -> bool:
        """Whether a run may begin beside the others."""
        if not others or self.apart:
            return True
        if any(one.kind in MEASURED_ALONE for one in (run, *others)):
            return False
        if self.cores is None:
            return True
        together = (run, *others)
        if any(one.model not in self.seen_bytes for one in together):  # one alone tells
            return False
        return (
            sum(one.threads * one.ranks for one in together) <= self.cores
            and SPARE * sum(self.seen_bytes[one.model] * one.ranks for one in together) <= self.memory_bytes
        )

    def learn(self, record: Record) -> None:
        """What a process with its model takes."""
        peaks = [peak for peak in (record.memory or {}).values() if peak is not None]
        taken = max((peak.get("peak_resident_bytes") or 0 for peak in peaks), default=0)
        if taken > self.seen_bytes.get(record.run.model, 0):
            self.seen_bytes[record.run.model] = taken
