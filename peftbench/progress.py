"""What a running piece of work says: notices, phases and steps.

Inside `reported_to` they go to whoever listens there, as dictionaries; elsewhere notices go to stderr and steps nowhere. stdout
belongs to tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .printable import printable

LONGEST_NOTICE = 900  # characters: an event is written in one piece, which a pipe grants to 4,096 bytes


@dataclass
class _Report:
    """A piece of work that somebody listens to, and how far it is."""

    send: Callable[[dict[str, Any]], None]
    phase: str | None = None
    step: int | None = None


_report: _Report | None = None


@contextmanager
def reported_to(send: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """For the block, what is said here goes to `send`."""
    global _report
    before, _report = _report, _Report(send)
    try:
        yield
    finally:
        _report = before


def send(event: dict[str, Any]) -> None:
    """One event to whoever listens."""
    if _report is not None:
        _report.send(event)


def notify(text: str) -> None:
    """A line for the user."""
    if _report is None:
        with suppress(OSError):  # a notice that nobody can be told ends nothing
            print(printable(text), file=sys.stderr, flush=True)
    else:
        send({"notice": text[:LONGEST_NOTICE]})


def phase(name: str) -> None:
    """What the run does from now on: load, train, score, ..."""
    if _report is not None:
        _report.phase, _report.step = name, None
        send({"phase": name, "memory": memory_now()})


def step(done: int, total: int) -> None:
    """How far the phase is."""
    if _report is not None:
        _report.step = done
        send({"step": done, "of": total})


def place() -> tuple[str | None, int | None]:
    """The phase and the step where the work is, as far as it has said."""
    return (None, None) if _report is None else (_report.phase, _report.step)


def memory_now() -> dict[str, int]:
    """What this process and those that it started hold: resident bytes, and those that torch allocated on a GPU this one already uses."""
    import psutil  # here: it takes an eighth of the help's time, and the help does not ask

    resident = psutil.Process().memory_info().rss
    for process in _children():
        with suppress(psutil.Error):  # it has just ended
            resident += psutil.Process(process).memory_info().rss
    reading = {"resident_bytes": int(resident)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        reading["allocated_bytes"] = int(torch.cuda.memory_allocated())
    return reading


def _children() -> list[int]:
    """The processes that this one started, where the system lists them."""
    try:
        return [
            int(child)
            for task in Path("/proc/self/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
