"""The program's side of the worker process: hands it jobs and listens. This side never imports torch."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import PeftbenchError, UsageError
from ..progress import notify
from ..records.runs import Planned

Watch = Callable[[dict[str, Any]], None]


class Worker:
    """The worker process. Jobs have numbers; several may be at work at once."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C reaches the program, which then ends the worker.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peftbench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"},
        )
        self.jobs = 0
        self.unread = b""

    def start(self, job: dict[str, Any], out: Path) -> int:
        """Begin a job with its files in `out`; returns its number."""
        self.jobs += 1
        self._tell({**job, "number": self.jobs, "out": str(out.resolve())})
        return self.jobs

    def kill(self, number: int) -> None:
        """End a job now; its exit is an event like any other's."""
        self._tell({"kill": number})

    def events(self, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """What the jobs have said since; waits for something, at most `timeout_s`."""
        assert self.process.stdout is not None
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self.unread:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                return []
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise self._gone()
            self.unread += chunk
        *lines, self.unread = self.unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def do(self, job: dict[str, Any], out: Path, watch: Watch) -> tuple[int, dict[str, Any] | None]:
        """Do one job alone; returns the exit code of its process and its answer, if it gave one."""
        self.start(job, out)
        while True:
            for event in self.events():
                if "exit" in event:
                    return event["exit"], answer_in(out)
                watch(event)

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

    def _tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write((json.dumps(message) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _gone(self) -> PeftbenchError:
        return PeftbenchError(
            f"the worker process ended with status {self.process.wait()}; what is finished is kept, the same command "
            "carries on"
        )


@contextmanager
def worker() -> Iterator[Worker]:
    """A worker for the block."""
    started = Worker()
    try:
        yield started
    finally:
        started.close()


def make_plan(asked: Any, works: Worker, job: str = "plan") -> list[Planned]:
    """Ask the worker for the plan of a comparison, or of a latency measurement.

    Raises:
        UsageError: nothing of it can run; the message is the plan's own.
    """
    answer = ask({"job": job, "asked": dataclasses.asdict(asked)}, works)
    return [Planned.from_json(item) for item in answer["planned"]]


def ask(job: dict[str, Any], works: Worker) -> dict[str, Any]:
    """The answer to a job that leaves nothing in the store.

    Raises:
        UsageError: the job says that what is asked of it is wrong.
        PeftbenchError: its process died.
    """
    with tempfile.TemporaryDirectory(prefix="peftbench-") as folder:
        out = Path(folder)
        code, answer = works.do(job, out, _only_notices)
        if answer is None:
            last = (log_tail(out) or ["no log"])[-1]
            raise PeftbenchError(f"the {job['job']} failed ({exit_reason(code)}): {last}")
    if "error" in answer:
        raise UsageError(answer["error"])
    return answer


def answer_in(out: Path) -> dict[str, Any] | None:
    """What a job left as its answer, taken out of its folder."""
    file = out / "answer.json"
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # killed while it wrote
        return None
    finally:
        file.unlink()
    return content


def exit_reason(code: int) -> str:
    """What an exit code of a process says."""
    if code >= 0:
        return f"ended with status {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    known = {s.value for s in signal.Signals}
    return f"killed by signal {signal.Signals(-code).name if -code in known else -code}{hint}"


def log_tail(out: Path, lines: int = 40) -> list[str]:
    """The last lines of a job's log that say something."""
    try:
        text = (out / "log.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]


def _only_notices(event: dict[str, Any]) -> None:
    if "notice" in event:
        notify(event["notice"])
