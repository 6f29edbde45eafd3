"""What a running piece of work says: notices, phases and steps.

In a worker process they travel as JSON lines to the program that started it; elsewhere notices go to stderr and steps
nowhere. stdout belongs to tables.
"""

from __future__ import annotations

import json
import os
import sys

import psutil

_channel: int | None = None
_job: int | None = None
current_phase: str | None = None
current_step: int | None = None


def report_to(descriptor: int, job: int) -> None:
    """Send everything from here on to this file descriptor, as JSON lines that name the job."""
    global _channel, _job
    _channel, _job = descriptor, job


def send(event: dict[str, object]) -> None:
    """One event to the program that watches, if there is one. A line is short enough to be written in one piece."""
    if _channel is not None:
        os.write(_channel, (json.dumps({"job": _job, **event}) + "\n").encode())


def notify(text: str) -> None:
    """A line for the user."""
    if _channel is None:
        print(text, file=sys.stderr, flush=True)
    else:
        send({"notice": text[:2000]})


def phase(name: str) -> None:
    """What the run does from now on: load, train, score, ..."""
    global current_phase, current_step
    current_phase, current_step = name, None
    send({"phase": name, "memory": memory_now()})


def step(done: int, total: int) -> None:
    """How far the phase is."""
    global current_step
    current_step = done
    send({"step": done, "of": total})


def memory_now() -> dict[str, int]:
    """What this process holds: resident bytes, and those that torch allocated on a GPU it already uses."""
    reading = {"resident_bytes": int(psutil.Process().memory_info().rss)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        reading["allocated_bytes"] = int(torch.cuda.memory_allocated())
    return reading
