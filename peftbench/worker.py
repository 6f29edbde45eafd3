"""The worker: imports what is heavy once, then forks a fresh process for every job (`python -m peftbench.worker`).

It reads one JSON job a line from stdin and writes events, one a line, to stdout; a job's own output goes to its log.
A fork shares the imported libraries, so a run starts in milliseconds and still has its own memory, allocator and fate:
a crash or a kill ends that job alone. Where the platform has no fork, the job runs in this process, which then ends.
CUDA is never touched before the fork. When the program that started it dies, stdin closes and everything here ends.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

# The modelling module of a planned model is among them only after its first job; these serve the starters.
PRELOAD = (
    "torch",
    "accelerate",
    "datasets",
    "pandas",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.metrics",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.integrations.sdpa_attention",
    "torch._dynamo",
    "peftbench.plan",
    "peftbench.execute",
)
PARENT_CHECK_S = 0.5


def main() -> None:
    """Serve jobs until stdin closes."""
    events = os.dup(1)
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # another release of that library; the job imports what it needs
    buffer = b""
    while True:
        chunk = os.read(0, 65536)
        if not chunk:
            return
        buffer += chunk
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            _serve(json.loads(line), events)


def _serve(job: dict[str, Any], events: int) -> None:
    if not hasattr(os, "fork"):
        _do(job, events)
        os.write(events, b'{"exit": 0}\n')
        return
    server = os.getpid()
    child = os.fork()
    if child == 0:
        threading.Thread(target=_leave_with, args=(server,), daemon=True).start()
        try:
            _do(job, events)
        except BaseException:  # noqa: BLE001  nothing may return into the server's loop
            traceback.print_exc()
            os._exit(1)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        ready, _, _ = select.select([0], [], [], 0.01)
        if ready:  # nothing is sent while a job runs: the program is gone
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os._exit(1)
    os.write(events, json.dumps({"exit": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _leave_with(server: int) -> None:
    """End this process when the server is gone."""
    while os.getppid() == server:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _do(job: dict[str, Any], events: int) -> None:
    """One job: its output to the log, its answer to a file."""
    out = Path(job["out"])
    log = os.open(out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    from . import progress

    progress.report_to(events)
    answer = _plan(job) if job["job"] == "plan" else _run(job, out)
    (out / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _plan(job: dict[str, Any]) -> dict[str, Any]:
    from .comparison import Comparison
    from .errors import PeftbenchError
    from .plan import plan

    asked = job["asked"]
    grid = asked["latency_grid"]
    try:
        comparison = Comparison(
            **{
                **asked,
                **{name: tuple(asked[name]) for name in ("methods", "models", "tasks", "plugins")},
                "latency_grid": None if grid is None else tuple((b, n) for b, n in grid),
            }
        )
        return {"planned": [planned.to_json() for planned in plan(comparison)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def _run(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """The record of a run as text; a failure is a record too."""
    from . import execute, progress, registry
    from .environment import describe
    from .errors import NotSupported
    from .record import Record
    from .runs import Run

    run = Run.from_json(job["run"])
    registry.load_plugins(Path(p) for p in run.plugins)
    try:
        record = execute.execute(run, out)
    except Exception as error:  # noqa: BLE001  whatever went wrong becomes the run's record
        traceback.print_exc()
        status = "not supported" if isinstance(error, NotSupported) else "failed"
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        record = Record(run, run.key, status, reason, environment=describe(run.device))
        record = dataclasses.replace(
            record, failed_phase=progress.current_phase, failed_step=progress.current_step
        )
    return {"record": record.to_text()}


if __name__ == "__main__":
    main()
