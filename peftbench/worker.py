"""The worker: imports what is heavy once, then forks a fresh process for every job (`python -m peftbench.worker`).

It reads one JSON message a line from stdin, a job to do or the number of one to kill, and writes events, one a line, to
stdout; a job's own output goes to its log. A fork shares the imported libraries, so a run starts in milliseconds and
still has its own memory, allocator and fate: a crash or a kill ends that job alone. Where the platform has no fork, the
jobs run in this process, one after the other. CUDA is never touched before the fork. When the program that started it
dies, stdin closes and everything here ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
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
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.integrations.sdpa_attention",
    "torch._dynamo",
    "peftbench.plan",
    "peftbench.execute",
    "peftbench.export",
)
ATTENTION_PERIOD_S = 0.5  # how often a job looks whether its server lives, and reads its memory
POLL_PERIOD_S = 0.01  # how soon the end of a job is noticed


def main() -> None:
    """Serve jobs until stdin closes."""
    events = os.dup(1)
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # another release of that library; the job imports what it needs
    # A tenth of a second of regular expressions, made once.
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")
    gc.freeze()  # a job's collections need not walk what was imported here, nor copy its pages by doing so
    children: dict[int, int] = {}  # process -> number of its job
    buffer = b""
    while True:
        ready, _, _ = select.select([0], [], [], POLL_PERIOD_S if children else None)
        if ready:
            chunk = os.read(0, 65536)
            if not chunk:  # the program is gone
                for child in children:
                    os.kill(child, signal.SIGKILL)
                return
            buffer += chunk
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                _obey(json.loads(line), children, events)
        for child in list(children):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                _ended(children.pop(child), os.waitstatus_to_exitcode(status), events)


def _obey(message: dict[str, Any], children: dict[int, int], events: int) -> None:
    if "kill" in message:
        for child, number in children.items():
            if number == message["kill"]:
                os.kill(child, signal.SIGKILL)
    elif hasattr(os, "fork"):
        children[_start(message, events)] = message["number"]
    else:
        _do(message, events)
        _ended(message["number"], 0, events)


def _ended(number: int, code: int, events: int) -> None:
    os.write(events, json.dumps({"job": number, "exit": code}).encode() + b"\n")


def _start(job: dict[str, Any], events: int) -> int:
    """Fork a process for the job; returns its number in the system."""
    server = os.getpid()
    with warnings.catch_warnings():
        # From Python 3.12 on. The threads are idle pools that numpy's linear algebra starts when it is imported.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    try:
        _do(job, events, server)
    except BaseException as error:  # noqa: BLE001  nothing may return into the server's loop
        if not _tell_of_a_full_disk(error):
            traceback.print_exc()
        os._exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _attend(server: int) -> None:
    """Send memory readings; end this process when the server is gone."""
    from .progress import memory_now, send

    while os.getppid() == server:
        send({"memory": memory_now()})
        time.sleep(ATTENTION_PERIOD_S)
    os._exit(1)


def _do(job: dict[str, Any], events: int, server: int | None = None) -> None:
    """One job: its output to the log, its answer to a file."""
    out = Path(job["out"])
    log = os.open(out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    faulthandler.enable(log, all_threads=False)  # a segmentation fault leaves its stack in the log
    from . import progress

    progress.report_to(events, job["number"])
    if server is not None:
        threading.Thread(target=_attend, args=(server,), daemon=True).start()
    jobs = {
        "plan": _plan,
        "plan latency": _plan_latency,
        "run": _run,
        "check": _check,
        "export": _export,
        "verify": _verify,
        "analyze": _analyze,
    }
    answer = jobs[job["job"]](job, out)
    (out / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _tell_of_a_full_disk(error: BaseException) -> bool:
    """Whether a place that must be written can't be: then the next run would fail as well, and the sweep must end."""
    from .progress import send
    from .store import unwritable

    said = unwritable(error)
    if said is not None:
        send({"unwritable": said})
    return said is not None


def _plan(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .comparison import Comparison
    from .errors import PeftbenchError
    from .plan import plan

    asked = job["asked"]
    grid = asked["latency_grid"]
    try:
        comparison = Comparison(
            **{
                **asked,
                **{
                    name: tuple(asked[name])
                    for name in ("methods", "models", "tasks", "plugins", "train_sizes")
                },
                "latency_grid": None if grid is None else tuple((b, n) for b, n in grid),
            }
        )
        return {"planned": [planned.to_json() for planned in plan(comparison)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def _plan_latency(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .errors import PeftbenchError
    from .latency_asked import LatencyAsked
    from .plan import plan_latency

    asked = job["asked"]
    cells = asked["cells"]
    try:
        latency = LatencyAsked(
            **{
                **asked,
                **{name: tuple(asked[name]) for name in ("methods", "models", "plugins")},
                "cells": None if cells is None else tuple((b, n) for b, n in cells),
            }
        )
        return {"planned": [planned.to_json() for planned in plan_latency(latency)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def _run(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """The record of a run as text; a failure is a record too."""
    from . import progress, published, registry
    from .environment import describe
    from .errors import NotSupported
    from .record import Record
    from .runs import Conditions, Run

    run, conditions = Run.from_json(job["run"]), Conditions(**job["conditions"])
    if conditions.gpu is not None:  # before anything touches CUDA
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        own = visible.split(",")[conditions.gpu] if visible else str(conditions.gpu)
        os.environ["CUDA_VISIBLE_DEVICES"] = own
    if conditions.threads is not None:
        import torch

        torch.set_num_threads(conditions.threads)
    from . import execute

    registry.load_plugins(Path(p) for p in run.plugins)
    published.use(run.data_dir)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    try:
        record = execute.execute(run, out, conditions)
    except Exception as error:
        if _tell_of_a_full_disk(error):
            raise
        progress.send({"memory": progress.memory_now()})
        traceback.print_exc()
        status = "not supported" if isinstance(error, NotSupported) else "failed"
        said = str(error) if isinstance(error, NotSupported) else f"{type(error).__name__}: {error}"
        reason = " ".join(said.split())[:300]
        record = Record(
            run,
            run.key,
            status,
            reason,
            failed_phase=progress.current_phase,
            failed_step=progress.current_step,
            environment=describe(run.device, conditions),
            started_at=started,
        )
    return {"record": record.to_text()}


def _check(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from . import published
    from .contract import check
    from .errors import PeftbenchError

    published.use(job["data_dir"])
    try:
        return {"checked": [dataclasses.asdict(one) for one in check(job["what"], job["plugins"], out)]}
    except PeftbenchError as error:
        return {"error": str(error)}


def _verify(job: dict[str, Any], out: Path) -> dict[str, Any]:
    import torch

    from . import published
    from .errors import PeftbenchError
    from .verify import verify

    published.use(job["data_dir"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    again = out / "again"
    again.mkdir()
    try:
        found = verify(Path(job["folder"]), again, job["plugins"], job["data_dir"])
        return {"verdict": dataclasses.asdict(found)}
    except PeftbenchError as error:
        return {"error": str(error)}


def _export(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .errors import PeftbenchError
    from .export import export

    try:
        return {"files": export(Path(job["folder"]), Path(job["to"]), job["merged"], job["plugins"])}
    except PeftbenchError as error:
        return {"error": str(error)}


def _analyze(job: dict[str, Any], out: Path) -> dict[str, Any]:
    from .analysis.found import analyze
    from .errors import PeftbenchError

    other = None if job["other"] is None else Path(job["other"])
    try:
        return analyze(Path(job["one"]), other, job["only"], job["plugins"])
    except PeftbenchError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main()
