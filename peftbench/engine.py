"""Runs a plan: each run in a process of its own, its record put into the store before the next one starts.

This side never imports torch. It starts the worker, hands it jobs and listens.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import PeftbenchError, UsageError
from .progress import notify
from .record import Record
from .runs import Planned
from .store import Store, Stored

Watch = Callable[[dict[str, Any]], None]


class Worker:
    """The worker process; one job at a time."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C reaches the program, which then ends the worker.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peftbench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"},
        )

    def do(self, job: dict[str, Any], out: Path, watch: Watch) -> tuple[int, dict[str, Any] | None]:
        """Do a job with its files in `out`; returns the exit code of its process and its answer, if it gave one."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write((json.dumps({**job, "out": str(out.resolve())}) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeftbenchError(f"the worker process ended with status {self.process.wait()}") from None
        for line in self.process.stdout:
            event = json.loads(line)
            if "exit" in event:
                answer = out / "answer.json"
                content = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else None
                answer.unlink(missing_ok=True)
                return event["exit"], content
            watch(event)
        raise PeftbenchError(f"the worker process ended with status {self.process.wait()}")

    def close(self) -> None:
        """End it, and what it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


@contextmanager
def worker() -> Iterator[Worker]:
    """A worker for the block."""
    started = Worker()
    try:
        yield started
    finally:
        started.close()


def make_plan(asked: Any, works: Worker) -> list[Planned]:
    """Ask the worker for the plan of a comparison.

    Raises:
        UsageError: nothing of it can run; the message is the plan's own.
    """
    with tempfile.TemporaryDirectory(prefix="peftbench-") as folder:
        out = Path(folder)
        code, answer = works.do({"job": "plan", "asked": dataclasses.asdict(asked)}, out, _only_notices)
        if answer is None:
            raise PeftbenchError(f"planning failed (status {code}): {_tail(out)}")
    if "error" in answer:
        raise UsageError(answer["error"])
    return [Planned.from_json(item) for item in answer["planned"]]


def execute_plan(
    planned: list[Planned], store: Store, works: Worker, watch: Watch
) -> Iterator[tuple[Planned, Stored]]:
    """Do what the store does not hold yet, in order; yields each run with its record as it is there."""
    for item in planned:
        stored = store.get(item.run.key)
        if item.refusal is not None:
            record = Record(item.run, item.run.key, "not supported", item.refusal, started_at=_now())
            if stored is None or stored.record.reason != item.refusal:
                with store.staging() as staging:
                    stored = Stored(record, store.put(record, staging))
        elif stored is None or stored.record.status == "not supported":
            with store.staging() as staging:
                watch({"started": item.run.to_json()})
                code, answer = works.do({"job": "run", "run": item.run.to_json()}, staging, watch)
                record = _record(item, code, answer, staging)
                stored = Stored(record, store.put(record, staging))
        yield item, stored


def _record(item: Planned, code: int, answer: dict[str, Any] | None, staging: Path) -> Record:
    if answer is not None:
        return Record.from_text(answer["record"])
    reason = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    if code == -signal.SIGKILL:
        reason += " (out of memory?)"
    tail = _tail(staging)
    return Record(
        item.run,
        item.run.key,
        "failed",
        reason + (f": {tail}" if code > 0 and tail else ""),
        started_at=_now(),
    )


def _tail(out: Path) -> str:
    try:
        lines = (out / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _only_notices(event: dict[str, Any]) -> None:
    if "notice" in event:
        notify(event["notice"])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
