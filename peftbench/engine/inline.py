"""An engine without processes: each job is done in this one, when its events are asked for. For tests and for debuggers.

A crash of a job is a crash of the program, and a job shares memory and libraries' state with those before it, so that what it
measures of memory and time means little.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from pathlib import Path

from .answers import Doer, carry_out
from .jobs import Job, Look
from .protocol import Capacity, Event

KILLED = -9


class InlineEngine:
    """Jobs one after the other in this process."""

    def __init__(self, do: Doer) -> None:
        self._do = do
        self._waiting: deque[tuple[int, Job, Path]] = deque()
        self._said: deque[Event] = deque()
        self._jobs = 0

    def start(self, job: Job, out: Path) -> int:
        self._jobs += 1
        self._waiting.append((self._jobs, job, out))
        return self._jobs

    def events(self, timeout_s: float | None = None) -> list[Event]:
        """A job that has begun can't be left: it is done to its end, however long that takes."""
        if not self._said and self._waiting:
            self._do_next()
        found = list(self._said)
        self._said.clear()
        return found

    def kill(self, number: int) -> None:
        for waiting in list(self._waiting):
            if waiting[0] == number:
                self._waiting.remove(waiting)
                self._said.append({"job": number, "exit": KILLED})

    def close(self) -> None:
        self._waiting.clear()
        self._said.clear()

    def capacity(self) -> Capacity:
        return dataclasses.replace(Capacity.from_json(self._do(Look(), Path())), at_once=1)

    def _do_next(self) -> None:
        number, job, out = self._waiting.popleft()
        code = carry_out(job, out, self._do, lambda event: self._said.append({"job": number, **event}))  # type: ignore[typeddict-item]
        self._said.append({"job": number, "exit": code})
