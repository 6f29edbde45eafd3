"""The worker: imports what is heavy once, then forks a fresh process for every job (`python -m peftbench.worker EVENTS`).

It reads one JSON message a line from stdin, a job to do or the number of one to kill, and writes events, one a line, to the
file descriptor EVENTS, which nothing else knows; a job's own output goes to its log. A fork shares the imported libraries, so a
run starts in milliseconds and still has its own memory, allocator and fate: a crash or a kill ends that job alone. Where the
platform has no fork, the jobs run in this process, one after the other. CUDA is never touched before the fork. When the
program that started it dies, stdin closes and everything here ends.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import progress
from .engine.answers import FAILED, LOG
from .engine.jobs import job_from_json

# The modelling module of a planned model is among them only after its first job; these serve the starters.
LIBRARIES = (
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
)
OURS = (
    "peftbench.planning.plan",
    "peftbench.execution.execute",
    "peftbench.inspection.export",
    "peftbench.jobs",
)
ATTENTION_PERIOD_S = 0.5  # how often a job looks whether its server lives, and reads its memory
POLL_PERIOD_S = 0.01  # how soon the end of a job is noticed where the system does not tell of it


def main(events: int) -> None:
    """Serve jobs until stdin closes.

    Args:
        events: the file descriptor that events are written to.
    """
    os.set_inheritable(events, False)  # of programs that a library starts; a fork has it all the same
    for name in LIBRARIES:
        with contextlib.suppress(
            ImportError
        ):  # another release of that library; the job imports what it needs
            importlib.import_module(name)
    for name in OURS:
        importlib.import_module(name)
    # A tenth of a second of regular expressions, made once.
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")
    gc.freeze()  # a job's collections need not walk what was imported here, nor copy its pages by doing so
    children: dict[int, int] = {}  # process -> number of its job
    buffer = b""
    while True:
        ready = _wait(children)
        if 0 in ready:
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


def _wait(children: dict[int, int]) -> list[int]:
    """Until there is a message on stdin or a child has ended; what can be read, 0 for stdin."""
    ends: list[int] = []
    try:
        try:
            for child in children:
                ends.append(os.pidfd_open(child))
        except (
            AttributeError,
            OSError,
        ):  # another system, or Linux before 5.3: the end of a child is looked for
            return select.select([0], [], [], POLL_PERIOD_S)[0]
        return select.select([0, *ends], [], [])[0]
    finally:
        for end in ends:
            os.close(end)


def _obey(message: dict[str, Any], children: dict[int, int], events: int) -> None:
    if "kill" in message:
        for child, number in children.items():
            if number == message["kill"]:
                os.kill(child, signal.SIGKILL)
    elif hasattr(os, "fork"):
        children[_start(message, events)] = message["number"]
    else:
        _ended(message["number"], _do(message, events), events)


def _ended(number: int, code: int, events: int) -> None:
    os.write(events, json.dumps({"job": number, "exit": code}).encode() + b"\n")


def _start(message: dict[str, Any], events: int) -> int:
    """Fork a process for the job; returns its number in the system."""
    server = os.getpid()
    with warnings.catch_warnings():
        # From Python 3.12 on. The threads are idle pools that numpy's linear algebra starts when it is imported.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = FAILED
    try:
        code = _do(message, events, server)
    except BaseException:  # noqa: BLE001  nothing may return into the server's loop
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _attend(server: int, send: Callable[[dict[str, Any]], None]) -> None:
    """Send memory readings; end this process when the server is gone."""
    while os.getppid() == server:
        send({"memory": progress.memory_now()})
        time.sleep(ATTENTION_PERIOD_S)
    os._exit(1)


def _do(message: dict[str, Any], events: int, server: int | None = None) -> int:
    """One job, its output to the log; returns the code of its exit."""
    out = Path(message["out"])
    log = os.open(out / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    faulthandler.enable(log, all_threads=False)  # a segmentation fault leaves its stack in the log

    def send(event: dict[str, Any]) -> None:
        line = json.dumps({"job": message["number"], **event}, ensure_ascii=False)
        os.write(events, line.encode("utf-8", "replace") + b"\n")

    if server is not None:
        threading.Thread(target=_attend, args=(server, send), daemon=True).start()
    from . import jobs

    return jobs.carry_out(job_from_json(message["job"]), out, send)


if __name__ == "__main__":
    main(int(sys.argv[1]))
