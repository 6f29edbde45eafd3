"""Asking for work that leaves nothing in the store: it ends in time, and says what it could not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.engine.answers import ask
from peftbench.engine.jobs import Job, Look
from peftbench.engine.protocol import Capacity, Device, Event


class Slow:
    """An engine whose job ends when it is killed."""

    def __init__(self) -> None:
        self.killed = False

    def start(self, job: Job, out: Path) -> int:
        return 1

    def events(self, timeout_s: float | None = None) -> list[Event]:
        return [{"job": 1, "exit": -9}] if self.killed else []

    def kill(self, number: int) -> None:
        self.killed = True

    def close(self) -> None: ...

    def capacity(self) -> Capacity:
        return Capacity((Device("cpu", 1, 10**9, False),), 1)


class Full(Slow):
    """An engine whose job finds a full disk."""

    def events(self, timeout_s: float | None = None) -> list[Event]:
        return [
            {"job": 1, "unwritable": "/x can't be written: No space left on device"},
            {"job": 1, "exit": 1},
        ]


def test_a_plan_is_ended_when_its_time_is_over() -> None:
    engine = Slow()
    with pytest.raises(UsageError, match="took longer than --timeout 0.01 s"):
        ask(Look(), engine, timeout_s=0.01)
    assert engine.killed


def test_a_full_disk_is_the_reason() -> None:
    with pytest.raises(UsageError, match="^/x can't be written: No space left on device; free some space"):
        ask(Look(), Full())


def test_a_temporary_folder_that_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with pytest.raises(UsageError, match=r"no temporary folder can be made \(No space left on device\)"):
        ask(Look(), Slow())
