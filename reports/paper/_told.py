"""A line for whoever waits, after each run of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peftbench.engine.protocol import Event
from peftbench.records.runs import Planned
from peftbench.records.store import Stored


@dataclass
class Told:
    """Follows the runs of an experiment."""

    say: Callable[[str], None]
    line: Callable[[Planned, Stored], str]  # what is said of a run
    total: int = 0
    number: int = 0

    def planned(self, planned: list[Planned]) -> None:
        self.total, self.number = len(planned), 0

    def event(self, event: Event) -> None: ...

    def done(self, item: Planned, stored: Stored) -> None:
        self.number += 1
        self.say(f"[{self.number}/{self.total}] {self.line(item, stored)}")
