"""The default engine: a worker process on this machine that forks a fresh process for every job.

The worker is started on first use. It does not read the current folder: a file there that is named as a library is not
imported in its place. Events come through a pipe of their own, which no library prints to.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..errors import PeftbenchError, UsageError
from .answers import ask
from .jobs import Job, Look
from .protocol import Capacity, Event

WORKER = "peftbench.worker"
WRONGLY_ASKED = 2  # the status of a worker whose last line says what is wrong with what it was started with


class LocalEngine:
    """Jobs in forked processes of one worker."""

    GRACE_S = 0.0  # that a worker has for ending by itself
    LOST = "the worker process ended"  # what is said when it has, before its time

    def __init__(self, module: str | None = None, *settings: str) -> None:
        """`module`: what is started as the worker, which takes jobs and tells of them as `peftbench.worker` does, with settings of its own."""
        self._command = (module or WORKER, *settings)
        self._worker: _Worker | None = None
        self._jobs = 0
        self._capacity: Capacity | None = None

    def start(self, job: Job, out: Path) -> int:
        self._jobs += 1
        self._running.tell({"number": self._jobs, "out": str(out.resolve()), "job": job.to_json()})
        return self._jobs

    def events(self, timeout_s: float | None = None) -> list[Event]:
        return self._running.events(timeout_s)

    def kill(self, number: int) -> None:
        self._running.tell({"kill": number})

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close(self.GRACE_S)
            self._worker = None

    def capacity(self) -> Capacity:
        if self._capacity is None:
            self._capacity = Capacity.from_json(ask(Look(), self))
        return self._capacity

    @property
    def _running(self) -> _Worker:
        if self._worker is None:
            self._worker = _Worker(self.LOST, *self._command)
        return self._worker


class _Worker:
    """The worker process with its two pipes."""

    def __init__(self, lost: str, module: str, *settings: str) -> None:
        self.lost = lost
        self.events_end, theirs = os.pipe()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker; what its libraries print, to name the reason if it ends
        # A session of its own: Ctrl-C reaches the program, which then ends the worker.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs), *settings],
            stdin=subprocess.PIPE,
            stdout=self.said,
            stderr=self.said,
            pass_fds=[theirs],
            start_new_session=True,
            env={
                **_without_this_folder(os.environ),
                "TOKENIZERS_PARALLELISM": "false",
                "PYTHONUNBUFFERED": "1",
            },
        )
        os.close(theirs)
        self.unread = b""

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write((json.dumps(message) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def events(self, timeout_s: float | None) -> list[Event]:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self.unread:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.events_end], [], [], left)[0]:
                return []
            chunk = os.read(self.events_end, 65536)
            if not chunk:
                raise self._gone()
            self.unread += chunk
        *lines, self.unread = self.unread.split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise PeftbenchError(
                f"the worker process sent something that is not an event ({lines[0][:80].decode(errors='replace')!r}); finished runs are "
                "kept, the same command carries on"
            ) from None

    def close(self, grace_s: float) -> None:
        """End it, and what it started. It is told first, if it is given time for that."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()
        os.close(self.events_end)
        self.said.close()

    def _gone(self) -> PeftbenchError:
        status = self.process.wait()
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        if status == WRONGLY_ASKED and lines:
            return UsageError(lines[-1].strip())
        reason = f": {lines[-1].strip()[:200]}" if lines else ""
        return PeftbenchError(
            f"{self.lost} with status {status}{reason}; finished runs are kept, the same command carries on"
        )


def _without_this_folder(environment: os._Environ[str]) -> dict[str, str]:
    """Without what makes Python read the current folder: an empty entry of PYTHONPATH, as `:` at its end leaves one."""
    found = dict(environment)
    entries = [entry for entry in found.pop("PYTHONPATH", "").split(os.pathsep) if entry]
    if entries:
        found["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in entries)
    return found
